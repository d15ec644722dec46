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

from distsoftmax.errors import InputError
from distsoftmax.output_file import output_file, require_output

SEPARATORS = {".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
NOT_WRITTEN = (".npz", ".h5", ".hdf5", ".svm", ".svmlight", ".libsvm", ".gz", ".gzip", ".zst", ".zstd")
ROWS_OF_A_GROUP = (
    2**17
)  # of a Parquet file, at least; it ends with a shard, so that its bytes follow from the data alone


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
        kept has the name of one of the predictions.
    """

    def __init__(self, out: str, classes: Sequence[str], with_probabilities: bool, kept: Sequence[str] = ()) -> None:
        self._ending = _ending(out)
        self._with_probabilities = with_probabilities
        self._out = out
        self._classes = np.array(classes, dtype=object)
        self._texts = np.array([*classes, None], dtype=object)  # a row without prediction, -1, takes the last
        own = {"prediction", *(f"probability_{name}" for name in classes if with_probabilities)}
        for name in kept:
            if name in own:
                raise InputError(f"--keep {name}: the predictions have a column of this name; rename that of the data")
        for name in classes if self._ending == ".npy" and not with_probabilities else ():
            if name.endswith("\0"):
                raise InputError(f"--out {out}: a .npy file cannot hold the class {name!r}; write .csv or .parquet")

    def encode(
        self, predicted: NDArray, probabilities: NDArray | None, kept: pa.Table | None = None, *, header: bool
    ) -> bytes:
        """Return the rows of a shard, given its classes (rows,), probabilities (rows, n_classes), and what is kept.

        The class of a row without prediction is -1, and its probabilities are NaN.

        Raises
        ------
        InputError
            A .npy file cannot hold a row without prediction, or a CSV file what is kept.
        """
        n_empty = int(np.count_nonzero(predicted < 0))
        if n_empty and self._ending == ".npy" and probabilities is None:
            raise InputError(
                f"--out {self._out}: {n_empty} rows at least have a missing cell, and a .npy file of classes has no "
                "empty place; write .csv or .parquet"
            )
        if self._ending == ".npy":
            numbers = np.concatenate([[len(predicted)], predicted]).astype(np.int64).tobytes()
            return numbers if probabilities is None else numbers + probabilities.tobytes()
        table, content = self._columns(predicted, probabilities, kept), io.BytesIO()
        if self._ending in PARQUET:
            with pa.ipc.new_stream(content, table.schema) as stream:
                stream.write_table(table)
            return content.getvalue()
        separator = SEPARATORS.get(self._ending, ",")
        options = csv.WriteOptions(include_header=header, quoting_style="needed", delimiter=separator)
        plain = pa.table(list(map(self._plain, table.column_names, table.columns)), table.column_names)
        csv.write_csv(plain.combine_chunks(), content, options)  # it garbles columns that are cut differently
        return content.getvalue()

    def write(self, file: BinaryIO, n_rows: int, contents: Iterable[bytes]) -> None:
        """Write so many rows, given what the shards have been encoded as, in their order, several at a time or one.

        Raises
        ------
        OSError
        """
        if self._ending == ".npy":
            self._write_array(file, n_rows, contents)
        elif self._ending in PARQUET:
            self._write_parquet(file, contents)
        else:
            for content in contents:
                file.write(content)

    def _write_array(self, file: BinaryIO, n_rows: int, contents: Iterable[bytes]) -> None:
        classes = self._classes.astype(str)
        shape = (n_rows, classes.size) if self._with_probabilities else (n_rows,)
        dtype = np.dtype(np.float64) if self._with_probabilities else classes.dtype
        header = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(dtype)}
        np.lib.format.write_array_header_1_0(file, header)
        for predicted, probabilities in self._shards(contents):
            file.write((classes[predicted] if probabilities is None else probabilities).tobytes())

    def _write_parquet(self, file: BinaryIO, contents: Iterable[bytes]) -> None:
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

    def _shards(self, contents: Iterable[bytes]) -> Iterator[tuple[NDArray, NDArray | None]]:
        """Yield the classes and the probabilities of each shard."""
        for content in contents:
            offset, probabilities = 0, None
            while offset < len(content):
                (n_rows,) = np.frombuffer(content, np.int64, 1, offset)
                predicted = np.frombuffer(content, np.int64, n_rows, offset + 8)
                offset += 8 + predicted.nbytes
                if self._with_probabilities:
                    probabilities = np.frombuffer(content, np.float64, n_rows * self._classes.size, offset)
                    probabilities = probabilities.reshape(n_rows, self._classes.size)
                    offset += probabilities.nbytes
                yield predicted, probabilities

    def _columns(self, predicted: NDArray, probabilities: NDArray | None, kept: pa.Table | None) -> pa.Table:
        columns = {} if kept is None else dict(zip(kept.column_names, kept.columns, strict=True))
        columns |= {"prediction": pa.array(self._texts[predicted], pa.string())}
        if probabilities is not None:
            for code, name in enumerate(self._classes):
                columns[f"probability_{name}"] = pa.array(probabilities[:, code], from_pandas=True)  # NaN: null
        return pa.table(columns)

    def _plain(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a column as a CSV file can hold it."""
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type):
            raise InputError(f"--keep {name}: a CSV file cannot hold a {column.type}; write .parquet, or leave it out")
        return column


def _tables(contents: Iterable[bytes]) -> Iterator[pa.Table]:
    """Yield the table of each shard."""
    for content in contents:
        reader = pa.BufferReader(content)
        while reader.tell() < len(content):
            with pa.ipc.open_stream(reader) as stream:
                yield stream.read_all()


def with_empty_rows(
    predicted: NDArray, probabilities: NDArray | None, complete: NDArray[np.bool_]
) -> tuple[NDArray, NDArray | None]:
    """Return the classes and probabilities of all rows of a shard, given those of its complete rows."""
    classes = np.full(complete.size, -1, dtype=np.int64)
    classes[complete] = predicted
    if probabilities is None:
        return classes, None
    chances = np.full((complete.size, probabilities.shape[1]), np.nan)
    chances[complete] = probabilities
    return classes, chances


def require_predictions(out: str) -> None:
    """Refuse an --out that cannot be written, before anything is read.

    Raises
    ------
    InputError
        See `require_output`; or no such format is written.
    """
    if _ending(out) in NOT_WRITTEN:
        raise InputError(f"--out {out}: no {_ending(out)} file is written; name one in .csv, .tsv, .parquet or .npy")
    require_output(out)


def write_predictions(out: str, table: PredictionTable, n_rows: int, contents: Iterable[bytes]) -> None:
    """Write a table to standard output, or to a file that is whole or not there; a link to one stays a link.

    Raises
    ------
    OutputError
        They could not be written.
    """
    with output_file(out) as file:
        table.write(file, n_rows, contents)


def _ending(out: str) -> str:
    return os.path.splitext(out)[1].lower()
