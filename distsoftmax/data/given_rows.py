"""Rows that a caller gives a trained model, as arrays or as a table of raw columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.class_names import number_text
from distsoftmax.data.in_memory import InMemory
from distsoftmax.data.missing import MissingValues
from distsoftmax.data.readers.columns import text_column
from distsoftmax.data.shards import LARGEST_SHARD_ROWS, DividedSource, shard_bounds
from distsoftmax.data.source import Features, TextColumn
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding

NAME = "X"  # what an error calls the rows


def given_rows(rows: Any, encoding: Encoding) -> tuple[DividedSource, Encoding]:
    """Return what a caller gives as a source, with the encoding that makes features of it.

    Parameters
    ----------
    rows : array, sparse matrix or table
        Features, (rows, n_features), as an array of numbers or a sparse matrix of scipy; or raw columns by name, as a
        dict of one-dimensional arrays or a table of pandas, polars or pyarrow. Columns that the model does not take
        are not looked at. In arrays NaN is a missing number, and None, too, in columns; so is what the model's encoding
        calls missing, but in features whose categories are spread already.

    Returns
    -------
    divided : DividedSource
    encoding : Encoding
        The model's; for an array or a matrix the one that takes its columns as they are.

    Raises
    ------
    InputError
        A column is missing, is of another length than the others or no column of numbers; or there are as many columns
        as the model has not.
    """
    if isinstance(rows, Mapping) or (hasattr(rows, "columns") and not _is_by_number(encoding)):
        source = _table(rows, encoding)
    else:
        names = encoding.feature_names
        if encoding.categories:  # their columns are there already
            encoding = Encoding(numeric=names)
        source = InMemory(NAME, _matrix(rows, len(names)), names=names)
    source.marked = MissingValues.of(encoding.missing).marked
    bounds = shard_bounds(source.n_rows, -(-source.n_rows // LARGEST_SHARD_ROWS) or 1)
    shards = range(bounds.size - 1)
    source.divide(bounds, [shards], Alone())
    return DividedSource(source, bounds, shards, Alone()), encoding


def _is_by_number(encoding: Encoding) -> bool:
    """Return whether a model knows its columns by their number alone."""
    return not encoding.categories and not isinstance(encoding.numeric, tuple)


def _matrix(rows: Any, width: int) -> Features:
    """Return features as the sources have them, of the width that a model takes."""
    from scipy.sparse import csr_array, issparse

    features: Features
    if issparse(rows):
        features = csr_array(rows)
        if not features.has_canonical_format:
            features = features.copy()
            features.sum_duplicates()
    else:
        features = np.asarray(rows)
        if features.dtype.kind not in "fiub":
            features = _as_numbers(features)
    if features.ndim != 2 or features.shape[1] != width:
        raise InputError(f"{NAME} is of shape {features.shape}; the model takes (rows, {width})")
    return features


def _table(table: Any, encoding: Encoding) -> InMemory:
    """Return the columns that a model takes, by their names."""
    given = list(table) if isinstance(table, Mapping) else list(getattr(table, "column_names", table.columns))
    categories = [name for name, _ in encoding.categories]
    missing = [name for name in (*encoding.numeric, *categories) if name not in set(given)]
    if missing:
        raise InputError(f"{NAME} lacks the columns {_listed(missing)}, which the model takes; it has {_listed(given)}")
    columns = {name: np.asarray(table[name]) for name in (*encoding.numeric, *categories)}
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise InputError(f"{NAME}: its columns must have one dimension and one length, not {lengths}")
    (n_rows,) = next(iter(lengths.values()))
    numbers = [_as_numbers(columns[name], f"column {name}") for name in encoding.numeric]
    features = np.column_stack(numbers) if numbers else np.empty((n_rows, 0), dtype=np.uint8)
    texts = {name: _as_texts(columns[name]) for name in categories}
    return InMemory(NAME, features, names=encoding.numeric, categories=texts)


def _as_numbers(cells: NDArray, column: str = "") -> NDArray:
    """Return an array of numbers as it is, another one in float64, None and the like as NaN."""
    if cells.dtype.kind in "fiub":
        return cells
    numbers = np.empty(cells.size)
    for position, cell in enumerate(cells.reshape(-1).tolist()):
        try:
            numbers[position] = np.nan if _is_missing(cell) else float(cell)
        except (TypeError, ValueError):
            row, *of_row = (int(index) for index in np.unravel_index(position, cells.shape))
            column = column or f"column {' '.join(map(str, of_row))}"
            raise InputError(f"{NAME}: row {row + 1}, {column}: {cell!r} is not a number") from None
    return numbers.reshape(cells.shape)


def _as_texts(cells: NDArray) -> TextColumn:
    """Return a column of texts; numbers in the shortest spelling."""
    texts = [None if _is_missing(cell) else _text(cell) for cell in cells.tolist()]
    return text_column(texts, np.arange(len(texts)))


def _text(cell: Any) -> str:
    return number_text(cell) if isinstance(cell, float) else str(cell)


def _is_missing(cell: Any) -> bool:
    """Return whether a cell is None, NaN, or what pandas has for these."""
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
