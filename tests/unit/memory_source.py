"""A source whose rows are in memory, and what a dataset of it is made of."""

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
        columns = {name: text_column(cells) for name, cells in (categories or {}).items()}
        super().__init__("memory", features, text_column(texts), weights, categories=columns)
        self.reads = 0

    def _read_shard(self, shard):
        self.reads += 1
        return super()._read_shard(shard)
