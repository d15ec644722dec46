"""From labels as texts to classes 0 ... n_classes - 1, the same on every rank."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.class_names import are_numbers, class_names, in_order, number_name
from distsoftmax.data.shards import RawShard
from distsoftmax.data.source import TextColumn
from distsoftmax.errors import InputError


def find_classes(columns: Iterable[TextColumn | None], cluster: Communicator) -> tuple[str, ...]:
    """Return the classes of the labels on all ranks, in order; see `class_names` for what they are. Collective."""
    own = {text for column in columns if column is not None for text in column.texts}
    return in_order(set(class_names(cluster.union(own)).values()))


def class_codes(shard: RawShard, classes: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the class of each row of a shard, shape (rows,).

    Raises
    ------
    InputError
        A label is none of the classes; names the first row with it.
    """
    column = shard.rows.labels
    assert column is not None
    code_of = {name: code for code, name in enumerate(classes)}
    spellings = [text for text in column.texts if text not in code_of]
    if spellings and are_numbers(classes):
        code_of |= {text: code_of.get(number_name(text) or text, -1) for text in spellings}
    codes = np.array([code_of.get(text, -1) for text in column.texts], dtype=np.intp)
    result = codes[column.codes] if column.texts else np.zeros(0, dtype=np.intp)
    for row in np.flatnonzero(result < 0)[:1]:
        text = column.texts[column.codes[row]]
        known = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        raise InputError(f"{shard.where(row)}: the class {text!r} was never seen in training; the model knows {known}")
    return result
