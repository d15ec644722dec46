"""What a rank collects of its shards while they are read, before anything is agreed on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.exact_sum import ShardSum
from distsoftmax.config import DataConfig
from distsoftmax.data.encoding import measure_columns
from distsoftmax.data.features import largest_number
from distsoftmax.data.preparation import held_out_rows
from distsoftmax.data.row_numbers import RowNumbers
from distsoftmax.data.shards import RawShard
from distsoftmax.data.source import Source


@dataclass(frozen=True)
class Labelled:
    """What is kept of a shard: its labels and weights, and which rows are held out."""

    shard: RawShard
    held_out: NDArray[np.bool_]


@dataclass
class FirstLook:
    """What a rank has seen of its shards.

    Attributes
    ----------
    labelled : list of Labelled
    categories : list of set of str
        For each text column the texts in training rows.
    means : list of pair of ShardSum
        See `measure_columns`; for ``--impute mean`` alone.
    stored : set of str
        The types of the features.
    n_dropped : int
        Rows left out for a missing cell.
    largest : float
        The largest absolute value of a feature, where `compute_dtype` asks for it; else 0.
    """

    source: Source
    config: DataConfig
    labelled: list[Labelled] = field(default_factory=list)
    categories: list[set[str]] = field(default_factory=list)
    means: list[tuple[ShardSum, ShardSum]] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    row_numbers: RowNumbers = field(default_factory=RowNumbers)
    n_dropped: int = 0
    largest: float = 0.0

    def __post_init__(self) -> None:
        """Begin with no text in any column."""
        self.categories = [set() for _ in self.source.category_names]

    def add(self, shard: RawShard) -> None:
        """Look at a shard."""
        rows, held_out = shard.rows, held_out_rows(shard, self.config.held_out_fraction, self.config.seed)
        for texts, column in zip(self.categories, rows.categories, strict=True):
            training = np.unique(column.codes[~held_out])
            texts.update(column.texts[code] for code in training if code >= 0)
        if self.config.impute == "mean" and not self.source.sparse:
            self.means.append(measure_columns(shard.number, rows, ~held_out))
        self.stored.add(rows.features.dtype.name)
        as_they_are = self.config.dtype == "stored" and not self.config.standardize
        if as_they_are and (self.source.is_text or rows.features.dtype.kind != "f"):
            self.largest = max(self.largest, largest_number(rows.features))
        if shard.source.is_digested:  # a file, whose user reads the note on such a column
            self.row_numbers.add(shard)
        self.n_dropped += shard.n_dropped
        without_features = replace(rows, features=np.empty((len(shard), 0)), categories=())
        self.labelled.append(Labelled(replace(shard, rows=without_features), held_out))
