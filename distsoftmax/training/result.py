"""What a run came to: chosen and measured once its steps are done, equal on every rank."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distsoftmax.arithmetic import library
from distsoftmax.cluster.control import TimeUp
from distsoftmax.data.dataset import Dataset
from distsoftmax.model import Model
from distsoftmax.solvers.protocol import Array
from distsoftmax.solvers.state import State
from distsoftmax.training.early_stopping import EarlyStopping

if TYPE_CHECKING:
    from distsoftmax.objective.cross_entropy import Scores
    from distsoftmax.objective.softmax_objective import SoftmaxObjective


@dataclass(frozen=True)
class Interruption:
    """A run that was ended early and can be resumed.

    Attributes
    ----------
    step : int
    signal : int
        The number of the signal that ended it; 0 where its time was up.
    out_of_time : TimeUp
        Which time was up.
    """

    step: int
    signal: int
    out_of_time: TimeUp = TimeUp.NO


@dataclass(frozen=True, kw_only=True)
class Result:
    """A run that has ended by itself.

    Attributes
    ----------
    reason : str
        Why it ended.
    n_steps : int
        Steps taken.
    exhausted : bool
        Whether the arithmetic allowed no further one.
    step : int
        The step that the model is from: an earlier one than the last where the run was stopped by its patience.
    objective : float
    gap : float or None
        The certified one; None where there is none.
    least_gap : float or None
        About the least gap that can be proven there in this arithmetic.
    relative_gradient : float
        The gradient's norm in the end relative to the first.
    training, held_out : Scores
        Of the model; `held_out` is None where no samples are held out.
    n_used_features, n_nonzero : int
        The features with any, and all the coefficients that are not 0.
    parameters : ndarray of float64, (n_classes, n_features + 1)
        The model's, in training's units.
    remark : str
        See `State.remark`.
    """

    reason: str
    n_steps: int
    exhausted: bool
    step: int
    objective: float
    gap: float | None
    least_gap: float | None
    relative_gradient: float
    training: Scores
    held_out: Scores | None
    n_used_features: int
    n_nonzero: int
    parameters: Array
    remark: str = ""

    def model(self, dataset: Dataset) -> Model:
        """Return the model in the user's own units."""
        coef, intercept = dataset.standardization.in_own_units(self.parameters)
        return Model(coef, intercept, dataset.classes, dataset.encoding, library.VERSION, dataset.label)


def conclude(
    objective: SoftmaxObjective,
    state: State,
    reason: str,
    *,
    best: EarlyStopping,
    held_out: Scores | None,
    tolerance: float,
) -> Result:
    """Choose the parameters that make the model, and measure them. Collective.

    Parameters
    ----------
    objective : SoftmaxObjective
    state : State
        After the last step.
    reason : str
        Why it was the last.
    best : EarlyStopping
        The record that --patience keeps, empty without it. The last step may lie between two of its evaluations, and
        is compared too.
    held_out : Scores or None
        Of the last step.
    tolerance : float
        The gap asked for; a gap that is larger is measured once more, as closely as can be.
    """
    state = state.brought_up_to_date(objective)
    step, parameters = state.step, state.solution
    if best.parameters is not None and best.step != step and not (held_out and held_out.log_loss < best.log_loss):
        step, parameters = best.step, best.parameters
        held_out = objective.scores(parameters, held_out=True)
    certificate, wanted = state.certificate, tolerance * state.value
    is_proven = certificate is not None and certificate.gap <= wanted
    if parameters is not state.measured or (objective.certifies and not is_proven):
        certificate = objective.certify(parameters, wanted)
    gradient_norm = state.evaluation.gradient_norm
    nonzero = parameters[:, :-1] != 0
    return Result(
        reason=reason,
        n_steps=state.step,
        exhausted=state.exhausted,
        step=step,
        objective=certificate.value if certificate else state.value,
        gap=certificate.gap if certificate and objective.certifies else None,
        least_gap=certificate.floor if certificate and objective.certifies else None,
        relative_gradient=gradient_norm / state.first_gradient_norm if state.first_gradient_norm else 0.0,
        training=objective.scores(parameters, held_out=False),
        held_out=held_out,
        n_used_features=int(np.count_nonzero(nonzero.any(axis=0))),
        n_nonzero=int(np.count_nonzero(nonzero)),
        parameters=parameters,
        remark=state.remark,
    )


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
