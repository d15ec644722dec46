"""Objectives for tests without MPI: plain functions, the real objective over a table in memory, and its formula.

`Formula` is the definition of the objective written down anew, in numpy alone: what the package is judged by.
"""

import dataclasses
import threading
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.special
from memory_source import MemorySource
from ranks import on_ranks

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig, ObjectiveConfig
from distsoftmax.data.dataset import prepare_dataset
from distsoftmax.data.shards import divide_source
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.solvers.protocol import Evaluation, Refits
from distsoftmax.training.stopping import StepLimit, Stopping, certified

EPSILON = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Hessian:
    """See `solvers.protocol.Curvature`."""

    product: object


def smooth(value, gradient, rounding=0.0):
    """Return the evaluation of a function without a penalty."""
    return Evaluation(value, gradient, float(np.linalg.norm(gradient)), rounding=rounding)


class Function:
    """A twice differentiable function of an array: the protocol without samples."""

    penalty = units = None

    def __init__(self, value, gradient, product, inverse=None):
        self._value, self._gradient, self._product, self._inverse = value, gradient, product, inverse

    def __call__(self, parameters):
        value = float(self._value(parameters))
        return smooth(value, self._gradient(parameters), rounding=4 * EPSILON * abs(value))

    @property
    def refits(self):
        return None if self._inverse is None else Refits(3, exact=False)

    def preconditioner(self, parameters, *, refined=True):
        return self._inverse

    def curvature(self, parameters):
        return Hessian(lambda direction: self._product(parameters, direction))


def rosenbrock():
    """Its minimiser is all ones, at the end of a curved valley; it is not convex."""
    return Function(
        lambda x: scipy.optimize.rosen(x.ravel()),
        lambda x: scipy.optimize.rosen_der(x.ravel()).reshape(x.shape),
        lambda x, v: scipy.optimize.rosen_hess_prod(x.ravel(), v.ravel()).reshape(x.shape),
    )


def quadratic(curvatures, minimiser, inverse=None):
    """sum curvatures * (x - minimiser)^2 / 2, with about the inverse of its hessian if that is given."""
    return Function(
        lambda x: np.sum(curvatures * (x - minimiser) ** 2) / 2,
        lambda x: curvatures * (x - minimiser),
        lambda x, v: curvatures * v,
        inverse,
    )


def logistic(features, signs, l2):
    """Binary logistic regression with one coefficient a feature; parameters are (1, n_features)."""
    rows = features * signs[:, None]

    def slopes(x):
        return scipy.special.expit(-rows @ x[0])

    return Function(
        lambda x: np.mean(np.logaddexp(0, -rows @ x[0])) + l2 / 2 * np.sum(x**2),
        lambda x: -(slopes(x) @ rows)[None] / len(rows) + l2 * x,
        lambda x, v: ((slopes(x) * (1 - slopes(x)) * (rows @ v[0])) @ rows)[None] / len(rows) + l2 * v,
    )


