"""The columns of a table that stand in the names of its parts' folders, as in label=0/part-0.parquet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from distsoftmax.data.parts import FileState
from distsoftmax.errors import InputError

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")


def partition_types(parts: Sequence[FileState]) -> dict[str, pa.DataType]:
    """Return the columns in the folders' names: the smallest integers that hold all values, float64, or text."""
    values = {name: [dict(part.keys)[name] for part in parts] for name, _ in (parts[0].keys if parts else ())}
    return {name: _common_type([value for value in column if value is not None]) for name, column in values.items()}


def refuse_columns_in_both(path: str, names: Iterable[str], part: FileState) -> None:
    """Refuse a part whose own columns, at `path`, have a name that is in its folders' names.

    Raises
    ------
    InputError
    """
    for name in names:
        if name in dict(part.keys):
            raise InputError(
                f"{path}: the column {name} is both in the file and in the name of its folder; write the parts without "
                "it, or rename the folders"
            )


def partition_column(part: FileState, name: str, arrow_type: pa.DataType, n_rows: int) -> pa.Array:
    """Return a column of a part's rows, which all have one value; null where it is missing."""
    value = dict(part.keys)[name]
    if pa.types.is_dictionary(arrow_type):
        return pa.repeat(pa.scalar(value, arrow_type.value_type), n_rows).dictionary_encode()
    number = value if value is None or pa.types.is_string(arrow_type) else float(value)
    return pa.repeat(pa.scalar(int(value) if value and pa.types.is_integer(arrow_type) else number, arrow_type), n_rows)


def partition_is_text(path: str, name: str) -> InputError:
    """Return the error for a column of text in the folders' names that would be a feature."""
    return InputError(
        f"{path}: the column {name}, in the names of the folders, holds text; declare it with --one-hot {name}, or "
        f"leave it out with --drop {name}"
    )


def partition_is_no_weight(path: str, name: str) -> InputError:
    """Return the error for a column of text in the folders' names that would be the weights."""
    return InputError(
        f"{path}: the weight column {name}, in the names of the folders, holds text; name a column of numbers with "
        "--weight"
    )


def _common_type(values: list[str]) -> pa.DataType:
    if values and all(map(INTEGER.fullmatch, values)):
        numbers = [int(value) for value in values]
        return pa.from_numpy_dtype(np.result_type(np.min_scalar_type(-1), *map(np.min_scalar_type, numbers)))
    return pa.float64() if all(map(NUMBER.fullmatch, values)) else pa.string()
