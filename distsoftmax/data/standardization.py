"""Mean and standard deviation of each feature, by exact sums, and the change of units they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.columns import sum_entry_weights, sum_squares, sum_values
from distsoftmax.arithmetic.fixed_point import LARGEST_VALUE
from distsoftmax.arithmetic.parameters import matrix_vector
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, bounded_sum
from distsoftmax.data.features import (
    COMPACT,
    Columns,
    Compact,
    Prepared,
    SparseFeatures,
    columns_of,
    core_columns,
    extremes,
)
from distsoftmax.errors import InputError

CHUNK = 1 << 15  # numbers
ROUNDING = 1e-12  # of the total weight

Weighted: TypeAlias = "tuple[int, Columns, NDArray[np.float64] | None]"  # shard, features, weights


@dataclass(frozen=True)
class Standardization:
    """Features are trained on as (x - mean) * inverse; sparse columns that hold nothing are left out.

    Attributes
    ----------
    mean, inverse : ndarray of float64, (n_features,)
        The mean and 1 / standard deviation; 0 and 1 where features are taken as they are. Where small types are
        decoded as they are used, these are numbers of the type computed in.
    active : bool
        Whether anything is changed at all.
    offset : ndarray of float64, (n_trained,), or None
        For sparse features that are centred: mean * inverse, which the objective subtracts, for a sparse row that is
        centred is sparse no more.
    trained : ndarray of int64, (n_trained,), or None
        The columns that are trained on, ascending; None for all. Of hashed text most columns hold nothing: their
        coefficients are 0, and the steps need not carry them.
    """

    mean: NDArray[np.float64]
    inverse: NDArray[np.float64]
    active: bool
    offset: NDArray[np.float64] | None = None
    trained: NDArray[np.int64] | None = None

    @classmethod
    def of_features_as_they_are(cls, n_features: int) -> Standardization:
        """Return the one that changes nothing."""
        return cls(np.zeros(n_features), np.ones(n_features), active=False)

    @property
    def scale(self) -> NDArray[np.float64]:
        """The standard deviations, (n_features,): 1 / inverse."""
        return 1.0 / self.inverse

    @property
    def n_trained(self) -> int:
        """The number of columns that are trained on."""
        return self.mean.size if self.trained is None else self.trained.size

    def apply(self, features: NDArray | SparseFeatures, dtype: np.dtype, path: str, names: Sequence[str]) -> Prepared:
        """Return the features in training's units and type; where nothing changes, the same array.

        Small types stay as they are stored and are changed a block at a time.

        Raises
        ------
        InputError
            A value is beyond the type; names file and column.
        """
        if isinstance(features, SparseFeatures):
            return self._apply_to_sparse(features, dtype, path, names)
        if features.dtype.name in COMPACT:
            return self.compact(np.asarray(features), dtype)
        with np.errstate(over="ignore"):
            result = self._scaled(features, dtype) if self.active else np.ascontiguousarray(features, dtype=dtype)
        if result is not features and not np.isfinite(result).all():
            row, column = np.argwhere(~np.isfinite(result))[0]
            raise self._beyond(dtype, path, names[column], float(features[row, column]))
        return result

    def compact(self, stored: NDArray, dtype: np.dtype) -> Compact:
        """Return features of a small type, which are put in training's units as they are used."""
        mean = self.mean.astype(dtype) if self.active and self.mean.any() else None
        return Compact(stored, mean, self.inverse.astype(dtype) if self.active else None, dtype)

    def in_own_units(self, parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn parameters of the standardised features into (coef, intercept) for the features as they are."""
        coef = parameters[:, :-1]
        if self.trained is not None:
            coef = np.zeros((len(parameters), self.mean.size))
            coef[:, self.trained] = parameters[:, :-1]
        coef = coef * self.inverse
        return coef, parameters[:, -1] - matrix_vector(coef, self.mean)

    def in_training_units(self, coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn (coef, intercept) for the features as they are into parameters of the standardised ones."""
        trained = slice(None) if self.trained is None else self.trained
        return np.column_stack([(coef / self.inverse)[:, trained], intercept + matrix_vector(coef, self.mean)])

    def _scaled(self, features: NDArray, dtype: np.dtype) -> NDArray[np.floating]:
        """Return (features - mean) * inverse, computed in float64, a few rows at a time so that they stay in cache."""
        rows, width = features.shape
        result = np.empty((rows, width), dtype=dtype)
        step = max(CHUNK // max(width, 1), 1)
        for start in range(0, rows, step):
            block = features[start : start + step] - self.mean
            block *= self.inverse
            result[start : start + step] = block
        return result

    def _apply_to_sparse(
        self, features: SparseFeatures, dtype: np.dtype, path: str, names: Sequence[str]
    ) -> SparseFeatures:
        matrix = features.matrix.copy() if self.active else features.matrix
        with np.errstate(over="ignore"):
            if self.active:
                matrix.data = matrix.data * self.inverse[features.columns][matrix.indices]
            data = matrix.data.astype(dtype, copy=False)
        for entry in np.flatnonzero(~np.isfinite(data))[:1]:
            name = names[int(features.columns[matrix.indices[entry]])]
            raise self._beyond(dtype, path, name, float(features.matrix.data[entry]))
        matrix.data = data
        if self.trained is None:
            return SparseFeatures(features.columns, matrix)
        columns = np.searchsorted(self.trained, features.columns)
        known = columns < self.trained.size
        known[known] = self.trained[columns[known]] == features.columns[known]
        return SparseFeatures(columns[known], matrix if known.all() else matrix[:, known])

    def _beyond(self, dtype: np.dtype, path: str, name: str, value: float) -> InputError:
        return InputError(
            f"{path}: column {name} holds {value:g}, which is beyond {dtype}"
            f"{' after standardization' if self.active else ''}; use --dtype float64, or rescale the column"
        )


def fit_standardization(
    rows: Callable[[], Iterable[Weighted]],
    total_weight: float,
    *,
    names: Sequence[str],
    path: str,
    wanted: bool,
    centre: bool,
    dtype: np.dtype,
    cluster: Communicator,
) -> Standardization:
    """Measure the training rows of this rank's shards, in a few passes over them. Collective.

    The deviation is the population's (divided by the total weight). A constant feature keeps its scale.

    Parameters
    ----------
    rows : callable
        Returns the rows anew for each pass: (shard, features, weights or None), rows of weight 0 left out.
    total_weight : float
    centre : bool
        Whether the mean is subtracted.
    dtype : numpy.dtype
        The type to compute in.

    Raises
    ------
    InputError
        On every rank: a feature is too large for its squares to be summed.
    """
    shape = (len(names),)
    largest, constant, kinds = _measure_extremes(rows, shape, cluster)
    for column in np.flatnonzero(np.max(np.abs(largest), axis=0) > LARGEST_VALUE)[:1]:
        raise too_large_value(path, names[column], float(np.max(np.abs(largest[:, column])))).on_all_ranks()
    trained = None
    if "sparse" in kinds:
        trained = np.flatnonzero(largest.any(axis=0))
        trained = None if trained.size == len(names) else trained
    if not wanted:
        return replace(Standardization.of_features_as_they_are(len(names)), trained=trained)

    def total(
        measure: Callable[..., NDArray[np.float64]],
        bound: NDArray[np.float64],
        about: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Return the sum over all rows of a measure of `arithmetic.columns`, about so much in each column if given."""

        def of_shard(of_rows: Weighted) -> ShardSum:
            shard, features, weights = of_rows
            own = columns_of(features)
            centres = () if about is None else (about if own is None else about[own],)
            return ShardSum(shard, measure(core_columns(features), weights, *centres), own)

        return bounded_sum(map(of_shard, rows()), total_weight * bound, cluster)

    magnitude = np.max(np.abs(largest), axis=0)
    mean = total(sum_values, magnitude) / total_weight
    mean[constant] = largest[0][constant]
    squares = total(sum_squares, np.square(2 * magnitude), mean)
    if "sparse" in kinds:
        weight = total(sum_entry_weights, np.ones(shape))
        empty = (total_weight - weight) / total_weight
        # of a column without empty cells, rounding is all that is left of the difference
        squares += np.where(empty > ROUNDING, empty * total_weight, 0.0) * np.square(mean)
    deviation = np.sqrt(squares / total_weight)
    inverse = np.divide(1.0, deviation, out=np.ones(shape), where=~constant & (deviation > 0))
    if "compact" in kinds:  # the kernel uses them in its own type: the model must use the same numbers
        mean, inverse = _in_type(mean, dtype), _in_type(inverse, dtype)
        inverse[~np.isfinite(inverse)] = 1.0  # a deviation that small is none
    mean = mean if centre else np.zeros(shape)
    offset = None
    if centre and "sparse" in kinds:
        offset = mean * inverse if trained is None else (mean * inverse)[trained]
    return Standardization(mean, inverse, active=True, offset=offset, trained=trained)


def _in_type(numbers: NDArray[np.float64], dtype: np.dtype) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return numbers.astype(dtype).astype(np.float64)


def too_large_value(path: str, name: str, value: float) -> InputError:
    """Return the error for a value whose square cannot be summed."""
    return InputError(
        f"{path}: column {name} holds {value:g}; values beyond {LARGEST_VALUE:g} cannot be squared and summed: rescale "
        "the column"
    )


def _measure_extremes(
    rows: Callable[[], Iterable[Weighted]], shape: tuple[int, ...], cluster: Communicator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], set[str]]:
    """Return each column's largest value and minus its smallest, which are constant, and the kinds of features."""
    result = np.full((2, *shape), -np.inf)
    kinds: set[str] = set()
    covered = np.zeros(shape, dtype=np.int64)  # shards that hold the column at all
    n_shards = 0
    with cluster.agreement():
        for _, features, _ in rows():
            if not len(features):
                continue
            n_shards += 1
            own = columns_of(features)
            columns = slice(None) if own is None else own
            kinds.add(_kind(features))
            covered[columns] += 1
            result[:, columns] = np.maximum(result[:, columns], extremes(features))
    absent = covered < n_shards  # a column without entry is 0 throughout
    result[:, absent] = np.maximum(result[:, absent], 0.0)
    cluster.maximum(result)
    result += 0.0  # the sign of a 0 may depend on the order
    return result, result[0] == -result[1], set().union(*cluster.allgather(kinds))


def _kind(features: Columns) -> str:
    if isinstance(features, SparseFeatures):
        return "sparse"
    return "compact" if features.dtype.name in COMPACT else "floats"
