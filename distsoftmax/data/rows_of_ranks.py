"""A source to which each rank gives its own rows: they go to the ranks that read their shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.class_names import class_names
from distsoftmax.data.features import compressed
from distsoftmax.data.in_memory import InMemory, Run
from distsoftmax.data.readers.parted_source import JoinedRows, join_rows
from distsoftmax.data.source import Features, RawRows, TextColumn
from distsoftmax.errors import InputError
from distsoftmax.model import names_as_json

LABEL_KINDS = {"i": "numbers", "u": "numbers", "f": "numbers", "b": "truth values", "U": "text", "O": "text"}


@dataclass(frozen=True)
class _Kind:
    """What the rows of a rank are like, as all ranks know it."""

    n_rows: int
    n_features: int
    dtype: str
    sparse: bool
    weighted: bool
    labels: str  # their type
    names: str  # a digest

    def difference(self, other: _Kind) -> str:
        """Return in what another rank's rows differ; empty where they fit together. Without rows types do not count."""
        if self.n_features != other.n_features:
            return f"X has {self.n_features} features and {other.n_features}"
        if self.names != other.names:
            return "the features of X have different names"
        if not (self.n_rows and other.n_rows):
            return ""
        if self.sparse != other.sparse:
            return "X is sparse on one of them and dense on the other"
        if self.dtype != other.dtype:
            return f"X is of type {self.dtype} and {other.dtype}"
        kinds = [LABEL_KINDS[np.dtype(labels).kind] for labels in (self.labels, other.labels)]
        if kinds[0] != kinds[1]:
            return f"y holds {kinds[0]} and {kinds[1]}"
        return "" if self.weighted == other.weighted else "sample_weight is given on one of them alone"


class RowsOfRanks(InMemory):
    """A source to which each rank gives its own rows; they follow one another in the order of the ranks.

    Shards follow from the number of all rows, as for a file. Rows of shards that another rank reads go there.

    Parameters
    ----------
    label_dtype : numpy.dtype
        Of the labels: ranks must give the same kind of them.

    Attributes
    ----------
    label_texts : tuple of str
        The texts of the labels on all ranks, once it is scanned.
    label_dtype : numpy.dtype
        That all of them have in common.
    """

    is_digested = False

    def __init__(
        self,
        features: Features,
        labels: TextColumn,
        label_dtype: np.dtype,
        weights: NDArray[np.float64] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__("X", features, labels, weights, names)
        self.label_texts, self.label_dtype = labels.texts, label_dtype
        self._ranks = JoinedRows([self.n_rows])
        self._runs = {0: self._held}  # by rank: those of its rows that are here
        digest = hashlib.sha256(json.dumps(names_as_json(self.feature_names)).encode()).hexdigest()
        dtype = features.dtype.name
        own = (self.n_rows, len(self.feature_names), dtype, self.sparse, weights is not None, label_dtype.str, digest)
        self._kind = self._common = _Kind(*own)

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. The ranks compare their rows, and number the labels alike."""
        kinds = cluster.allgather(self._kind)
        first = next((rank for rank, kind in enumerate(kinds) if kind.n_rows), 0)
        for rank, kind in enumerate(kinds):
            difference = kinds[first].difference(kind)
            if difference:
                raise InputError(
                    f"ranks {first} and {rank} give rows that do not fit together: {difference}; give all alike"
                ).on_all_ranks()
        self.label_dtype = np.result_type(
            *(np.dtype(kind.labels) for kind in kinds if kind.n_rows or kind is kinds[first])
        )
        codes, texts = self._held.codes, self.label_texts
        if cluster.size > 1:
            texts = tuple(sorted(cluster.union(texts)))
            code = {text: number for number, text in enumerate(texts)}
            codes = np.array([code[text] for text in self.label_texts], dtype=np.intp)[codes]
        self._common, self._ranks = kinds[first], JoinedRows([kind.n_rows for kind in kinds])
        self._held = self._held._replace(first=int(self._ranks.starts[cluster.rank]), codes=codes)
        self.label_texts, self._texts = texts, told_apart(texts)
        self.n_rows, self.sparse = self._ranks.n_rows, kinds[first].sparse

    def divide(self, bounds: NDArray[np.int64], owned: Sequence[range], cluster: Communicator) -> None:
        """See `Source.divide`. Each rank gives the others the rows that they read."""
        super().divide(bounds, owned, cluster)
        read = [range(int(bounds[shards.start]), int(bounds[shards.stop])) for shards in owned]
        held = [range(*ends) for ends in pairwise(self._ranks.starts.tolist())]
        own = cluster.rank
        given = [overlap(held[own], rows) if rank != own else range(0) for rank, rows in enumerate(read)]
        contents = cluster.alltoall([self._held.content(rows) if rows else b"" for rows in given])
        self._runs = {
            rank: self._held if rank == own else self._run_in(content, rows)
            for rank, content in enumerate(contents)
            if (rows := overlap(held[rank], read[own]))
        }

    def locate(self, row: int) -> tuple[str, int]:
        """See `Source.locate`."""
        rank, row = self._ranks.place(row)
        return self.path if self._ranks.starts.size == 2 else f"{self.path} of rank {rank}", row + 1

    def _read_shard(self, shard: int) -> RawRows:
        rows, blocks = self._rows(shard), []
        for rank, begin, end in self._ranks.within(rows.start, rows.stop):
            first = int(self._ranks.starts[rank])
            run = self._runs[rank].rows(slice(first + begin, first + end))
            blocks.append(RawRows(run.features, TextColumn(self._texts, run.codes), run.weights))
        return join_rows(blocks)

    def _run_in(self, content: bytes, rows: range) -> Run:
        """Return the rows that another rank has sent; see `Run.content`."""
        kind, start = self._common, 0

        def take(dtype: np.dtype | type, count: int) -> NDArray:
            nonlocal start
            start += count * np.dtype(dtype).itemsize
            return np.frombuffer(content, np.uint8)[start - count * np.dtype(dtype).itemsize : start].view(dtype)

        count, width, dtype = len(rows), kind.n_features, np.dtype(kind.dtype)
        codes = take(np.int64, count)
        weights = take(np.float64, count) if kind.weighted else None
        if not kind.sparse:
            return Run(rows.start, take(dtype, count * width).reshape(count, width), codes, weights)
        ends = take(np.int64, count + 1)
        indices = take(np.int64, int(ends[-1]))
        return Run(rows.start, compressed(take(dtype, int(ends[-1])), indices, ends, width), codes, weights)


def told_apart(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts for labels that are different classes each, also where they spell equal numbers.

    Examples
    --------
    >>> told_apart(("1", "2")), told_apart(("1", "1.0"))
    (('1', '2'), ("'1'", "'1.0'"))
    """
    is_apart = len(set(class_names(labels).values())) == len(labels)
    return labels if is_apart else tuple(f"'{label}'" for label in labels)


def overlap(rows: range, others: range) -> range:
    """Return the rows that two runs of them have in common.

    Examples
    --------
    >>> overlap(range(0, 10), range(7, 20)), len(overlap(range(3), range(5, 9)))
    (range(7, 10), 0)
    """
    return range(max(rows.start, others.start), max(min(rows.stop, others.stop), rows.start, others.start))
