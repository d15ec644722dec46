"""A source whose rows are in memory, and runs of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import Format
from distsoftmax.data.features import compressed
from distsoftmax.data.readers.columns import take_rows
from distsoftmax.data.source import Features, RawRows, Source, TextColumn
from distsoftmax.model import NumberedNames


class InMemory(Source):
    """A source whose rows every rank holds in memory; see `Source`. Nothing of the features is copied.

    Parameters
    ----------
    path : str
        What an error calls it.
    features : ndarray or csr_array, (rows, n_features)
        Of a csr_array the column indices are sorted and distinct in each row.
    labels : TextColumn, optional
    weights : ndarray of float64, (rows,), optional
    names : sequence of str, optional
        The features'; by default x0, x1, ...
    categories : mapping of str to TextColumn, optional
        The text columns, by name.
    """

    format: Format = "npy"

    def __init__(
        self,
        path: str,
        features: Features,
        labels: TextColumn | None = None,
        weights: NDArray[np.float64] | None = None,
        names: Sequence[str] | None = None,
        categories: Mapping[str, TextColumn] | None = None,
    ) -> None:
        super().__init__(path)
        self.n_rows = int(features.shape[0])
        self.is_labelled = labels is not None
        labels = labels or TextColumn((), np.broadcast_to(np.intp(-1), self.n_rows))
        self._categories = tuple((categories or {}).values())
        self.category_names = tuple(categories or {})
        self.feature_names = NumberedNames(features.shape[1]) if names is None else names
        self.sparse = not isinstance(features, np.ndarray)
        self._held = Run(0, features, labels.codes, weights)
        self._texts = labels.texts

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. There is nothing to open."""

    def locate(self, row: int) -> tuple[str, int]:
        """See `Source.locate`."""
        return self.path, row + 1

    def _read_shard(self, shard: int) -> RawRows:
        rows = self._rows(shard)
        run = self._held.rows(rows)
        labels = take_rows(TextColumn(self._texts, run.codes), slice(None)) if self.is_labelled else None
        categories = tuple(take_rows(column, rows) for column in self._categories)
        return RawRows(run.features, labels, run.weights, categories)


class Run(NamedTuple):
    """Consecutive rows of a source.

    Attributes
    ----------
    first : int
        The first one's number in the source.
    features : ndarray or csr_array, (rows, n_features)
    codes : ndarray of int, (rows,)
        The label of each row, by its index in the texts.
    weights : ndarray of float64, (rows,), or None
    """

    first: int
    features: Features
    codes: NDArray[np.integer]
    weights: NDArray[np.float64] | None

    def rows(self, wanted: slice) -> Run:
        """Return some of the rows, counted in the source; a view where they are contiguous in memory."""
        own = slice(wanted.start - self.first, wanted.stop - self.first)
        weights = None if self.weights is None else self.weights[own]
        return Run(wanted.start, feature_rows(self.features, own), self.codes[own], weights)

    def content(self, wanted: range) -> bytes:
        """Return rows as the bytes of their arrays, one after the other; see `run_in`."""
        run = self.rows(slice(wanted.start, wanted.stop))
        arrays = [run.codes.astype(np.int64), *(() if run.weights is None else (run.weights,))]
        if isinstance(run.features, np.ndarray):
            arrays.append(run.features)
        else:
            arrays += [run.features.indptr.astype(np.int64), run.features.indices.astype(np.int64), run.features.data]
        return b"".join(array.tobytes() for array in arrays)


def feature_rows(features: Features, rows: slice) -> Features:
    """Return a run of rows, without a copy where they are contiguous in memory and of this machine's byte order."""
    if isinstance(features, np.ndarray):
        return np.ascontiguousarray(features[rows], dtype=features.dtype.newbyteorder("="))
    start, stop, _ = rows.indices(features.shape[0])
    ends = features.indptr[start : stop + 1]
    entries = slice(int(ends[0]), int(ends[-1]))
    return compressed(features.data[entries], features.indices[entries], ends - ends[0], features.shape[1])
