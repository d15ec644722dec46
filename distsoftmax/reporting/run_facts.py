"""What was trained on what, and how to do it again, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import cache

from distsoftmax.reporting.canvas import UNKNOWN
from distsoftmax.reporting.record import shown
from distsoftmax.reporting.runs import Run

OF_THE_FOLDER = ("out", "resume", "config")  # options that a repetition sets for itself
LONGEST_VALUE = 200  # characters of an option


@cache
def default_options() -> Mapping[str, object]:
    """Return the options of training that are not None by default, by their command-line names."""
    from distsoftmax.config import TrainConfig

    return {name: value for section in TrainConfig().sections().values() for name, value in section.items()}


def chosen_options(options: Mapping[str, object]) -> dict[str, object]:
    """Return the options that are not as they are by default."""
    defaults = default_options()
    return {
        name: value
        for name, value in options.items()
        if name not in OF_THE_FOLDER and (name not in defaults or defaults[name] != value)
    }


def command_line(options: Mapping[str, object], n_ranks: int | None, out: str) -> str:
    r"""Return the command that trains the same again.

    Examples
    --------
    >>> print(command_line({"data": ["my table.csv"], "l2": 0.001, "standardize": False, "seed": 0}, 4, "again"))
    mpirun -n 4 python -m distsoftmax.train \
      --data 'my table.csv' \
      --l2 0.001 \
      --no-standardize \
      --out again
    """
    start = "python -m distsoftmax.train"
    words = [f"mpirun -n {n_ranks} {start}" if n_ranks and n_ranks > 1 else start]
    for name, value in (*chosen_options(options).items(), ("out", out)):
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words.append(_option(name, value if isinstance(value, list) else [value]))
    return " \\\n  ".join(words)


def _option(name: str, values: Sequence[object]) -> str:
    """Return an option with its values; one that looks like an option itself is joined to it."""
    texts = [_exactly(value) if isinstance(value, float) else str(value) for value in values]
    if len(texts) == 1 and (texts[0].startswith("-") or not texts[0]):
        return shlex.quote(f"--{name}={texts[0]}")
    return " ".join([f"--{name}", *map(shlex.quote, texts)])


def _exactly(value: float) -> str:
    """Return the shortest text that means a number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def in_words(value: object) -> str:
    """Return the value of an option as it is shown."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return shown(" ".join(str(item) for item in value), LONGEST_VALUE)
    return shown(_exactly(value) if isinstance(value, float) else str(value), LONGEST_VALUE)


def option_differences(runs: Sequence[Mapping[str, object]]) -> dict[str, list[str]]:
    """Return the options that are not the same in all runs, each with its value in every run."""
    defaults = default_options()
    names = dict.fromkeys(name for options in runs for name in options if name not in OF_THE_FOLDER)
    values = {
        name: [
            in_words(options[name]) if name in options else in_words(defaults.get(name, UNKNOWN)) for options in runs
        ]
        for name in names
    }
    return {name: texts for name, texts in values.items() if len(set(texts)) > 1}


def data_facts(run: Run) -> list[tuple[str, str]]:
    """Return what is known of the data, as names and values."""
    result, checkpoint, options = run.result, run.checkpoint.record("data"), run.options
    data = options.get("data")
    rows: list[tuple[str, str | None]] = [
        ("data", in_words(data) if data else "scikit-learn's digits" if options else None),
        ("held-out data", in_words(options["valid"]) if "valid" in options else None),
        ("label column", shown(run.model.label) if run.model and run.model.label is not None else None),
        ("training samples", grouped(result.count("n_training"))),
        ("held-out samples", grouped(result.count("n_held_out"))),
    ]
    n_rows = checkpoint.count("n_rows")
    if "n_training" not in result and n_rows is not None:
        fraction = checkpoint.number("held_out_fraction")
        rows.append(("rows", grouped(n_rows)))
        rows.append(("held-out part", f"{fraction:g}" if fraction else None))
    rows += [
        ("features", grouped(n_features_of(run))),
        ("classes", grouped(n_classes_of(run))),
        ("sparse", None if result.truth("sparse") is None else in_words(result.truth("sparse"))),
        ("computed in", result.text("dtype") or checkpoint.text("dtype")),
        ("shards", grouped(result.count("n_shards"))),
        ("digest of the prepared samples", run.data_digest or None),
    ]
    return [(name, value) for name, value in rows if value]


def version_facts(run: Run) -> list[tuple[str, str]]:
    """Return what the bits of the model depend on besides options and data, and what they are."""
    result = run.result
    arithmetic = (
        result.count("arithmetic") or run.checkpoint.count("arithmetic") or (run.model and run.model.arithmetic)
    )
    rows = [
        ("distsoftmax", result.text("version")),
        ("arithmetic version", str(arithmetic) if arithmetic else None),
        ("solver", result.text("solver")),
        ("model's SHA-256", result.text("model_sha256") or (run.model.sha256 if run.model else None)),
    ]
    return [(name, value) for name, value in rows if value]


def n_ranks_of(run: Run) -> int | None:
    """Return how many ranks have worked on a run."""
    report = run.state.latest
    return run.result.count("n_ranks") or (report.n_ranks if report else None)


def n_features_of(run: Run) -> int | None:
    """Return the number of features."""
    n_features = run.result.count("n_features")
    return n_features if n_features is not None or run.model is None else run.model.coef.shape[1]


def n_classes_of(run: Run) -> int | None:
    """Return the number of classes."""
    n_classes = run.result.count("n_classes")
    if n_classes is not None:
        return n_classes
    return len(run.model.classes) if run.model else len(run.checkpoint.record("data").members("classes")) or None


def grouped(count: int | None) -> str | None:
    """Return a count with its digits grouped."""
    return None if count is None else f"{count:,}"
