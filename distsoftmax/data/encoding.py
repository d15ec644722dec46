"""From raw columns to features: missing numbers filled, categories spread over columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.columns import DenseColumns, sum_values
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.data.class_names import number_name
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.source import Features, RawRows, Source, TextColumn
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding

SPARSE_INDEX = np.dtype(np.int32).itemsize  # bytes for the place of an entry, and for the start of a row
Impute = Literal["error", "mean", "zero"]
AMBIGUOUS = -2  # where several categories are equal numbers
LARGEST_NUMBER_OF_CATEGORIES = 100_000  # of a column


def measure_columns(shard: int, rows: RawRows, training: NDArray[np.bool_]) -> tuple[ShardSum, ShardSum]:
    """Return what a shard's training rows tell of the means of its dense numeric columns, missing cells left out.

    Returns
    -------
    sums, weights : ShardSum of float64, (n_numeric,)
        Of weight * value, and of the weights, over the cells that hold a number.
    """
    features = np.asarray(rows.features)[training]
    weights = None if rows.weights is None else rows.weights[training]
    present = np.isfinite(features) if features.dtype.kind == "f" else np.ones(features.shape, dtype=np.bool_)
    values = features if present.all() else np.where(present, features, features.dtype.type(0))
    columns = DenseColumns(values), DenseColumns(present)
    return ShardSum(shard, sum_values(columns[0], weights)), ShardSum(shard, sum_values(columns[1], weights))


def fit_encoding(
    source: Source,
    impute: Impute,
    categories: Sequence[Iterable[str]],
    means: Sequence[tuple[ShardSum, ShardSum]],
    n_shards: int,
    cluster: Communicator,
) -> Encoding:
    """Agree on categories and fill values. Collective.

    Parameters
    ----------
    categories : sequence of iterable of str
        For each text column the texts in this rank's shards.
    means : sequence of pair of ShardSum
        See `measure_columns`, of this rank's shards; used for ``impute="mean"`` alone.

    Raises
    ------
    InputError
        On every rank: a text column has more categories than make sense.
    """
    agreed = []
    for name, texts in zip(source.category_names, categories, strict=True):
        everywhere = sorted(cluster.union(texts))
        if len(everywhere) > LARGEST_NUMBER_OF_CATEGORIES:
            raise InputError(
                f"{source.path}: column {name} holds {len(everywhere)} different texts, too many for categories (at "
                f"most {LARGEST_NUMBER_OF_CATEGORIES}); leave it out with --drop {name}"
            ).on_all_ranks()
        agreed.append((name, tuple(everywhere)))
    fill = None
    if impute == "zero" or (impute == "mean" and source.sparse):
        fill = np.zeros(())
    elif impute == "mean":
        shape = (len(source.feature_names),)
        totals = exact_sum([sums for sums, _ in means], shape, n_shards, cluster)
        weights = exact_sum([weights for _, weights in means], shape, n_shards, cluster)
        fill = np.divide(totals, weights, out=np.zeros(shape), where=weights > 0)
    error = double_name(source.path, source.feature_names, agreed)
    if error is not None:
        raise error.on_all_ranks()
    return Encoding(numeric=source.feature_names, fill=fill, categories=tuple(agreed), index_base=source.index_base)


def double_name(
    path: str, numeric: Sequence[str], categories: Sequence[tuple[str, Iterable[str]]]
) -> InputError | None:
    """Return the error for a category whose feature has the name of another feature; None where there is none."""
    owner = {name: f"column {name!r}" for name in numeric} if categories else {}
    for column, texts in categories:
        for text in texts:
            name, own = f"{column}={text}", f"category {text!r} of column {column!r}"
            if name in owner:
                return InputError(
                    f"{path}: two features would be named {name!r}: {owner[name]} and {own}; rename one of the columns"
                )
            owner[name] = own
    return None


def encode_features(rows: RawRows, encoding: Encoding) -> NDArray | SparseFeatures:
    """Return the features of raw rows, (rows, n_features).

    A category that is missing or was never seen is 0 in every column. The type is that of the numeric columns; sparse
    features are floats.
    """
    features = rows.features
    if encoding.fill is not None:
        features = _filled(features, encoding.fill)
    if not isinstance(features, np.ndarray):
        return SparseFeatures.from_csr(features)
    if not encoding.categories:
        return features
    if encoding.is_sparse:
        return _sparse_rows(features, rows.categories, encoding)
    width = sum(len(texts) for _, texts in encoding.categories)
    dtype = features.dtype if features.shape[1] else np.dtype(np.uint8)
    result = np.zeros((len(features), features.shape[1] + width), dtype=dtype)
    result[:, : features.shape[1]] = features
    first = features.shape[1]
    for column, (_, texts) in zip(rows.categories, encoding.categories, strict=True):
        numbers = _category_numbers(column, texts)
        seen = np.flatnonzero(numbers >= 0)
        result[seen, first + numbers[seen]] = 1
        first += len(texts)
    return result


def encoded_row_bytes(encoding: Encoding, dtype: np.dtype) -> int:
    """Return the most bytes that a row of dense columns takes, encoded, with values of a type."""
    if encoding.is_sparse:
        n_columns = len(encoding.numeric) + len(encoding.categories)
        return n_columns * (dtype.itemsize + SPARSE_INDEX) + SPARSE_INDEX
    return len(encoding.feature_names) * dtype.itemsize


def _sparse_rows(numeric: NDArray, columns: Sequence[TextColumn], encoding: Encoding) -> SparseFeatures:
    """Return the features as compressed rows: numbers that are not 0, then the categories."""
    from scipy.sparse import csr_array

    rows, column_numbers = np.nonzero(numeric)
    values = numeric[rows, column_numbers]
    entries = [(rows, column_numbers, values)]
    first = numeric.shape[1]
    for column, (_, texts) in zip(columns, encoding.categories, strict=True):
        numbers = _category_numbers(column, texts)
        seen = np.flatnonzero(numbers >= 0)
        entries.append((seen, first + numbers[seen], np.ones(seen.size)))
        first += len(texts)
    row_of, column_of, value_of = (np.concatenate(part) for part in zip(*entries, strict=True))
    order = np.argsort(row_of, kind="stable")  # the columns of a row ascend
    starts = np.zeros(len(numeric) + 1, dtype=np.int64)
    np.cumsum(np.bincount(row_of, minlength=len(numeric)), dtype=np.int64, out=starts[1:])
    dtype = numeric.dtype if numeric.dtype in (np.float32, np.float64) else np.float64
    matrix = csr_array((value_of[order].astype(dtype), column_of[order], starts), shape=(len(numeric), first))
    return SparseFeatures.from_csr(matrix)


def count_unseen(rows: RawRows, encoding: Encoding) -> int:
    """Return how many cells of raw rows hold a category never seen in training."""
    return sum(
        int(np.count_nonzero((_category_numbers(column, texts) < 0) & (column.codes >= 0)))
        for column, (_, texts) in zip(rows.categories, encoding.categories, strict=True)
    )


def agree_on_unseen(own: int, cluster: Communicator) -> str:
    """Return what to say of the cells that `count_unseen` counted on all ranks, if there are any. Collective."""
    total = sum(cluster.allgather(own))
    if total == 1:
        return "1 cell holds a category that training never saw; it counts as none"
    return f"{total} cells hold a category that training never saw; they count as none" if total else ""


def dropped_rows(count: int, n_rows: int) -> str:
    """Return what to say of rows that are left out for a missing cell, if there are any."""
    return f"{count} of {n_rows} rows have a missing cell and are left out" if count else ""


def _category_numbers(column: TextColumn, texts: tuple[str, ...]) -> NDArray[np.intp]:
    """Return for each row the number of its category; -1 where it is missing or unknown.

    A number that was spelled otherwise in training, as 1 and 1.0, is of the one category that is equal to it.
    """
    number = {text: category for category, text in enumerate(texts)}
    names = {text: name for text in column.texts if text not in number and (name := number_name(text)) is not None}
    if names:
        equal = dict.fromkeys(names.values(), -1)
        for text, category in number.items():
            name = number_name(text)
            if name in equal:
                equal[name] = category if equal[name] == -1 else AMBIGUOUS
        number |= {text: max(equal[name], -1) for text, name in names.items()}
    of_text = np.array([*(number.get(text, -1) for text in column.texts), -1], dtype=np.intp)
    numbers: NDArray[np.intp] = of_text[column.codes]  # a missing cell's -1 takes the last
    return numbers


def _filled(features: Features, fill: NDArray[np.float64]) -> Features:
    values = features if isinstance(features, np.ndarray) else features.data
    if values.dtype.kind != "f" or not (missing := np.isnan(values)).any():
        return features
    if isinstance(features, np.ndarray):
        return np.where(missing, fill.astype(features.dtype), features)
    features = features.copy()
    features.data[missing] = 0.0
    return features
