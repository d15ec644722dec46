"""How a model did on labelled samples, as `evaluate --json` and result.json tell it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import InputError
from distsoftmax.reporting.record import Record, read_json


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of a class, and its number of samples; None where they are not told."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Bin:
    """The samples whose largest probability lies in an interval: how sure the model is of them, and how often right."""

    samples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Confused:
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
    accuracy, log_loss : float or None
    by_class : tuple of ClassScores
        In the order of the model's classes.
    confusion : ndarray of int64, (n_classes, n_classes), or None
        Rows are the true classes, columns the predicted ones.
    bins : tuple of Bin
        Those that hold samples.
    calibration_error : float or None
        The expected one (Guo et al. 2017).
    """

    n_samples: int
    accuracy: float | None
    log_loss: float | None
    by_class: tuple[ClassScores, ...]
    confusion: NDArray[np.int64] | None
    bins: tuple[Bin, ...]
    calibration_error: float | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(scores.name for scores in self.by_class)

    def most_confused(self, most: int) -> list[Confused]:
        """Return the pairs of classes that are taken for each other most often, the most frequent first."""
        if self.confusion is None:
            return []
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [divmod(int(entry), len(self.by_class)) for entry in order]
        return [
            Confused(self.classes[true], self.classes[guess], int(wrong[true, guess]), self._part(true, guess))
            for true, guess in pairs
            if wrong[true, guess]
        ]

    def _part(self, true: int, predicted: int) -> float:
        assert self.confusion is not None
        return float(self.confusion[true, predicted] / max(1, self.confusion[true].sum(dtype=np.int64)))


def evaluation_of(content: Record) -> Evaluation | None:
    """Return the evaluation in a JSON object; None where it holds none."""
    n_samples, per_class = content.count("n_samples"), content.record("classes")
    if n_samples is None or not per_class:
        return None
    by_class = tuple(_scores(name, Record(scores)) for name, scores in per_class.items())
    return Evaluation(
        n_samples=n_samples,
        accuracy=content.number("accuracy"),
        log_loss=content.number("log_loss"),
        by_class=by_class,
        confusion=_matrix(content.members("confusion"), len(by_class)),
        bins=tuple(_bins(content.members("reliability"))),
        calibration_error=content.number("calibration_error"),
    )


def read_evaluation(path: Path) -> Evaluation:
    """Return what `evaluate --json` has written to a file.

    Raises
    ------
    InputError
        The file is missing, or holds something else.
    """
    content = read_json(path)
    if content is None:
        raise InputError(f"--evaluation {path}: no such file; write it with python -m distsoftmax.evaluate --json")
    evaluation = evaluation_of(content)
    if evaluation is None:
        raise InputError(f"--evaluation {path}: is not what python -m distsoftmax.evaluate --json writes")
    return evaluation


def _scores(name: str, scores: Record) -> ClassScores:
    precision, recall, f1 = (scores.number(score) for score in ("precision", "recall", "f1"))
    return ClassScores(name, precision, recall, f1, scores.count("support") or 0)


def _matrix(rows: list[object], n_classes: int) -> NDArray[np.int64] | None:
    try:
        matrix = np.array(rows, dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        return None
    return matrix if matrix.shape == (n_classes, n_classes) and (matrix >= 0).all() else None


def _bins(entries: list[object]) -> list[Bin]:
    records = [Record(entry) for entry in entries]
    values = [(record.count("samples"), record.number("confidence"), record.number("accuracy")) for record in records]
    return [Bin(n, sure, right) for n, sure, right in values if n and sure is not None and right is not None]
