"""Samples in Parquet files, read by row groups so that each rank reads those of its own shards alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import Format
from distsoftmax.data.bad_cell import rows_before
from distsoftmax.data.parts import FileState, called
from distsoftmax.data.readers.joined_parts import JoinedParts
from distsoftmax.data.readers.parquet.columns import ParquetColumns, choose_columns, require_same_columns
from distsoftmax.data.readers.parquet.footer import Footer, read_footer
from distsoftmax.data.readers.parquet.part import OpenPart
from distsoftmax.data.readers.parquet.types import common_type, number_type
from distsoftmax.data.readers.partition_columns import partition_types, refuse_columns_in_both
from distsoftmax.data.readers.text_columns import join_columns, take_rows
from distsoftmax.data.source import RawRows, Source, SourceSpec, TextColumn
from distsoftmax.errors import InputError


class ParquetSource(Source):
    """Parquet files; see `Source`."""

    format: Format = "parquet"

    def __init__(self, spec: SourceSpec, parts: tuple[FileState, ...]) -> None:
        super().__init__(called(spec.paths), parts)
        self._spec = spec
        self._columns = ParquetColumns(None, None, (), (), ())
        self._dtype = np.dtype(np.float64)  # that of the columns, where nothing is missing
        self._joined = self._join([0] * len(parts))

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. Each rank reads the footers of some of the parts; empty files among them are skipped."""
        own: dict[int, Footer] = {}
        with cluster.agreement():
            for number in range(cluster.rank, len(self.parts), cluster.size):
                if self.parts[number].size:
                    own[number] = read_footer(self.parts[number])
        own_groups = {number: footer.groups for number, footer in own.items()}
        groups = {number: counts for of_rank in cluster.allgather(own_groups) for number, counts in of_rank.items()}
        if not groups:
            raise InputError(f"{self.parts[0].path}: is empty").on_all_ranks()
        first = min((number for number, counts in groups.items() if sum(counts)), default=min(groups))
        types = next(of_rank for of_rank in cluster.allgather(own[first].types if first in own else None) if of_rank)
        partitions = partition_types(self.parts)
        types = {**types, **partitions}
        with cluster.agreement():
            for number, footer in own.items():
                refuse_columns_in_both(footer.path, footer.types, self.parts[number])
            self._columns = choose_columns(self._spec, self.parts[first].path, types, partitions)
            has_choice = bool(self._spec.features) or self._spec.expected_names is not None
            for footer in own.values():
                if footer.n_rows:
                    path = self.parts[first].path
                    own_types = {**footer.types, **partitions}
                    require_same_columns(self._columns, path, types, footer.path, own_types, open_end=has_choice)
        self.label_name = self._columns.label
        self._dtype = common_type(number_type(types[name]) or self._dtype for name in self._columns.numeric)
        self._joined = self._join([sum(groups.get(number, ())) for number in range(len(self.parts))])
        self.n_rows = self._joined.n_rows
        self.feature_names = self._columns.feature_names
        self.category_names = self._columns.categories
        self.kept_names = self._columns.kept
        self.notes = tuple(self._find_notes(groups, cluster.size))

    def locate(self, row: int) -> tuple[str, int]:
        """See `Source.locate`."""
        return self._joined.locate(row)

    def _read_shard(self, shard: int) -> RawRows:
        """Read features of the type that holds all columns; where an integer is missing in its row groups, float64."""
        columns, rows = self._columns, self._rows(shard)
        features = np.empty((rows.stop - rows.start, len(columns.feature_names)), dtype=self._dtype)
        labels: list[TextColumn] = []
        weights = [np.zeros(0)]
        categories: list[list[TextColumn]] = [[] for _ in columns.categories]
        kept: list[pa.Table] = []
        done = 0
        for _, part, begin, end in self._joined.overlapping(rows.start, rows.stop):
            with rows_before(done - begin):  # a row group is decoded whole
                for group, low, high in part.groups(begin, end):
                    features = features.astype(common_type([features.dtype, group.dtype]), copy=False)
                    group.fill(features[done : done + high - low], columns.runs, low)
                    done += high - low
                    if group.labels is not None:
                        labels.append(take_rows(group.labels, slice(low, high)))
                    if group.weights is not None:
                        weights.append(group.weights[low:high])
                    if group.kept is not None:
                        kept.append(group.kept.slice(low, high - low))
                    for own, column in zip(categories, group.categories, strict=True):
                        own.append(take_rows(column, slice(low, high)))
        return RawRows(
            features,
            join_columns(labels) if columns.label is not None else None,
            np.concatenate(weights) if columns.weight is not None else None,
            tuple(join_columns(own) for own in categories),
            pa.concat_tables(kept) if kept else None,
        )

    def _join(self, counts: list[int]) -> JoinedParts[OpenPart]:
        return JoinedParts(self.parts, counts, partial(OpenPart, columns=self._columns))

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
