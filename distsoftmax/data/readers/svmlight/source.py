"""Samples in svmlight files, as libsvm and scikit-learn write them: sparse rows of text; see `lines`.

Whether indices count from 0 or from 1, and how many columns there are, shows in the whole source only. Where it is not
said, each rank parses its shards as soon as they are fixed, and keeps them until they are read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.bad_cell import BadCell, bad_cells_named, rows_before
from distsoftmax.data.formats import HEAD_BYTES
from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.parted_source import PartedSource
from distsoftmax.data.readers.svmlight.lines import COMMENT, QUERY_ID, Lines, join_lines, parse_lines
from distsoftmax.data.readers.text.files import TextFiles
from distsoftmax.data.source import RawRows, SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.model import NumberedNames

KEPT_BYTES = 2 << 30  # Kept by a rank of the shards it parsed before they are read; the others are parsed again.
FEATURE_BYTES = 32  # The least that a feature takes: two classes, parameters and gradient, in float64.


class SvmlightSource(PartedSource):
    """Parts in the svmlight format; see `Source`.

    Where the features of training are given, there are as many columns, and their names are those. Their first index is
    that of training, too, or must be said: a file that happens not to have index 0 would be read one column off.
    """

    sparse = True
    is_text = True

    def __init__(self, spec: SourceSpec, parts: tuple[FileState, ...]) -> None:
        super().__init__(spec, parts)
        self.index_base = spec.expected_base if spec.index_base == "auto" else int(spec.index_base)
        self._files = TextFiles(parts, quoted=False, scratch=spec.scratch)
        self._kept: dict[int, Lines] = {}
        self._n_features = spec.n_features
        if spec.expected_names is not None:
            self._n_features, self.feature_names = len(spec.expected_names), spec.expected_names
        elif spec.n_features is not None:
            self.feature_names = NumberedNames(spec.n_features)

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. The ranks divide the bytes among them."""
        if self.index_base is None and self._spec.expected_names is not None:
            raise InputError(
                f"{self.path}: say whether its indices count from 0 or from 1, with --index-base: training had no "
                "svmlight files, which would have shown it"
            ).on_all_ranks()
        self._files.scan(cluster)
        self._join(self._files.n_records)
        self.notes = self._files.notes
        has_query_ids = False
        with cluster.agreement():
            if cluster.rank == 0 and self.n_rows:
                head = self._files.head(int(self._files.n_records.argmax()), HEAD_BYTES)
                has_query_ids = QUERY_ID.search(COMMENT.sub(b"", head)) is not None
        if cluster.allgather(has_query_ids)[0]:
            self.notes += (f"{self.path}: the query ids (qid) are ignored",)

    def divide(self, bounds: NDArray[np.int64], owned: Sequence[range], cluster: Communicator) -> None:
        """See `Source.divide`. Finds the base of the indices and the number of columns.

        Raises
        ------
        InputError
            On every rank: a line is no sample, has an index out of range, or there is not one feature.
        """
        super().divide(bounds, owned, cluster)
        self._files.divide(bounds, owned, cluster)
        if self._n_features is not None and self._spec.expected_names is None:
            with cluster.agreement():
                self._require_memory(f"--n-features {self._n_features}", "lower it")
        if self.index_base is None or self._n_features is None:
            self._look_at_indices(owned[cluster.rank], cluster)

    def _read_shard(self, shard: int) -> RawRows:
        """Read features as a csr_array of float64, with the zeros that are written out."""
        from scipy.sparse import csr_array

        lines = self._kept.pop(shard, None)
        if lines is None:
            lines = self._parse(shard)
            self._check_indices(lines)
        shape = (lines.indptr.size - 1, len(self.feature_names))
        dtype = np.int32 if max(shape[1], lines.values.size) < 2**31 else np.int64
        indices = lines.indices - self.index_base if self.index_base else lines.indices
        features = csr_array((lines.values, indices.astype(dtype, copy=False), lines.indptr.astype(dtype)), shape=shape)
        features.has_canonical_format = True  # the parser saw that indices ascend
        return RawRows(features, lines.labels)

    def _look_at_indices(self, own: range, cluster: Communicator) -> None:
        """Find the smallest and the largest index, and with them what is not known yet. Collective."""
        smallest, largest, row_of_largest, kept_bytes = 2**63, -1, 0, 0
        limit = KEPT_BYTES if self._spec.scratch is None else 0
        with cluster.agreement():
            for shard in own:
                with bad_cells_named(self.locate, int(self.bounds[shard])):
                    lines = self._parse(shard)
                if lines.indices.size:
                    smallest = min(smallest, int(lines.indices.min()))
                    entry = int(lines.indices.argmax())
                    if lines.indices[entry] > largest:
                        largest = int(lines.indices[entry])
                        row_of_largest = int(self.bounds[shard]) + lines.row_of(entry)
                kept_bytes += lines.indices.nbytes + lines.values.nbytes
                if kept_bytes <= limit:
                    self._kept[shard] = lines
        extremes = cluster.allgather((smallest, largest, -row_of_largest))
        if self.index_base is None:
            self.index_base = 0 if min(first for first, _, _ in extremes) == 0 else 1
        if self._n_features is None:
            _, largest, minus_row = max(extremes, key=lambda extreme: extreme[1:])
            self._n_features = max(0, largest + 1 - self.index_base)
            self.feature_names = NumberedNames(self._n_features)
            if self._n_features:
                path, row = self.locate(-minus_row)
                with cluster.agreement():
                    self._require_memory(f"{path}: row {row}: index {largest}", "correct the index")
        with cluster.agreement():
            for shard, lines in self._kept.items():
                with bad_cells_named(self.locate, int(self.bounds[shard])):
                    self._check_indices(lines)
        if not self._n_features:
            raise InputError(
                f"{self.path}: has not one index:value pair; there is no feature to learn from"
            ).on_all_ranks()

    def _require_memory(self, cause: str, remedy: str) -> None:
        """Refuse a width that this node cannot hold: such an index is mistyped."""
        assert self._n_features is not None
        needed, has = self._n_features * FEATURE_BYTES, memory_bytes()
        if needed > has:
            raise InputError(
                f"{cause} makes {self._n_features} features, for which a rank needs {needed / 2**30:.3g} GiB or more, "
                f"but this node has {has / 2**30:.3g} GiB; {remedy}"
            )

    def _parse(self, shard: int) -> Lines:
        return join_lines(self._blocks(shard, partial(self._parse_part, shard)))

    def _parse_part(self, shard: int, part: int, begin: int, end: int) -> Lines:
        with rows_before(0, end - begin):
            lines = parse_lines(self._files.text(shard, part), needs_labels=self._spec.needs_labels)
        n_samples = lines.indptr.size - 1
        if n_samples != end - begin:
            raise BadCell(
                0,
                f"{end - begin} lines from here on should be samples, but {n_samples} are; each needs a label or an "
                "index:value pair",  # a query id alone is none
            )
        return lines

    def _check_indices(self, lines: Lines) -> None:
        """Refuse an index that is no column's."""
        assert self.index_base is not None
        assert self._n_features is not None
        limit = self._n_features + self.index_base
        if not lines.indices.size or (lines.indices.min() >= self.index_base and lines.indices.max() < limit):
            return
        entry = int(np.flatnonzero((lines.indices < self.index_base) | (lines.indices >= limit))[0])
        index = int(lines.indices[entry])
        if index < self.index_base:
            said = "--index-base 1 says; --index-base 0 counts from 0"
            if self._spec.index_base == "auto":  # to say another here would read all columns one off
                said = "they did in training; if they count from 0, train with --index-base 0"
            complaint = f"index 0 stands where indices count from 1, as {said}"
        else:
            knows, remedy = f"--n-features is {self._n_features}", "raise it, or take the index out"
            if self._spec.expected_names is not None:
                knows, remedy = f"training had {self._n_features} features", "take the index out"
                if self._spec.expected_base is not None:  # else training had columns, and no indices
                    needed = int(lines.indices.max()) + 1 - self.index_base
                    remedy = f"train with --n-features {needed} or more, or take such indices out"
            counted = f"{self.index_base} to {limit - 1}"
            complaint = f"index {index} is too large: {knows}, with indices from {counted}; {remedy}"
        raise BadCell(lines.row_of(entry), complaint)


def memory_bytes() -> int:
    """Return the memory of this node."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
