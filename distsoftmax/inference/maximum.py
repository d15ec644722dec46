"""From a model to the exact optimum of its objective on the samples at hand: Newton's method, one pass a step.

Training ends at a tolerance; tables are compared to many digits. The objective is the log-likelihood, less the L2
penalty of the model's run. The reference class's parameters are 0, so the penalty, which acts on parameters whose sum
over the classes is 0, takes them with their mean over the classes subtracted.

The matrices are on rank 0 alone, which solves; the steps are sent to the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.elementary import log
from distsoftmax.arithmetic.parameters import cholesky, cholesky_solve, dot, product
from distsoftmax.errors import InputError
from distsoftmax.inference.likelihood import Evaluation, Likelihood
from distsoftmax.inference.separation import Separation, find_separation

# Newton decrement, in squared standard errors, for weights whose mean is 1: parameters are exact to 1e-10 of these
CONVERGED = 1e-20
STALLED = 1e-14  # below it, rounding may be why the decrement does not fall any more
MOST_STEPS = 60  # separable data take 25: each step multiplies the odds by e
MOST_HALVINGS = 30
SLOW = 0.1  # Newton's method squares a small decrement; where one in sequence is not below this, something diverges
FEWEST_STEPS = 3  # before that is looked into
NEAR = 1e-6  # decrement below which a step is taken as it is: the rounding of the likelihood is larger than its rise


class NotConverged(InputError):
    """Newton's method does not come to an optimum, though there may be one."""


@dataclass(frozen=True)
class Maximum:
    """Where Newton's method has ended.

    Attributes
    ----------
    parameters : ndarray of float64, (n_classes, width)
        Those of the reference class are 0.
    evaluation : Evaluation
    factor : ndarray of float64, (n_parameters, n_parameters), or None
        Cholesky's, of the objective's hessian; on rank 0.
    decrement : float
        score^T hessian^-1 score at the end: the squared distance to the optimum in standard errors.
    first_decrement : float
        At the start.
    n_steps : int
    restarted : bool
        Whether the start was so far from the optimum that the steps began at the intercepts alone.
    """

    parameters: Doubles
    evaluation: Evaluation
    factor: Doubles | None
    decrement: float
    first_decrement: float
    n_steps: int
    restarted: bool = False


@dataclass(frozen=True)
class _Step:
    direction: Doubles
    decrement: float
    factor: Doubles | None

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.direction).all())


