"""A source whose rows are in memory, and what a dataset of it is made of."""

import numpy as np

from distsoftmax.data.source import RawRows, Source, TextColumn
from distsoftmax.model import NumberedNames


def text_column(texts):
    """A column of texts, None where the cell is missing."""
    distinct = sorted({text for text in texts if text is not None})
    return TextColumn(
        tuple(distinct), np.array([-1 if text is None else distinct.index(text) for text in texts], dtype=np.intp)
    )


class MemorySource(Source):
    """See `data.source.Source`. `categories` maps a text column's name to its cells."""

    format = "npy"

    def __init__(self, features, labels, weights=None, categories=None):
        super().__init__("memory")
        self.features, self.labels, self.weights = features, np.asarray(labels).astype(str), weights
        self.categories = categories or {}
        self.n_rows = features.shape[0]
        self.feature_names = NumberedNames(features.shape[1])
        self.category_names = tuple(self.categories)
        self.sparse = not isinstance(features, np.ndarray)
        self.reads = 0

    def scan(self, cluster):
        pass

    def locate(self, row):
        return self.path, row + 1

    def _read_shard(self, shard):
        self.reads += 1
        rows = self._rows(shard)
        return RawRows(
            self.features[rows],
            text_column(self.labels[rows].tolist()),
            None if self.weights is None else self.weights[rows],
            tuple(text_column(cells[rows]) for cells in self.categories.values()),
        )
