"""The objective of softmax regression in 60 decimal digits, its optimum in 64 bits: what certificates are judged by."""

import math
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

import numpy as np
import scipy.special

from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.penalty import Penalty

PRECISE = Context(prec=60, Emin=MIN_EMIN, Emax=MAX_EMAX)


@dataclass
class Table:
    """Samples in memory, as the certified problem has them: features less `offset`, all exact."""

    features: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    config: ObjectiveConfig
    offset: np.ndarray | None = None

    @property
    def shape(self):
        return int(self.classes.max()) + 1, self.features.shape[1] + 1

    def centred(self, dtype):
        stored = self.features.astype(dtype)
        return stored if self.offset is None else stored - self.offset.astype(dtype)


def decimals(values):
    """Turn numbers of 53 or 64 bits into decimals, exactly."""
    high = np.asarray(values, dtype=np.float64)
    low = (np.asarray(values) - high).astype(np.float64)
    with localcontext(Context(prec=1200, Emin=MIN_EMIN, Emax=MAX_EMAX)):
        digits = [Decimal(a) + Decimal(b) for a, b in zip(high.ravel().tolist(), low.ravel().tolist(), strict=True)]
    return np.array(digits, dtype=object).reshape(high.shape)


class Truth:
    """P in 60 decimal digits."""

    def __init__(self, table):
        self._table = table
        with localcontext(PRECISE):
            self._x = decimals(table.features)
            if table.offset is not None:
                self._x = self._x - decimals(table.offset)
            self._weights = decimals(table.weights)
            self._total = sum(self._weights, Decimal(0))

    def value(self, parameters):
        config, classes = self._table.config, self._table.classes
        with localcontext(PRECISE):
            theta = decimals(parameters)
            scores = self._x @ theta[:, :-1].T + theta[:, -1]
            loss = Decimal(0)
            for row, own, weight in zip(scores, classes.tolist(), self._weights, strict=True):
                largest = max(row)
                loss += weight * (sum((score - largest).exp() for score in row).ln() - (row[own] - largest))
            coef = theta[:, :-1]
            value = loss / self._total + Decimal(config.l2) / 2 * np.sum(coef * coef)
            if config.l1:
                value += Decimal(config.l1) * sum(abs(entry) for entry in coef.ravel())
            if config.group:
                value += Decimal(config.group) * sum(np.sum(column * column).sqrt() for column in coef.T)
            return value


def cholesky_solve(matrix, vector):
    """Solve with a positive definite matrix of any float type, damped where it is not."""
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), np.finfo(np.float64).tiny))
    matrix = matrix * scale[:, None] * scale
    damping = matrix.dtype.type(0)
    for _ in range(60):
        lower = matrix + damping * np.eye(len(matrix), dtype=matrix.dtype)
        for k in range(len(lower)):
            if not lower[k, k] > 0:
                break
            lower[k:, k] /= np.sqrt(lower[k, k])
            lower[k + 1 :, k + 1 :] -= np.outer(lower[k + 1 :, k], lower[k + 1 :, k])
        else:
            break
        damping = max(100 * damping, matrix.dtype.type(1e-19))
    solution = vector * scale
    for k in range(len(lower)):
        solution[k] = (solution[k] - lower[k, :k] @ solution[:k]) / lower[k, k]
    for k in reversed(range(len(lower))):
        solution[k] = (solution[k] - lower[k + 1 :, k] @ solution[k + 1 :]) / lower[k, k]
    return solution * scale


