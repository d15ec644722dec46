"""What `predict` writes: a row for each sample, in the order of the data, as CSV, TSV, Parquet or .npy."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from distsoftmax.durable import require_writable, write_atomically
from distsoftmax.errors import InputError, OutputError

STANDARD_OUTPUT = "-"
SEPARATORS = {".tsv": "\t", ".tab": "\t"}
NOT_WRITTEN = (".npz", ".h5", ".hdf5", ".svm", ".svmlight", ".libsvm", ".gz", ".gzip", ".zst", ".zstd")


class PredictionFormat(ABC):
    """How predictions are written: each rank encodes its shards, rank 0 makes one file of them.

    Parameters
    ----------
    classes : sequence of str
        The model's, in its order.
    with_probabilities : bool
        Whether the probability of each class is written, too.
    """

    def __init__(self, classes: Sequence[str], with_probabilities: bool) -> None:
        self._classes = np.array(classes, dtype=object)
        self._with_probabilities = with_probabilities

    @abstractmethod
    def encode(self, probabilities: NDArray) -> bytes:
        """Return the rows of a shard, given the probabilities of its samples: float64, (rows, n_classes)."""

    @abstractmethod
    def join(self, shards: Sequence[bytes]) -> list[bytes]:
        """Return the content of the file, given the rows of all shards in their order."""

    def _table(self, probabilities: NDArray) -> pa.Table:
        """Return the columns `prediction` and, where they are asked for, `probability_CLASS` for each class."""
        columns = {"prediction": pa.array(self._classes[probabilities.argmax(axis=1)], pa.string())}
        if self._with_probabilities:
            names = (f"probability_{name}" for name in self._classes)
            columns |= dict(zip(names, map(pa.array, np.ascontiguousarray(probabilities.T)), strict=True))
        return pa.table(columns)

    def _no_rows(self) -> NDArray:
        return np.empty((0, len(self._classes)))


class CsvFormat(PredictionFormat):
    """Text with a header, cells quoted where they must be."""

    def __init__(self, classes: Sequence[str], with_probabilities: bool, separator: str = ",") -> None:
        super().__init__(classes, with_probabilities)
        self._separator = separator

    def encode(self, probabilities: NDArray) -> bytes:
        """See `PredictionFormat.encode`."""
        return self._text(probabilities, header=False)

    def join(self, shards: Sequence[bytes]) -> list[bytes]:
        """See `PredictionFormat.join`."""
        return [self._text(self._no_rows(), header=True), *shards]

    def _text(self, probabilities: NDArray, *, header: bool) -> bytes:
        text = io.BytesIO()
        options = csv.WriteOptions(include_header=header, quoting_style="needed", delimiter=self._separator)
        csv.write_csv(self._table(probabilities), text, options)
        return text.getvalue()


class ParquetFormat(PredictionFormat):
    """A Parquet file with the columns of the CSV file."""

    def encode(self, probabilities: NDArray) -> bytes:
        """See `PredictionFormat.encode`."""
        table, stream = self._table(probabilities), io.BytesIO()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        return stream.getvalue()

    def join(self, shards: Sequence[bytes]) -> list[bytes]:
        """See `PredictionFormat.join`."""
        from pyarrow import parquet

        tables = [pa.ipc.open_stream(shard).read_all() for shard in shards]
        content = io.BytesIO()
        parquet.write_table(pa.concat_tables(tables).combine_chunks(), content)
        return [content.getvalue()]


class NpyFormat(PredictionFormat):
    """One array: the predicted classes as texts, (n_rows,); or the probabilities, float64, (n_rows, n_classes).

    Raises
    ------
    InputError
        numpy's texts cannot hold the name of a class, as they drop null characters at the end.
    """

    def __init__(self, classes: Sequence[str], with_probabilities: bool) -> None:
        super().__init__(classes, with_probabilities)
        self._texts = np.array(classes, dtype=np.dtype("<U"))
        for name, text in zip(classes, self._texts.tolist(), strict=True):
            if name != text and not with_probabilities:
                raise InputError(f"--out: a .npy file cannot hold the class {name!r}; write .csv or .parquet")

    def encode(self, probabilities: NDArray) -> bytes:
        """See `PredictionFormat.encode`."""
        return self._array(probabilities).tobytes()

    def join(self, shards: Sequence[bytes]) -> list[bytes]:
        """See `PredictionFormat.join`."""
        row = self._array(np.zeros((1, len(self._classes))))
        shape = (sum(map(len, shards)) // row.nbytes, *row.shape[1:])
        head = io.BytesIO()
        about = {"descr": np.lib.format.dtype_to_descr(row.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, about)
        return [head.getvalue(), *shards]

    def _array(self, probabilities: NDArray) -> NDArray:
        if self._with_probabilities:
            return probabilities.astype("<f8")
        texts: NDArray = self._texts[probabilities.argmax(axis=1)]
        return texts


def choose_format(out: str, classes: Sequence[str], with_probabilities: bool) -> PredictionFormat:
    """Return the format that a file's name asks for; CSV where it asks for none, and on standard output.

    Raises
    ------
    InputError
        It cannot hold the names of the classes.
    """
    ending = os.path.splitext(out)[1].lower()
    if ending in (".parquet", ".pq"):
        return ParquetFormat(classes, with_probabilities)
    if ending == ".npy":
        return NpyFormat(classes, with_probabilities)
    return CsvFormat(classes, with_probabilities, SEPARATORS.get(ending, ","))


def require_output(out: str) -> None:
    """Refuse an --out that cannot be written, before anything is read.

    Raises
    ------
    InputError
        It is a folder, a device or a pipe, its folder cannot be written to, or no such format is written.
    """
    if out == STANDARD_OUTPUT:
        return
    ending = os.path.splitext(out)[1].lower()
    if ending in NOT_WRITTEN:
        raise InputError(f"--out {out}: no {ending} file is written; name a file in .csv, .tsv, .parquet or .npy")
    path = _behind_links(out)
    try:
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
                raise InputError(f"--out {out}: is {kind}; name a file, or - for standard output")
        require_writable(path)
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be written there: {error.strerror}; name a file in a folder that can be written to"
        ) from None


def require_no_input(out: str, inputs: Iterable[str | Path]) -> None:
    """Refuse an --out that is one of the files that are read.

    Raises
    ------
    InputError
        It is, by this name or another.
    """
    path = _behind_links(out)
    for name in inputs if out != STANDARD_OUTPUT and path.exists() else ():
        if os.path.exists(name) and path.samefile(name):
            raise InputError(f"--out {out}: is {name}, which is read; name another file")


def write_predictions(out: str, content: Iterable[bytes]) -> None:
    """Write predictions to standard output, or to a file that is whole or not there; a link to one stays a link.

    Raises
    ------
    OutputError
        They could not be written.
    """
    if out != STANDARD_OUTPUT:
        write_atomically(_behind_links(out), *content)
        return
    try:
        for buffer in content:
            sys.stdout.buffer.write(buffer)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        if not isinstance(error, BrokenPipeError):  # a reader that has gone has what it wanted
            raise OutputError(f"standard output could not be written: {error.strerror}") from None


def _behind_links(out: str) -> Path:
    return Path(os.path.realpath(out))
