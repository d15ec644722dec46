"""What the ranks learn of a Parquet file from its footer alone."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import parquet

from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.column_names import first_double
from distsoftmax.data.readers.parquet.types import Types, list_size
from distsoftmax.errors import InputError

# What pyarrow raises on bytes that are not what they should be.
DAMAGE: tuple[type[Exception], ...] = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    MemoryError,
    OverflowError,
)
LEAST_PAGE_BYTES = 8  # of a data page, whose header has several fields; a lower bound will do
MOST_PAGE_ROWS = (1 << 31) - 1  # of a data page: its header counts values in 32 bits


def open_file(part: FileState) -> parquet.ParquetFile:
    """Open a file and read its footer.

    Raises
    ------
    InputError
        It is damaged, encrypted, or no Parquet file.
    """
    try:
        # read by plain calls: a map would count as no bytes read, and end the process where a file is cut
        file = parquet.ParquetFile(pa.OSFile(part.path, "rb"), pre_buffer=False, page_checksum_verification=True)
        groups = row_counts(file)
        if min(groups, default=0) < 0 or sum(groups) != file.metadata.num_rows:
            raise ValueError(f"row groups of {sum(groups)} rows together in a file of {file.metadata.num_rows}")
        if sum(groups) > part.size // LEAST_PAGE_BYTES * MOST_PAGE_ROWS:  # before memory is taken for so many
            raise ValueError(f"{part.size} bytes do not hold {sum(groups)} rows")
    except DAMAGE as error:
        raise not_parquet(part.path, error) from None
    return file


def row_counts(file: parquet.ParquetFile) -> tuple[int, ...]:
    """Return the number of rows of each row group."""
    return tuple(file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups))


def read_footer(part: FileState) -> tuple[tuple[int, ...], Types]:
    """Return the rows of each row group of a file, and its columns.

    Raises
    ------
    InputError
        The file is damaged, encrypted, or no Parquet file; or two columns have one name.
    """
    file = open_file(part)
    try:
        fields = list(file.schema_arrow)
        _try_lists(file, [field.name for field in fields if list_size(field.type) is not None])
    except DAMAGE as error:
        raise not_parquet(part.path, error) from None
    double = first_double(field.name for field in fields)
    if double is not None:
        raise InputError(f"{part.path}: two columns are named {double!r}; give each column a name of its own")
    return row_counts(file), {field.name: field.type for field in fields}


def _try_lists(file: parquet.ParquetFile, names: list[str]) -> None:
    """Read the first row of the lists of a fixed size: a damaged size could be taken for a billion features."""
    rows = file.iter_batches(batch_size=1, columns=names, use_threads=False) if names else iter(())
    next(rows, None)


def not_parquet(path: str, error: Exception) -> InputError:
    """Return the error to raise for what pyarrow raised on opening a file."""
    return InputError(f"{path}: is damaged, or no Parquet file: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
