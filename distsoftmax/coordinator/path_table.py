"""What rank 0 says at the end of a path, on standard output: a line a run, and which one is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from distsoftmax.training.result import Leg

HEAD = (
    ("", "", "certified", "", "", "", "training", "", "held-out", ""),
    ("l2", "objective", "gap", "steps", "seconds", "features", "accuracy", "log loss", "accuracy", "log loss"),
)


def choose(legs: Sequence[Leg]) -> Leg:
    """Return the run with the lowest held-out log loss, of equal ones the first; the last where none is held out."""
    if legs[-1].result.held_out is None:
        return legs[-1]
    return min(legs, key=_held_out_log_loss)


def path_closing(legs: Sequence[Leg], chosen: Leg, path: Path, tolerance: float = 0.0) -> str:
    """Return the last lines of a path whose runs have a tolerance; 0: none."""
    held_out = chosen.result.held_out
    width = len(HEAD[0]) if held_out is not None else len(HEAD[0]) - 2
    rows = [*(head[:width] for head in HEAD), *(_cells(leg)[:width] for leg in legs)]
    widths = [max(len(row[column]) for row in rows) for column in range(width)]
    lines = ["  ".join(cell.rjust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    best = len(HEAD) + list(legs).index(chosen)
    if held_out is None:
        choice = "no samples are held out to choose by: the model is that of the last"
    else:
        lines[best] += "  < lowest held-out log loss"
        choice = f"chosen: l2 {chosen.l2:g}, by its held-out log loss"
    short = [f"{leg.l2:.4g}" for leg in legs if tolerance > 0 and not leg.result.converged]
    notes = [f"note: --tolerance {tolerance:g} was not reached for l2 {', '.join(short)}"] if short else []
    return "\n".join([*lines, *notes, choice, f"model: {path}", f"model sha256 {chosen.sha256}"])


def _held_out_log_loss(leg: Leg) -> float:
    held_out = leg.result.held_out
    return held_out.log_loss if held_out is not None and not math.isnan(held_out.log_loss) else math.inf


def _cells(leg: Leg) -> tuple[str, ...]:
    result, held_out = leg.result, leg.result.held_out
    return (
        f"{leg.l2:.4g}",
        f"{result.objective:.8f}",
        "" if result.gap is None else f"{result.gap:.1e}",
        f"{result.n_steps}",
        f"{leg.seconds:.1f}",
        f"{result.n_used_features}",
        f"{result.training.accuracy:.4f}",
        f"{result.training.log_loss:.5f}",
        "" if held_out is None else f"{held_out.accuracy:.4f}",
        "" if held_out is None else f"{held_out.log_loss:.5f}",
    )
