"""The options of a training run: one frozen dataclass a part, nested in `TrainConfig`.

The command line and the TOML file are both made from these classes (`command_line.py`), so an option's name, type,
default and help text stand here and nowhere else.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional
from tyro.constructors import PrimitiveConstructorSpec

from distsoftmax.errors import InputError

Format = Literal["auto", "csv", "svmlight", "parquet", "npy", "npz", "hdf5"]
MOST_VALUES = 1000  # of a path
POWERS_OF_TWO = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
Text = Annotated[  # as `str | None`, tyro would take the word None for no text
    str | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="STR",
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: value is None or isinstance(value, str),
        str_from_instance=lambda value: [str(value)],
    ),
]


def _require(holds: bool, option: str, value: object, expected: str) -> None:
    if not holds:
        raise InputError(f"--{option.replace('_', '-')} is {value}; {expected}")


def parse_memory(text: str) -> int:
    """Return the bytes that a text such as 2GiB, 500MB or 1e9 means; MB and MiB are both 2^20 bytes.

    Raises
    ------
    InputError
        It means none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if match is None:
        raise InputError(f"--memory is {text}; give bytes, or a number with MiB or GiB, as in 2GiB")
    size = float(match[1]) * 2 ** POWERS_OF_TWO[match[2]]
    _require(size < 2**63, "memory", text, "it must be less than 2^63 bytes")
    return int(size)


def parse_path(text: str) -> tuple[float, ...]:
    """Return the values that a text such as 1e-1:1e-6:20 means: FROM, down to TO, COUNT of them, in equal ratios.

    They are rounded to 12 digits, so that 1e-1:1e-3:3 holds 0.01 itself.

    Raises
    ------
    InputError
        It means no such values.
    """
    form = "give FROM:TO:COUNT, as in 1e-1:1e-6:20"
    try:
        first, last, count = (kind(word) for kind, word in zip((float, float, int), text.split(":"), strict=True))
    except ValueError:
        raise InputError(f"--l2-path is {text}; {form}") from None
    _require(0 < first < math.inf and 0 < last < math.inf, "l2_path", text, f"its values must be above 0: {form}")
    _require(2 <= count <= MOST_VALUES, "l2_path", text, f"COUNT must be from 2 to {MOST_VALUES}: {form}")
    ratio = math.log(last / first) / (count - 1)
    values = (first, *(float(f"{first * math.exp(ratio * place):.12g}") for place in range(1, count - 1)), last)
    falls = all(one > other for one, other in pairwise(values))
    _require(falls, "l2_path", text, f"it must descend, for each run starts where the one before ended: {form}")
    return values


