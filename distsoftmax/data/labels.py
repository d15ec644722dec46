"""From labels as texts to classes 0 ... n_classes - 1, the same on every rank."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.shards import DividedSource
from distsoftmax.data.source import TextColumn
from distsoftmax.errors import InputError


def find_classes(columns: Iterable[TextColumn], cluster: Communicator) -> tuple[str, ...]:
    """Return the distinct labels on all ranks: integers by value, other texts in Unicode's order. Collective."""
    own = {text for column in columns for text in column.texts}
    texts = set().union(*cluster.allgather(own))
    if all(_is_integer(text) for text in texts):
        return tuple(sorted(texts, key=lambda text: (int(text), text)))
    return tuple(sorted(texts))


def class_codes(
    divided: DividedSource, shard: int, column: TextColumn | None, classes: tuple[str, ...]
) -> NDArray[np.intp]:
    """Return the class of each row of a shard, shape (rows,).

    Raises
    ------
    InputError
        A label is none of the classes; names the first row with it.
    """
    assert column is not None
    number = {text: code for code, text in enumerate(classes)}
    codes = np.array([number.get(text, -1) for text in column.texts], dtype=np.intp)
    result = codes[column.codes] if column.texts else np.zeros(0, dtype=np.intp)
    for row in np.flatnonzero(result < 0)[:1]:
        text = column.texts[column.codes[row]]
        known = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        path, place = divided.source.locate(int(divided.bounds[shard] + row))
        raise InputError(f"{path}: row {place}: the class {text!r} was never seen in training; the model knows {known}")
    return result


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 300  # Python refuses to read thousands of digits
