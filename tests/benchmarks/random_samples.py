"""Random samples in files, for training runs and for those that are compared with them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

Shape = tuple[int, int, int]  # rows, features, classes

SHAPES: tuple[Shape, ...] = ((60_000, 784, 10), (40_000, 512, 1000), (200_000, 54, 7), (100_000, 2048, 100))


def parse_shape(text: str) -> Shape:
    """Return the shape of a text such as 60000x784x10."""
    rows, n_features, n_classes = map(int, text.split("x"))
    return rows, n_features, n_classes


def text_of(shape: Shape) -> str:
    """Return a shape as text: 60,000 x 784 x 10."""
    return " x ".join(f"{length:,}" for length in shape)


def write_dense(folder: Path, shape: Shape) -> list[str]:
    """Write float32 features, of which a linear model tells the classes more or less; return the options to read them.

    They are in X.npy and y.npy.
    """
    rows, n_features, n_classes = shape
    generator = np.random.default_rng(0)
    features = generator.standard_normal((rows, n_features), dtype=np.float32)
    scores = (
        features @ generator.standard_normal((n_features, n_classes), dtype=np.float32) * (3 / math.sqrt(n_features))
    )
    noise = generator.standard_exponential(scores.shape, dtype=np.float32)
    scores -= np.log(np.maximum(noise, 1e-30))  # Gumbel's
    np.save(folder / "X.npy", features)
    np.save(folder / "y.npy", scores.argmax(axis=1))
    return ["--data", str(folder / "X.npy"), "--labels", str(folder / "y.npy")]


def write_bytes(folder: Path) -> list[str]:
    """Write the features of `write_dense` as uint8, in X-uint8.npy; return the options to read them."""
    features = np.load(folder / "X.npy", mmap_mode="r")
    np.save(folder / "X-uint8.npy", np.clip(128 + 40 * features, 0, 255).astype(np.uint8))
    return ["--data", str(folder / "X-uint8.npy"), "--labels", str(folder / "y.npy")]


def write_sparse(folder: Path, shape: Shape, entries: int, skew: float) -> list[str]:
    """Write compressed rows of so many non-zeros each, as float32; return the options to read them.

    The columns are as common as those of random() ** skew: 1 for equally common ones, 3 for some as common as words.
    They are in X.npz and y.npy.
    """
    from scipy.sparse import csr_array, save_npz

    rows, n_features, n_classes = shape
    generator = np.random.default_rng(0)
    number = np.arange(entries)
    drawn = (number + generator.random((rows, entries))) / entries  # ascending within a row
    columns = (drawn**skew * (n_features - entries)).astype(np.int32)
    columns = np.maximum.accumulate(columns - number, axis=1) + number  # none twice in a row
    values = generator.random(columns.size, dtype=np.float32)
    starts = np.arange(rows + 1, dtype=np.int32) * entries
    features = csr_array((values, columns.ravel().astype(np.int32), starts), shape=(rows, n_features))
    save_npz(folder / "X.npz", features, compressed=False)
    np.save(folder / "y.npy", generator.integers(0, n_classes, rows))
    return ["--data", str(folder / "X.npz"), "--labels", str(folder / "y.npy")]
