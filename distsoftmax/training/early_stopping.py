"""Early stopping: the model with the lowest held-out log loss so far, and when to look no further.

L. Prechelt, "Early stopping - but when?", in Neural Networks: Tricks of the Trade, Springer, 1998: the criterion UP,
with the length of a strip set by --evaluate-every. Held-out scores are exact sums, equal on every rank, so every rank
keeps the same record.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """What the evaluations so far have shown: replicated, and saved with the solver's state.

    Attributes
    ----------
    step : int
        The step of the best model; -1 where there is none yet.
    log_loss : float
        Its held-out log loss.
    parameters : ndarray of float64, (n_classes, n_features + 1), or None
        The best model's, in training's units.
    last_step : int
        The step of the last evaluation; -1 before the first.
    n_worse : int
        The evaluations since the best.
    """

    step: int = -1
    log_loss: float = math.inf
    parameters: NDArray[np.float64] | None = None
    last_step: int = -1
    n_worse: int = 0

    def evaluated(self, step: int, log_loss: float, parameters: NDArray[np.float64]) -> EarlyStopping:
        """Return the record after an evaluation; the same where it knows that step already, as after a resume."""
        if step <= self.last_step:
            return self
        if log_loss < self.log_loss:
            return EarlyStopping(step=step, log_loss=log_loss, parameters=parameters, last_step=step)
        return replace(self, last_step=step, n_worse=self.n_worse + 1)

    def stop_reason(self, patience: int) -> str | None:
        """Say why a run ends with this record; None where it goes on."""
        if self.n_worse < patience:
            return None
        count = "1 evaluation" if self.n_worse == 1 else f"{self.n_worse} evaluations"
        return f"the held-out log loss has not fallen for {count}"
