"""The samples as inference sees them: in memory, centred and scaled, without features that follow from others.

The table is in the features' own units, but nothing is computed in them: the hessian of a year and a share would lose
all digits. Features are z = (x - mean) / scale, and what comes out is changed back by the inverse of that linear map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.parameters import matrix_vector
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.preparation import Samples
from distsoftmax.inference.collinearity import Omitted
from distsoftmax.objective.shard_sums import ShardSums

Shard: TypeAlias = "tuple[Samples, Integers | None]"  # its samples, and the numbers of their clusters

CHUNK = 1 << 23  # numbers of dense rows that are looked at together: few rows would not be worth their sums


@dataclass(frozen=True)
class Labelled:
    """The samples of this rank, and where they come from.

    Attributes
    ----------
    shards : tuple of (Samples, ndarray of int64, (rows,), or None)
        Without those of weight 0; and the numbers of the rows' clusters, None without --cluster.
    n_groups : int
        The number of clusters; 0 without --cluster.
    n_shards : int
        Of all ranks.
    path : str
        What an error calls the source.
    """

    shards: tuple[Shard, ...]
    n_groups: int
    n_shards: int
    path: str


@dataclass(frozen=True)
class Design:
    """The samples of this rank, and what is known of those of all.

    Attributes
    ----------
    labelled : Labelled
    n_samples : int
    class_weights : ndarray of float64, (n_classes,)
        The sum of the weights of each class.
    total_weight, largest_weight : float
    kept : ndarray of int64, (n_kept,)
        The features that are in the table.
    omitted : tuple of Omitted
    mean, scale : ndarray of float64, (n_features,)
        Of all features.
    penalised : ndarray of float64, (width,)
        The factor by which the penalty multiplies the square of each parameter, for l2 = 1; 0 for the intercept.
    largest : ndarray of float64, (width,)
        The largest magnitude of each column of the rows.
    intercept : bool
        Whether the last column holds ones.
    sums : ShardSums
    cluster : Communicator
    """

    labelled: Labelled
    n_samples: int
    class_weights: Doubles
    total_weight: float
    largest_weight: float
    kept: Integers
    omitted: tuple[Omitted, ...]
    mean: Doubles
    scale: Doubles
    penalised: Doubles
    largest: Doubles
    intercept: bool
    sums: ShardSums
    cluster: Communicator

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return self.class_weights.size

    @property
    def width(self) -> int:
        """The number of columns of the rows."""
        return self.kept.size + self.intercept

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""
        return (self.n_classes - 1) * self.width

    def chunks(self, samples: Samples) -> Iterator[tuple[slice, Doubles]]:
        """Yield runs of rows of a shard, and their columns in standard units, (rows, width)."""
        yield from rows_in_standard_units(samples, self.kept, self.mean, self.scale, intercept=self.intercept)

    def in_standard_units(self, coef: Doubles, intercept: Doubles) -> Doubles:
        """Return parameters, (n_classes, width), that give the same scores as a model's coefficients.

        What an omitted feature adds is what the features it follows from add.
        """
        scaled = coef * self.scale
        parameters = np.empty((len(coef), self.width))
        parameters[:, : self.kept.size] = scaled[:, self.kept]
        for omitted in (omitted for omitted in self.omitted if omitted.weights.any()):
            parameters[:, : self.kept.size] += np.outer(scaled[:, omitted.feature], omitted.weights)
        if self.intercept:
            parameters[:, -1] = intercept + matrix_vector(coef, self.mean)
        return parameters

    def in_own_units(self, parameters: Doubles) -> Doubles:
        """Return parameters of the features as they are, the intercept last."""
        result: Doubles = parameters.copy()
        result[:, : self.kept.size] /= self.scale[self.kept]
        if self.intercept:
            result[:, -1] -= matrix_vector(result[:, : self.kept.size], self.mean[self.kept])
        return result


def rows_in_standard_units(
    samples: Samples, kept: Integers, mean: Doubles, scale: Doubles, *, intercept: bool
) -> Iterator[tuple[slice, Doubles]]:
    """Yield runs of rows of a shard with (x - mean) / scale of the kept features, and ones where asked to."""
    width = kept.size + intercept
    step = max(CHUNK // max(width, 1), 1)
    for start in range(0, len(samples), step):
        rows = slice(start, min(start + step, len(samples)))
        columns = np.ones((rows.stop - rows.start, width))
        columns[:, : kept.size] = (_dense(samples.features[rows], kept) - mean[kept]) / scale[kept]
        yield rows, columns


def _dense(features: NDArray | SparseFeatures, kept: Integers) -> NDArray:
    """Return the kept columns of rows, as they are."""
    if not isinstance(features, SparseFeatures):
        return features[:, kept]
    result = np.zeros((len(features), kept.size))
    position = np.searchsorted(kept, features.columns)
    known = position < kept.size
    known[known] = kept[position[known]] == features.columns[known]
    result[:, position[known]] = features.matrix.toarray()[:, known]
    return result
