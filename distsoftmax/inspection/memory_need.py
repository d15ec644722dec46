"""How much memory a rank will need, before anyone has started a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.encoding import encoded_row_bytes
from distsoftmax.data.features import COMPACT
from distsoftmax.data.shard_store import AT_HAND
from distsoftmax.model import Encoding

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

    At most until they are ready, as kept, and what must find room while a shard is at hand.
    """

    ready: NDArray[np.int64]
    kept: NDArray[np.int64]
    at_hand: NDArray[np.int64]

    @classmethod
    def of_dense(cls, rows: NDArray[np.int64], encoding: Encoding, stored: np.dtype, dtype: np.dtype) -> ShardBytes:
        """Return those of dense columns; where many categories make sparse features of them, the most."""
        n_texts, double = len(encoding.categories), np.dtype(np.float64)
        value, kept = stored, stored if stored.name in COMPACT else dtype
        if encoding.is_sparse:
            value, kept = stored if stored in (np.float32, np.float64) else double, dtype
        read = rows * (len(encoding.numeric) * stored.itemsize + n_texts * np.dtype(np.intp).itemsize)
        encoded, kept_bytes, wide = (rows * encoded_row_bytes(encoding, of) for of in (value, kept, double))
        return cls(np.maximum(read, encoded), kept_bytes, np.maximum(read, wide) if n_texts else read)

    @classmethod
    def of_sparse(cls, counted: NDArray[np.int64], stored: np.dtype, dtype: np.dtype) -> ShardBytes:
        """Return those of sparse rows; `counted` is `NumberTally.sparse_bytes`."""
        read, n_values, rest = counted
        return cls(np.maximum(read, n_values * stored.itemsize + rest), n_values * dtype.itemsize + rest, read)

    @property
    def least_bound(self) -> int:
        """The least that --memory may be: the shards at hand at once where all lie in scratch."""
        return AT_HAND * int(self.at_hand.max())


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
        first = np.arange(ranks + 1, dtype=np.int64) * sizes.kept.size // ranks  # as `owned_shards` has it
        rows = int(np.diff(bounds[first]).max())
        starts = np.unique(first)[:-1]  # without the ranks that have no shard
        sums = [np.add.reduceat(of_shard, starts) for of_shard in (sizes.ready, sizes.kept)]
        ready, kept = (int(of_rank.max()) for of_rank in sums)
        at_hand = sums[1] + AT_HAND * np.maximum.reduceat(sizes.kept, starts)
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
                uses_scratch=bound is not None and int(at_hand.max()) > bound,
            )
        )
    return tuple(needs)
