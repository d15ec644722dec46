"""Samples in Parquet files, read by row groups so that each rank reads those of its own shards alone."""

from __future__ import annotations

from functools import partial

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.bad_cell import rows_before
from distsoftmax.data.parts import FileState, of_each_part
from distsoftmax.data.readers.parquet.columns import ParquetColumns, choose_columns, require_same_columns
from distsoftmax.data.readers.parquet.footer import read_footer
from distsoftmax.data.readers.parquet.part import OpenPart
from distsoftmax.data.readers.parquet.types import Types, common_type, number_type
from distsoftmax.data.readers.parted_source import OpenParts, PartedSource, join_rows
from distsoftmax.data.readers.partition_columns import partition_types, refuse_columns_in_both
from distsoftmax.data.source import RawRows, SourceSpec
from distsoftmax.errors import InputError


class ParquetSource(PartedSource):
    """Parquet files; see `Source`."""

    def __init__(self, spec: SourceSpec, parts: tuple[FileState, ...]) -> None:
        super().__init__(spec, parts)
        self._columns = ParquetColumns(None, None, (), (), ())
        self._open: OpenParts[OpenPart]  # after `scan`

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. Each rank reads the footers of some of the parts; empty files among them are skipped."""
        own: dict[int, Types] = {}

        def look(number: int) -> tuple[int, ...] | None:
            if not self.parts[number].size:
                return None
            groups, own[number] = read_footer(self.parts[number])
            return groups

        groups = of_each_part(len(self.parts), look, cluster)
        n_rows = [sum(counts or ()) for counts in groups]
        parts = [number for number, counts in enumerate(groups) if counts is not None]
        if not parts:
            raise InputError(f"{self.parts[0].path}: is empty").on_all_ranks()
        first = next((number for number in parts if n_rows[number]), parts[0])
        path, partitions = self.parts[first].path, partition_types(self.parts)
        types = next({**of_rank, **partitions} for of_rank in cluster.allgather(own.get(first)) if of_rank)
        with cluster.agreement():
            for number, own_types in own.items():
                refuse_columns_in_both(self.parts[number].path, own_types, self.parts[number])
            self._columns = choose_columns(self._spec, path, types, partitions)
            has_choice = bool(self._spec.features) or self._spec.expected_names is not None
            for number, own_types in own.items():
                if n_rows[number]:
                    later = self.parts[number].path, {**own_types, **partitions}
                    require_same_columns(self._columns, path, types, *later, open_end=has_choice)
        self.label_name = self._columns.label
        dtype = common_type(number_type(types[name]) or np.dtype(np.float64) for name in self._columns.numeric)
        self._open = OpenParts(self.parts, partial(OpenPart, columns=self._columns, dtype=dtype))
        self._join(n_rows)
        self.feature_names = self._columns.feature_names
        self.category_names = self._columns.categories
        self.kept_names = self._columns.kept
        self.notes = tuple(self._find_notes([counts or () for counts in groups], cluster.size))

    def _read_shard(self, shard: int) -> RawRows:
        """Read features of the type that holds all columns; where an integer is missing in its row groups, float64."""
        return join_rows(self._blocks(shard, self._read_part))

    def _read_part(self, part: int, begin: int, end: int) -> RawRows:
        with rows_before(-begin):  # a row group is decoded whole
            return self._open[part].read(begin, end)

    def _find_notes(self, groups: list[tuple[int, ...]], n_ranks: int) -> list[str]:
        notes = [
            f"{self.path}: column {name} is the index that pandas wrote, and no feature; name it with --features "
            "if it is"
            for name in self._columns.left_out
        ]
        largest, number = max((max(counts, default=0), -number) for number, counts in enumerate(groups))
        if n_ranks > 1 and largest * n_ranks > self.n_rows:
            notes.append(
                f"{self.parts[-number].path}: has a row group of {largest} rows, which several ranks read whole; "
                f"write row groups of at most {max(self.n_rows // n_ranks, 1)} rows"
            )
        return notes
