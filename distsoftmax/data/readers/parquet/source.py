"""Samples in Parquet files, read by row groups so that each rank reads those of its own shards alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import Format
from distsoftmax.data.parts import FileState, called
from distsoftmax.data.readers.joined_parts import JoinedParts
from distsoftmax.data.readers.parquet.columns import Columns, choose_columns, require_same_columns
from distsoftmax.data.readers.parquet.footer import FLOAT, Footer, read_footer
from distsoftmax.data.readers.parquet.part import OpenPart
from distsoftmax.data.readers.texts import join_columns, take_rows
from distsoftmax.data.source import RawRows, SourceSpec, TextColumn
from distsoftmax.errors import InputError


class ParquetSource:
    """Parquet files; see `Source`."""

    sparse = False
    is_text = False
    format: Format = "parquet"
    is_held = False
    index_base: int | None = None
    headless_by_guess = False

    def __init__(self, spec: SourceSpec, parts: tuple[FileState, ...]) -> None:
        self.path = called(spec.paths)
        self.parts = parts
        self.n_rows = 0
        self.feature_names: Sequence[str] = ()
        self.category_names: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._spec = spec
        self._columns = Columns(None, None, (), (), (), ())
        self._dtype = FLOAT
        self._joined = self._join([0] * len(parts))
        self._bounds = np.zeros(1, dtype=np.int64)

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. Each rank reads the footers of some of the parts; empty files among them are skipped."""
        own: dict[int, Footer] = {}
        with cluster.agreement():
            for number in range(cluster.rank, len(self.parts), cluster.size):
                if self.parts[number].size:
                    own[number] = read_footer(self.parts[number])
        own_groups = {number: footer.groups for number, footer in own.items()}
        groups = {number: some for found in cluster.allgather(own_groups) for number, some in found.items()}
        if not groups:
            raise InputError(f"{self.parts[0].path}: is empty").on_all_ranks()
        first = min((number for number, some in groups.items() if sum(some)), default=min(groups))
        types = next(found for found in cluster.allgather(own[first].types if first in own else None) if found)
        dtypes: set[str] = set()
        with cluster.agreement():
            self._columns = choose_columns(self._spec, self.parts[first].path, types)
            has_choice = bool(self._spec.features) or self._spec.expected_names is not None
            for footer in own.values():
                if footer.n_rows:
                    path = self.parts[first].path
                    require_same_columns(self._columns, path, types, footer.path, footer.types, open_end=has_choice)
                    dtypes |= footer.numbers_in(self._columns)
        dtypes = set().union(*cluster.allgather(dtypes))
        self._dtype = np.result_type(*sorted(dtypes)) if dtypes else FLOAT  # from all parts, so the same on all ranks
        self._joined = self._join([sum(groups.get(number, ())) for number in range(len(self.parts))])
        self.n_rows = self._joined.n_rows
        self.feature_names = self._columns.feature_names
        self.category_names = self._columns.categories
        self.notes = tuple(self._find_notes(groups, cluster.size))

    def divide(self, bounds: NDArray[np.int64], owned: Sequence[range], cluster: Communicator) -> None:
        """See `Source.divide`. No communication is needed."""
        self._bounds = bounds

    def read(self, shard: int) -> RawRows:
        """See `Source.read`; the features are of one type that holds those of all columns, in all parts."""
        columns = self._columns
        first, stop = int(self._bounds[shard]), int(self._bounds[shard + 1])
        features = np.empty((stop - first, len(columns.feature_names)), dtype=self._dtype)
        labels: list[TextColumn] = []
        weights = [np.zeros(0)]
        categories: list[list[TextColumn]] = [[] for _ in columns.categories]
        done = 0
        for _, part, begin, end in self._joined.pieces(first, stop):
            for group, low, high in part.groups(begin, end):
                rows = slice(low, high)
                group.fill(features[done : done + high - low], columns.runs, low)
                done += high - low
                if group.labels is not None:
                    labels.append(take_rows(group.labels, rows))
                if group.weights is not None:
                    weights.append(group.weights[rows])
                for place, column in enumerate(group.categories):
                    categories[place].append(take_rows(column, rows))
        return RawRows(
            features,
            join_columns(labels) if columns.label is not None else None,
            np.concatenate(weights) if columns.weight is not None else None,
            tuple(join_columns(pieces) for pieces in categories),
        )

    def locate(self, row: int) -> tuple[str, int]:
        """See `Source.locate`."""
        return self._joined.locate(row)

    def _join(self, counts: list[int]) -> JoinedParts[OpenPart]:
        return JoinedParts(self.parts, counts, partial(OpenPart, columns=self._columns, dtype=self._dtype))

    def _find_notes(self, groups: dict[int, tuple[int, ...]], n_ranks: int) -> list[str]:
        notes = [
            f"{self.path}: column {name} is the index that pandas wrote, and no feature; name it with --features "
            "if it is"
            for name in self._columns.left_out
        ]
        largest, number = max((max(counts, default=0), -number) for number, counts in groups.items())
        if n_ranks > 1 and largest * n_ranks > self.n_rows:
            notes.append(
                f"{self.parts[-number].path}: has a row group of {largest} rows, which several ranks read whole; "
                f"write row groups of at most {max(self.n_rows // n_ranks, 1)} rows"
            )
        return notes
