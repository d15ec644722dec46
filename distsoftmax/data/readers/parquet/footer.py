"""What the ranks learn of a Parquet file from its footer alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.column_names import first_double
from distsoftmax.data.readers.parquet.columns import Columns
from distsoftmax.data.readers.parquet.thrift import read_counts
from distsoftmax.data.readers.parquet.types import list_size, number_type
from distsoftmax.errors import InputError

FLOAT = np.dtype(np.float64)
# what pyarrow raises on bytes that are not what they should be
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


@dataclass(frozen=True)
class Footer:
    """The footer of a file.

    Attributes
    ----------
    groups : tuple of int
        The rows of each row group.
    types : dict of str to pyarrow.DataType
        The columns, in order.
    leaves : dict of str to int
        Where the format has the columns of numbers, and of lists of numbers.
    required : frozenset of str
        The columns that cannot be null.
    """

    path: str
    groups: tuple[int, ...]
    types: dict[str, pa.DataType]
    leaves: dict[str, int]
    required: frozenset[str]

    @property
    def n_rows(self) -> int:
        """The rows of the file."""
        return sum(self.groups)

    def numbers_in(self, columns: Columns) -> set[str]:
        """Return the types of the features, as numpy's characters; float64 for integers that may be missing.

        Raises
        ------
        InputError
            The footer is damaged.
        """
        dtypes = {name: number_type(self.types[name]) or FLOAT for name in columns.numeric}
        found: set[str] = {dtype.char for dtype in dtypes.values()}
        countable = [name for name, dtype in dtypes.items() if dtype.kind != "f" and name not in self.required]
        try:
            for group in read_counts(self.path) if countable else ():
                if any(group[self.leaves[name]].n_missing != 0 for name in countable):
                    found.add(FLOAT.char)
        except DAMAGE as error:
            raise not_parquet(self.path, error) from None
        return found


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
    except DAMAGE as error:
        raise not_parquet(part.path, error) from None
    return file


def row_counts(file: parquet.ParquetFile) -> tuple[int, ...]:
    """Return the number of rows of each row group."""
    return tuple(file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups))


def read_footer(part: FileState) -> Footer:
    """Read a file's footer.

    Raises
    ------
    InputError
        The file is damaged, encrypted, or no Parquet file; or two columns have one name.
    """
    file = open_file(part)
    try:
        fields = list(file.schema_arrow)
        found = {field.name: field.type for field in fields}
        columns = [file.schema.column(leaf) for leaf in range(len(file.schema))]
        paths = [column.path for column in columns]
        leaves = {path if path in found else path.rpartition(".list.")[0]: leaf for leaf, path in enumerate(paths)}
        required = frozenset(column.path for column in columns if column.max_definition_level == 0)
        sizes = {name: list_size(own) for name, own in found.items() if number_type(own) is not None}
        if any(size is not None for size in sizes.values()):
            _check_list_sizes(part.path, row_counts(file), sizes, leaves)
    except DAMAGE as error:
        raise not_parquet(part.path, error) from None
    double = first_double(field.name for field in fields)
    if double is not None:
        raise InputError(f"{part.path}: two columns are named {double!r}; give each column a name of its own")
    return Footer(part.path, row_counts(file), found, leaves, required)


def _check_list_sizes(path: str, groups: tuple[int, ...], sizes: dict[str, int | None], leaves: dict[str, int]) -> None:
    """Refuse lists of another size than the values make: a damaged size could be taken for a billion features."""
    for n_rows, counts in zip(groups, read_counts(path), strict=True):
        for name, size in sizes.items():
            if size is None:
                continue
            n_values = counts[leaves[name]].n_values or 0
            n_lists, rest = divmod(n_values - n_rows, max(size - 1, 1))  # a missing list counts as one value
            if rest or not 0 <= n_lists <= n_rows:
                raise ValueError(f"column {name} has {n_values} values in {n_rows} lists of {size}")


def not_parquet(path: str, error: Exception) -> InputError:
    """Return the error to raise for what pyarrow raised on opening a file."""
    return InputError(f"{path}: is damaged, or no Parquet file: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
