"""A cell that cannot be used: parsers say which row and why, and one place says in which file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distsoftmax.errors import InputError


class BadCell(Exception):
    """A cell, or a whole row, that cannot be used.

    Attributes
    ----------
    row : int
        Counted from 0 in what is being parsed; negative where the parser began before what was asked for.
    reason : str
        What is wrong and what to do, as it stands behind file, row and column.
    column : str or None
        The name of the column, where the reason does not tell it.
    """

    def __init__(self, row: int, reason: str, column: str | None = None) -> None:
        super().__init__(reason)
        self.row = int(row)
        self.reason = reason
        self.column = column


@contextmanager
def rows_before(n_before: int, n_rows: int | None = None, column: str | None = None) -> Iterator[None]:
    """Count the row of a bad cell from so many rows further up.

    Where `n_rows` are parsed, a larger row, as damaged bytes can make, is counted as the last. A cell whose column is
    not told is one of `column`.
    """
    try:
        yield
    except BadCell as bad:
        row = bad.row if n_rows is None else min(bad.row, n_rows - 1)
        raise BadCell(n_before + row, bad.reason, bad.column or column) from None


@contextmanager
def bad_cells_named(locate: Callable[[int], tuple[str, int]], first_row: int) -> Iterator[None]:
    """Turn a bad cell into the error that names its file, row and column.

    Parameters
    ----------
    locate : callable
        Returns file and row, as `Source.locate` does.
    first_row : int
        The row of the source from which the parser counts.

    Raises
    ------
    InputError
    """
    try:
        yield
    except BadCell as bad:
        path, row = locate(first_row + bad.row)
        column = "" if bad.column is None else f", column {bad.column or repr('')}"
        raise InputError(f"{path}: row {row}{column}: {bad.reason}") from None