@dataclass(frozen=True)
class Formula:
    """The objective of softmax regression as DESIGN.md defines it, and derivatives of its smooth part.

    Attributes
    ----------
    features : ndarray of float64, (n_samples, n_features)
    classes : ndarray of intp, (n_samples,)
    weights : ndarray of float64, (n_samples,)
    config : ObjectiveConfig
    """

    features: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    config: ObjectiveConfig

    @property
    def shape(self):
        return int(self.classes.max()) + 1, self.features.shape[1] + 1

    @property
    def with_ones(self):
        return np.column_stack([self.features, np.ones(len(self.features))])

    def loss(self, parameters, dtype=np.float64):
        scores = self.with_ones.astype(dtype) @ parameters.T.astype(dtype)
        scores -= scores.max(axis=1, keepdims=True)
        of_class = scores[np.arange(len(scores)), self.classes]
        losses = np.log(np.exp(scores).sum(axis=1)) - of_class
        return np.sum(self.weights.astype(dtype) * losses) / np.sum(self.weights.astype(dtype))

    def value(self, parameters, dtype=np.longdouble):
        coef = parameters[:, :-1].astype(dtype)
        config = self.config
        penalty = dtype(config.l2) / 2 * np.sum(coef**2) + dtype(config.l1) * np.sum(np.abs(coef))
        penalty += dtype(config.group) * np.sum(np.sqrt(np.sum(coef**2, axis=0)))
        return self.loss(parameters, dtype) + penalty

    def probabilities(self, parameters):
        return scipy.special.softmax(self.with_ones @ parameters.T, axis=1)

    def gradient(self, parameters):
        """Of the loss and the L2 term; 0 for an intercept that is not fitted."""
        errors = self.probabilities(parameters) - np.eye(self.shape[0])[self.classes]
        gradient = (errors * self.weights[:, None]).T @ self.with_ones / self.weights.sum()
        gradient[:, :-1] += self.config.l2 * parameters[:, :-1]
        if not self.config.intercept:
            gradient[:, -1] = 0.0
        return gradient

    def hessian(self, parameters):
        """Of the loss, as a matrix over the flattened parameters: no L2 term."""
        size = parameters.size
        hessian = np.zeros((size, size))
        rows = self.with_ones
        if not self.config.intercept:
            rows[:, -1] = 0.0
        for row, p, weight in zip(rows, self.probabilities(parameters), self.weights, strict=True):
            hessian += weight * np.kron(np.diag(p) - np.outer(p, p), np.outer(row, row))
        return hessian / self.weights.sum()


def dataset_of(source, rank, intercept=True, **options):
    """Return the dataset that a source becomes, on a rank."""
    config = DataConfig(data=("memory",), **options)
    return prepare_dataset(divide_source(source, config.shards, rank), config, intercept, rank)


def distributed(work, features, labels, config, weights=None, *, ranks=1, seed=0, threads=1, **options):
    """Return what `work(objective)` returns on each rank, the objective being the real one over these samples."""

    def on_rank(rank):
        dataset = dataset_of(MemorySource(features, labels, weights), rank, config.intercept, **options)
        return work(SoftmaxObjective(dataset, config, rank, threads, seed))

    if ranks == 1:
        return [on_rank(Alone())]
    outcomes = on_ranks(ranks, on_rank)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, threading.BrokenBarrierError):
            raise outcome
    return outcomes


def real(features, labels, config, weights=None, **options):
    """Return the real objective over these samples, taken as they are, on one rank."""
    options = {"standardize": False, "shards": 3, **options}
    return distributed(lambda objective: objective, features, labels, config, weights, **options)[0]


def begin(solver, objective, start, tolerance):
    """Return the first state, after the certificate's turn, as the trainer does."""
    return _certified(objective, solver.init(objective, start), tolerance)


def advance(solver, objective, state, tolerance):
    """Return the next state, after the certificate's turn, as the trainer does."""
    return _certified(objective, solver.step(objective, state), tolerance)


def run(solver, objective, start, tolerance, max_steps):
    """Return the states of a run as a list, and why it ended."""
    states = [begin(solver, objective, start, tolerance)]
    stopping = Stopping(tolerance=tolerance, limit=StepLimit.of_steps(max_steps))
    while (reason := stopping.reason(states[-1])) is None:
        states.append(advance(solver, objective, states[-1], tolerance))
    return states, reason


def fields_of(record, prefix=""):
    """The fields of a state, and of the records in it, by their dotted names."""
    values = {}
    for item in dataclasses.fields(record):
        name, value = prefix + item.name, getattr(record, item.name)
        values |= fields_of(value, name + ".") if dataclasses.is_dataclass(value) else {name: value}
    return values


def _certified(objective, state, tolerance):
    return certified(objective, state, tolerance) if hasattr(objective, "certify") else state
