"""What a run came to: chosen and measured once its steps are done, equal on every rank."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distsoftmax.arithmetic import library
from distsoftmax.cluster.control import TimeUp
from distsoftmax.data.dataset import Dataset
from distsoftmax.model import Model
from distsoftmax.objective.classification_report import ClassificationReport, report_on
from distsoftmax.solvers.protocol import Array
from distsoftmax.solvers.state import State
from distsoftmax.training.early_stopping import EarlyStopping

if TYPE_CHECKING:
    from distsoftmax.objective.cross_entropy import Scores
    from distsoftmax.objective.softmax_objective import SoftmaxObjective


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The model that a run has come to, in its end or so far, and what is known of it.

    Attributes
    ----------
    n_steps : int
        Steps taken.
    step : int
        The step that the model is from: an earlier one than the last where --patience has kept it.
    objective : float or None
        None where it is not known.
    gap : float or None
        The certified one; None where there is none.
    relative_gradient : float or None
        The last gradient's norm relative to the first.
    training, held_out : Scores or None
        Of the model; `held_out` is None where no samples are held out.
    n_used_features, n_nonzero : int
        The features with any, and all the coefficients that are not 0.
    parameters : ndarray of float64, (n_classes, n_features + 1)
        The model's, in training's units.
    """

    n_steps: int
    step: int
    objective: float | None
    gap: float | None
    relative_gradient: float | None
    training: Scores | None
    held_out: Scores | None
    n_used_features: int
    n_nonzero: int
    parameters: Array

    @property
    def relative_gap(self) -> float | None:
        """The certified gap in units of the objective."""
        if self.gap is None or self.objective is None:
            return None
        return self.gap / self.objective if self.objective > 0 else 0.0

    def model(self, dataset: Dataset) -> Model:
        """Return the model in the user's own units."""
        coef, intercept = dataset.standardization.in_own_units(self.parameters)
        return Model(coef, intercept, dataset.classes, dataset.encoding, library.VERSION, dataset.label)


@dataclass(frozen=True, kw_only=True)
class Result(Outcome):
    """A run that has ended by itself; see `Outcome`.

    Attributes
    ----------
    reason : str
        Why it ended.
    converged : bool
        Whether it reached its tolerance, or its --patience ended it.
    exhausted : bool
        Whether the arithmetic allowed no further step.
    least_gap : float or None
        About the least gap that can be proven there in this arithmetic.
    remark : str
        See `State.remark`.
    """

    reason: str
    converged: bool
    exhausted: bool
    objective: float
    least_gap: float | None
    relative_gradient: float
    training: Scores
    remark: str = ""

    @property
    def outcome(self) -> Outcome:
        """The result itself; see `Interruption.outcome`."""
        return self


@dataclass(frozen=True)
class Interruption:
    """A run that was ended early and can be resumed.

    Attributes
    ----------
    step : int
        The last one taken.
    signal : int
        The number of the signal that ended it; 0 where its time was up.
    out_of_time : TimeUp
        Which time was up.
    so_far : Outcome or None
        The model that the run would have given if it had ended there. Where two interruptions are compared it is left
        out.
    """

    step: int
    signal: int
    out_of_time: TimeUp = TimeUp.NO
    so_far: Outcome | None = field(default=None, compare=False)

    @property
    def outcome(self) -> Outcome:
        """What is known of the model so far."""
        if self.so_far is None:
            raise ValueError("the interruption has no model")
        return self.so_far

    def model(self, dataset: Dataset) -> Model:
        """Return the model so far, in the user's own units."""
        return replace(self.outcome.model(dataset), interim=True)


@dataclass(frozen=True)
class Review:
    """What a review of a run after a step has shown.

    Attributes
    ----------
    best : EarlyStopping
        The model with the lowest held-out log loss so far, where the run has patience.
    held_out : Scores or None
        Of the state's solution, if this review has measured them.
    reason : str or None
        Why the run ends with this step; None where it goes on.
    result : Result or None
        What the run came to, in its last review alone.
    """

    best: EarlyStopping = field(default_factory=EarlyStopping)
    held_out: Scores | None = None
    reason: str | None = None
    result: Result | None = None


