"""What the types of columns in Parquet files can be taken for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pyarrow import types

from distsoftmax.errors import InputError

Types: TypeAlias = Mapping[str, pa.DataType]  # a file's columns, in its order
FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}
TEXTS = ("string", "large_string", "string_view")


def is_text(arrow_type: pa.DataType) -> bool:
    """Return whether a column of this type holds text, as it is or in a dictionary."""
    return str(arrow_type.value_type if types.is_dictionary(arrow_type) else arrow_type) in TEXTS


def list_size(arrow_type: pa.DataType) -> int | None:
    """Return the size of lists of a fixed size; None for another type."""
    return int(arrow_type.list_size) if types.is_fixed_size_list(arrow_type) else None


def number_type(arrow_type: pa.DataType) -> np.dtype | None:
    """Return the numpy type of a column of numbers, or of the elements of its lists; None where it holds none."""
    if types.is_dictionary(arrow_type) or types.is_fixed_size_list(arrow_type):
        inner = arrow_type.value_type
        is_plain = not types.is_nested(inner) and not types.is_dictionary(inner)
        return number_type(inner) if is_plain else None
    if types.is_decimal(arrow_type):
        return np.dtype(np.float64)
    is_number = types.is_boolean(arrow_type) or types.is_integer(arrow_type) or types.is_floating(arrow_type)
    return np.dtype(FLOATS.get(str(arrow_type), str(arrow_type))) if is_number else None


def common_type(dtypes: Iterable[np.dtype]) -> np.dtype:
    """Return the type that holds the numbers of all; float64 of none."""
    return np.result_type(*(set(dtypes) or {np.dtype(np.float64)}))


def are_alike(first: pa.DataType, second: pa.DataType, is_feature: bool) -> bool:
    """Return whether two parts may have a column in these types.

    Numbers may differ in width where one type holds all of both; labels, which become text, as integers from floats.
    """
    if is_text(first) or is_text(second):
        return is_text(first) and is_text(second)
    dtype, second_dtype = number_type(first), number_type(second)
    if dtype is None or second_dtype is None:
        return bool(first == second)
    kinds = {"i" if kind == "u" else kind for kind in (dtype.kind, second_dtype.kind)}
    if not is_feature:
        return kinds <= {"i", "f"} or len(kinds) == 1
    is_held = np.promote_types(dtype, second_dtype).kind != "f" or kinds == {"f"}  # int64 and uint64 make float64
    return len(kinds) == 1 and is_held and list_size(first) == list_size(second)


def require_number(path: str, name: str, arrow_type: pa.DataType) -> None:
    """Refuse a column that cannot be a feature, or several.

    Raises
    ------
    InputError
        Names the column, its type and what to do.
    """
    if number_type(arrow_type) is not None:
        return
    if is_text(arrow_type):
        raise InputError(
            f"{path}: column {name} holds text; declare it with --one-hot {name}, or leave it out with --drop {name}"
        )
    remedy = "make columns of numbers of it"
    if types.is_list(arrow_type) or types.is_large_list(arrow_type):
        fixed = f"pyarrow.list_(pyarrow.{arrow_type.value_type}(), n)"
        remedy = f"where all its lists are of one size n, cast it to lists of a fixed size, {fixed}"
    elif types.is_temporal(arrow_type):
        remedy = "make a number of it, the days since some day, say"
    raise InputError(
        f"{path}: column {name} is of type {arrow_type}, which is no number; {remedy}, or leave it out with --drop"
    )


def require_role(path: str, name: str, arrow_type: pa.DataType, role: Literal["label", "weight", "one-hot"]) -> None:
    """Refuse a column whose values cannot be labels (texts or numbers), weights (numbers) or categories.

    Categories are texts, integers or bool.

    Raises
    ------
    InputError
        Names the column, its type and what to do.
    """
    number = number_type(arrow_type) if list_size(arrow_type) is None else None
    if role == "weight":
        is_usable = number is not None
    elif number is None or types.is_decimal(arrow_type):
        is_usable = is_text(arrow_type)
    else:
        is_usable = role == "label" or number.kind != "f"
    if not is_usable and role == "one-hot":
        raise InputError(
            f"{path}: column {name} is of type {arrow_type}, which --one-hot does not take; cast it to text or integers"
        )
    if not is_usable:
        remedy = "numbers" if role == "weight" else "text or integers"
        raise InputError(f"{path}: the {role} column {name} is of type {arrow_type}; cast it to {remedy}")