class Newton:
    """Newton's method on the penalised likelihood. Every call is collective.

    Parameters
    ----------
    likelihood : Likelihood
    l2 : float
        As in training, whose objective is a mean over the samples.
    """

    def __init__(self, likelihood: Likelihood, l2: float) -> None:
        self._likelihood, self._design = likelihood, likelihood.design
        self._strength = l2 * self._design.total_weight * self._design.penalised
        self._mean_weight = self._design.total_weight / self._design.n_samples

    def hessian(self, information: Doubles) -> Doubles:
        """Return information plus the penalty's hessian, (n_parameters, n_parameters); the same where there is none."""
        if not self._strength.any():
            return information
        width, n_classes = self._design.width, self._design.n_classes
        result: Doubles = information.copy()
        blocks = result.reshape(n_classes - 1, width, n_classes - 1, width)
        along = np.arange(width)
        for a in range(n_classes - 1):
            for b in range(n_classes - 1):
                blocks[a, along, b, along] += self._strength * ((a == b) - 1 / n_classes)
        return result

    def stay(self, start: Doubles) -> Maximum:
        """Return how far parameters are from the optimum, without a step.

        Raises
        ------
        InputError
            On every rank: the hessian is singular.
        """
        evaluation = self._likelihood.evaluate(start)
        step = self._step(start, evaluation)
        if not step.is_finite:
            raise InputError(
                "the hessian at the model is singular: its probabilities are all but 0 and 1. Leave --no-polish out, "
                "which takes the optimum on these samples, or train with --l2"
            ).on_all_ranks()
        return Maximum(start, evaluation, step.factor, step.decrement, step.decrement, 0)

    def maximise(self, start: Doubles) -> Maximum | Separation:
        """Return the optimum, from parameters whose reference class's are 0; or why there is none.

        Raises
        ------
        NotConverged
            On every rank.
        """
        parameters, evaluation, first, last, n_steps = start, self._likelihood.evaluate(start), math.nan, math.inf, 0
        restarted, usable = False, None
        while n_steps < MOST_STEPS:
            step = self._step(parameters, evaluation)
            first = step.decrement if math.isnan(first) else first
            if not step.is_finite:
                if usable is not None and (separation := self._separation(usable)) is not None:
                    return separation
                if restarted:
                    break
                parameters, restarted, last = self._of_intercepts(), True, math.inf
                evaluation = self._likelihood.evaluate(parameters)
                continue
            relative = step.decrement / self._mean_weight
            if relative <= CONVERGED or (relative <= STALLED and step.decrement > SLOW * last):
                return Maximum(parameters, evaluation, step.factor, step.decrement, first, n_steps, restarted)
            if n_steps >= FEWEST_STEPS and step.decrement > SLOW * last:
                separation = self._separation(step.direction)
                if separation is not None:
                    return separation
            usable, last = step.direction, step.decrement
            parameters, evaluation = self._taken(parameters, evaluation, step)
            n_steps += 1
        raise NotConverged(
            f"Newton's method has not found the optimum in {n_steps} steps: the hessian is close to singular. Leave "
            "out features that almost follow from others, train with --l2, or take the model as it is with --no-polish"
        ).on_all_ranks()

    def _separation(self, direction: Doubles) -> Separation | None:
        """Return how a direction separates the classes; with a penalty that does not matter."""
        return None if self._strength.any() else find_separation(self._design, direction)

    def _of_intercepts(self) -> Doubles:
        """Return the parameters of the model without features."""
        parameters = np.zeros((self._design.n_classes, self._design.width))
        if self._design.intercept:
            parameters[:, -1] = log(self._design.class_weights)
            parameters[:, -1] -= parameters[self._likelihood.reference, -1]
        return parameters

    def _centred(self, parameters: Doubles) -> Doubles:
        centred: Doubles = parameters - product(np.ones((1, len(parameters))), parameters) / len(parameters)
        return centred

    def _objective(self, parameters: Doubles, evaluation: Evaluation) -> float:
        centred = self._centred(parameters)
        return evaluation.log_likelihood - dot(centred * self._strength, centred) / 2

    def _step(self, parameters: Doubles, evaluation: Evaluation) -> _Step:
        """Solve for the step on rank 0, and send it to all; NaN where the hessian is singular. Collective."""
        design, others = self._design, self._likelihood.others
        step, factor = np.full(design.n_parameters + 1, math.nan), None
        with design.cluster.agreement():
            if evaluation.information is not None:
                factor = cholesky(self.hessian(evaluation.information))
                score = evaluation.score - (self._strength * self._centred(parameters))[others]
                if factor is not None:
                    step[:-1] = cholesky_solve(factor, score.ravel())
                    step[-1] = dot(step[:-1], score.ravel())
                design.cluster.n_shards_done += 1  # a large matrix takes its time
        content = step.astype("<f8").tobytes() if design.cluster.rank == 0 else None
        step = np.frombuffer(design.cluster.broadcast_bytes(content), dtype="<f8")
        direction = np.zeros((design.n_classes, design.width))
        direction[others] = step[:-1].reshape(len(others), design.width)
        return _Step(direction, float(step[-1]), factor)

    def _taken(self, parameters: Doubles, evaluation: Evaluation, step: _Step) -> tuple[Doubles, Evaluation]:
        """Return the point after a step, which is halved until the objective rises."""
        value, length = self._objective(parameters, evaluation), 1.0
        evaluation = replace(evaluation, information=None)  # the memory is needed
        for _ in range(MOST_HALVINGS):
            trial = parameters + length * step.direction
            if step.decrement <= NEAR * self._mean_weight:
                break
            tried = self._likelihood.evaluate(trial, information=False)
            if self._objective(trial, tried) >= value + 1e-4 * length * step.decrement:
                break
            length /= 2
        return trial, self._likelihood.evaluate(trial)
