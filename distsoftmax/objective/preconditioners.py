"""Which model of the hessian preconditions a problem (`sampled_hessians.py`), and when it is worth fitting anew.

- Where n_classes * n_features is small, the hessian of the sampled rows. Where the samples are few, too, all are taken:
  it is the hessian itself.
- Where n_features is moderate, its Kronecker approximation. It is cheap, and also what a run begins with where the
  whole hessian takes the time of many steps: many runs end before that pays.
- Else there is none: solvers scale by the curvature they meet.

With a penalty that is not smooth the hessian of the sampled rows is taken as a matrix (`solvers/proximal_newton.py`).

Every rank holds the same sampled rows and does the same arithmetic, so nothing here depends on who holds which shard.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import product, total
from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.cross_entropy import CrossEntropy
from distsoftmax.objective.row_sample import draw_rows, mean_squares
from distsoftmax.objective.sampled_hessians import KroneckerHessian, OwnUnits, SampleHessian
from distsoftmax.solvers.protocol import HessianModel, Preconditioner, Refits

CurvatureModel: TypeAlias = "SampleHessian | KroneckerHessian"

LARGEST_HESSIAN = 1000  # n_classes * (n_features + 1) up to which the whole hessian is factorised: 0.3 GFLOP
CHEAP = 4  # evaluations, up to whose time the whole hessian is fitted from the start
MOST_FEATURES = 2000  # up to which a Kronecker product is fitted: its inverse takes half a second
MOST_CLASSES = 1000  # up to which a Kronecker product is fitted
MOST_ROWS, FEWEST_ROWS = 10, 4  # rows sampled for each column of the matrix that is fitted, or as many as take no time
MOST_NUMBERS = 4_000_000  # numbers in the sampled rows, which every rank holds
WORTHWHILE = 10  # an inverse of n_features^3 operations takes less time than the hundred passes or so that it saves
EVALUATIONS = 8  # the time of a fit of a whole hessian, about, where there are rows enough or no more than it allows
CALLS = 20_000_000  # operations in the time that an evaluation takes besides its own: calls, messages, the step
OF_A_NUMBER = 100  # operations in the time that a row takes for each parameter, besides those of the hessian's numbers
SELDOM = 3  # steps before a model that is not exact is fitted anew, at least
COVERED = 1.5  # a sampled mean square is taken as it is where the true one is not larger by this factor


class CurvatureModels:
    """The models that suit a problem, each fitted when it is first asked for.

    Parameters
    ----------
    shape : tuple of int
        The parameters', (n_classes, n_features + 1).
    n_samples : int
        Of all ranks.
    config : ObjectiveConfig
    seed : int
        Decides which rows are sampled.

    Attributes
    ----------
    refits : Refits or None
        None where no model suits the parameters' shape.
    """

    def __init__(self, shape: tuple[int, int], n_samples: int, config: ObjectiveConfig, seed: int) -> None:
        self._intercept, self._seed = config.intercept, seed
        n_classes, width = shape
        size = n_classes * width
        self._first = self._refined = curvature_model(shape, n_samples)
        self._n_rows = min(MOST_ROWS * width, MOST_NUMBERS // width)
        self._models: dict[type[CurvatureModel], CurvatureModel | None] = {}
        self._squares: Doubles | None = None  # of the features: of all samples, so both models have the same
        self.refits = None if self._first is None else Refits(SELDOM, exact=False)
        if self._refined is SampleHessian:
            self._rows_of_hessian = _rows_of_hessian(size, width, n_samples)
            operations = self._rows_of_hessian * _operations_of_a_row(size) + size * size * size // 3
            evaluations = operations / _operations(size, n_samples)
            exact, interval = self._rows_of_hessian >= n_samples, math.ceil(evaluations / 2)
            self.refits = Refits(interval if exact else max(interval, SELDOM), exact)
            if evaluations > CHEAP:
                self._first = KroneckerHessian

    def preconditioner(
        self, fit: CrossEntropy, parameters: Doubles, l2: float, *, refined: bool
    ) -> Preconditioner | None:
        """Return about the inverse of the hessian at a point; None for none. Collective at the first call of each sort.

        Parameters
        ----------
        fit : CrossEntropy
            Over the samples as the ranks hold them now.
        parameters : ndarray, (n_classes, n_features + 1)
        l2 : float
            The weight of the hessian's L2 term.
        refined : bool
            Whether the best model is wanted, or the one to begin with.
        """
        kind = self._refined if refined else self._first
        model = None if kind is None else self._model(kind, fit)
        return None if model is None else model(parameters, l2)

    def hessian(self, fit: CrossEntropy, parameters: Doubles, l2: float) -> HessianModel | None:
        """Return about the hessian at a point, as a matrix; None for none. Collective at the first call."""
        model = self._model(SampleHessian, fit) if self._refined is SampleHessian else None
        return model.model(parameters, l2) if isinstance(model, SampleHessian) else None

    def units(self, fit: CrossEntropy) -> OwnUnits | None:
        """Return the units of the sampled rows; None for none. Collective at the first call."""
        model = None if self._first is None else self._model(self._first, fit)
        return None if model is None else model.units

    def _model(self, kind: type[CurvatureModel], fit: CrossEntropy) -> CurvatureModel | None:
        if kind not in self._models:
            self._models[kind] = self._fitted(kind, fit)
        return self._models[kind]

    def _fitted(self, kind: type[CurvatureModel], fit: CrossEntropy) -> CurvatureModel | None:
        """Fit what of a model does not depend on the parameters. Collective."""
        n_rows = self._rows_of_hessian if kind is SampleHessian else self._n_rows
        if self._squares is None:
            self._squares = mean_squares(fit.dataset, fit.bounds, fit.cluster)
        squares = self._squares
        rows, weights = draw_rows(fit.dataset, squares, n_rows, self._seed, fit.cluster)
        weight = total(weights)
        if not 0 < weight < math.inf:
            return None
        weights /= weight
        sampled = product(weights.astype(rows.dtype)[None, :], rows * rows)[0]
        missing = np.maximum(squares - COVERED * sampled, 0.0)
        if not self._intercept:
            rows[:, -1] = 0.0
        return kind(rows, weights, missing, intercept=self._intercept)


def curvature_model(shape: tuple[int, int], n_samples: int) -> type[CurvatureModel] | None:
    """Return the class of the best model for parameters of a shape, (n_classes, n_features + 1); None for none."""
    n_classes, width = shape
    if n_classes * width <= LARGEST_HESSIAN:
        return SampleHessian
    pays = width * width <= WORTHWHILE * n_samples * n_classes
    return KroneckerHessian if pays and width <= MOST_FEATURES and n_classes <= MOST_CLASSES else None


def _operations(size: int, n_samples: int) -> int:
    """Return how many operations take about the time of an evaluation, with what else it costs."""
    return 4 * n_samples * size + CALLS


def _operations_of_a_row(size: int) -> int:
    """Return how many operations take about the time of a row in the hessian of `size` parameters."""
    return size * (size // 2 + OF_A_NUMBER)


def _rows_of_hessian(size: int, width: int, n_samples: int) -> int:
    """Return how many rows the hessian of all parameters, `size` of them, is fitted to."""
    of_one_evaluation = _operations(size, n_samples) // _operations_of_a_row(size)
    few, many = FEWEST_ROWS * size, EVALUATIONS * of_one_evaluation
    if n_samples > max(few, many):
        n_samples = max(few, min(many, MOST_ROWS * size), of_one_evaluation)
    return min(n_samples, MOST_NUMBERS // width)
