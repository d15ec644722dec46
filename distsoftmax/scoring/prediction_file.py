"""What `predict` writes: a row for each sample, in the order of the data, as CSV, TSV, Parquet or .npy."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from distsoftmax.data.readers.column_names import first_double
from distsoftmax.data.shards import RawShard
from distsoftmax.errors import InputError

VIEWS = {"string_view": pa.string(), "binary_view": pa.binary()}  # Types that are written as these in a CSV file.
SEPARATORS = {".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
ROWS_OF_A_GROUP = 2**17  # at least, in Parquet; it ends with a shard, so that the bytes follow from the data alone


class PredictionTable:
    """Predictions in the form that the name of their file asks for: each rank encodes its shards, rank 0 writes them.

    CSV, TSV and Parquet hold the columns of the data that are kept, a column `prediction` and, with probabilities, one
    `probability_CLASS` for each class. A .npy file holds one array: the predicted classes as texts, (n_rows,), or the
    probabilities, float64, (n_rows, n_classes).

    Parameters
    ----------
    out : str
        The file. CSV stands on standard output, and where the name asks for nothing.
    classes : sequence of str
        The model's, in its order.
    with_probabilities : bool
    kept : sequence of str
        The columns of the data that stand before the predictions; none in a .npy file.

    Raises
    ------
    InputError
        numpy's texts cannot hold the name of a class, as they drop null characters at the end; or a column that is
        kept has the name of another, or of one of the predictions.
    """

    def __init__(self, out: str, classes: Sequence[str], with_probabilities: bool, kept: Sequence[str] = ()) -> None:
        self._ending = os.path.splitext(out)[1].lower()
        self._with_probabilities = with_probabilities
        self._out = out
        self._classes = np.array(classes, dtype=np.str_)
        self._texts = np.array([*classes, None], dtype=object)  # a row without prediction, -1, takes the last
        own = {"prediction", *(f"probability_{name}" for name in classes if with_probabilities)}
        for name in kept:
            if name in own:
                raise InputError(f"--keep {name}: the predictions have a column of this name; rename that of the data")
        double = first_double(kept)
        if double is not None:
            raise InputError(f"--keep: two of the columns are named {double!r}; rename one, or keep one alone")
        for name in classes if self._ending == ".npy" and not with_probabilities else ():
            if name.endswith("\0"):
                raise InputError(f"--out {out}: a .npy file cannot hold the class {name!r}; write .csv or .parquet")

    def encode(self, predicted: NDArray, probabilities: NDArray | None, shard: RawShard) -> bytes:
        """Return the rows of a shard, given the classes (rows,) and probabilities (rows, n_classes) of those in it.

        A row that was left out for a missing cell has no prediction, and its probabilities are NaN.

        Raises
        ------
        InputError
            A .npy file cannot hold a row without prediction, or a CSV file what is kept.
        """
        if shard.complete is not None:
            predicted = _with_empty_rows(predicted, shard.complete, -1)
            probabilities = None if probabilities is None else _with_empty_rows(probabilities, shard.complete, np.nan)
        if self._ending == ".npy":
            if probabilities is None and shard.n_dropped:
                raise InputError(
                    f"--out {self._out}: {shard.n_dropped} rows at least have a missing cell, and a .npy file of "
                    "classes has no empty place; write .csv or .parquet"
                )
            return (self._classes[predicted] if probabilities is None else probabilities).tobytes()
        table, content = self._columns(predicted, probabilities, shard.rows.kept), io.BytesIO()
        if self._ending in PARQUET:
            with pa.ipc.new_stream(content, table.schema) as stream:
                stream.write_table(table)
            return content.getvalue()
        separator = SEPARATORS.get(self._ending, ",")
        options = csv.WriteOptions(include_header=shard.number == 0, quoting_style="needed", delimiter=separator)
        plain = pa.table(list(map(_plain, table.column_names, table.columns)), table.column_names)
        csv.write_csv(plain.combine_chunks(), content, options)  # it garbles columns that are cut differently
        return content.getvalue()

    def write(self, file: BinaryIO, n_rows: int, contents: Iterable[bytes | bytearray]) -> None:
        """Write so many rows, given what the shards have been encoded as, in their order, several at a time or one.

        Raises
        ------
        OSError
        """
        if self._ending in PARQUET:
            _write_parquet(file, contents)
            return
        if self._ending == ".npy":
            shape = (n_rows, self._classes.size) if self._with_probabilities else (n_rows,)
            dtype = np.dtype(np.float64) if self._with_probabilities else self._classes.dtype
            header = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(dtype)}
            np.lib.format.write_array_header_1_0(file, header)
        for content in contents:
            file.write(content)

    def _columns(self, predicted: NDArray, probabilities: NDArray | None, kept: pa.Table | None) -> pa.Table:
        columns = {} if kept is None else dict(zip(kept.column_names, kept.columns, strict=True))
        columns |= {"prediction": pa.array(self._texts[predicted], pa.string())}
        if probabilities is not None:
            for code, name in enumerate(self._texts[:-1]):
                columns[f"probability_{name}"] = pa.array(probabilities[:, code], from_pandas=True)  # NaN: null
        return pa.table(columns)


def _with_empty_rows(values: NDArray, complete: NDArray[np.bool_], empty: float) -> NDArray:
    """Return the values of all rows of a shard, given those of its complete rows."""
    rows = np.full((complete.size, *values.shape[1:]), empty, dtype=values.dtype)
    rows[complete] = values
    return rows


def _plain(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as a CSV file can hold it."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_extension = isinstance(column.type, pa.BaseExtensionType)
    if pa.types.is_nested(column.type.storage_type if is_extension else column.type):
        raise InputError(f"--keep {name}: a CSV file cannot hold a {column.type}; write .parquet, or leave it out")
    if is_extension:  # such as a UUID
        return pa.chunked_array([[None if value is None else str(value) for value in column.to_pylist()]], pa.string())
    return column.cast(VIEWS[str(column.type)]) if str(column.type) in VIEWS else column


def _write_parquet(file: BinaryIO, contents: Iterable[bytes | bytearray]) -> None:
    from pyarrow import parquet

    tables = _tables(contents)
    group = [next(tables)]
    with parquet.ParquetWriter(file, group[0].schema) as writer:
        for table in tables:
            if sum(table.num_rows for table in group) >= ROWS_OF_A_GROUP:
                writer.write_table(pa.concat_tables(group))
                group.clear()
            group.append(table)
        writer.write_table(pa.concat_tables(group))


def _tables(contents: Iterable[bytes | bytearray]) -> Iterator[pa.Table]:
    """Yield the table of each shard."""
    for content in contents:
        reader = pa.BufferReader(content)
        while reader.tell() < len(content):
            with pa.ipc.open_stream(reader) as stream:
                yield stream.read_all()
