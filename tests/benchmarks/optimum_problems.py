"""The problems of `time_to_optimum.py`: three that are drawn at random, and two from files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse


class Skipped(Exception):
    """A contender or a problem that cannot take part, and why."""


@dataclass(frozen=True)
class Problem:
    """Samples, and how our readers find the same ones.

    Attributes
    ----------
    features : ndarray or csr_matrix, float32
        In the units of training.
    source : dict
        The arguments of `DataConfig`.
    names : list of str
        The label of class 0, 1, ...
    """

    features: Any
    classes: np.ndarray
    source: dict[str, Any]
    names: list[str]
    l2: float

    @classmethod
    def of_arrays(cls, folder: Path, features: np.ndarray, classes: np.ndarray, l2: float, scaled: bool) -> Problem:
        np.save(folder / "X.npy", features)
        np.save(folder / "y.npy", classes)
        source = {"data": [str(folder / "X.npy")], "labels": [str(folder / "y.npy")], "standardize": scaled}
        names = [str(number) for number in range(int(classes.max()) + 1)]
        return cls(standardized(features) if scaled else features, classes, source, names, l2)


def standardized(features: np.ndarray) -> np.ndarray:
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    return ((features - mean) / deviation).astype(np.float32)


def drawn(generator: np.random.Generator, scores: np.ndarray) -> np.ndarray:
    """Draw each row's class by the softmax of its scores."""
    return np.argmax(scores + generator.gumbel(size=scores.shape), axis=1)


def present(path: Path) -> Path:
    if not path.exists():
        raise Skipped(f"there is no {path}")
    return path.resolve()


def letter(folder: Path, options: argparse.Namespace) -> Problem:
    """20,000 x 16, 26 classes: real, and its optimum is far from any separation."""
    path = present(options.letter)
    table = np.loadtxt(path, dtype=str, delimiter=",")
    label = int(np.flatnonzero(table[0] == "Letter")[0])
    names, classes = np.unique(table[1:, label], return_inverse=True)
    features = np.delete(table[1:], label, axis=1).astype(np.float32)
    return Problem(standardized(features), classes, {"data": [str(path)], "label": "Letter"}, names.tolist(), 1e-4)


def agnews(folder: Path, options: argparse.Namespace) -> Problem:
    """6,000 x 131,070 sparse, 4 classes: text, with far more features than samples."""
    from sklearn.datasets import load_svmlight_file

    path = present(options.agnews)
    features, labels = load_svmlight_file(str(path), dtype=np.float32)
    names, classes = np.unique(labels.astype(int), return_inverse=True)
    source = {"data": [str(path)], "standardize": False}
    return Problem(sparse.csr_matrix(features), classes, source, [str(name) for name in names], 1e-5)


def spectrum(folder: Path, options: argparse.Namespace) -> Problem:
    """60,000 x 784, 10 classes: correlated as pixels are; the j-th principal deviation is 1/j."""
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((784, 784)))[0]
    features = (generator.standard_normal((60_000, 784)) / np.arange(1, 785)) @ rotation
    classes = drawn(generator, 8 * features @ generator.standard_normal((784, 10)))
    return Problem.of_arrays(folder, features.astype(np.float32), classes, 1e-5, scaled=False)


def covtype(folder: Path, options: argparse.Namespace) -> Problem:
    """200,000 x 54, 7 classes of unequal size: 10 correlated numbers, and two columns of categories as indicators."""
    generator = np.random.default_rng(2)
    rows = 200_000
    numbers = generator.standard_normal((rows, 10)) @ (np.eye(10) + 0.5 * generator.standard_normal((10, 10)))
    area = drawn(generator, numbers @ generator.standard_normal((10, 4)))
    soil = drawn(generator, numbers @ generator.standard_normal((10, 40)) / 2 - np.arange(40) / 10)
    features = np.hstack([numbers, np.eye(4)[area], np.eye(40)[soil]])
    coef = generator.standard_normal((54, 7)) * np.repeat([0.5, 1.0], [10, 44])[:, None]
    classes = drawn(generator, features @ coef - np.arange(7) / 2)
    return Problem.of_arrays(folder, features.astype(np.float32), classes, 1e-6, scaled=True)


def embedding(folder: Path, options: argparse.Namespace) -> Problem:
    """20,000 x 512, 200 classes: centres and noise in which neighbours overlap (3 of 4 new samples could be told)."""
    generator = np.random.default_rng(3)
    rotation = np.linalg.qr(generator.standard_normal((512, 512)))[0]
    classes = np.arange(20_000) % 200
    points = 0.2 * generator.standard_normal((200, 512))[classes] + generator.standard_normal((20_000, 512))
    features = (points / np.sqrt(np.arange(1, 513))) @ rotation
    return Problem.of_arrays(folder, features.astype(np.float32), classes, 1e-4, scaled=True)


PROBLEMS: dict[str, Callable[[Path, argparse.Namespace], Problem]] = {
    "letter": letter,
    "agnews": agnews,
    "spectrum": spectrum,
    "covtype": covtype,
    "embedding": embedding,
}
