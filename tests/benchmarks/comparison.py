"""Contenders that take turns, and the table in which they are compared."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence

Measure = Callable[[], Sequence[float]]  # takes one turn, and returns the seconds of each step in it


def medians(contenders: Mapping[str, Measure], turns: int) -> dict[str, float]:
    """Let the contenders take turns; return for each the median over the steps of all its turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, measure in contenders.items():
            seconds[name] += measure()
    return {name: statistics.median(values) for name, values in seconds.items()}


class Table:
    """Prints its heads, and then each row as soon as it is known.

    Parameters
    ----------
    heads : str
        The columns' names. The first column is for text and starts the line; the others are for numbers.
    width : int
        Of the first column.
    """

    def __init__(self, *heads: str, width: int = 30) -> None:
        self._widths = [width, *(max(len(head), 8) for head in heads[1:])]
        self._print(heads)

    def row(self, name: str, *cells: float | str) -> None:
        """Print a row; a number with three significant digits or all before the point."""
        self._print([name, *(cell if isinstance(cell, str) else number(cell) for cell in cells)])

    def _print(self, cells: Sequence[str]) -> None:
        first, *rest = zip(cells, self._widths, strict=False)
        print(f"{first[0]:<{first[1]}}" + "".join(f"  {cell:>{width}}" for cell, width in rest), flush=True)


def number(value: float) -> str:
    """Return a number in text."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def parser_of(description: str | None, turns: int | None = 3, steps: int | None = 15) -> argparse.ArgumentParser:
    """Return a parser of the options that the benchmarks have in common; without those that are None."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if turns is not None:
        parser.add_argument("--turns", type=int, default=turns)
    if steps is not None:
        parser.add_argument("--steps", type=int, default=steps, help="in each turn; the first few do not count")
    return parser
