"""How a run is, and its numbers, as a reader wants them first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from distsoftmax.reporting.blocks import Figure, Tone
from distsoftmax.reporting.canvas import in_digits
from distsoftmax.reporting.record import Record, shown
from distsoftmax.reporting.run_facts import grouped, n_classes_of, n_features_of
from distsoftmax.reporting.runs import Run

LONGEST_REASON = 300  # characters
NO_BREAK = "\u00a0"  # a space at which no line ends


def status_of(run: Run) -> tuple[str, Tone]:
    """Return how a run is, in a word or two, and how good that is."""
    state, result = run.state, run.result
    if state.is_live:
        return "still running", "busy"
    if state.status == "crashed":
        return "crashed", "warn"
    if result.text("status") == "interrupted":
        return "stopped early", "warn"
    if result.text("status") == "ended":
        if result.truth("converged"):
            return "converged", "good"
        return ("done", "plain") if result.number("tolerance") == 0 else ("tolerance not reached", "warn")
    of_state: dict[str, tuple[str, Tone]] = {"done": ("done", "plain"), "not begun": ("not begun", "warn")}
    return of_state.get(state.status, ("stopped early", "warn"))


def sentences_of(run: Run) -> Iterator[str]:
    """Yield why a run has ended, or how far it has come, and what is to be known of what is shown."""
    state, result = run.state, run.result
    if state.is_live:
        step = run.history.last.count("step")
        where = "before its first step" if step is None else f"step {step:,}"
        yield f"Still running: {where}{last_heard(run)}. What follows is as of then."
    elif state.status == "crashed":
        yield f"The run has died after step {state.step:,}{last_heard(run)}; the same command goes on with it."
    elif reason := result.text("reason"):
        why = shown(reason, LONGEST_REASON)
        yield f"{why[0].upper() + why[1:] if why.startswith('stopped by') else f'Stopped: {why}'}{_after(result)}."
    elif state.status == "stopped":
        yield f"Stopped early, after step {state.step:,}{last_heard(run)}; the same command goes on with it."
    elif state.status == "not begun":
        yield "The run ended before its first step."
    for note in result.texts("notes"):
        yield f"Note: {shown(note, LONGEST_REASON)}."
    if result.truth("interim") and not state.is_live:
        yield "The model is an interim one: the run was stopped before its end."
    if not result and state.status == "done" and not (run.folder / "result.json").exists():
        yield "There is no result.json in its folder, as after an older version: what follows is from the other files."
    yield from run.remarks


def subtitle_of(run: Run) -> str:
    """Return the size of the problem on a line."""
    n_training = run.result.count("n_training") or run.checkpoint.record("data").count("n_rows")
    parts = (
        ("training samples" if "n_training" in run.result else "rows", n_training),
        ("features", n_features_of(run)),
        ("classes", n_classes_of(run)),
    )
    return " \u00d7 ".join(f"{grouped(count)} {name}" for name, count in parts if count is not None)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a run came to, or has come to so far; None is not known.

    Attributes
    ----------
    on : str
        The samples of `accuracy` and `log_loss`.
    accuracy, log_loss, objective, gap, relative_gap : float or None
        The gap is the certified one.
    n_steps : int or None
    seconds : float or None
        Of training, by all processes that worked on the run.
    """

    on: str
    accuracy: float | None
    log_loss: float | None
    objective: float | None
    gap: float | None
    relative_gap: float | None
    n_steps: int | None
    seconds: float | None


def numbers_of(run: Run) -> Numbers:
    """Return the numbers of a run."""
    result, line, state = run.result, run.history.last, run.state
    on, scores = _scores(run)
    objective = result.number("objective") if "objective" in result else line.number("objective")
    gap = result.number("certified_gap") if result else line.number("certified_gap")
    relative = result.number("relative_gap")
    if relative is None and gap is not None and objective:
        relative = gap / abs(objective)
    counted = float(run.history.seconds[-1]) if len(run.history.steps) else None
    known = (result.number("seconds"), None if state.is_live else run.checkpoint.number("seconds"), counted)
    return Numbers(
        on=on,
        accuracy=scores.number("accuracy"),
        log_loss=scores.number("log_loss"),
        objective=objective,
        gap=gap,
        relative_gap=relative,
        n_steps=result.count("n_steps") if "n_steps" in result else line.count("step"),
        seconds=next((seconds for seconds in known if seconds is not None), None),
    )


def figures_of(run: Run) -> Iterator[Figure]:
    """Yield the numbers to be shown large."""
    numbers = numbers_of(run)
    if numbers.accuracy is not None:
        yield Figure(f"{numbers.accuracy:.2%}", "accuracy", numbers.on)
    if numbers.log_loss is not None:
        yield Figure(f"{numbers.log_loss:.4f}", "log loss", numbers.on)
    if numbers.objective is not None:
        yield Figure(f"{numbers.objective:.6g}", "objective")
    if numbers.gap is not None:
        relative = numbers.relative_gap
        word = "" if relative is None else f"{in_digits(relative, 2)} of the objective"
        yield Figure(in_digits(numbers.gap), "certified gap", word)
    n_nonzero = run.result.count("n_nonzero")
    n_in_all = (n_features_of(run) or 0) * (n_classes_of(run) or 0)
    if n_nonzero is not None and n_nonzero < n_in_all:
        yield Figure(f"{n_nonzero:,}", "coefficients not 0", f"of {n_in_all:,}")
    if numbers.n_steps is not None:
        limit = run.options.get("max-steps")
        yield Figure(f"{numbers.n_steps:,}", "steps", f"of at most {limit:,}" if isinstance(limit, int) else "")
    if numbers.seconds is not None:
        yield Figure(duration(numbers.seconds), "training")


def duration(seconds: float) -> str:
    r"""Return a time as people say it.

    Examples
    --------
    >>> duration(1.789), duration(95), duration(7380)
    ('1.79\xa0s', '1\xa0min\xa035\xa0s', '2\xa0h\xa03\xa0min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 60:
        text = f"{seconds:.3g} s"
    else:
        text = f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
    return text.replace(" ", NO_BREAK)


def last_heard(run: Run) -> str:
    """Return when the newest line of metrics was written, as the end of a sentence; nothing where there is none."""
    told = run.history.last_time
    if told is None:
        try:
            moment = (run.folder / "metrics.jsonl").stat().st_mtime
        except OSError:
            return ""
        told = datetime.fromtimestamp(int(moment), timezone.utc).isoformat()
    return f", last heard at {shown(told[:19].replace('T', ' '))} UTC"


def _after(result: Record) -> str:
    n_steps = result.count("n_steps")
    return "" if n_steps is None else f", after {n_steps:,} steps"


def _scores(run: Run) -> tuple[str, Record]:
    """Return the samples that a run's accuracy and log loss are of, and these."""
    if run.is_asked_for and run.evaluation is not None:
        return run.evaluated_on, run.evaluation.scores
    for name, words in (("held_out", "held-out"), ("training", "training samples")):
        if scores := run.result.record(name):
            return words, scores
    curves = {name: run.history.curve(f"held_out_{name}") for name in ("accuracy", "log_loss")}
    return "held-out", Record({name: float(curve.values[-1]) for name, curve in curves.items() if len(curve)})