def conclude(
    objective: SoftmaxObjective, state: State, review: Review, tolerance: float, *, by_patience: bool = False
) -> Result:
    """Choose the parameters that make the model of a run that has ended, and measure them. Collective.

    Parameters
    ----------
    state : State
        After the last step, which may lie between two evaluations that --patience counts, and is compared, too.
    review : Review
        Of that state.
    tolerance : float
        The gap asked for; a gap that is larger is measured once more, as closely as can be.
    by_patience : bool
        Whether --patience has ended the run.
    """
    assert review.reason is not None, "the run has ended"
    state = state.brought_up_to_date(objective)
    step, parameters, held_out = _chosen(objective, state, review)
    certificate, wanted = state.certificate, tolerance * state.value
    is_proven = certificate is not None and certificate.gap <= wanted
    if parameters is not state.solution or (objective.certifies and not is_proven):
        certificate = objective.certify(parameters, wanted)
    value = certificate.value if certificate else state.value
    gap = certificate.gap if certificate and objective.certifies else None
    gradient = _relative_gradient(state)
    is_reached = gradient <= tolerance if gap is None else is_proven or gap <= tolerance * value
    n_used_features, n_nonzero = _count_used(parameters)
    return Result(
        reason=review.reason,
        converged=by_patience or (tolerance > 0 and is_reached),
        n_steps=state.step,
        exhausted=state.exhausted,
        step=step,
        objective=value,
        gap=gap,
        least_gap=certificate.floor if certificate and objective.certifies else None,
        relative_gradient=gradient,
        training=objective.scores(parameters, held_out=False),
        held_out=held_out,
        n_used_features=n_used_features,
        n_nonzero=n_nonzero,
        parameters=parameters,
        remark=state.remark,
    )


def so_far(objective: SoftmaxObjective, state: State, review: Review) -> Outcome:
    """Choose the parameters that make the model of a run which is ended early; no more is measured than is needed.

    Collective where the model is an earlier one than the last step's. See `conclude`.
    """
    step, parameters, held_out = _chosen(objective, state, review)
    is_measured = state.is_current and parameters is state.measured
    n_used_features, n_nonzero = _count_used(parameters)
    return Outcome(
        n_steps=state.step,
        step=step,
        objective=state.value if is_measured else None,
        gap=state.certified_gap if is_measured else None,
        relative_gradient=_relative_gradient(state) if state.is_current else None,
        training=None,
        held_out=held_out,
        n_used_features=n_used_features,
        n_nonzero=n_nonzero,
        parameters=parameters,
    )


def evaluated(objective: SoftmaxObjective, result: Result) -> ClassificationReport | None:
    """Measure the model of a run on the held-out samples, else on the training samples; None where it is not finite.

    Collective: about a pass over them.
    """
    scores = result.held_out or result.training
    if not math.isfinite(scores.log_loss):
        return None
    return report_on(objective.cross_entropy, result.parameters, scores.log_loss)


def _chosen(objective: SoftmaxObjective, state: State, review: Review) -> tuple[int, Array, Scores | None]:
    """Return the step, the parameters and the held-out scores of the model. Collective where it is an earlier one."""
    best, held_out = review.best, review.held_out
    if best.parameters is None or best.step == state.step or (held_out and held_out.log_loss < best.log_loss):
        return state.step, state.solution, held_out
    return best.step, best.parameters, objective.scores(best.parameters, held_out=True)


def _relative_gradient(state: State) -> float:
    return state.evaluation.gradient_norm / state.first_gradient_norm if state.first_gradient_norm else 0.0


def _count_used(parameters: Array) -> tuple[int, int]:
    """Return the number of features with any coefficient that is not 0, and of all these coefficients."""
    nonzero = parameters[:, :-1] != 0
    return int(np.count_nonzero(nonzero.any(axis=0))), int(np.count_nonzero(nonzero))


@dataclass(frozen=True)
class Leg:
    """A finished run of a path, with what is reported of it.

    Attributes
    ----------
    l2 : float
    folder : Path
        Where its results are.
    seconds : float
        Of training, by all processes that worked on it. Known to rank 0 alone.
    sha256 : str
        Of the model.
    result : Result
        Its parameters may be left out: they are in the model's file.
    """

    l2: float
    folder: Path
    seconds: float
    sha256: str
    result: Result
