"""Pictures of what changes from step to step: objective, gap, held-out scores, of a run or of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distsoftmax.reporting.canvas import N_SERIES, Colours, Picture, in_digits, legend_below, linear, logarithmic
from distsoftmax.reporting.history import Curve
from distsoftmax.reporting.record import shown
from distsoftmax.reporting.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE_RATIO = 10.0  # of the greatest to the least value, from which on an axis is logarithmic
UNITS = ((1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours"), (86400.0, "days"))
BY = {"steps": "step", "seconds": "time"}  # what a curve is drawn over, and its name
MOST_MARKED = 40  # points of a line that are marked
LONGEST_LABEL = 28  # characters of a run's name beside its line


def course_of(run: Run, tolerance: float | None) -> Iterator[Picture]:
    """Yield the pictures of a run's steps for which it has values."""
    history = run.history
    objective, batches = history.curve("objective"), history.curve("batch_objective")
    estimated, certified = history.curve("estimated_gap"), history.curve("certified_gap")
    if len(objective) > 1 or len(batches) > 1:
        yield from (_objective(objective, batches, by) for by in BY)
    wanted = tolerance * abs(float(objective.values[-1])) if tolerance and len(objective) else None
    if len(estimated) + len(certified) > 1:
        yield from (_gap(estimated, certified, wanted, by) for by in BY)
    for name in ("log loss", "accuracy"):
        curve = history.curve(f"held_out_{name.replace(' ', '_')}")
        if len(curve) > 1:
            yield _held_out(curve, name)


def side_by_side(runs: Sequence[tuple[str, Run]], column: str, title: str, by: str) -> Picture | None:
    """Return a picture of one column of several runs' metrics, each by its name; None where fewer than two have it."""
    curves = [(name, run.history.curve(column)) for name, run in runs]
    curves = [(name, curve) for name, curve in curves if len(curve) > 1]
    if len(curves) < 2:
        return None

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_subplot()
        unit, label = _unit(max(curve.seconds[-1] for _, curve in curves))
        for number, (name, curve) in reversed(list(enumerate(curves))):
            look: dict[str, Any] = {"color": colours["muted"], "alpha": 0.35, "linewidth": 0.8}
            if number < N_SERIES:
                look = {"color": colours[f"series-{number + 1}"], "label": shown(name, LONGEST_LABEL)}
            axes.plot(curve.steps if by == "steps" else curve.seconds / unit, curve.values, **look)
        _scale_values(axes, np.concatenate([curve.values for _, curve in curves]))
        linear(axes, "x", integers=by == "steps")
        axes.set_xlabel("step" if by == "steps" else f"{label} of training")
        legend_below(figure, 2, is_reversed=True)

    rest = f", {len(curves) - N_SERIES} more in grey" if len(curves) > N_SERIES else ""
    n_lines = (min(len(curves), N_SERIES) + 1) // 2
    return Picture(
        name=f"runs-{column.replace('_', '-')}-by-{BY[by]}",
        title=f"{title} by {BY[by]}",
        description=f"{title} of {len(curves)} runs by {BY[by]}{rest}.",
        draw=draw,
        height=2.75 + 0.19 * n_lines,
    )


def _objective(objective: Curve, batches: Curve, by: str) -> Picture:
    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_subplot()
        if len(batches) > 1:
            axes.plot(_x(batches, by), batches.values, color=colours["muted"], linewidth=0.8, label="of a mini-batch")
        if len(objective):
            x, last = _x(objective, by), objective.values[-1]
            axes.plot(x, objective.values, color=colours["series-1"], label="objective")
            axes.plot(x[-1], last, "o", markersize=4, color=colours["series-1"])
            axes.annotate(in_digits(last, 4), (x[-1], last), xytext=(-2, 6), textcoords="offset points", ha="right")
        _scale_values(axes, np.concatenate([objective.values, batches.values]))
        _label_x(axes, objective if len(objective) else batches, by)
        if len(batches) > 1 and len(objective):
            legend_below(figure, 2)

    drawn = objective if len(objective) > 1 else batches
    first, last = drawn.values[0], drawn.values[-1]
    description = f"From {first:.5g} at step {drawn.steps[0]:,.0f} to {last:.9g} at step {drawn.steps[-1]:,.0f}."
    return Picture(name=f"objective-by-{BY[by]}", title=f"Objective by {BY[by]}", description=description, draw=draw)


def _gap(estimated: Curve, certified: Curve, wanted: float | None, by: str) -> Picture:
    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_subplot()
        marker = "o" if len(certified) < MOST_MARKED else ""
        drawn: list[tuple[Curve, dict[str, Any]]] = [
            (estimated, {"color": colours["muted"], "linewidth": 1.1, "label": "estimated"}),
            (certified, {"color": colours["series-1"], "label": "certified", "marker": marker, "markersize": 3.5}),
        ]
        for curve, look in drawn:
            positive = curve.values > 0
            if positive.any():
                axes.plot(_x(curve, by)[positive], curve.values[positive], **look)
        if wanted and wanted > 0:
            axes.axhline(wanted, color=colours["series-2"], linewidth=1.1, linestyle=(0, (4, 3)), label="asked for")
        if max([*estimated.values, *certified.values]) > 0:
            logarithmic(axes, "y")
        _label_x(axes, estimated if len(estimated) else certified, by)
        legend_below(figure, 3)

    if len(certified):
        description = (
            f"Proven distance to the optimum: {in_digits(certified.values[-1])} at step {certified.steps[-1]:,.0f}"
        )
    else:
        description = f"Nothing is proven yet; estimated at {in_digits(estimated.values[-1])}"
    description += f", asked for {in_digits(wanted)}." if wanted else "."
    return Picture(name=f"gap-by-{BY[by]}", title=f"Gap by {BY[by]}", description=description, draw=draw)


def _held_out(curve: Curve, name: str) -> Picture:
    is_loss = name == "log loss"
    best = int(np.argmin(curve.values) if is_loss else np.argmax(curve.values))

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_subplot()
        axes.plot(curve.steps, curve.values, color=colours["series-3"])
        axes.plot(curve.steps[best], curve.values[best], "o", markersize=4.5, color=colours["series-3"])
        if is_loss:
            _scale_values(axes, curve.values)
        else:
            linear(axes, "y")
        _label_x(axes, curve, "steps")

    extreme, form = ("Lowest", ".5g") if is_loss else ("Highest", ".2%")
    value, last = curve.values[best], curve.values[-1]
    description = f"{extreme} {value:{form}} at step {curve.steps[best]:,.0f}; {last:{form}} at the last."
    file, title = f"held-out-{name.replace(' ', '-')}", f"Held-out {name} by step"
    return Picture(name=file, title=title, description=description, draw=draw)


def _x(curve: Curve, by: str) -> np.ndarray:
    return curve.steps if by == "steps" else curve.seconds / _unit(curve.seconds[-1])[0]


def _unit(seconds: float) -> tuple[float, str]:
    """Return the unit, in seconds, in which a time has a readable number, and its name."""
    return next(((unit, name) for unit, name in reversed(UNITS) if seconds >= 2 * unit), UNITS[0])


def _label_x(axes: Axes, curve: Curve, by: str) -> None:
    linear(axes, "x", integers=by == "steps")
    axes.set_xlabel("step" if by == "steps" else f"{_unit(curve.seconds[-1])[1]} of training")


def _scale_values(axes: Axes, values: np.ndarray) -> None:
    """Make the axis of values logarithmic where they differ much."""
    if values.min() > 0 and values.max() > WIDE_RATIO * values.min():
        logarithmic(axes, "y")
    else:
        linear(axes, "y")
