"""A source whose rows are in memory, and what a dataset of it is made of."""

import numpy as np

from distsoftmax.data.source import RawRows, TextColumn
from distsoftmax.model import NumberedNames


def text_column(texts):
    """A column of texts, None where the cell is missing."""
    distinct = sorted({text for text in texts if text is not None})
    return TextColumn(
        tuple(distinct), np.array([-1 if text is None else distinct.index(text) for text in texts], dtype=np.intp)
    )


class MemorySource:
    """See `data.source.Source`. `categories` maps a text column's name to its cells."""

    path = "memory"
    format = "npy"
    parts = ()
    headless_by_guess = False
    is_text = False
    is_held = False
    index_base = None
    notes = ()

    def __init__(self, features, labels, weights=None, categories=None):
        self.features, self.labels, self.weights = features, np.asarray(labels).astype(str), weights
        self.categories = categories or {}
        self.n_rows = features.shape[0]
        self.feature_names = NumberedNames(features.shape[1])
        self.category_names = tuple(self.categories)
        self.sparse = not isinstance(features, np.ndarray)
        self.reads = 0

    def scan(self, cluster):
        pass

    def divide(self, bounds, owned, cluster):
        self.bounds = bounds

    def locate(self, row):
        return self.path, row + 1

    def read(self, shard):
        self.reads += 1
        rows = slice(int(self.bounds[shard]), int(self.bounds[shard + 1]))
        return RawRows(
            self.features[rows],
            text_column(self.labels[rows].tolist()),
            None if self.weights is None else self.weights[rows],
            tuple(text_column(cells[rows]) for cells in self.categories.values()),
        )
