"""Pictures of what a run came to: confusion matrix, reliability, time of the ranks, the curve of a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.reporting.canvas import Colours, Picture, legend_below, linear, logarithmic
from distsoftmax.reporting.evaluation import Evaluation
from distsoftmax.reporting.record import Record, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 40  # of a matrix that is drawn
MOST_NUMBERED = 12  # of a matrix whose cells have their numbers
SHADES = 12  # of its cells
LONGEST_CLASS = 14  # characters


def confusion_picture(evaluation: Evaluation, on: str) -> Picture | None:
    """Return the confusion matrix, each row in parts of its class; None where it is not known or has many classes."""
    matrix, names = evaluation.confusion, [shown(name, LONGEST_CLASS) for name in evaluation.classes]
    n_classes = len(names)
    if matrix is None or not 2 <= n_classes <= MOST_CLASSES:
        return None
    parts = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True, dtype=np.int64))

    def draw(figure: Figure, colours: Colours) -> None:
        from matplotlib.collections import PathCollection
        from matplotlib.path import Path
        from matplotlib.transforms import Affine2D

        axes = figure.add_subplot()
        axes.grid(visible=False)
        diagonal = np.eye(n_classes, dtype=bool)
        worst = float(parts[~diagonal].max()) or 1.0
        shades = np.ceil(np.where(diagonal, parts, parts / worst) * SHADES).astype(int)
        for is_right, colour in ((True, "series-1"), (False, "series-2")):
            on_diagonal = diagonal == is_right
            for shade in range(1, SHADES + 1):
                cells = np.argwhere((shades == shade) & on_diagonal)
                if cells.size:
                    corners = [Affine2D().scale(0.94).translate(column - 0.47, row - 0.47) for row, column in cells]
                    path = Path.make_compound_path(*map(Path.unit_rectangle().transformed, corners))
                    opacity = (0.1 + 0.9 * shade / SHADES) * (1.0 if is_right else 0.8)
                    axes.add_collection(PathCollection([path], facecolors=colours[colour], alpha=opacity, linewidths=0))
        for row, column in np.argwhere(matrix > 0).tolist() if n_classes <= MOST_NUMBERED else ():
            size = 7 if matrix.max() < 10_000 else 5
            colour = colours["surface" if shades[row, column] > SHADES // 2 else "ink"]
            axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", size=size, color=colour)
        axes.set(xlim=(-0.5, n_classes - 0.5), ylim=(n_classes - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted", ylabel="true")
        size = 8 if n_classes <= 20 else 6
        turned = 0 if max(map(len, names)) * n_classes <= 44 else 90
        axes.set_xticks(range(n_classes), names, rotation=turned, size=size)
        axes.set_yticks(range(n_classes), names, size=size)
        axes.spines["bottom"].set_visible(False)

    n_right = int(np.diag(matrix).sum(dtype=np.int64))
    description = (
        f"{n_right:,} of {evaluation.n_samples:,} {on} samples are on the diagonal, in blue, where the prediction is "
        "right. Each row is one true class; mistakes are in orange, those that take most of a class the darkest."
    )
    return Picture(name="confusion", title="Confusion matrix", description=description, draw=draw, height=4.3)


def reliability_picture(evaluation: Evaluation, on: str) -> Picture | None:
    """Return how often predictions are right against how sure the model is of them; None where that is not known."""
    if not evaluation.bins:
        return None
    counts, sure, right = zip(*evaluation.bins, strict=True)

    def draw(figure: Figure, colours: Colours) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=colours["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
        upper.plot(sure, right, "o-", color=colours["series-1"], markersize=4.5)
        upper.set(xlim=(0, 1.01), ylim=(0, 1.05), ylabel="part that is right")
        lower.bar(sure, counts, width=0.035, color=colours["series-1"], alpha=0.55)
        lower.set(xlabel="probability of the predicted class", ylabel="samples")
        for axes in (upper, lower):
            linear(axes, "x")
        linear(upper, "y")
        linear(lower, "y", 2)

    error = evaluation.scores.number("calibration_error")
    description = f"On {evaluation.n_samples:,} {on} samples. On the dashed line a prediction is right as often as its "
    description += "probability says"
    description += "." if error is None else f"; the mean distance from it, the calibration error, is {error:.4f}."
    return Picture(name="reliability", title="Reliability", description=description, draw=draw, height=4.3)


def ranks_picture(report: ClusterReport) -> Picture:
    """Return where the time of each rank went."""
    ranks = report.ranks

    def draw(figure: Figure, colours: Colours) -> None:
        axes = figure.add_subplot()
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        rows = np.arange(len(ranks), dtype=np.float64)
        start = np.zeros(len(ranks))
        for label, colour, name in (
            ("reading", "series-3", "read_seconds"),
            ("computing", "series-1", "compute_seconds"),
            ("waiting and messages", "line", "wait_seconds"),
        ):
            seconds = np.array([getattr(rank, name) for rank in ranks])
            axes.barh(rows, seconds, left=start, height=0.66, color=colours[colour], label=label)
            start = start + seconds
        saving = [rank.save_seconds for rank in ranks]
        if any(saving):
            axes.barh(rows + 0.38, saving, height=0.14, color=colours["series-2"], label="saving, beside the steps")
        axes.set_yticks(rows, [f"rank {rank.rank}" for rank in ranks], size=8 if len(ranks) <= 16 else 6)
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        linear(axes, "x")
        legend_below(figure, 4)

    listed = "" if len(ranks) == report.n_ranks else f", the {len(ranks)} slowest of {report.n_ranks:,}"
    slowest = max(ranks, key=lambda rank: rank.compute_seconds)
    longest = f"Rank {slowest.rank} computed longest, for {slowest.compute_seconds:.3g} s."
    description = f"Over {report.steps:,} steps{listed}. {longest}"
    height = 1.35 + 0.24 * min(len(ranks), 8) + 0.13 * max(0, len(ranks) - 8)
    return Picture(name="ranks", title="Time of each rank", description=description, draw=draw, height=height)


def path_picture(legs: Sequence[Record], chosen_l2: float | None) -> Picture | None:
    """Return the held-out log loss and the coefficients that are left over l2; None of fewer than two runs."""
    known = [(leg.number("l2"), leg) for leg in legs]
    points = [(l2, leg) for l2, leg in known if l2 is not None and l2 > 0]
    if len(points) < 2:
        return None
    losses = [(l2, loss) for l2, leg in points if (loss := leg.number("held_out_log_loss")) is not None]
    training = [(l2, loss) for l2, leg in points if (loss := leg.number("training_log_loss")) is not None]
    counts = [(l2, count) for l2, leg in points if (count := leg.count("nonzero_coefficients")) is not None]

    def draw(figure: Figure, colours: Colours) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        if training:
            upper.plot(*zip(*training, strict=True), "-", color=colours["muted"], linewidth=1.1, label="training")
        if losses:
            upper.plot(*zip(*losses, strict=True), "o-", color=colours["series-1"], markersize=4, label="held-out")
        best = next((loss for l2, loss in losses if l2 == chosen_l2), None)
        if best is not None:
            upper.plot(chosen_l2, best, "o", markersize=8, color=colours["series-2"], label="chosen", zorder=0)
        if counts:
            lower.plot(*zip(*counts, strict=True), "o-", color=colours["series-3"], markersize=3)
        upper.set_ylabel("log loss")
        lower.set(xlabel="l2", ylabel="coefficients\nnot 0", ylim=(0, None))
        for axes in (upper, lower):
            logarithmic(axes, "x")
            linear(axes, "y", 5 if axes is upper else 2)
        legend_below(figure, 3)

    description = "Of the training and the held-out samples; below it, the coefficients that are not 0."
    if chosen_l2 is not None:
        description += f" The model is that of l2 = {chosen_l2:g}."
    return Picture(name="path", title="Log loss over l2", description=description, draw=draw, height=3.6)
