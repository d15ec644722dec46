"""Mean and standard deviation of each feature, by exact sums, and the change of units they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.exact_sum import exact_sum
from distsoftmax.data.shards import DividedSource
from distsoftmax.errors import InputError


@dataclass(frozen=True)
class Standardization:
    """Features are trained on as (x - mean) / scale.

    Attributes
    ----------
    mean, scale : ndarray of float64, (n_features,)
        0 and 1 where features are taken as they are.
    active : bool
        Whether anything is changed at all.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    active: bool

    def apply(self, features: NDArray, dtype: np.dtype, path: str, names: tuple[str, ...]) -> NDArray[np.floating]:
        """Return the features in training's units and type; where nothing changes, the same array.

        Raises
        ------
        InputError
            A value is beyond the type; names file and column.
        """
        with np.errstate(over="ignore"):
            scaled = (features - self.mean) / self.scale if self.active else features
            result = np.ascontiguousarray(scaled, dtype=dtype)
        if result is not features and not np.isfinite(result).all():
            row, column = np.argwhere(~np.isfinite(result))[0]
            raise InputError(
                f"{path}: column {names[column]} holds {features[row, column]:g}, which is beyond {dtype}"
                f"{' after standardization' if self.active else ''}; use --dtype float64, or rescale the column"
            )
        return result

    def in_own_units(self, parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn parameters of the standardised features into (coef, intercept) for the features as they are."""
        coef = parameters[:, :-1] / self.scale
        return coef, parameters[:, -1] - coef @ self.mean


def fit_standardization(
    rows: list[tuple[int, NDArray]],
    divided: DividedSource,
    n_training: int,
    wanted: bool,
    intercept: bool,
    cluster: Cluster,
) -> Standardization:
    """Measure the training rows of all shards, given as (shard, features). Collective.

    The deviation is the population's (divided by n). A constant feature gets scale 1. Without an intercept nothing is
    centred, for a shift of the features would bring one in through the back door.

    Raises
    ------
    InputError
        On every rank: a feature is too large for its squares to be summed.
    """
    names = divided.source.feature_names
    shape = (len(names),)
    extremes = np.full((2, *shape), -np.inf)  # the largest value, and minus the smallest
    for _, features in rows:
        if len(features):
            np.maximum(extremes[0], features.max(axis=0), out=extremes[0])
            np.maximum(extremes[1], -features.min(axis=0).astype(np.float64), out=extremes[1])
    cluster.maximum(extremes)
    largest = np.maximum(np.abs(extremes[0]), np.abs(extremes[1]))
    for column in np.flatnonzero(largest > 1e150):
        raise InputError(
            f"{divided.source.path}: column {names[column]} holds {largest[column]:g}; values beyond 1e150 cannot be "
            "squared and summed: rescale the column"
        ).on_all_ranks()
    if not wanted:
        return Standardization(np.zeros(shape), np.ones(shape), active=False)

    def total(partials: list[tuple[int, NDArray[np.float64]]]) -> NDArray[np.float64]:
        return exact_sum(partials, shape, divided.n_shards, cluster)

    mean = total([(shard, features.sum(axis=0, dtype=np.float64)) for shard, features in rows]) / n_training
    constant = extremes[0] == -extremes[1]
    mean[constant] = extremes[0][constant]
    squares = total([(shard, np.square(features - mean).sum(axis=0)) for shard, features in rows])
    deviation = np.sqrt(squares / n_training)
    scale = np.where(constant | (deviation == 0), 1.0, deviation)
    return Standardization(mean if intercept else np.zeros(shape), scale, active=True)
