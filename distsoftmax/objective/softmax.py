"""Softmax loss and gradient of one run of samples, fused and blockwise.

Conventions
-----------
features   (rows, n_features)             float32 or float64, C-contiguous
classes    (rows,)                        intp, the class of each sample, 0 ... n_classes - 1
parameters (n_classes, n_features + 1)    float64, the intercept last
scores     (n_classes, block rows)        the features' type; class-major, so that the maximum, the exponential and the
                                          sum over classes run along contiguous memory
loss       float64                        sum over samples of the cross-entropy
gradient   (n_classes, n_features + 1)    float64, of that sum

Derivation
----------
For one sample with scores z = coef x + intercept and class y, p = softmax(z):

    loss      = log sum_k exp(z_k) - z_y
    dloss/dz_k = exp(z_k) / sum_l exp(z_l) - [k = y] = p_k - [k = y]
    dloss/dcoef = (p - e_y) x^T,   dloss/dintercept = p - e_y

The largest score is subtracted first, which changes neither p nor the loss and leaves every exponent at most 0: scores
of any finite size are safe. A block's products are in the features' type; blocks are added in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SCORES_BYTES = 3 << 20  # a block's scores stay in a core's own cache ...
FEATURES_BYTES = 3 << 19  # ... and its features are still there for the gradient
SMALL_PRODUCT = 1_000_000  # rows * n_features * n_classes up to which OpenBLAS multiplies without packing
LEAST_EXPONENT = {np.dtype(np.float32): -75.0, np.dtype(np.float64): -690.0}  # exp() of it is far from denormal


@dataclass(frozen=True)
class Loss:
    """The sum of the cross-entropy over some samples, and how many of them got the largest score for their class."""

    total: float
    n_correct: int


def block_rows(rows: int, n_features: int, n_classes: int, itemsize: int) -> int:
    """Return how many rows a block takes, so that `rows` fall into even blocks that stay in cache."""
    largest = min(SCORES_BYTES // (n_classes * itemsize), FEATURES_BYTES // (max(n_features, 1) * itemsize))
    largest = max(largest, 32)
    blocks = -(-rows // largest)
    return -(-rows // max(blocks, 1))


class SoftmaxKernel:
    """Loss and gradient at fixed parameters, for any number of runs of samples in one type.

    It keeps its temporaries from one call to the next, so each thread needs a kernel of its own.

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
        self._product = np.empty_like(self._coef)

    def loss_and_gradient(self, features: Floats, classes: NDArray[np.intp], gradient: NDArray[np.float64]) -> float:
        """Return the loss summed over the samples, and write the sum of its gradient. Shapes: see the module."""
        loss = 0.0
        least = LEAST_EXPONENT[self._dtype]
        if not len(features):
            gradient[:] = 0.0
        for start, block, scores, samples in self._score_blocks(features, classes):
            of_class = _subtract_largest(scores, samples)
            np.maximum(scores, least, out=scores)  # denormals would slow the products down several times
            np.exp(scores, out=scores)
            sums = scores.sum(axis=0)
            loss += float(np.sum(np.log(sums, dtype=np.float64) - of_class))
            scores /= sums  # the probabilities
            scores[samples, np.arange(samples.size)] -= 1
            np.matmul(scores, block, out=self._product)
            if start == 0:
                gradient[:, :-1] = self._product
                gradient[:, -1] = scores.sum(axis=1)
            else:
                gradient[:, :-1] += self._product
                gradient[:, -1] += scores.sum(axis=1)
        return loss

    def loss_and_accuracy(self, features: Floats, classes: NDArray[np.intp]) -> Loss:
        """Return the loss summed over the samples, and the number of samples classified correctly."""
        total, n_correct = 0.0, 0
        for _, _, scores, samples in self._score_blocks(features, classes):
            n_correct += int(np.count_nonzero(scores.argmax(axis=0) == samples))
            of_class = _subtract_largest(scores, samples)
            np.exp(scores, out=scores)
            total += float(np.sum(np.log(scores.sum(axis=0), dtype=np.float64) - of_class))
        return Loss(total, n_correct)

    def probabilities(self, features: NDArray) -> Floats:
        """Return the probability of each class for each sample, shape (rows, n_classes)."""
        return self.loss_and_probabilities(features, np.zeros(len(features), dtype=np.intp))[1]

    def loss_and_probabilities(self, features: NDArray, classes: NDArray[np.intp]) -> tuple[float, Floats]:
        """Return the loss summed over the samples, and the probability of each class for each, (rows, n_classes)."""
        total = 0.0
        result: Floats = np.empty((len(features), len(self._coef)), dtype=self._dtype)
        for start, block, scores, samples in self._score_blocks(features, classes):
            of_class = _subtract_largest(scores, samples)
            np.exp(scores, out=scores)
            sums = scores.sum(axis=0)
            total += float(np.sum(np.log(sums, dtype=np.float64) - of_class))
            scores /= sums
            result[start : start + len(block)] = scores.T
        return total, result

    def _score_blocks(
        self, features: Floats, classes: NDArray[np.intp]
    ) -> Iterator[tuple[int, Floats, Floats, NDArray[np.intp]]]:
        """Yield (first row, features, scores, classes) block by block; the scores may be overwritten."""
        rows, n_features = features.shape
        n_classes = len(self._coef)
        size = block_rows(rows, n_features, n_classes, self._dtype.itemsize)
        if self._scores.size < n_classes * size:
            self._scores = np.empty(n_classes * size, dtype=self._dtype)
        for start in range(0, rows, max(size, 1)):
            block = np.ascontiguousarray(features[start : start + size], dtype=self._dtype)
            scores = self._scores[: n_classes * len(block)].reshape(n_classes, len(block))
            _multiply(self._coef, block, scores)
            scores += self._intercept
            yield start, block, scores, classes[start : start + size]


def _subtract_largest(scores: Floats, classes: NDArray[np.intp]) -> Floats:
    """Subtract each sample's largest score in place; return what is then left of its own class's score."""
    scores -= scores.max(axis=0)
    of_class: Floats = scores[classes, np.arange(classes.size)]
    return of_class


def _multiply(coef: Floats, block: Floats, scores: Floats) -> None:
    """Write coef @ block.T into scores, as a stack of small products where those are faster than one large one."""
    n_classes, n_features = coef.shape
    small = min(SMALL_PRODUCT // max(n_classes * n_features, 1) // 16 * 16, 128)
    count = len(block) // small if small >= 16 else 0
    rows = count * small
    if count:
        stack = block[:rows].reshape(count, small, n_features)
        into = scores[:, :rows].reshape(n_classes, count, small)  # a view: only the columns are split
        np.matmul(coef, stack.transpose(0, 2, 1), out=into.transpose(1, 0, 2))
    if rows < len(block):
        np.matmul(coef, block[rows:].T, out=scores[:, rows:])
