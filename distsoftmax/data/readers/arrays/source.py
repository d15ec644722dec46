"""Samples in arrays: one or several files whose rows follow one another, and scikit-learn's digits."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.bad_cell import bad_cells_named
from distsoftmax.data.in_memory import InMemory
from distsoftmax.data.parts import FileState, called, of_each_part
from distsoftmax.data.readers.arrays.checks import PartSummary, require_alike, summarize, summarize_labels
from distsoftmax.data.readers.arrays.files import Arrays, Opener, open_array
from distsoftmax.data.readers.columns import join_columns, label_column
from distsoftmax.data.readers.parted_source import JoinedRows, OpenParts, PartedSource, join_rows
from distsoftmax.data.source import RawRows, SourceSpec, TextColumn
from distsoftmax.errors import InputError
from distsoftmax.model import NumberedNames


class ArraySource(PartedSource):
    """A source whose features are arrays in files; see `Source`.

    Parameters
    ----------
    labels_parts : tuple of FileState
        The .npy files of labels, where these are not beside the features. They may be cut at other rows.
    opener : callable
        Opens a part of its format.
    """

    def __init__(
        self, spec: SourceSpec, parts: tuple[FileState, ...], labels_parts: tuple[FileState, ...], opener: Opener
    ) -> None:
        super().__init__(spec, (*parts, *labels_parts))
        self.label_name = spec.label
        self._features_parts = parts
        self._labels_parts = labels_parts if spec.needs_labels else ()
        self._open_part: Callable[[FileState], Arrays] = lambda part: opener(part, spec)
        self._open = OpenParts(parts, self._open_part)
        self._open_labels = OpenParts(self._labels_parts, open_array)
        self._labels = JoinedRows([])

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. Each rank opens some of the parts; empty files among them are skipped."""
        parts, labels_parts = self._features_parts, self._labels_parts

        def look(number: int) -> PartSummary | None:
            return summarize(parts[number].path, self._open_part(parts[number])) if parts[number].size else None

        def look_at_labels(number: int) -> PartSummary | None:
            return summarize_labels(labels_parts[number]) if labels_parts[number].size else None

        summaries = of_each_part(len(parts), look, cluster)
        summaries_of_labels = of_each_part(len(labels_parts), look_at_labels, cluster)
        with cluster.agreement():
            first = require_alike(parts, summaries)
            self._join([0 if part is None else part.n_rows for part in summaries])
            self.feature_names = NumberedNames(first.n_features)
            self.sparse = first.sparse
            self._note_streams([part for part in summaries if part is not None], cluster.size)
            if labels_parts:
                require_alike(labels_parts, summaries_of_labels)
                self._labels = JoinedRows([0 if part is None else part.n_rows for part in summaries_of_labels])
                if self._labels.n_rows != self.n_rows:
                    raise InputError(
                        f"{self.path}: {self.n_rows} samples but {self._labels.n_rows} labels in "
                        f"{called(self._spec.labels_paths)}; give one label a sample"
                    )

    def _locate_label(self, row: int) -> tuple[str, int]:
        if not self._labels_parts:
            return self.locate(row)
        part, row = self._labels.place(row)
        return self._labels_parts[part].path, row + 1

    def _read_shard(self, shard: int) -> RawRows:
        """Read features of the type stored, in the machine's byte order."""
        rows = join_rows(self._blocks(shard, self._read_part))
        return replace(rows, labels=self._read_labels(self._rows(shard))) if self._labels_parts else rows

    def _read_part(self, part: int, begin: int, end: int) -> RawRows:
        arrays = self._open[part]
        return RawRows(
            arrays.features.read(begin, end),
            None if arrays.labels is None else label_column(arrays.labels.read(begin, end)),
            None if arrays.weights is None else arrays.weights.read(begin, end).astype(np.float64),
        )

    def _read_labels(self, rows: slice) -> TextColumn:
        """Read the labels from files of their own, in which a bad one has its row."""
        labels, first = [], rows.start
        for part, begin, end in self._labels.within(rows.start, rows.stop):
            with bad_cells_named(self._locate_label, first):
                labels.append(label_column(self._open_labels[part].read(begin, end)))
            first += end - begin
        return join_columns(labels)

    def _note_streams(self, parts: list[PartSummary], n_ranks: int) -> None:
        for part in parts if n_ranks > 1 else ():
            if part.streamed and part.n_rows * n_ranks > self.n_rows:
                self.notes = (
                    f"{part.path}: is compressed, so a rank decompresses all that comes before its own rows, too; "
                    "save it uncompressed, or in smaller parts",
                )
                return


def digits() -> InMemory:
    """Return scikit-learn's digits: 1,797 images of 8 x 8 pixels, 10 classes. The file comes with scikit-learn."""
    package = importlib.util.find_spec("sklearn")
    folder = package.submodule_search_locations[0] if package and package.submodule_search_locations else ""
    path = Path(folder, "datasets", "data", "digits.csv.gz")
    if path.is_file():  # importing scikit-learn for it takes every rank a second
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.array([line.split(",") for line in file], dtype=np.float64)
        features, labels = np.ascontiguousarray(table[:, :-1]), table[:, -1]
    else:
        from sklearn.datasets import load_digits

        features, labels = load_digits(return_X_y=True)
    return InMemory("digits", features, label_column(labels))
