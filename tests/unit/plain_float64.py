"""The data fit in float64, written down in numpy: the chains of SPECIFICATION.md, each operation rounded once.

Products and additions are not fused, which the bounds of the errors allow for.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import scipy.special

from distsoftmax.arithmetic.elementary import exp, log
from distsoftmax.objective.cross_entropy import Fit
from distsoftmax.objective.rounding import RoundingModel

BLOCK_ROWS = 8


def chain(terms, start=0.0):
    """Add along the last axis, in order."""
    first = np.broadcast_to(np.asarray(start, dtype=np.float64), terms.shape[:-1])[..., None]
    return np.cumsum(np.concatenate([first, terms], axis=-1), axis=-1)[..., -1]


def limbs(partials, bound, second):
    """Add shards' numbers, each rounded to a multiple of 2^-60 of a power of two above the bound, exactly."""
    _, exponent = np.frexp(bound)
    scaled = [np.ldexp(partial, 60 - exponent) for partial in partials]
    total = sum(np.rint(number).astype(np.int64) for number in scaled)
    result = total.astype(np.float64)
    if second:
        rest = sum(np.rint((number - np.rint(number)) * 2.0**40).astype(np.int64) for number in scaled)
        result = result + rest * 2.0**-40
    return np.ldexp(result, exponent - 60)


class Reference:
    """See `certification.Certifiable`."""

    def __init__(self, table, n_shards=3):
        self.table, self.config = table, table.config
        self._x = table.features.astype(np.float64)
        self._shards = [rows for rows in np.array_split(np.arange(len(self._x)), n_shards) if rows.size]
        self._weighted = not (table.weights == 1).all()
        by_shard = [chain(table.weights[rows][None])[0] for rows in self._shards]
        self._total = float(limbs(by_shard, np.float64(np.sum(table.weights)), True))
        self.n_evaluations = 0
        with_ones = np.column_stack([self._x, np.ones(len(self._x))])
        largest = np.abs(with_ones).max(axis=0)
        magnitudes = [chain((np.abs(with_ones[rows]) * table.weights[rows, None]).T) for rows in self._shards]
        self._magnitudes = limbs(magnitudes, self._total * largest, True)
        indicators = np.eye(table.shape[0])[table.classes] * table.weights[:, None]
        means = [
            np.array([chain((with_ones[rows] * indicators[rows, k][:, None]).T) for k in range(table.shape[0])])
            for rows in self._shards
        ]
        self.class_means = limbs(means, self._magnitudes, True) / self._total
        if table.offset is not None:
            self.class_means[:, :-1] -= self.class_means[:, -1:] * table.offset
        rows = max(len(rows) for rows in self._shards)
        self.rounding_model = RoundingModel(
            n_classes=table.shape[0],
            row_length=self._x.shape[1],
            row_chain=min(rows, BLOCK_ROWS) + -(-rows // BLOCK_ROWS),
            shard_rows=rows,
            n_shards=len(self._shards),
            total_weight=self._total,
            is_weighted=self._weighted,
            largest=largest,
            magnitudes=self._magnitudes / self._total,
            offset=table.offset,
        )

    @staticmethod
    def below(x, parameters, stored):
        """The scores, less the largest one of each row."""
        scores = chain(x[:, None, :] * parameters[None, :, :-1], stored[None])
        return scores - scores.max(axis=1, keepdims=True)

    def stored_intercept(self, parameters):
        """The intercept for the features as they are stored."""
        if self.table.offset is None:
            return parameters[:, -1]
        return parameters[:, -1] - chain(parameters[:, :-1] * self.table.offset)

    @np.errstate(over="ignore", invalid="ignore")  # a point whose scores overflow has no finite fit
    def fit(self, parameters):
        self.n_evaluations += 1
        table, n_classes = self.table, len(parameters)
        stored = self.stored_intercept(parameters)
        losses, gradients = [], []
        for rows in self._shards:
            x, classes, weights = self._x[rows], table.classes[rows], table.weights[rows]
            below = self.below(x, parameters, stored)
            powers = exp(np.maximum(below, -690.0))
            sums = chain(powers)
            own = np.arange(len(rows)), classes
            loss = log(sums) - below[own]
            errors = powers * (1 / sums)[:, None]
            errors[own] -= 1
            if self._weighted:
                loss, errors = loss * weights, errors * weights[:, None]
            losses.append(chain(loss))
            blocks = []
            for first in range(0, len(rows), BLOCK_ROWS):
                block = slice(first, first + BLOCK_ROWS)
                with_ones = np.column_stack([x[block], np.ones(len(x[block]))])
                blocks.append(chain(np.moveaxis(errors[block, :, None] * with_ones[:, None, :], 0, -1)))
            gradients.append(functools.reduce(np.add, blocks))
        if not all(np.isfinite(part).all() for part in (*losses, *gradients)):
            return Fit.not_finite(table.shape)
        largest = np.abs(parameters) @ self.rounding_model.largest
        bound = 1.01 * self._total * (math.log(n_classes) + 2 * float(largest.max()) + 2 * np.abs(stored).max())
        gradient = limbs(gradients, self._magnitudes, False) / self._total
        if table.offset is not None:
            gradient[:, :-1] -= gradient[:, -1:] * table.offset
        return Fit(float(limbs(losses, np.float64(bound), True)) / self._total, gradient, bound)

    def probabilities(self, parameters):
        return scipy.special.softmax(self.table.centred(np.float64) @ parameters[:, :-1].T + parameters[:, -1], axis=1)

    def curvature(self, parameters):
        return _Hessian(self, self.probabilities(parameters))

    refits = units = None

    def preconditioner(self, parameters, *, refined=True):
        return None

    def intercept_hessian(self, parameters):
        probabilities = self.probabilities(parameters)
        weights = self.table.weights / self._total
        return np.diag(weights @ probabilities) - (probabilities * weights[:, None]).T @ probabilities


@dataclass
class _Hessian:
    objective: Reference
    probabilities: np.ndarray

    def product(self, direction):
        table, p = self.objective.table, self.probabilities
        x = table.centred(np.float64)
        change = x @ direction[:, :-1].T + (direction[:, -1] if table.config.intercept else 0)
        change = p * (change - np.sum(p * change, axis=1, keepdims=True)) * table.weights[:, None] / table.weights.sum()
        result = np.column_stack([change.T @ x, change.sum(axis=0)])
        result[:, :-1] += table.config.l2 * direction[:, :-1]
        if not table.config.intercept:
            result[:, -1] = 0
        return result
