"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distsoftmax.reporting.blocks import Block, Cell, Section, Table
from distsoftmax.reporting.canvas import plain_number
from distsoftmax.reporting.curves import side_by_side
from distsoftmax.reporting.headline import duration, scores_of, seconds_of, status_of
from distsoftmax.reporting.record import shown
from distsoftmax.reporting.run_facts import option_differences
from distsoftmax.reporting.runs import PathOfRuns, Run
from distsoftmax.reporting.sections import runs_of

MOST_OPTIONS = 10  # that have a column of their own


def comparison(read: Sequence[Run | PathOfRuns]) -> Section:
    """Return the section that has several runs side by side, with what differs between their options."""
    runs = runs_of(read)
    options = option_differences([each.options for each in read if each.name in dict(runs)])
    shown_options = dict(list(options.items())[:MOST_OPTIONS])
    measured = [_Measured(run) for _, run in runs]
    best_accuracy = max((each.accuracy for each in measured if each.accuracy is not None), default=None)
    best_loss = min((each.log_loss for each in measured if each.log_loss is not None), default=None)
    rows = []
    for number, ((name, run), values) in enumerate(zip(runs, measured, strict=True)):
        texts = (Cell(option[number]) for option in shown_options.values())
        rows.append(
            (
                Cell(shown(name)),
                Cell(status_of(run)[0]),
                *texts,
                Cell(f"{values.steps:,}" if values.steps is not None else "–"),
                Cell(duration(values.seconds) if values.seconds is not None else "–"),
                Cell(_text(values.objective, lambda value: f"{value:.6g}")),
                Cell(_text(values.gap, lambda value: plain_number(float(f"{value:.1e}")))),
                Cell(_text(values.accuracy, lambda value: f"{value:.4f}"), is_best=_is(values.accuracy, best_accuracy)),
                Cell(_text(values.log_loss, lambda value: f"{value:.5f}"), is_best=_is(values.log_loss, best_loss)),
            )
        )
    names = (f"--{name}" for name in shown_options)
    head = ("run", "status", *names, "steps", "time", "objective", "certified gap", "accuracy", "log loss")
    sentences = [
        "The table has the options that differ. Accuracy and log loss are of the held-out samples where there are any, "
        "the best in bold; an objective contains its run's own penalty."
    ]
    if len(options) > MOST_OPTIONS:
        sentences.append(f"Of {len(options)} options that differ the first {MOST_OPTIONS} are shown.")
    if len({run.data_digest for _, run in runs if run.data_digest}) > 1:
        sentences.append("The prepared training samples are not the same in all of these runs.")
    pictures = (
        side_by_side(runs, "held_out_log_loss", "Held-out log loss", "steps"),
        side_by_side(runs, "held_out_log_loss", "Held-out log loss", "seconds"),
        side_by_side(runs, "objective", "Objective", "steps"),
        side_by_side(runs, "objective", "Objective", "seconds"),
    )
    block = Block(
        "Side by side",
        tuple(sentences),
        pictures=tuple(picture for picture in pictures if picture is not None),
        tables=(Table(head, tuple(rows)),),
    )
    return Section(name=f"{len(read)} runs", subtitle="", blocks=(block,))


class _Measured:
    """What the table has of a run."""

    def __init__(self, run: Run) -> None:
        result, line = run.result, run.history.last
        _, scores = scores_of(run)
        self.accuracy, self.log_loss = scores.number("accuracy"), scores.number("log_loss")
        self.objective = result.number("objective") if "objective" in result else line.number("objective")
        self.gap = result.number("certified_gap") if result else line.number("certified_gap")
        self.steps = result.count("n_steps") if "n_steps" in result else line.count("step")
        self.seconds = seconds_of(run)


def _text(value: float | None, form: Callable[[float], str]) -> str:
    return "–" if value is None else form(value)


def _is(value: float | None, best: float | None) -> bool:
    return value is not None and value == best
