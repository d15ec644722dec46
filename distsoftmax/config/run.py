"""The options on a run, all options of training, and those of `predict` and `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal, Optional

from tyro.conf import Positional, arg

from distsoftmax.config.data import DataConfig, SourceConfig
from distsoftmax.config.fitting import ObjectiveConfig, SolverConfig
from distsoftmax.config.values import TIMEOUT, Text, parse_deadline, require, require_timeout
from distsoftmax.errors import InputError
from distsoftmax.run_folder import model_file

OF_ONE_START = ("config", "warm")  # options that a run's own config.toml does not repeat


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where results go, what is reported, how the machine is used.

    None of it changes the model, but --evaluate-every with --patience.
    """

    config: Text = None
    """A TOML file of options, such as the config.toml of an earlier run; the command line wins over it."""
    out: Text = None
    """The folder of results; by default runs/<date-time>-<host>-<process>."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the newest whole checkpoint in --out. never: refuse a folder that holds a run."""
    checkpoint_every: Optional[int] = None
    """Save a checkpoint every so many steps, besides those by time."""
    checkpoint_seconds: float = 60.0
    """Save a checkpoint when so many seconds have passed since the last; 0 saves after every step."""
    keep_checkpoints: int = 3
    """Keep so many checkpoints, the newest."""
    on_save_error: Literal["stop", "continue"] = "stop"
    """What follows when a checkpoint or a line of metrics cannot be written. stop: the run ends. continue: it goes on
    with a warning, and tries again at the next save; that the model cannot be written always is an error."""
    metrics_every: int = 1
    """Write a line of metrics.jsonl every so many steps."""
    evaluate_every: int = 10
    """Measure accuracy and log loss on the held-out samples every so many steps; 0: only at the end."""
    progress: Literal["auto", "always", "never"] = "auto"
    """always: show a moving line. never: plain lines now and then. auto: always on a terminal, never in a log."""
    threads: int | Literal["auto"] = "auto"
    """How many shards a rank computes at once; auto: as many as the other ranks of the node leave it cores."""
    balance: Literal["contiguous", "round-robin", "weighted", "dynamic"] = "dynamic"
    """Which rank works on which shards. contiguous: as many on each, in order. round-robin: as many on each, in turn.
    weighted: by --weights, or by a short measurement of each rank. dynamic: contiguous, and shards move from ranks
    that turn out to be slow, once that pays. It changes the speed, and no bit."""
    weights: Text = None
    """With --balance weighted: a file with a host and its weight on each line, which its ranks share."""
    warm: bool = False
    """Keep the prepared samples in --scratch and the newest state in memory of the node, so that a run that is started
    again after a crash goes on at once; python -m distsoftmax.supervise sets it."""
    timeout: float = TIMEOUT
    """End the job when no rank has made progress for so many seconds, and say which rank is late; 0: never."""
    deadline: Text = None
    """Save and end before this time, as in 2026-03-01T06:00, or in seconds since the epoch; exit status 75, resumable.
    By default the end of the Slurm job."""
    tensorboard: bool = False
    """Write the metrics to an event file in OUT/tensorboard, too (pip install 'distsoftmax[tensorboard]')."""
    mlflow: bool = False
    """Tell MLflow of the run: options, metrics, and the model (pip install 'distsoftmax[mlflow]'). MLFLOW_TRACKING_URI
    says where; by default a store in the current folder."""
    strict: bool = False
    """Exit with status 3 where the run ends without having reached its --tolerance. The model is saved all the same."""

    def __post_init__(self) -> None:
        """Refuse cadences that never come round."""
        for option in ("keep_checkpoints", "metrics_every", "threads"):
            value = getattr(self, option)
            require(isinstance(value, str) or value >= 1, option, value, "it must be at least 1")
        every = self.checkpoint_every
        require(every is None or every >= 1, "checkpoint_every", every, "it must be at least 1")
        require(self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "it must be 0 or more")
        require(self.evaluate_every >= 0, "evaluate_every", self.evaluate_every, "it must be 0 or more")
        require_timeout(self.timeout)
        if self.weights is not None and self.balance != "weighted":
            raise InputError(
                "--weights was given without --balance weighted: add it, or leave --weights out, of the file of "
                "--config, too (a column of sample weights is --weight)"
            )
        if self.deadline is not None:
            parse_deadline(self.deadline)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training run is told.

    Examples
    --------
    >>> config = TrainConfig(objective=ObjectiveConfig(l2=1e-3), solver=SolverConfig(solver="lbfgs"))
    >>> config.sections()["objective"]
    {'l2': 0.001, 'l1': 0.0, 'group': 0.0, 'intercept': True}
    """

    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        if self.data.center == "yes" and not self.objective.intercept:
            raise InputError("--center yes needs an intercept: without one, a shift of the features would bring one in")
        if self.solver.solver == "trust-region" and self.objective.sparse:
            raise InputError(
                "--solver trust-region takes no --l1 and no --group, which have no hessian; take lbfgs, "
                "gradient-descent or sgd"
            )
        if self.solver.patience is not None:
            if not self.data.valid and self.data.held_out_fraction == 0:
                raise InputError("--patience needs held-out samples: give --valid FILE or --valid-fraction F")
            if self.run.evaluate_every == 0:
                raise InputError("--patience counts the evaluations that --evaluate-every 0 leaves out: set it above 0")
        elif self.run.strict and self.solver.tolerance == 0:
            raise InputError("--strict asks for the --tolerance to be reached, and it is 0: set it above 0")

    def sections(self) -> dict[str, dict[str, object]]:
        """Return the options by part and command-line name, without those that are None: what a TOML file holds."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: {
                item.name.replace("_", "-"): getattr(part, item.name)
                for item in fields(part)
                if getattr(part, item.name) not in (None, ()) and item.name not in OF_ONE_START
            }
            for name, part in parts.items()
        }

    def identity(self) -> dict[str, object]:
        """Return the options that decide the steps a run takes, by their command-line names.

        Two runs whose identity and dataset agree take the same steps, so a checkpoint of one may be resumed by the
        other. When the run ends is left out, and so is what the dataset tells better than the options do.
        """
        stopping = self.solver.patience is not None  # the best model so far depends on when it is looked for
        kept_data = {"standardize", "center", "impute", "seed"}
        free = {item.name for item in fields(DataConfig)} - kept_data | {
            "max_steps",
            "max_seconds",
            "tolerance",
            "init",
        }
        parts = (self.data, self.objective, self.solver)
        named = {item.name: getattr(part, item.name) for part in parts for item in fields(part)}
        named |= {"patience": "given", "evaluate-every": self.run.evaluate_every} if stopping else {}
        return {name.replace("_", "-"): value for name, value in named.items() if name not in free}


@dataclass(frozen=True, kw_only=True)
class ScoringConfig(SourceConfig):
    """What `predict`, `evaluate` and `summary` are told of the model and the samples.

    Examples
    --------
    >>> ScoringConfig(model="model.safetensors", data=("wine.npz",)).model_path.name
    'model.safetensors'
    """

    model: Positional[Annotated[str, arg(metavar="MODEL")]]
    """The model.safetensors that training saved, or the folder it stands in."""
    timeout: float = TIMEOUT
    """End the job when no rank has made progress for so many seconds, and say which rank is late; 0: never."""

    def __post_init__(self) -> None:
        """Refuse a call without samples."""
        require_timeout(self.timeout)
        if not self.data:
            raise InputError("no samples are given: name them with --data FILE")

    @property
    def model_path(self) -> Path:
        """The model file itself."""
        return model_file(self.model)