class Extended:
    """P and its derivatives where the penalty is smooth, in longdouble, around the mean features: well conditioned."""

    def __init__(self, table):
        self._table = table
        self._weights = table.weights.astype(np.longdouble) / np.sum(table.weights.astype(np.longdouble))
        x = table.centred(np.longdouble)
        self._mean = self._weights @ x if table.config.intercept else np.zeros(x.shape[1], dtype=np.longdouble)
        ones = np.full(len(x), float(table.config.intercept), dtype=np.longdouble)
        self._x = np.column_stack([x - self._mean, ones])

    def inwards(self, parameters):
        parameters = parameters.astype(np.longdouble)
        parameters[:, -1] += parameters[:, :-1] @ self._mean
        if not self._table.config.intercept:  # any intercept would do: none is fitted, so it stays what it is, 0
            assert not parameters[:, -1].any()
        return parameters

    def outwards(self, parameters):
        parameters = parameters.copy()
        parameters[:, -1] -= parameters[:, :-1] @ self._mean
        return parameters

    def value(self, parameters):
        config, coef = self._table.config, parameters[:, :-1]
        scores = self._x @ parameters.T
        scores -= scores.max(axis=1, keepdims=True)
        losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(scores)), self._table.classes]
        value = self._weights @ losses + np.longdouble(config.l2) / 2 * np.sum(coef * coef)
        value += np.longdouble(config.l1) * np.abs(coef).sum()
        return value + np.longdouble(config.group) * np.sqrt((coef * coef).sum(axis=0)).sum()

    def probabilities(self, parameters):
        scores = self._x @ parameters.T
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def derivatives(self, parameters, active):
        """Gradient and hessian with respect to the active entries; those that are not are 0 and stay 0."""
        config, coef = self._table.config, parameters[:, :-1]
        p = self.probabilities(parameters)
        errors = p.copy()
        errors[np.arange(len(p)), self._table.classes] -= 1
        gradient = (errors * self._weights[:, None]).T @ self._x
        gradient[:, :-1] += np.longdouble(config.l2) * coef + np.longdouble(config.l1) * np.sign(coef)
        n_classes, width = parameters.shape
        weighted = p * self._weights[:, None]
        outer = self._x[:, :, None] * self._x[:, None, :]
        blocks = weighted[:, :, None] * (np.eye(n_classes) - p[:, None, :])
        hessian = (
            np.tensordot(blocks, outer, axes=(0, 0)).transpose(0, 2, 1, 3).copy()
        )  # (class, column, class, column)
        for j in range(width - 1):
            hessian[:, j, :, j] += np.longdouble(config.l2) * np.eye(n_classes)
            norm = np.sqrt(np.sum(coef[:, j] ** 2))
            if config.group and norm > 0:
                unit = coef[:, j] / norm
                gradient[:, j] += np.longdouble(config.group) * unit
                hessian[:, j, :, j] += np.longdouble(config.group) / norm * (np.eye(n_classes) - np.outer(unit, unit))
        hessian[:, -1, :, -1] += 1 / np.longdouble(n_classes)  # scores that all rise together change nothing
        size = parameters.size
        chosen = np.flatnonzero(active.ravel())
        return gradient.ravel()[chosen], hessian.reshape(size, size)[np.ix_(chosen, chosen)]

    def newton(self, parameters, steps=30):
        """Return where Newton's method on the entries that are not 0 leads to."""
        point = self.inwards(parameters)
        value = self.value(point)
        for _ in range(steps):
            active = point != 0 if self._table.config.sparse else np.ones(point.shape, dtype=bool)
            active[:, -1] = True
            gradient, hessian = self.derivatives(point, active)
            step = np.zeros_like(point)
            step[active] = -cholesky_solve(hessian, gradient)
            size, slope = np.longdouble(1), gradient @ step[active]
            for _ in range(40):
                trial = point + size * step
                if self._table.config.sparse:
                    trial[:, :-1][np.sign(trial[:, :-1]) * np.sign(point[:, :-1]) < 0] = 0
                reached = self.value(trial)
                if reached < value:
                    break
                size /= 4 if size > 1e-3 else 64
            if not reached < value:
                break
            point, value = trial, reached
            if abs(slope) < 1e-22 * value:
                break
        return self.outwards(point)


def proximal_descent(table, steps=300):
    """Return a point near the optimum of a problem with a penalty that is not smooth: accelerated proximal gradient."""
    config, weights = table.config, table.weights / table.weights.sum()
    rows = np.column_stack([table.centred(np.float64), np.ones(len(table.classes)) * config.intercept])
    mean = (weights @ rows * config.intercept)[:-1]
    rows[:, :-1] -= mean
    penalty = Penalty(config)
    curvature = np.linalg.eigvalsh((rows * weights[:, None]).T @ rows).max() / 2 + config.l2
    size = 1 / curvature if curvature > 0 else 1.0
    indicators = np.eye(table.shape[0])[table.classes]
    point = ahead = np.zeros(table.shape)
    momentum = 1.0
    for _ in range(steps):
        errors = scipy.special.softmax(rows @ ahead.T, axis=1) - indicators
        gradient = (errors * weights[:, None]).T @ rows
        gradient[:, :-1] += config.l2 * ahead[:, :-1]
        reached = penalty.prox(ahead - size * gradient, size)
        if np.vdot(ahead - reached, reached - point) > 0:
            momentum = 1.0
        larger = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = reached + (momentum - 1) / larger * (reached - point)
        point, momentum = reached, larger
    point = point.copy()
    point[:, -1] -= point[:, :-1] @ mean
    return point