def model_file(place: str) -> Path:
    """Return the file of the model at a place: a model.safetensors, or the folder it stands in."""
    path = Path(place)
    return path / "model.safetensors" if path.is_dir() else path


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """The files that hold samples, and how they are read."""

    data: tuple[str, ...] = ()
    """Files, globs or folders of parts: CSV, TSV, svmlight, Parquet, .npy, .npz or HDF5."""
    labels: tuple[str, ...] = ()
    """The .npy files of labels that belong to .npy files of features, or to a sparse matrix in .npz."""
    format: Format = "auto"
    """The format of the files; by default found by their content, then by their names."""
    label: Text = None
    """The label column: its name, or its number counted from 0 in a CSV file."""
    weight: Text = None
    """The column of sample weights; a weight of 2 counts like two rows in training, and nowhere else."""
    features: tuple[str, ...] = ()
    """The feature columns; by default all that are nothing else."""
    one_hot: tuple[str, ...] = ()
    """Text columns that are taken as categories, a feature for each; auto: all that hold no numbers."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line of a CSV file holds the column names."""
    separator: str = "auto"
    """What separates the cells of a CSV file: a character, or tab, space, comma, semicolon, pipe."""
    decimal: Literal[".", ","] = "."
    """The decimal mark of a CSV file."""
    index_base: Literal["auto", "0", "1"] = "auto"
    """The index of the first column in svmlight files; auto: as in training or, there, 0 where that occurs anywhere,
    else 1."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(SourceConfig):
    """The samples, and what is done to them before training. Without --data: scikit-learn's digits."""

    class_weight: Text = None
    """balanced, so that all classes weigh the same in sum, or a JSON file of each class's weight."""
    impute: Literal["error", "mean", "zero"] = "error"
    """What stands for a missing number: its column's mean, zero, or nothing, which is an error."""
    n_features: int | None = None
    """The number of columns of svmlight files; by default the largest index that occurs."""
    valid: tuple[str, ...] = ()
    """Samples held out from training, in the same form as --data."""
    valid_labels: tuple[str, ...] = ()
    """The .npy files of labels that belong to --valid."""
    valid_fraction: float | None = None
    """The fraction of --data held out from training; by default 0, and 0.2 for the built-in digits."""
    standardize: bool = True
    """Train on features with mean 0 and standard deviation 1; --l2 acts in these units. The saved model takes the
    features as they are. Without an intercept the features are scaled but not centred."""
    center: Literal["auto", "yes", "no"] = "auto"
    """Whether --standardize subtracts the mean; by default for dense features, not for sparse ones."""
    dtype: Literal["stored", "float32", "float64"] = "stored"
    """The type the features are multiplied in. By default that of a floating-point array, and float32 for text and
    integers."""
    memory: Text = None
    """How much of the features a rank keeps in memory, as in 2GiB; the rest is read again each step. The same bits."""
    shards: int | None = None
    """The number of slices the data is cut into. It fixes the bits of the model; by default it follows from the
    number of samples."""
    seed: int = 0
    """Decides which samples --valid-fraction holds out."""

    def __post_init__(self) -> None:
        """Refuse what no data set could satisfy."""
        _require(
            self.shards is None or 1 <= self.shards <= 2**20,
            "shards",
            self.shards,
            "it must be at least 1 and at most 2^20",
        )
        _require(0 <= self.seed < 2**63, "seed", self.seed, "it must be an integer from 0 to 2^63 - 1")
        fraction = self.valid_fraction
        _require(
            fraction is None or 0 <= fraction < 1, "valid_fraction", fraction, "it must be at least 0 and less than 1"
        )
        _require(
            self.n_features is None or self.n_features >= 1, "n_features", self.n_features, "it must be at least 1"
        )
        if self.memory is not None:
            parse_memory(self.memory)
        if self.valid and fraction:
            raise InputError("--valid and --valid-fraction both hold samples out: give one of them")
        if self.center == "yes" and not self.standardize:
            raise InputError("--center yes is a part of --standardize: leave --no-standardize out")
        if self.valid_labels and not self.valid:
            raise InputError("--valid-labels was given without --valid: name the file it belongs to with --valid FILE")
        about_files = (*fields(SourceConfig), *(item for item in fields(self) if item.name in ("valid", "n_features")))
        for item in about_files if not self.data else ():
            if getattr(self, item.name) != item.default:
                name = item.name.replace("_", "-")
                raise InputError(f"--{name} was given without --data: name the file it belongs to with --data FILE")

    @property
    def held_out_fraction(self) -> float:
        """The fraction of the source held out from training."""
        if self.valid_fraction is not None:
            return self.valid_fraction
        return 0.0 if self.data else 0.2


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The function that is minimised: mean cross-entropy + l2/2 ||coef||^2 + l1 ||coef||_1 + group ||coef||_2,1."""

    l2: float = 0.0
    """The weight of the L2 penalty; scikit-learn's C is 1 / (l2 * n_samples). Above 0, a run reports a proven bound
    on its distance to the optimum."""
    l2_path: Text = None
    """FROM:TO:COUNT, as in 1e-1:1e-6:20: train for each of so many values of --l2, each from the solution before it,
    and keep the model with the lowest held-out log loss."""
    l1: float = 0.0
    """The weight of the L1 penalty, the sum of the coefficients' magnitudes: makes many of them 0. With --l2: the
    elastic net."""
    group: float = 0.0
    """The weight of the sum over features of the norm of their coefficients: a feature enters for all classes or for
    none."""
    intercept: bool = True
    """Fit an intercept for each class; it is not penalised."""

    def __post_init__(self) -> None:
        """Refuse what is not a penalty."""
        for name in ("l2", "l1", "group"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, name, value, "it must be a finite number, 0 or more")
        if self.l2_path is not None:
            parse_path(self.l2_path)
            if self.l2 > 0:
                raise InputError("--l2 and --l2-path both set the L2 penalty: give one of them")

    @property
    def sparse(self) -> bool:
        """Whether a penalty makes coefficients 0."""
        return self.l1 > 0 or self.group > 0


@dataclass(frozen=True, kw_only=True)
class SolverConfig:
    """The update rule, and when it ends."""

    solver: Literal["auto", "gradient-descent", "lbfgs", "trust-region", "sgd"] = "auto"
    """The update rule; auto picks lbfgs or trust-region by the problem's shape and penalty, and says so."""
    learning_rate: float | Literal["auto"] = "auto"
    """Of gradient-descent: a number takes steps of that length, auto needs no tuning (accelerated, with backtracking
    and restart). Of sgd: the length of a step before the schedule; auto follows from a bound on the curvature."""
    momentum: float = 0.0
    """The share of the last step that the next one adds; for sgd, and gradient-descent with a learning rate."""
    nesterov: bool = False
    """Take Nesterov's momentum, with the gradient where the momentum leads."""
    batch: int | Literal["auto"] = "auto"
    """The samples of a mini-batch of sgd; auto: 4096, or so many that an epoch has 16 of them. The last of an epoch
    takes those that are left."""
    epochs: int = 10
    """How often sgd passes over the data."""
    schedule: Literal["constant", "step", "inverse", "cosine"] = "constant"
    """How sgd's learning rate falls: step by 0.1 after 1/2 and after 3/4 of the epochs, inverse as 1 / (1 + epochs
    done), cosine to 0 at the end."""
    warm_up: float = 0.0
    """The epochs over which sgd's learning rate rises from 0."""
    linear_scaling: int | None = None
    """The batch that --learning-rate was tuned for: it is multiplied by --batch / this."""
    average: bool = False
    """Return the mean of sgd's iterates since half of the epochs."""
    init: Text = None
    """Start from this model.safetensors, or the one in this folder, not from 0."""
    patience: int | None = None
    """End when so many evaluations in a row (--evaluate-every) have not lowered the held-out log loss, and keep the
    best model."""
    max_steps: int | None = None
    """End after this many steps; by default 1000, and for sgd after its epochs."""
    max_seconds: float | None = None
    """End after this many seconds of training, resumable."""
    tolerance: float = 1e-4
    """End when the certified gap is below this fraction of the objective or, where there is none, when the gradient's
    norm is below this fraction of its first. 0 never ends on it."""

    def __post_init__(self) -> None:
        """Refuse steps that lead nowhere."""
        rate = self.learning_rate
        _require(
            isinstance(rate, str) or 0 < rate < math.inf, "learning_rate", rate, "it must be a number above 0, or auto"
        )
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "it must be at least 0 and less than 1")
        for name in ("batch", "epochs", "linear_scaling"):
            value = getattr(self, name)
            _require(value is None or isinstance(value, str) or value >= 1, name, value, "it must be at least 1")
        _require(0 <= self.warm_up < math.inf, "warm_up", self.warm_up, "it must be a finite number, 0 or more")
        _require(self.max_steps is None or self.max_steps >= 0, "max_steps", self.max_steps, "it must be 0 or more")
        _require(self.patience is None or self.patience >= 1, "patience", self.patience, "it must be at least 1")
        limit = self.max_seconds
        _require(limit is None or 0 < limit < math.inf, "max_seconds", limit, "it must be a finite number above 0")
        _require(0 <= self.tolerance < math.inf, "tolerance", self.tolerance, "it must be a finite number, 0 or more")
        self._refuse_what_the_solver_does_not_take()
        if self.solver == "sgd":
            self._refuse_what_no_epochs_could_hold()

    def _refuse_what_the_solver_does_not_take(self) -> None:
        """Refuse options that would be ignored."""
        fixed = not isinstance(self.learning_rate, str)
        taken_by = dict.fromkeys(("batch", "epochs", "schedule", "warm_up", "linear_scaling", "average"), "sgd")
        taken_by["learning_rate"] = "gradient-descent or sgd"
        taken_by |= dict.fromkeys(("momentum", "nesterov"), "sgd, or gradient-descent with a --learning-rate")
        for item in fields(self):
            if item.name not in taken_by or getattr(self, item.name) == item.default:
                continue
            takes = {"sgd": True, "gradient-descent": taken_by[item.name] != "sgd"}.get(self.solver, False)
            if item.name in ("momentum", "nesterov") and self.solver == "gradient-descent":
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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where the results go, what is reported, and how the machine is used. Nothing here changes the model."""

    config: Text = None
    """A TOML file of options, such as the config.toml of an earlier run; the command line wins over it."""
    out: Text = None
    """The folder of results; by default runs/<date-time>."""
    resume: Literal["auto", "never"] = "auto"
    """auto goes on from the newest valid checkpoint in --out; never refuses a folder that holds a run."""
    checkpoint_every: int | None = None
    """Save a checkpoint every so many steps."""
    checkpoint_seconds: float = 60.0
    """Save a checkpoint when so many seconds have passed since the last; 0 saves after every step."""
    keep_checkpoints: int = 3
    """Keep the newest so many checkpoints."""
    metrics_every: int = 1
    """Write a line of metrics.jsonl every so many steps."""
    evaluate_every: int = 10
    """Measure accuracy and log loss on the held-out samples every so many steps; 0 only at the end."""
    progress: Literal["auto", "always", "never"] = "auto"
    """Show a moving line (always), plain lines now and then (never), or what suits the terminal or log (auto)."""
    threads: int = 1
    """The shards of a rank that are computed at once. More ranks gain more than more threads."""

    def __post_init__(self) -> None:
        """Refuse cadences that never come round."""
        for option in ("keep_checkpoints", "metrics_every", "threads"):
            _require(getattr(self, option) >= 1, option, getattr(self, option), "it must be at least 1")
        every = self.checkpoint_every
        _require(every is None or every >= 1, "checkpoint_every", every, "it must be at least 1")
        _require(self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "it must be 0 or more")
        _require(self.evaluate_every >= 0, "evaluate_every", self.evaluate_every, "it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training run is told."""

    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        if self.data.center == "yes" and not self.objective.intercept:
            raise InputError("--center yes needs an intercept: without one, a shift of the features would bring one in")
        if self.objective.sparse and self.solver.solver == "trust-region":
            raise InputError(
                "--solver trust-region takes no --l1 and no --group, which have no hessian; take lbfgs, "
                "gradient-descent or sgd"
            )
        if self.solver.patience is not None:
            if not self.data.valid and self.data.held_out_fraction == 0:
                raise InputError("--patience needs held-out samples: give --valid FILE or --valid-fraction F")
            if self.run.evaluate_every == 0:
                raise InputError("--patience counts the evaluations that --evaluate-every 0 leaves out: set it above 0")

    def sections(self) -> dict[str, dict[str, object]]:
        """Return the options by part and command-line name, without those that are None: what a TOML file holds."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: {
                item.name.replace("_", "-"): getattr(part, item.name)
                for item in fields(part)
                if getattr(part, item.name) not in (None, ()) and item.name != "config"
            }
            for name, part in parts.items()
        }

    def identity(self) -> dict[str, object]:
        """Return the options that decide the steps a run takes, by their command-line names.

        Two runs whose identity and partition agree take the same steps, so a checkpoint of one may be resumed by the
        other. When the run ends is left out, and so is what the partition tells better than the options do.
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
    """What `predict` and `evaluate` are told of the model and the samples."""

    model: Positional[str]
    """The model.safetensors that training saved, or the folder it stands in."""

    def __post_init__(self) -> None:
        """Refuse a call without samples."""
        if not self.data:
            raise InputError("no samples are given: name them with --data FILE")

    @property
    def model_path(self) -> Path:
        """The model file itself."""
        return model_file(self.model)
