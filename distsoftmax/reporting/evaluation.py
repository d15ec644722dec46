"""How a model did on labelled samples, as `evaluate --json` and result.json tell it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import InputError
from distsoftmax.reporting.record import Record, read_json


class Confused(NamedTuple):
    """Samples of one class that were taken for another, and their part of that class."""

    true: str
    predicted: str
    samples: int
    part: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a model on some samples.

    Attributes
    ----------
    n_samples : int
    scores : Record
        accuracy, log_loss, and calibration_error, the expected one (Guo et al. 2017), as far as they are told.
    by_class : mapping of str to Record
        precision, recall, f1 and support of each class, in the order of the model's, as far as they are told.
    confusion : ndarray of int64, (n_classes, n_classes), or None
        Rows are the true classes, columns the predicted ones.
    bins : tuple of (int, float, float)
        The samples whose largest probability lies in an interval, in ascending order: their number, how sure the model
        is of them, and how often it is right. Those that hold samples.
    """

    n_samples: int
    scores: Record
    by_class: Mapping[str, Record]
    confusion: NDArray[np.int64] | None
    bins: tuple[tuple[int, float, float], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.by_class)

    def most_confused(self, most: int) -> list[Confused]:
        """Return the pairs of classes that are taken for each other most often, the most frequent first."""
        if self.confusion is None:
            return []
        wrong, support = self.confusion.copy(), self.confusion.sum(axis=1, dtype=np.int64).tolist()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [(*divmod(int(entry), len(support)), int(wrong.flat[entry])) for entry in order]
        return [
            Confused(self.classes[true], self.classes[guess], count, count / max(1, support[true]))
            for true, guess, count in pairs
            if count
        ]


def evaluation_of(content: Record) -> Evaluation | None:
    """Return the evaluation in a JSON object; None where it holds none."""
    n_samples, per_class = content.count("n_samples"), content.record("classes")
    if n_samples is None or not per_class:
        return None
    by_class = {name: Record(scores) for name, scores in per_class.items()}
    bins = [Record(entry) for entry in content.members("reliability")]
    told = [(each.count("samples"), each.number("confidence"), each.number("accuracy")) for each in bins]
    return Evaluation(
        n_samples=n_samples,
        scores=content,
        by_class=by_class,
        confusion=_matrix(content.members("confusion"), len(by_class)),
        bins=tuple((n, sure, right) for n, sure, right in told if n and sure is not None and right is not None),
    )


def read_evaluation(path: Path) -> Evaluation:
    """Return what `evaluate --json` has written to a file.

    Raises
    ------
    InputError
        The file is missing, or holds something else.
    """
    evaluation = evaluation_of(read_json(path))
    if evaluation is None and not os.path.exists(path):
        raise InputError(f"--evaluation {path}: no such file; write it with python -m distsoftmax.evaluate --json")
    if evaluation is None:
        raise InputError(f"--evaluation {path}: is not what python -m distsoftmax.evaluate --json writes")
    return evaluation


def _matrix(rows: list[object], n_classes: int) -> NDArray[np.int64] | None:
    try:
        matrix = np.array(rows, dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        return None
    return matrix if matrix.shape == (n_classes, n_classes) and (matrix >= 0).all() else None
