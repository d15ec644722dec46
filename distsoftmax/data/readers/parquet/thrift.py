"""What a Parquet file's footer counts in each column, read without pyarrow's accessors.

Where a footer is damaged those end the process, by C++ exceptions that no one catches. A footer is the structure
FileMetaData of the Parquet format (parquet.thrift), in Thrift's compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BOOLS, INTEGERS, BINARY, LISTS, STRUCT = (1, 2), (4, 5, 6), 8, (9, 10), 12  # the protocol's types
SIZES = {1: 1, 2: 1, 3: 1, 7: 8}  # bytes of bool in a list, byte and double
ROW_GROUPS, COLUMNS, METADATA, N_VALUES, STATISTICS, NULL_COUNT = (
    4,
    1,
    3,
    5,
    12,
    3,
)  # the numbers of the format's fields


@dataclass(frozen=True)
class ChunkCounts:
    """What a footer counts in one column of one row group; None where it does not tell.

    Attributes
    ----------
    n_values : int or None
        Values and missing ones; of lists their elements, where a missing list counts as one.
    """

    n_values: int | None
    n_missing: int | None


def read_counts(path: str) -> list[list[ChunkCounts]]:
    """Return what the footer counts, by row group and column.

    Raises
    ------
    OSError, ValueError, LookupError, RuntimeError
        The footer is damaged.
    """
    with open(path, "rb") as file:
        end = file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(end - length)
        footer, _ = _decode(file.read(length), 0, STRUCT)
    return [
        [_counts(_get(column, METADATA)) for column in _get(group, COLUMNS) or []]
        for group in _get(footer, ROW_GROUPS) or []
    ]


def _counts(column: Any) -> ChunkCounts:
    n_values, n_missing = _get(column, N_VALUES), _get(_get(column, STATISTICS), NULL_COUNT)
    return ChunkCounts(
        n_values if isinstance(n_values, int) else None, n_missing if isinstance(n_missing, int) else None
    )


def _get(structure: Any, field: int) -> Any:
    if structure is None:
        return None
    if not isinstance(structure, dict):
        raise ValueError("its footer is none")
    return structure.get(field)


def _decode(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    """Return the value at a place, and where it ends: dict by field, list, int or bytes."""
    if kind in INTEGERS:
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == STRUCT:
        return _decode_struct(data, at)
    if kind in LISTS:
        size, kind = data[at] >> 4, data[at] & 15
        at += 1
        if size == 15:
            size, at = _varint(data, at)
        values = []
        for _ in range(size):
            value, at = _decode(data, at, kind)
            values.append(value)
        return values, at
    if kind == BINARY:
        size, at = _varint(data, at)
    elif kind in SIZES:
        size = SIZES[kind]
    else:
        raise ValueError(f"its footer holds a value of the unknown type {kind}")
    if size > len(data) - at:
        raise ValueError("its footer is cut short")
    return data[at : at + size], at + size


def _decode_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        if head > 15:
            field += head >> 4
        else:
            field, at = _decode(data, at, INTEGERS[0])
        kind = head & 15
        if kind in INTEGERS and data[at] < 128:  # most of what there is
            fields[field] = (data[at] >> 1) ^ -(data[at] & 1)
            at += 1
        elif kind in BOOLS:
            fields[field] = kind
        else:
            fields[field], at = _decode(data, at, kind)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 128:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
    return number | data[at] << shift, at + 1
