"""Shards: fixed slices of a source, the same on any number of ranks, and each rank's reading of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.assignment import owned_shards
from distsoftmax.data.source import LabelColumn, Source, SourceSpec, open_source
from distsoftmax.errors import InputError

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Cluster

FEWEST_SHARDS = 64  # enough for even work on a few dozen ranks
LARGEST_SHARD_ROWS = 16_384

ShowProgress = Callable[[str, int, int], None]  # (what is done, how much of it is done, how much there is)


def show_nothing(description: str, completed: int, total: int) -> None:
    """Take a report of progress and keep quiet."""


@dataclass(frozen=True)
class RawShard:
    """A shard as read: features (rows, n_features) as stored, C-contiguous, and its labels if asked for."""

    number: int
    first_row: int
    features: NDArray
    labels: LabelColumn | None


@dataclass(frozen=True)
class DividedSource:
    """A source whose shards are fixed."""

    source: Source
    bounds: NDArray[np.int64]  # (n_shards + 1,)

    @property
    def n_shards(self) -> int:
        """The number of shards on all ranks together."""
        return self.bounds.size - 1

    def read(self, cluster: Cluster, show: ShowProgress = show_nothing) -> Iterator[RawShard]:
        """Read this rank's shards, one after the other. Not collective.

        Raises
        ------
        InputError
            Naming file, row and column of what cannot be used, NaN and infinities among it.
        """
        own = owned_shards(cluster.rank, cluster.size, self.n_shards)
        for number in own:
            show(f"reading {self.source.path}", number - own.start, len(own))
            features, labels = self.source.read(number)
            first_row = int(self.bounds[number])
            features = np.ascontiguousarray(features)
            self._check_finite(features, first_row)
            yield RawShard(number, first_row, features, labels)

    def require_features(self, n_features: int, owner: str) -> None:
        """Refuse a source with another number of features than its `owner` has.

        Raises
        ------
        InputError
            On every rank, which must all call it.
        """
        found = len(self.source.feature_names)
        if found != n_features:
            raise InputError(
                f"{self.source.path}: has {found} features, {owner} {n_features}; give the same columns"
            ).on_all_ranks()

    def _check_finite(self, features: NDArray, first_row: int) -> None:
        if features.dtype.kind != "f" or np.isfinite(features).all():
            return
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise InputError(
            f"{self.source.path}: row {first_row + row + 1}, column {self.source.feature_names[column]}: the value is "
            f"{features[row, column]}; every feature must be a finite number"
        )


def divide_source(source: Source | SourceSpec, n_shards: int | None, cluster: Cluster) -> DividedSource:
    """Open a source where it is not open yet, count its rows and fix its shards. Collective.

    Raises
    ------
    InputError
        On every rank: the source cannot be used, or has no rows.
    """
    with cluster.agreement():
        opened = open_source(source) if isinstance(source, SourceSpec) else source
    opened.count_rows(cluster)
    if opened.n_rows <= 0:
        raise InputError(f"{opened.path}: holds no samples, only a header or nothing").on_all_ranks()
    bounds = shard_bounds(opened.n_rows, n_shards or default_n_shards(opened.n_rows))
    opened.divide(bounds, cluster)
    return DividedSource(opened, bounds)


def default_n_shards(n_rows: int) -> int:
    """Return the number of shards for a source of `n_rows`: it follows from the source, never from the ranks."""
    return min(n_rows, max(FEWEST_SHARDS, -(-n_rows // LARGEST_SHARD_ROWS)))


def shard_bounds(n_rows: int, n_shards: int) -> NDArray[np.int64]:
    """Return the rows at which shards begin and end, shape (n_shards + 1,); sizes differ by at most one row."""
    bounds: NDArray[np.int64] = np.arange(n_shards + 1, dtype=np.int64) * n_rows // n_shards
    return bounds
