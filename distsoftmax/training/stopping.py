"""When a run ends: its tolerance, its limit of steps, its patience, and when its held-out samples are measured.

Whatever decides is equal on every rank: the solver's state, and scores that are exact sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distsoftmax.config import SolverConfig, TrainConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.solvers.protocol import Objective
from distsoftmax.solvers.schedule import batch_size
from distsoftmax.solvers.state import State, StateT
from distsoftmax.training.result import Review, conclude

if TYPE_CHECKING:
    from distsoftmax.objective.softmax_objective import SoftmaxObjective

DEFAULT_STEPS = 1000  # after which a run ends where no number is given
CLEARLY = 1 / 3  # of the wanted gap, above which no certificate is tried: better intercepts may lose as much


@dataclass(frozen=True)
class StepLimit:
    """After how many steps a run ends at the latest, and what is then said."""

    steps: int
    reason: str

    @classmethod
    def of_steps(cls, steps: int) -> StepLimit:
        """Return the limit of so many steps."""
        return cls(steps, f"the limit of {steps} steps is reached")

    @classmethod
    def of(cls, config: SolverConfig, n_samples: int) -> StepLimit:
        """Return the limit of a run over so many samples: --max-steps, or the epochs of sgd if they end before.

        Raises
        ------
        InputError
            On every rank: a mini-batch would hold more than all samples.
        """
        if config.solver == "sgd":
            steps = config.epochs * -(-n_samples // batch_size(config, n_samples))  # the last batch is smaller
            if config.max_steps is None or steps <= config.max_steps:
                return cls(steps, "the epoch is done" if config.epochs == 1 else f"all {config.epochs} epochs are done")
        return cls.of_steps(DEFAULT_STEPS if config.max_steps is None else config.max_steps)


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The rules by which a run ends.

    Attributes
    ----------
    tolerance : float
        The certified gap that ends it, in units of the objective; or the gradient's norm, in units of its first. 0:
        neither does.
    limit : StepLimit
    has_held_out : bool
        Whether there are held-out samples.
    evaluate_every : int
        Steps from one measurement of them to the next; 0: at the end alone.
    patience : int or None
        Measurements in a row that may see no lower held-out log loss; None: any number.
    """

    tolerance: float
    limit: StepLimit
    has_held_out: bool = False
    evaluate_every: int = 0
    patience: int | None = None

    @classmethod
    def of(cls, config: TrainConfig, dataset: Dataset) -> Stopping:
        """Return the rules that the options set.

        Raises
        ------
        InputError
            On every rank: a mini-batch would hold more than all samples.
        """
        return cls(
            tolerance=config.solver.tolerance,
            limit=StepLimit.of(config.solver, dataset.n_training),
            has_held_out=dataset.n_held_out > 0,
            evaluate_every=config.run.evaluate_every,
            patience=config.solver.patience,
        )

    def review(self, objective: SoftmaxObjective, state: State, before: Review) -> Review:
        """Review the run at a state, after the review `before`. Collective where held-out samples are due.

        Raises
        ------
        Diverged
            On every rank: the steps are used up, and have led far above the start.
        """
        reason = self.reason(state)
        if not (self.has_held_out and self.evaluate_every and state.step % self.evaluate_every == 0):
            return Review(before.best, reason=reason)
        held_out, best = objective.scores(state.solution, held_out=True), before.best
        if self.patience is not None:
            best = best.evaluated(state.step, held_out.log_loss, state.solution)
            reason = reason or best.stop_reason(self.patience)
        return Review(best, held_out, reason)

    def last_review(self, objective: SoftmaxObjective, state: State, review: Review) -> Review:
        """Return a run's last review: with held-out scores, and the result if the run ends by itself. Collective."""
        if self.has_held_out and review.held_out is None:
            review = replace(review, held_out=objective.scores(state.solution, held_out=True))
        if review.reason is None:
            return review
        by_patience = self.patience is not None and review.best.stop_reason(self.patience) is not None
        return replace(review, result=conclude(objective, state, review, self.tolerance, by_patience=by_patience))

    def reason(self, state: State) -> str | None:
        """Say why a run ends with this state; None where it goes on. Held-out samples aside.

        Where a gap can be certified the test is on that, else on the gradient's norm relative to the first.

        Raises
        ------
        Diverged
            On every rank: the steps are used up, and have led far above the start.
        """
        tested, certificate = self.tolerance > 0 and state.is_current, state.certificate
        wanted = self.tolerance * state.value
        if tested and certificate is not None:
            if certificate.gap <= wanted:
                return f"the certified gap is below {self.tolerance:g} of the objective"
            if certificate.floor > wanted:
                least = certificate.floor / state.value if state.value > 0 else math.inf
                return f"this arithmetic can prove no gap below {least:.1g} of the objective"
        reached = state.evaluation.gradient_norm
        if tested and state.estimated_gap is None and reached <= self.tolerance * state.first_gradient_norm:
            return f"the gradient's norm is below {self.tolerance:g} of its first"
        if state.exhausted:
            return "no further decrease can be measured in this arithmetic"
        if state.step >= self.limit.steps:
            state.check_end()
            return self.limit.reason
        return None


def certified(objective: Objective, state: StateT, tolerance: float) -> StateT:
    """Return the state with a certificate where that may be all that a run still needs to end. Collective if so."""
    wanted = tolerance * state.value
    if state.estimated_gap is None or not state.is_current:
        return state
    if state.certificate is not None and state.certificate.gap <= wanted:
        return state
    if state.reachable_gap > CLEARLY * wanted and not state.exhausted:
        return state
    return replace(state, certificate=objective.certify(state.solution, wanted))
