"""Samples in arrays: one or several files whose rows follow one another, and scikit-learn's digits."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.bad_cell import bad_cells_named, rows_before
from distsoftmax.data.in_memory import InMemory
from distsoftmax.data.parts import FileState, called
from distsoftmax.data.readers.arrays.checks import PartSummary, require_alike, summarize, summarize_labels
from distsoftmax.data.readers.arrays.files import Arrays, Opener, open_array
from distsoftmax.data.readers.joined_parts import JoinedParts
from distsoftmax.data.readers.text_columns import join_columns, label_column
from distsoftmax.data.source import Features, RawRows, Source, SourceSpec, TextColumn
from distsoftmax.errors import InputError
from distsoftmax.model import NumberedNames


class ArraySource(Source):
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
        super().__init__(called(spec.paths), (*parts, *labels_parts))
        self.format = spec.format
        self.label_name = spec.label
        self._spec = spec
        self._parts = parts
        self._labels_parts = labels_parts if spec.needs_labels else ()
        self._open_part: Callable[[FileState], Arrays] = lambda part: opener(part, spec)
        self._features = JoinedParts(parts, [0] * len(parts), self._open_part)
        self._labels = JoinedParts(self._labels_parts, [0] * len(self._labels_parts), open_array)
        self._dtype = np.dtype(np.float64)

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. Each rank opens some of the parts; empty files among them are skipped."""
        own_features: dict[int, PartSummary] = {}
        own_labels: dict[int, PartSummary] = {}
        with cluster.agreement():
            for number in range(cluster.rank, len(self._parts), cluster.size):
                if self._parts[number].size:
                    own_features[number] = summarize(self._parts[number].path, self._open_part(self._parts[number]))
            for number in range(cluster.rank, len(self._labels_parts), cluster.size):
                if self._labels_parts[number].size:
                    own_labels[number] = summarize_labels(self._labels_parts[number])
        gathered = cluster.allgather((own_features, own_labels))
        with cluster.agreement():
            self._join_features({number: part for parts, _ in gathered for number, part in parts.items()}, cluster.size)
            self._join_labels({number: part for _, parts in gathered for number, part in parts.items()})

    def locate(self, row: int) -> tuple[str, int]:
        """See `Source.locate`."""
        return self._features.locate(row)

    def _locate_label(self, row: int) -> tuple[str, int]:
        return self._labels.locate(row) if self._labels_parts else self.locate(row)

    def _read_shard(self, shard: int) -> RawRows:
        """Read features of the type stored, in the machine's byte order."""
        rows = self._rows(shard)
        features: list[Features] = []
        labels: list[TextColumn] = []
        weights = [np.zeros(0)]
        n_before = 0
        for _, arrays, begin, end in self._features.overlapping(rows.start, rows.stop):
            with rows_before(n_before):
                features.append(arrays.features.read(begin, end))
                if arrays.labels is not None:
                    labels.append(label_column(arrays.labels.read(begin, end)))
            if arrays.weights is not None:
                weights.append(arrays.weights.read(begin, end).astype(np.float64))
            n_before += end - begin
        return RawRows(
            self._put_together(features),
            join_columns(labels or self._read_labels(rows)) if self._spec.needs_labels else None,
            np.concatenate(weights) if self._spec.weight is not None else None,
        )

    def _read_labels(self, rows: slice) -> list[TextColumn]:
        """Read the labels from files of their own, in which a bad one has its row."""
        labels, first = [], rows.start
        for _, stored, begin, end in self._labels.overlapping(rows.start, rows.stop):
            with bad_cells_named(self._labels.locate, first):
                labels.append(label_column(stored.read(begin, end)))
            first += end - begin
        return labels

    def _join_features(self, parts: dict[int, PartSummary], n_ranks: int) -> None:
        """Put the parts together, and see that they fit each other; all ranks know them."""
        if not parts:
            raise InputError(f"{self._parts[0].path}: is empty")
        first = require_alike(parts)
        counts = [parts[number].n_rows if number in parts else 0 for number in range(len(self._parts))]
        self._features = JoinedParts(self._parts, counts, self._open_part)
        self.n_rows = self._features.n_rows
        self.feature_names = NumberedNames(first.n_features)
        self.sparse = first.sparse
        self._dtype = np.dtype(first.dtype)
        shared = [part for _, part in sorted(parts.items()) if part.streamed and part.n_rows * n_ranks > self.n_rows]
        if shared and n_ranks > 1:
            self.notes = (
                f"{shared[0].path}: is compressed, so a rank decompresses all that comes before its own rows, too; "
                "save it uncompressed, or in smaller parts",
            )

    def _join_labels(self, parts: dict[int, PartSummary]) -> None:
        if not self._labels_parts:
            return
        if not parts:
            raise InputError(f"{self._labels_parts[0].path}: is empty")
        require_alike(parts)
        counts = [parts[number].n_rows if number in parts else 0 for number in range(len(self._labels_parts))]
        self._labels = JoinedParts(self._labels_parts, counts, open_array)
        if self._labels.n_rows != self.n_rows:
            raise InputError(
                f"{self.path}: {self.n_rows} samples but {self._labels.n_rows} labels in "
                f"{called(self._spec.labels_paths)}; give one label a sample"
            )

    def _put_together(self, features: list[Features]) -> Features:
        shape = (0, len(self.feature_names))
        if not self.sparse:
            return features[0] if len(features) == 1 else np.concatenate([np.empty(shape, self._dtype), *features])
        from scipy.sparse import csr_array, vstack

        if len(features) == 1:
            return features[0]
        return csr_array(vstack(features, format="csr")) if features else csr_array(shape, dtype=self._dtype)


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
