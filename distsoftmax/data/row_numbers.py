"""Columns that number the rows, as an index that was written with a table: nothing can be learnt from them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from distsoftmax.config import SourceConfig
from distsoftmax.data.shards import RawShard
from distsoftmax.data.source import Source

FEWEST_ROWS = 20  # of a source: in fewer a measurement may be as regular
# names of columns that may number the rows in any order; pandas calls a column without name "Unnamed: 0"
LIKELY = re.compile(
    r"|#|(unnamed: ?|level_)\d+|index|id|nr|no|row|rowid|row[ _-]?(nr|no|num|number|index)|.*[ _-]id", re.I
)
Counted: TypeAlias = "dict[int, tuple[int, int, int]]"


@dataclass
class RowNumbers:
    """What a rank has seen of the columns of its shards.

    Attributes
    ----------
    in_order : set of (int, int), or None
        The columns that hold first, first + 1, ... in the order of the rows, with first, 0 or 1; None: no row was seen.
    counted : dict of int to (int, int, int)
        For each column with a likely name: rows, their sum, and their sum of squares; whole numbers alone.
    """

    in_order: set[tuple[int, int]] | None = None
    counted: Counted = field(default_factory=dict)

    def add(self, shard: RawShard) -> None:
        """Look at a shard. Columns of which no two values are looked at again fall away by its first and last row."""
        features, source = shard.rows.features, shard.source
        if not isinstance(features, np.ndarray) or not len(features) or source.n_rows < FEWEST_ROWS:
            return
        rows = np.arange(len(features)) if shard.complete is None else np.flatnonzero(shard.complete)
        rows += shard.first_row
        if self.in_order is None:
            starts = features[0].astype(np.float64) - rows[0]
            self.in_order = {(column, first) for first in (0, 1) for column in np.flatnonzero(starts == first).tolist()}
            self.counted = dict.fromkeys(_likely(source), (0, 0, 0))
        self.in_order = {
            (column, first)
            for column, first in self.in_order
            if features[-1, column] == rows[-1] + first and np.array_equal(features[:, column], rows + first)
        }
        for column, (count, total, squares) in [*self.counted.items()]:
            values = features[:, column]
            if not ((values >= 0) & (values <= source.n_rows) & (values == np.trunc(values))).all():
                del self.counted[column]
                continue
            whole = values.astype(np.int64).tolist()
            self.counted[column] = (
                count + len(whole),
                total + sum(whole),
                squares + sum(value * value for value in whole),
            )


def columns_that_number_rows(told: Iterable[RowNumbers], source: Source, n_dropped: int) -> list[int]:
    """Return the columns that hold 0 ... n - 1 or 1 ... n: in order, or in any where their names say so.

    Parameters
    ----------
    told : iterable of RowNumbers
        By every rank.
    n_dropped : int
        The rows that were left out.
    """
    seen = [rank for rank in told if rank.in_order is not None]
    if not seen:
        return []
    columns = {column for column, _ in set.intersection(*(rank.in_order or set() for rank in seen))}
    n_rows = source.n_rows
    for column in set.intersection(*(set(rank.counted) for rank in seen)) if n_dropped == 0 else ():
        sums = tuple(map(sum, zip(*(rank.counted[column] for rank in seen), strict=True)))
        for first in (0, 1):
            last = n_rows - 1 + first
            if sums == (n_rows, (first + last) * n_rows // 2, last * (last + 1) * (2 * last + 1) // 6):
                columns.add(column)
    return sorted(columns)


def numbers_rows(source: Source, column: int, config: SourceConfig) -> str:
    """Return what to say of a column that numbers the rows."""
    name = source.feature_names[column]
    remedy = "leave it out"
    if source.format in ("csv", "parquet"):
        has_names = source.format == "parquet" or (config.header != "no" and not source.headless_by_guess)
        remedy += f" with --drop {shlex.quote(name if has_names else name.removeprefix('x'))}"
    return f"{source.path}: column {name or repr(name)} numbers the rows, and is of no use for new ones; {remedy}"


def _likely(source: Source) -> Iterable[int]:
    """Yield the columns whose names say that they may number the rows; made-up names do not."""
    if source.format in ("csv", "parquet"):
        for column, name in enumerate(source.feature_names):
            if LIKELY.fullmatch(name):
                yield column
