"""How much memory a rank will need, before anyone has started a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.encoding import SPARSE_INDEX
from distsoftmax.data.features import COMPACT
from distsoftmax.data.shard_store import AT_HAND

BYTES_A_ROW = 8  # a class, or a weight
PARAMETER_ARRAYS = 12  # the solver's state, the gradient, its integer sums and those on the way


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """What that rank needs which has the most, where so many ranks share the work; in bytes.

    Attributes
    ----------
    ranks, shards, rows : int
        The ranks of the run; the shards and rows of a rank.
    features_read, features_kept : int
        Its features while they are read and made ready, and later.
    classes : int
        The classes and weights of its rows.
    parameters : int or None
        Parameters and solver; None where the classes are not known.
    total : int
        All of it, with the features as --memory bounds them where it is given.
    uses_scratch : bool
        Whether the features, as kept, are more than --memory allows, so that some lie in scratch.
    """

    ranks: int
    shards: int
    rows: int
    features_read: int
    features_kept: int
    classes: int
    parameters: int | None
    total: int
    uses_scratch: bool


@dataclass(frozen=True)
class ShardBytes:
    """The bytes of each shard's features, int64, (n_shards,).

    As read, encoded (categories spread over columns), at most until they are ready, as kept, and what must find room
    while a shard is at hand.
    """

    read: NDArray[np.int64]
    encoded: NDArray[np.int64]
    ready: NDArray[np.int64]
    kept: NDArray[np.int64]
    at_hand: NDArray[np.int64]

    @classmethod
    def of_dense(
        cls, rows: NDArray[np.int64], n_numeric: int, n_texts: int, width: int, stored: np.dtype, dtype: np.dtype
    ) -> ShardBytes:
        """Return those of dense rows with `n_texts` columns of text, which become `width` features in all."""
        read = rows * (n_numeric * stored.itemsize + n_texts * np.dtype(np.intp).itemsize)
        kept = stored if stored.name in COMPACT else dtype
        encoded = rows * (width * stored.itemsize)
        wide = rows * (width * np.dtype(np.float64).itemsize) if n_texts else read
        return cls(read, encoded, np.maximum(read, encoded), rows * (width * kept.itemsize), wide)

    @classmethod
    def of_sparse_categories(
        cls, rows: NDArray[np.int64], n_numeric: int, n_texts: int, stored: np.dtype, dtype: np.dtype
    ) -> ShardBytes:
        """Return those of dense rows with columns of so many categories that the features are sparse; the most."""
        read = rows * (n_numeric * stored.itemsize + n_texts * np.dtype(np.intp).itemsize)
        starts_and_columns = (n_numeric + n_texts + 1) * SPARSE_INDEX
        value = stored.itemsize if stored in (np.float32, np.float64) else np.dtype(np.float64).itemsize
        encoded = rows * ((n_numeric + n_texts) * value + starts_and_columns)
        kept = rows * ((n_numeric + n_texts) * dtype.itemsize + starts_and_columns)
        wide = rows * ((n_numeric + n_texts) * np.dtype(np.float64).itemsize + starts_and_columns)
        return cls(read, encoded, np.maximum(read, encoded), kept, wide)

    @classmethod
    def of_sparse(cls, counted: NDArray[np.int64], stored: np.dtype, dtype: np.dtype) -> ShardBytes:
        """Return those of sparse rows; `counted` is `NumberTally.sparse_bytes`."""
        read, n_values, rest = counted
        encoded = n_values * stored.itemsize + rest
        return cls(read, encoded, np.maximum(read, encoded), n_values * dtype.itemsize + rest, read)

    @property
    def least_bound(self) -> int:
        """The least that --memory may be: the shards at hand at once where all lie in scratch."""
        return AT_HAND * int(np.maximum(self.read, self.at_hand).max())


def memory_needs(
    rank_counts: Iterable[int],
    bounds: NDArray[np.int64],
    sizes: ShardBytes,
    *,
    weighted: bool,
    n_parameters: int | None,
    bound: int | None,
) -> tuple[MemoryNeed, ...]:
    """Return what a rank needs for each number of ranks.

    Parameters
    ----------
    rank_counts : iterable of int
    bounds : ndarray of int64, (n_shards + 1,)
        The rows at which shards begin and end.
    sizes : ShardBytes
    weighted : bool
        Whether there are sample weights.
    n_parameters : int or None
        Coefficients and intercepts; None where the classes are not known.
    bound : int or None
        What --memory allows for features.
    """
    parameters = None if n_parameters is None else PARAMETER_ARRAYS * n_parameters * np.dtype(np.float64).itemsize
    needs = []
    for ranks in rank_counts:
        first = np.arange(ranks + 1, dtype=np.int64) * sizes.read.size // ranks  # as `owned_shards` has it
        rows = int(np.diff(bounds[first]).max())
        ready, kept = (_most(of_shard, first) for of_shard in (sizes.ready, sizes.kept))
        classes = rows * BYTES_A_ROW * (2 if weighted else 1)
        most = max(ready, kept)
        needs.append(
            MemoryNeed(
                ranks=ranks,
                shards=int(np.diff(first).max()),
                rows=rows,
                features_read=ready,
                features_kept=kept,
                classes=classes,
                parameters=parameters,
                total=(most if bound is None else min(most, bound)) + classes + (parameters or 0),
                uses_scratch=bound is not None and _most_at_hand(sizes.kept, first) > bound,
            )
        )
    return tuple(needs)


def _most_at_hand(of_shard: NDArray[np.int64], first: NDArray[np.int64]) -> int:
    """Return the most that a rank's shards take together with those at hand."""
    first = np.unique(first)  # without the ranks that have no shard
    sums, largest = np.add.reduceat(of_shard, first[:-1]), np.maximum.reduceat(of_shard, first[:-1])
    return int((sums + AT_HAND * largest).max())


def _most(of_shard: NDArray[np.int64], first: NDArray[np.int64]) -> int:
    """Return the largest sum over the shards of a rank; rank r has the shards first[r] to first[r + 1]."""
    sums = np.concatenate([[0], np.cumsum(of_shard, dtype=np.int64)])[first]
    return int(np.diff(sums).max())
