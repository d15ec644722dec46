"""The objective of softmax regression: the data fit plus the penalties, as solvers ask for it.

P(parameters) = (sum_i s_i CE_i) / (sum_i s_i) + l2/2 |coef|^2 + l1 |coef|_1 + group sum_j |coef[:, j]|_2; the intercept
is not penalised.
"""

from __future__ import annotations

import copy
import math

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import norm
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.objective.certification import certify, estimate
from distsoftmax.objective.cross_entropy import CrossEntropy, Fit, Hessian, Scores
from distsoftmax.objective.mini_batches import SoftmaxBatches
from distsoftmax.objective.penalty import Penalty
from distsoftmax.objective.preconditioners import CurvatureModels
from distsoftmax.objective.rounding import RoundingModel
from distsoftmax.objective.sampled_hessians import OwnUnits
from distsoftmax.solvers.protocol import Certificate, Evaluation, HessianModel, Preconditioner, Refits

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
        self._models = CurvatureModels(self.shape, self.n_samples, config, seed)
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
            objective._batches = self._batches.over(objective.cross_entropy)
        return objective

    def _penalise(self, config: ObjectiveConfig) -> None:
        self.config = config
        self._penalty = Penalty(config)
        self.penalty = self._penalty if config.sparse else None
        self._fitted: tuple[Doubles, bool, Preconditioner | None] | None = None
        self._modelled: tuple[Doubles, HessianModel | None] | None = None
        self._batches: SoftmaxBatches | None = None

    @property
    def compute_seconds(self) -> float:
        """Seconds this rank has spent on its own samples."""
        return self.cross_entropy.sums.compute_seconds

    @property
    def n_samples(self) -> int:
        """The training samples of all ranks."""
        return self.cross_entropy.dataset.n_training

    def __call__(self, parameters: Doubles) -> Evaluation:
        """Return the objective, its gradient and a lower bound on its optimum. Collective: one Allreduce."""
        config, dtype = self.config, self.cross_entropy.dataset.dtype
        fit = self.cross_entropy.evaluate(parameters, dtype)
        if math.isinf(fit.loss):
            return Evaluation.not_finite(parameters)
        value = fit.loss + self._penalty.smooth_value(parameters)
        value += self.penalty.value(parameters) if self.penalty is not None else 0.0
        bound, reachable = -math.inf, -math.inf
        if self.certifies:
            gap = estimate(fit, parameters, self.class_means, config)
            bound, reachable = max(0.0, value - gap.gap), max(0.0, value - gap.reachable)
        gradient = fit.gradient
        self._penalty.add_smooth_gradient(parameters, gradient)
        least = gradient if self.penalty is None else self.penalty.least_subgradient(parameters, gradient)
        rounding = self.cross_entropy.rounding(parameters, fit.loss, dtype) + LAST_PLACES * EPSILON * value
        return Evaluation(value, gradient, norm(least), bound, reachable, rounding)

    @property
    def certifies(self) -> bool:
        """Whether a gap can be certified: it takes a penalty."""
        return self.config.l2 > 0 or self.config.sparse

    def certify(self, parameters: Doubles, enough: float = 0.0) -> Certificate:
        """Prove a bound on the distance to the optimum; see `certification.certify`. Collective."""
        return certify(self, parameters, enough)

    @property
    def class_means(self) -> Doubles:
        """mean_i of e_y(i) (x_i, 1)^T, (n_classes, n_features + 1), where there is a penalty."""
        return self.cross_entropy.bounds.class_means

    @property
    def rounding_model(self) -> RoundingModel:
        """What the errors of an evaluation in float64 follow from. Collective at its first call."""
        if self._rounding_model is None:
            self._rounding_model = RoundingModel.of(self.cross_entropy)
        return self._rounding_model

    def fit(self, parameters: Doubles) -> Fit:
        """Evaluate the data fit alone, in float64. Collective: one Allreduce."""
        return self.cross_entropy.evaluate(parameters, np.dtype(np.float64))

    def intercept_hessian(self, parameters: Doubles) -> Doubles:
        """Return the hessian with respect to the intercepts. Collective: one Allreduce."""
        return self.cross_entropy.intercept_hessian(parameters)

    def curvature(self, parameters: Doubles) -> Hessian:
        """Return the hessian of the smooth part at a point. Not collective; its products are."""
        return Hessian(self.cross_entropy, self._penalty, parameters)

    @property
    def is_preconditioned(self) -> bool:
        """Whether `preconditioner` gives one."""
        return self.refits is not None

    @property
    def refits(self) -> Refits | None:
        """When a preconditioner is worth fitting anew; None where there is none."""
        return self._models.refits

    def preconditioner(self, parameters: Doubles, *, refined: bool = True) -> Preconditioner | None:
        """Return an approximate inverse of the hessian at a point. Collective at its first call of each sort."""
        if self._fitted is None or self._fitted[1] != refined or not np.array_equal(self._fitted[0], parameters):
            made = self._models.preconditioner(self.cross_entropy, parameters, self.config.l2, refined=refined)
            self._fitted = parameters, refined, made
        return self._fitted[2]

    @property
    def units(self) -> OwnUnits | None:
        """Units in which no feature is larger than another or far from 0. Collective at its first call."""
        return self._models.units(self.cross_entropy)

    def hessian_model(self, parameters: Doubles) -> HessianModel | None:
        """Return about the hessian at a point, as a matrix. Collective at its first call."""
        if self._modelled is None or not np.array_equal(self._modelled[0], parameters):
            self._modelled = parameters, self._models.hessian(self.cross_entropy, parameters, self.config.l2)
        return self._modelled[1]

    def mini_batches(self, size: int) -> SoftmaxBatches:
        """Return the mini-batches of so many samples. Collective at the first call with this size."""
        if self._batches is None or self._batches.size != size:
            self._batches = SoftmaxBatches(self.cross_entropy, self._penalty, size, self._seed)
        return self._batches

    def scores(self, parameters: Doubles, *, held_out: bool) -> Scores:
        """Return accuracy and log loss on the held-out or on the training samples, unweighted. Collective."""
        return self.cross_entropy.scores(parameters, held_out=held_out)
