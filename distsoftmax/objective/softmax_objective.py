"""The objective of softmax regression: the data fit plus the penalties, as solvers ask for it.

P(parameters) = (sum_i s_i CE_i) / (sum_i s_i) + l2/2 |coef|^2 + l1 |coef|_1 + group sum_j |coef[:, j]|_2; the intercept
is not penalised.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.parameters import norm
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.objective.certification import certify, estimate
from distsoftmax.objective.cross_entropy import CrossEntropy, Fit, Hessian, Scores
from distsoftmax.objective.mini_batches import FitBatches
from distsoftmax.objective.penalty import Penalty
from distsoftmax.objective.preconditioners import CurvatureModel, NoModel, curvature_model, fit_curvature_model
from distsoftmax.objective.rounding import RoundingModel
from distsoftmax.objective.smoothness import expected_smoothness
from distsoftmax.solvers.protocol import BatchGradient, Certificate, Evaluation, Preconditioner

Array = NDArray[np.float64]

LAST_PLACES = 2  # units in the last place of the value in float64 that the rounding of its penalties may change
EPSILON = float(np.finfo(np.float64).eps)


class SoftmaxObjective:
    """See `solvers.protocol`: the objective over the samples of all ranks.

    Parameters
    ----------
    dataset : Dataset
        This rank's samples.
    config : ObjectiveConfig
    cluster : Communicator
    threads : int
        Shards computed at once; the same bits for any number.
    seed : int
        Decides which samples the preconditioner looks at, and the mini-batches.

    Attributes
    ----------
    config : ObjectiveConfig
    shape : tuple of int
        The parameters', (n_classes, n_features + 1).
    penalty : Penalty or None
        What of it is not smooth; None where all is.
    cross_entropy : CrossEntropy

    Notes
    -----
    Collective, as is every call of it.
    """

    def __init__(
        self, dataset: Dataset, config: ObjectiveConfig, cluster: Communicator, threads: int = 1, seed: int = 0
    ) -> None:
        self.shape = dataset.shape
        self.cross_entropy = CrossEntropy(dataset, cluster, threads, by_class=config.l2 > 0 or config.sparse)
        self._seed = seed
        self._model: CurvatureModel | None = None
        self._rounding_model: RoundingModel | None = None
        self._penalise(config)

    def with_penalties(self, config: ObjectiveConfig) -> SoftmaxObjective:
        """Return the objective with other penalties over the same samples, whose measures are shared. Not collective.

        Both must have a penalty, or neither: without one, less is measured of the samples.
        """
        objective = copy.copy(self)
        objective._penalise(config)
        return objective

    def over(self, dataset: Dataset) -> SoftmaxObjective:
        """Return the objective over the same samples, when this rank holds other shards of them. Not collective.

        All ranks must go on with theirs at once. What is measured of the samples of all ranks does not depend on who
        holds which, and is shared; what concerns this rank's samples alone is made anew.
        """
        objective = copy.copy(self)
        objective.cross_entropy = self.cross_entropy.over(dataset)
        if self._batches is not None:
            size, batches = self._batches
            objective._batches = size, batches.over(objective.cross_entropy)
        return objective

    def _penalise(self, config: ObjectiveConfig) -> None:
        self.config = config
        self._penalty = Penalty(config.l2, config.l1, config.group)
        self.penalty = None if self._penalty.is_smooth else self._penalty
        self._fitted: tuple[Array, Preconditioner | None] | None = None
        self._batches: tuple[int, FitBatches] | None = None

    @property
    def compute_seconds(self) -> float:
        """Seconds this rank has spent on its own samples."""
        return self.cross_entropy.sums.compute_seconds

    @property
    def n_samples(self) -> int:
        """The training samples of all ranks."""
        return self.cross_entropy.dataset.n_training

    def __call__(self, parameters: Array) -> Evaluation:
        """Return the objective, its gradient and a lower bound on its optimum. Collective: one Allreduce."""
        config, dtype = self.config, self.cross_entropy.dataset.dtype
        fit = self.cross_entropy.evaluate(parameters, dtype)
        if math.isinf(fit.loss):
            return Evaluation.not_finite(parameters)
        value = fit.loss + self.smooth_penalty(parameters)
        value += self.penalty.value(parameters) if self.penalty is not None else 0.0
        bound, reachable = -math.inf, -math.inf
        if self.certifies:
            gap = estimate(fit, parameters, self.class_means, config)
            bound, reachable = max(0.0, value - gap.gap), max(0.0, value - gap.reachable)
        gradient = fit.gradient
        self.add_smooth_terms(gradient, parameters)
        least = gradient if self.penalty is None else self.penalty.least_subgradient(parameters, gradient)
        rounding = self.cross_entropy.rounding(parameters, fit.loss, dtype) + LAST_PLACES * EPSILON * value
        return Evaluation(value, gradient, norm(least), bound, reachable, rounding)

    @property
    def certifies(self) -> bool:
        """Whether a gap can be certified: it takes a penalty."""
        return self.config.l2 > 0 or self.config.sparse

    def certify(self, parameters: Array, enough: float = 0.0) -> Certificate:
        """Prove a bound on the distance to the optimum; see `certification.certify`. Collective."""
        return certify(self, parameters, enough)

    @property
    def class_means(self) -> Array:
        """mean_i of e_y(i) (x_i, 1)^T, (n_classes, n_features + 1), where there is a penalty."""
        return self.cross_entropy.bounds.class_means

    @property
    def rounding_model(self) -> RoundingModel:
        """What the errors of an evaluation in float64 follow from. Collective at its first call."""
        if self._rounding_model is None:
            fit = self.cross_entropy
            self._rounding_model = RoundingModel.of(fit.dataset, fit.bounds, fit.offset, fit.cluster)
        return self._rounding_model

    def fit(self, parameters: Array) -> Fit:
        """Evaluate the data fit alone, in float64. Collective: one Allreduce."""
        return self.cross_entropy.evaluate(parameters, np.dtype(np.float64))

    def smooth_penalty(self, parameters: Array) -> float:
        """Return the smooth part of the penalty, which may be infinite. Not collective."""
        return self._penalty.smooth_value(parameters)

    def add_smooth_terms(self, gradient: Array, parameters: Array) -> None:
        """Turn the gradient of the data fit into that of the smooth part, in place. Not collective.

        Or a product with the hessian of the one into that of the other, where `parameters` is the direction.
        """
        self._penalty.add_smooth_gradient(parameters, gradient)
        if not self.config.intercept:
            gradient[:, -1] = 0.0

    def intercept_hessian(self, parameters: Array) -> Array:
        """Return the hessian with respect to the intercepts. Collective: one Allreduce."""
        return self.cross_entropy.intercept_hessian(parameters)

    def curvature(self, parameters: Array) -> SoftmaxCurvature:
        """Return the hessian of the smooth part at a point. Not collective; its products are."""
        return SoftmaxCurvature(self, self.cross_entropy.hessian(parameters))

    @property
    def is_preconditioned(self) -> bool:
        """Whether `preconditioner` gives one."""
        return curvature_model(self.shape, self.n_samples) is not NoModel

    def preconditioner(self, parameters: Array) -> Preconditioner | None:
        """Return an approximate inverse of the hessian at a point. Collective at its first call."""
        if self._fitted is None or not np.array_equal(self._fitted[0], parameters):
            fit = self.cross_entropy
            if self._model is None:
                self._model = fit_curvature_model(
                    fit.dataset, self.config, self.shape, fit.bounds, self._seed, fit.cluster
                )
            self._fitted = parameters, self._model(parameters, self.config.l2)
        return self._fitted[1]

    def mini_batches(self, size: int) -> SoftmaxBatches:
        """Return the mini-batches of so many samples. Collective at the first call with this size."""
        if self._batches is None or self._batches[0] != size:
            self._batches = size, FitBatches(self.cross_entropy, size, self._seed)
        return SoftmaxBatches(self, *self._batches)

    def scores(self, parameters: Array, *, held_out: bool) -> Scores:
        """Return accuracy and log loss on the held-out or on the training samples, unweighted. Collective."""
        return self.cross_entropy.scores(parameters, held_out=held_out)


@dataclass(frozen=True)
class SoftmaxCurvature:
    """See `solvers.protocol.Curvature`: the hessian of the smooth part of the objective at one point."""

    objective: SoftmaxObjective
    hessian: Hessian

    def product(self, direction: Array) -> Array:
        """Return the product with a direction. Collective: one Allreduce."""
        if not self.objective.config.intercept:
            direction = direction.copy()
            direction[:, -1] = 0.0
        product = self.hessian.product(direction)
        self.objective.add_smooth_terms(product, direction)
        return product


class SoftmaxBatches:
    """See `solvers.stochastic_gradient.MiniBatches`: the objective's mini-batches, the smooth part alone."""

    def __init__(self, objective: SoftmaxObjective, size: int, batches: FitBatches) -> None:
        self._objective, self._size, self._batches = objective, size, batches
        self.n_batches = batches.n_batches

    def gradient(self, parameters: Array, epoch: int, batch: int) -> BatchGradient:
        """Return the estimate from a mini-batch. Collective: one Allreduce."""
        estimate, n_samples = self._batches.estimate(parameters, epoch, batch)
        value = estimate.loss + self._objective.smooth_penalty(parameters)
        self._objective.add_smooth_terms(estimate.gradient, parameters)
        return BatchGradient(value if math.isfinite(value) else math.inf, estimate.gradient, n_samples)

    def smoothness(self) -> float:
        """Return the expected smoothness of the estimates. Collective: a few passes over all samples."""
        fit, l2 = self._objective.cross_entropy, self._objective.config.l2
        at_zero = self._objective.curvature(np.zeros(fit.shape))
        return expected_smoothness(at_zero, l2, fit.shape, self._size, fit.dataset, fit.cluster)
