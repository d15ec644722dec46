"""Arrow's columns as numpy arrays of numbers, and as texts with codes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from distsoftmax.data.readers.columns import label_column, text_column
from distsoftmax.data.source import TextColumn


def numbers(column: pa.ChunkedArray) -> NDArray:
    """Return a column as numbers, (rows, elements of its lists or 1); floats with NaN where values are missing."""
    chunks = [_numbers(chunk) for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def label_texts(column: pa.ChunkedArray) -> TextColumn:
    """Return labels as texts; see `label_column`.

    Raises
    ------
    BadCell
        A label is infinite.
    """
    if types.is_floating(column.type.value_type if types.is_dictionary(column.type) else column.type):
        return label_column(numbers(column)[:, 0])
    return category_column(column)


def category_column(column: pa.ChunkedArray) -> TextColumn:
    """Return categories as texts."""
    encoded = column if types.is_dictionary(column.type) else column.dictionary_encode()
    chunks = encoded.unify_dictionaries().chunks
    values = chunks[0].dictionary.to_pylist() if chunks else []
    codes = [chunk.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks]
    texts = [None if value is None else str(value) for value in values]
    return text_column(texts, np.concatenate([np.zeros(0, dtype=np.int64), *codes]))


def _numbers(array: pa.Array) -> NDArray:
    if types.is_fixed_size_list(array.type):
        size = array.type.list_size
        elements = _numbers(array.values.slice(array.offset * size, len(array) * size)).reshape(len(array), size)
        if array.null_count:
            elements = elements.astype(elements.dtype if elements.dtype.kind == "f" else np.float64)
            elements[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return elements
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_decimal(array.type):
        array = array.cast(pa.string()).cast(pa.float64())  # Arrow's own cast is not always to the nearest number
    elif types.is_boolean(array.type) and array.null_count:
        array = array.cast(pa.uint8())  # with missing values bool would become objects
    values: NDArray = array.to_numpy(zero_copy_only=False)
    return values.reshape(-1, 1)
