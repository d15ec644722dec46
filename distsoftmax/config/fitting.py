"""The options on the objective and the solver."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, Optional

from distsoftmax.config.values import Text, parse_l2_path, require
from distsoftmax.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The function that is minimised: mean cross-entropy + l2/2 ||coef||^2 + l1 ||coef||_1 + group ||coef||_2,1.

    Examples
    --------
    >>> ObjectiveConfig(l2=1e-3, l1=1e-4).sparse
    True
    """

    l2: float = 0.0
    """The weight of the L2 penalty. Above 0, a run reports a proven bound on its distance to the optimum.
    scikit-learn's C is 1 / (l2 * n), for two classes 2 / (l2 * n), where n is the sum of the weights, those of
    --class-weight included."""
    l2_path: Text = None
    """FROM:TO:COUNT, as in 1e-1:1e-6:20: train for each of so many values of --l2, each from the solution before it.
    The model with the lowest held-out log loss is kept."""
    l1: float = 0.0
    """The weight of the L1 penalty, the sum of the coefficients' magnitudes, which makes many of them 0.
    With --l2 this is the elastic net."""
    group: float = 0.0
    """The weight of the group penalty, the sum over the features of the norm of their coefficients.
    It makes a feature used for all classes or for none."""
    intercept: bool = True
    """Fit an intercept for each class; it is not penalised."""

    def __post_init__(self) -> None:
        """Refuse what is not a penalty."""
        for name in ("l2", "l1", "group"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "it must be a finite number, 0 or more")
        if self.l2_path is not None:
            parse_l2_path(self.l2_path)
            if self.l2 > 0:
                raise InputError("--l2 and --l2-path both set the L2 penalty: give one of them")

    @property
    def sparse(self) -> bool:
        """Whether a penalty makes coefficients 0."""
        return self.l1 > 0 or self.group > 0


@dataclass(frozen=True, kw_only=True)
class SolverConfig:
    """The update rule, and when it ends.

    Examples
    --------
    >>> SolverConfig(solver="sgd", epochs=3).batch
    'auto'
    >>> SolverConfig(solver="lbfgs", epochs=3)
    Traceback (most recent call last):
    distsoftmax.errors.InputError: --epochs is not for --solver lbfgs: it belongs to --solver sgd
    """

    solver: Literal["auto", "gradient-descent", "lbfgs", "trust-region", "sgd"] = "auto"
    """The update rule; auto picks one by the problem's shape and penalty, and says which.
    With a --learning-rate it picks gradient-descent."""
    learning_rate: float | Literal["auto"] = "auto"
    """The length of a step. Of sgd: before the schedule; auto follows from a bound on the curvature.
    Of gradient-descent: a number is kept; auto is accelerated, with backtracking and restart, and needs no tuning."""
    momentum: float = 0.0
    """How much of the last step is added to the next one; for sgd, and gradient-descent with a --learning-rate."""
    nesterov: bool = False
    """Take the gradient where the momentum leads, as Nesterov does; with --momentum."""
    batch: int | Literal["auto"] = "auto"
    """The samples of a mini-batch of sgd; auto: 4096, or fewer, so that an epoch has 16 batches.
    The last batch of an epoch may be smaller."""
    epochs: int = 10
    """How often sgd goes through the data."""
    schedule: Literal["constant", "step", "inverse", "cosine"] = "constant"
    """How sgd's learning rate falls: step to a tenth after 1/2 of the epochs, and again after 3/4;
    inverse as 1 / (1 + epochs done); cosine to 0 at the end."""
    warm_up: float = 0.0
    """The epochs over which sgd's learning rate rises from 0."""
    linear_scaling: Optional[int] = None
    """The batch that --learning-rate was tuned for; the rate is multiplied by --batch and divided by this."""
    average: bool = False
    """Make the model of the mean of sgd's iterates over the second half of the epochs."""
    init: Text = None
    """Start from this model.safetensors, or the one in this folder, not from 0."""
    patience: Optional[int] = None
    """End when so many evaluations in a row have not lowered the held-out log loss, and keep the best model.
    There is an evaluation each --evaluate-every steps."""
    max_steps: Optional[int] = None
    """End after this many steps; by default 1000, or after the epochs of sgd."""
    max_seconds: Optional[float] = None
    """End after this many seconds of training, with a checkpoint to resume from."""
    tolerance: float = 1e-4
    """End when the certified gap is below this fraction of the objective; 0 never ends on it.
    Without a certified gap: when the gradient's norm is below this fraction of its first."""

    def __post_init__(self) -> None:
        """Refuse steps that lead nowhere."""
        rate = self.learning_rate
        require(
            isinstance(rate, str) or 0 < rate < math.inf, "learning_rate", rate, "it must be a number above 0, or auto"
        )
        require(0 <= self.momentum < 1, "momentum", self.momentum, "it must be at least 0 and less than 1")
        for name in ("batch", "epochs", "linear_scaling"):
            value = getattr(self, name)
            require(value is None or isinstance(value, str) or value >= 1, name, value, "it must be at least 1")
        require(0 <= self.warm_up < math.inf, "warm_up", self.warm_up, "it must be a finite number, 0 or more")
        require(self.max_steps is None or self.max_steps >= 0, "max_steps", self.max_steps, "it must be 0 or more")
        require(self.patience is None or self.patience >= 1, "patience", self.patience, "it must be at least 1")
        limit = self.max_seconds
        require(limit is None or 0 < limit < math.inf, "max_seconds", limit, "it must be a finite number above 0")
        require(0 <= self.tolerance < math.inf, "tolerance", self.tolerance, "it must be a finite number, 0 or more")
        self._refuse_what_the_solver_does_not_take()
        if self.solver == "sgd":
            self._refuse_what_no_epochs_could_hold()

    def _refuse_what_the_solver_does_not_take(self) -> None:
        """Refuse options that would be ignored."""
        fixed = not isinstance(self.learning_rate, str)
        descent = self.solver == "gradient-descent" or (self.solver == "auto" and fixed)
        taken_by = dict.fromkeys(("batch", "epochs", "schedule", "warm_up", "linear_scaling", "average"), "sgd")
        taken_by["learning_rate"] = "gradient-descent or sgd"
        taken_by |= dict.fromkeys(("momentum", "nesterov"), "sgd, or gradient-descent with a --learning-rate")
        for item in fields(self):
            if item.name not in taken_by or getattr(self, item.name) == item.default:
                continue
            takes = self.solver == "sgd" or (descent and taken_by[item.name] != "sgd")
            if item.name in ("momentum", "nesterov") and descent:
                takes = fixed
            if not takes:
                raise InputError(
                    f"--{item.name.replace('_', '-')} is not for --solver {self.solver}: it belongs to "
                    f"--solver {taken_by[item.name]}"
                )
        if self.nesterov and not self.momentum:
            raise InputError("--nesterov is a kind of momentum: give --momentum too, such as 0.9")
        if self.linear_scaling is not None and not fixed:
            raise InputError("--linear-scaling needs the --learning-rate that was tuned, as a number")

    def _refuse_what_no_epochs_could_hold(self) -> None:
        """Refuse schedules that do not fit into the epochs of sgd."""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        if self.warm_up >= self.epochs:
            raise InputError(f"--warm-up is {self.warm_up:g} of {epochs}: it must be less, or give more --epochs")
        if self.schedule == "step" and self.epochs == 1:
            raise InputError("--schedule step falls after half of the epochs, and there is 1: give more --epochs")
