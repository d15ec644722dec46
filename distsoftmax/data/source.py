"""What a reader offers, and the choice of the reader for a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import InputError

Value = TypeVar("Value")


class Exchange(Protocol):
    """The ranks that read one source together. The cluster is one; `ALONE` is another."""

    @property
    def rank(self) -> int:
        """The number of the own rank."""

    @property
    def size(self) -> int:
        """The number of ranks."""

    def allgather(self, value: Value) -> list[Value]:
        """Return every rank's value, in the order of the ranks. Collective."""


class _Alone:
    rank = 0
    size = 1

    def allgather(self, value: Value) -> list[Value]:
        return [value]


ALONE: Exchange = _Alone()


@dataclass(frozen=True)
class LabelColumn:
    """Labels as read: distinct texts, and for each row the index of its text."""

    texts: tuple[str, ...]
    codes: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """The name of a source, and how to take it apart.

    Attributes
    ----------
    expected_names : tuple of str or None
        The features a model was trained on, where one is at hand: they tell a header from a row, and which columns to
        take.
    needs_labels : bool
        Whether the labels are read.
    """

    path: str
    labels_path: str | None = None
    label: str | None = None
    header: Literal["auto", "yes", "no"] = "auto"
    expected_names: tuple[str, ...] | None = None
    needs_labels: bool = True


class Source(Protocol):
    """A table of samples that is read a shard at a time.

    Attributes
    ----------
    path : str
        What an error calls it.
    n_rows : int
    feature_names : tuple of str
        In the source, or made up as x0, x1, ...
    headless_by_guess : bool
        Whether the first line was taken for a row although it might be a header.
    """

    path: str
    n_rows: int
    feature_names: tuple[str, ...]
    headless_by_guess: bool

    def count_rows(self, exchange: Exchange) -> None:
        """Set `n_rows`. Collective.

        Raises
        ------
        InputError
            On every rank, where the rows cannot be told apart.
        """

    def divide(self, bounds: NDArray[np.int64], exchange: Exchange) -> None:
        """Fix the shards: shard s holds the rows bounds[s] to bounds[s + 1]. Collective."""

    def read(self, shard: int) -> tuple[NDArray[np.generic], LabelColumn | None]:
        """Return a shard's features, (rows, n_features), as stored, and its labels. Shards are asked for in order.

        Raises
        ------
        InputError
            Naming file, row (counted from 1, the header left out) and column.
        """


def open_source(spec: SourceSpec) -> Source:
    """Open a file with the reader for its ending. Not collective.

    Raises
    ------
    InputError
        The file is missing, empty, unreadable or of an unknown kind, or its columns are not the ones asked for.
    """
    path = Path(spec.path)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path}: is empty")
    except FileNotFoundError:
        here = os.getcwd()
        raise InputError(f"{path}: no such file; give a .csv, .npz or .npy file (seen from {here})") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a single .csv, .npz or .npy file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    kind = path.suffix.lower()
    if spec.labels_path is not None and kind != ".npy":
        raise InputError(f"{path}: a file of labels belongs to a .npy file alone; leave {spec.labels_path} out")
    if spec.label is not None and kind in (".npz", ".npy"):
        raise InputError(f"{path}: --label names a column of a CSV file; the labels of {kind} files are an array")
    if kind == ".csv":
        from distsoftmax.data.csv import CsvSource

        return CsvSource(spec)
    if kind in (".npz", ".npy"):
        from distsoftmax.data.arrays import open_npy, open_npz

        return open_npz(spec) if kind == ".npz" else open_npy(spec)
    raise InputError(f"{path}: the ending {kind or 'is missing, and'} tells no format; rename it .csv, .npz or .npy")
