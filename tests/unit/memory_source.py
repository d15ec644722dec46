"""A source whose rows are in memory, and what a dataset of it is made of."""

from dataclasses import replace

import numpy as np

from distsoftmax.data.in_memory import InMemory
from distsoftmax.data.source import TextColumn


def text_column(texts):
    """A column of texts, None where the cell is missing."""
    distinct = sorted({text for text in texts if text is not None})
    return TextColumn(
        tuple(distinct), np.array([-1 if text is None else distinct.index(text) for text in texts], dtype=np.intp)
    )


class MemorySource(InMemory):
    """See `data.in_memory.InMemory`. `categories` maps a text column's name to its cells; reads are counted."""

    def __init__(self, features, labels, weights=None, categories=None):
        texts = [None if label is None else str(label) for label in np.asarray(labels).tolist()]
        super().__init__("memory", features, text_column(texts), weights)
        self.categories = categories or {}
        self.category_names = tuple(self.categories)
        self.reads = 0

    def _read_shard(self, shard):
        self.reads += 1
        columns = tuple(text_column(cells[self._rows(shard)]) for cells in self.categories.values())
        return replace(super()._read_shard(shard), categories=columns)
