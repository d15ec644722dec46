"""Scores from features and gradients from scores, block by block: for dense and for sparse features.

`DenseLinear` and `SparseLinear` offer the same three calls, so that the softmax (`softmax.py`) is written once:
`blocks` yields the scores of a run of rows, `add` adds (scores x features) of the run yielded last to the gradient's
part, `part` returns it. Shapes: see `softmax.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.features import Compact, SparseFeatures

Floats = NDArray[np.floating]

SCORES_BYTES = 3 << 20  # a block's scores stay in a core's own cache ...
FEATURES_BYTES = 3 << 19  # ... and its features are still there for the gradient
SMALL_PRODUCT = 1_000_000  # rows * n_features * n_classes up to which OpenBLAS multiplies without packing
LEAST_PIECE = 4096  # n_features * n_classes from which a product of a few rows is worth a call of its own


@dataclass(frozen=True)
class Part:
    """A shard's part of the gradient with respect to coef.

    Attributes
    ----------
    values : ndarray
        (n_classes, n_features) where `columns` is None, else (columns.size, n_classes). Valid until the next shard.
    columns : ndarray of int64 or None
        The columns it covers; it is 0 elsewhere.
    """

    values: Floats
    columns: NDArray[np.int64] | None = None


class Linear(Protocol):
    """A linear map from features to scores, at fixed parameters."""

    def blocks(self, features: Any) -> Iterator[tuple[slice, Floats]]:
        """Yield (rows, scores of shape (n_classes, rows)), run by run; the scores may be overwritten."""

    def add(self, scores: Floats) -> None:
        """Add scores @ features of the run yielded last."""

    def part(self) -> Part:
        """Return what was added since `blocks` was called."""


def block_rows(rows: int, n_features: int, n_classes: int, itemsize: int) -> int:
    """Return how many rows a block takes, so that `rows` fall into even blocks that stay in cache."""
    largest = min(SCORES_BYTES // (n_classes * itemsize), FEATURES_BYTES // (max(n_features, 1) * itemsize))
    largest = max(largest, 32)
    blocks = -(-rows // largest)
    return -(-rows // max(blocks, 1))


class DenseLinear:
    """The map for arrays and for `Compact` features. It keeps its temporaries, so each thread needs its own.

    Parameters
    ----------
    parameters : ndarray of float64, (n_classes, n_features + 1)
    dtype : numpy.dtype
        The type to compute in; features of another one are converted a block at a time.
    """

    def __init__(self, parameters: NDArray[np.float64], dtype: np.dtype) -> None:
        self._coef = np.ascontiguousarray(parameters[:, :-1], dtype=dtype)
        self._intercept = parameters[:, -1:].astype(dtype)
        self._dtype = dtype
        self._scores = np.empty(0, dtype=dtype)
        self._product = np.empty_like(self._coef)  # of the block added last
        self._of_piece = np.empty_like(self._coef)
        self._total = np.zeros((0, 0))  # of the blocks so far, where there is more than one
        self._block = self._coef[:0]
        self._added = 0
        # As many rows as make a small product, which is multiplied where it lies; 0 where it would not pay.
        size = self._coef.size
        small = min(SMALL_PRODUCT // max(size, 1) // 16 * 16, 128)
        self._piece = small if small >= 16 else 0
        self._backward_piece = small // 2 if small >= 32 and size >= LEAST_PIECE else 0

    def blocks(self, features: Floats | Compact) -> Iterator[tuple[slice, Floats]]:
        """See `Linear.blocks`."""
        rows, n_features = features.shape
        n_classes = len(self._coef)
        size = block_rows(rows, n_features, n_classes, self._dtype.itemsize)
        if self._scores.size < n_classes * size:
            self._scores = np.empty(n_classes * size, dtype=self._dtype)
        self._added = 0
        for start in range(0, rows, max(size, 1)):
            run = slice(start, min(start + size, rows))
            self._block = np.ascontiguousarray(features[run], dtype=self._dtype)
            scores = self._scores[: n_classes * len(self._block)].reshape(n_classes, -1)
            self._score(scores)
            scores += self._intercept
            yield run, scores

    def add(self, scores: Floats) -> None:
        """See `Linear.add`. A block is summed in the features' type, blocks in float64."""
        if self._added == 1:
            self._total = self._product.astype(np.float64)
        self._multiply_back(scores)
        if self._added >= 1:
            self._total += self._product
        self._added += 1

    def part(self) -> Part:
        """See `Linear.part`."""
        if self._added == 0:
            return Part(np.zeros_like(self._coef))
        return Part(self._product if self._added == 1 else self._total)

    def _score(self, scores: Floats) -> None:
        """Write coef @ block.T, as a stack of small products where those are faster than one large one."""
        block, (n_classes, n_features) = self._block, self._coef.shape
        count = len(block) // self._piece if self._piece else 0
        rows = count * self._piece
        if count:
            stack = block[:rows].reshape(count, self._piece, n_features)
            into = scores[:, :rows].reshape(n_classes, count, self._piece)  # a view: only the columns are split
            np.matmul(self._coef, stack.transpose(0, 2, 1), out=into.transpose(1, 0, 2))
        if rows < len(block):
            np.matmul(self._coef, block[rows:].T, out=scores[:, rows:])

    def _multiply_back(self, scores: Floats) -> None:
        """Write scores @ block, piece by piece where small products are faster."""
        block, piece = self._block, self._backward_piece
        if not piece or len(block) <= piece:
            np.matmul(scores, block, out=self._product)
            return
        np.matmul(scores[:, :piece], block[:piece], out=self._product)
        for start in range(piece, len(block), piece):
            np.matmul(scores[:, start : start + piece], block[start : start + piece], out=self._of_piece)
            self._product += self._of_piece


class SparseLinear:
    """The map for `SparseFeatures`; see `DenseLinear`. Each shard's work follows its non-zeros."""

    def __init__(self, parameters: NDArray[np.float64], dtype: np.dtype) -> None:
        self._coef = np.ascontiguousarray(parameters[:, :-1].T, dtype=dtype)  # (n_features, n_classes)
        self._intercept = parameters[:, -1:].astype(dtype)
        self._block: Any = None
        self._columns = np.zeros(0, dtype=np.int64)
        self._total = np.zeros((0, 0))

    def blocks(self, features: SparseFeatures) -> Iterator[tuple[slice, Floats]]:
        """See `Linear.blocks`."""
        rows, n_classes = len(features), self._coef.shape[1]
        self._columns = features.columns
        coef = self._coef.take(features.columns, axis=0)  # (n_local, n_classes)
        self._total = np.zeros(coef.shape)
        size = block_rows(rows, 0, n_classes, coef.itemsize)
        for start in range(0, rows, max(size, 1)):
            run = slice(start, min(start + size, rows))
            self._block = features[run].matrix
            scores = np.ascontiguousarray((self._block @ coef).T)  # (n_classes, run)
            scores += self._intercept
            yield run, scores

    def add(self, scores: Floats) -> None:
        """See `Linear.add`."""
        self._total += self._block.T @ np.ascontiguousarray(scores.T)

    def part(self) -> Part:
        """See `Linear.part`."""
        return Part(self._total, self._columns)
