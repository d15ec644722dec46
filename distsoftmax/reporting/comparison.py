"""Several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from distsoftmax.reporting.blocks import Block, Cell, Section, Table
from distsoftmax.reporting.canvas import UNKNOWN, in_form
from distsoftmax.reporting.curves import side_by_side
from distsoftmax.reporting.headline import duration, numbers_of, status_of
from distsoftmax.reporting.record import shown
from distsoftmax.reporting.run_facts import option_differences
from distsoftmax.reporting.runs import PathOfRuns, Run

MOST_OPTIONS = 8  # that have a column of their own
# where they differ, accuracies are of other samples
DATA_OPTIONS = {"data", "valid", "label", "labels", "valid-labels", "missing", "drop-rows-missing", "valid-fraction"}
DRAWING_OPTIONS = {"seed", "shards"}  # and these, where a --valid-fraction of the samples is drawn
LONGEST_OPTION = 24  # characters


def comparison(read: Sequence[Run | PathOfRuns]) -> Section:
    """Return the section that has several runs side by side, with what differs between their options."""
    all_runs = ((whole, whole if isinstance(whole, Run) else whole.chosen) for whole in read)
    runs = [(whole, run) for whole, run in all_runs if run is not None]
    options = option_differences([_options_of(whole, run) for whole, run in runs])
    sentences = [
        "Accuracy and log loss are of the held-out samples where there are any, the best in bold where the data are "
        "the same; an objective has its run's own penalty. The last columns have the options that differ."
    ]
    if len(options) > MOST_OPTIONS:
        sentences.append(f"Of {len(options)} options that differ the first {MOST_OPTIONS} are shown.")
    if len({run.data_digest for _, run in runs if run.data_digest}) > 1:
        sentences.append("The prepared training samples are not the same in all of these runs.")
    named = [(whole.name, run) for whole, run in runs]
    pictures = (
        side_by_side(named, "held_out_log_loss", "Held-out log loss", "steps"),
        side_by_side(named, "held_out_log_loss", "Held-out log loss", "seconds"),
        side_by_side(named, "objective", "Objective", "steps"),
        side_by_side(named, "objective", "Objective", "seconds"),
    )
    drawn = tuple(picture for picture in pictures if picture is not None)
    draws = any(whole.options.get("valid-fraction") for whole, _ in runs)
    is_comparable = options.keys().isdisjoint(DATA_OPTIONS | DRAWING_OPTIONS if draws else DATA_OPTIONS)
    table = _table(named, dict(list(options.items())[:MOST_OPTIONS]), is_comparable=is_comparable)
    blocks = [Block("Side by side", tuple(sentences), tables=(table,))]
    blocks += [Block("Their courses", pictures=drawn)] if drawn else []
    return Section(name=f"{len(read)} runs", subtitle="", blocks=tuple(blocks))


def _options_of(whole: Run | PathOfRuns, run: Run) -> dict[str, object]:
    """Return a run's options; a path's with the l2 of the run that speaks for it."""
    return whole.options | {name: value for name, value in run.options.items() if name == "l2"}


def _table(runs: Sequence[tuple[str, Run]], options: Mapping[str, Sequence[str]], *, is_comparable: bool) -> Table:
    """Return the numbers of the runs, and their options, each with its value in every run."""
    numbers = [numbers_of(run) for _, run in runs]
    accuracy = loss = math.nan  # the best ones, which equal nothing where the runs are not to be compared
    if is_comparable and len({each.on for each in numbers if each.accuracy is not None}) == 1:
        accuracy = max(each.accuracy for each in numbers if each.accuracy is not None)
        loss = min((each.log_loss for each in numbers if each.log_loss is not None), default=math.nan)
    rows = tuple(
        (
            Cell(shown(name)),
            Cell(status_of(run)[0]),
            Cell(in_form(own.accuracy, ".4f"), is_best=own.accuracy == accuracy),
            Cell(in_form(own.log_loss, ".5f"), is_best=own.log_loss == loss),
            Cell(in_form(own.objective, ".6g")),
            Cell(in_form(own.gap, "digits")),
            Cell(in_form(own.n_steps, ",")),
            Cell(UNKNOWN if own.seconds is None else duration(own.seconds)),
            *(Cell(shown(values[number], LONGEST_OPTION)) for values in options.values()),
        )
        for number, ((name, run), own) in enumerate(zip(runs, numbers, strict=True))
    )
    names = (f"--{name}" for name in options)
    head = ("run", "status", "accuracy", "log loss", "objective", "certified gap", "steps", "time", *names)
    return Table(head, rows)
