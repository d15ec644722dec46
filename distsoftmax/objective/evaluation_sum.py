"""Loss and gradient of shards in one message of int64, so that one Allreduce sums them all.

The message: the gradient (`gradient_sum.py`), the loss in two limbs, and the number of shards that are not finite.
These are counted, and told apart by all ranks together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.exact_sum import FixedPoint
from distsoftmax.data.partition import Samples
from distsoftmax.objective.gradient_sum import GradientSum
from distsoftmax.objective.linear import Floats
from distsoftmax.objective.softmax import Gradient, SoftmaxKernel


class EvaluationSum:
    """What the shards' parts of an evaluation are added to.

    Parameters
    ----------
    gradient_sum : GradientSum
    loss_bound : float
        On the sum of the losses. Finite.
    """

    def __init__(self, gradient_sum: GradientSum, loss_bound: float) -> None:
        self._gradient = gradient_sum
        self._loss = FixedPoint(loss_bound)

    def empty(self) -> NDArray[np.int64]:
        """Return the message of no shard."""
        return np.zeros(self._gradient.size + 3, dtype=np.int64)

    def add(self, loss: float, gradient: Gradient, message: NDArray[np.int64]) -> None:
        """Add a shard's part."""
        size = self._gradient.size
        if math.isfinite(loss) and self._gradient.add(gradient, message[:size]):
            message[size : size + 2] += self._loss.limbs(loss)
        else:
            message[-1] += 1

    def add_stack(
        self, losses: NDArray[np.float64], coef: Floats, intercept: NDArray[np.float64], message: NDArray[np.int64]
    ) -> None:
        """Add the parts of several shards; see `GradientSum.add_stack`."""
        size = self._gradient.size
        if np.isfinite(losses).all() and self._gradient.add_stack(coef, intercept, message[:size]):
            message[size : size + 2] += self._loss.limbs(losses).sum(axis=1)
        else:
            message[-1] += 1

    def of_samples(
        self, samples: Iterable[Samples], stored: NDArray[np.float64], dtype: np.dtype, *, sparse: bool
    ) -> NDArray[np.int64]:
        """Return the message of a rank's samples, a shard at a time, at parameters for the features as stored."""
        message = self.empty()
        with np.errstate(all="ignore"):
            kernel = SoftmaxKernel(stored, dtype, sparse=sparse)
            for some in samples:
                self.add(*kernel.loss_and_gradient(some.features, some.classes, some.weights), message)
        return message

    def value(self, message: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]] | None:
        """Return the sums of the loss and of the gradient, (n_classes, n_features + 1); None if not all are finite."""
        size = self._gradient.size
        if message[-1]:
            return None
        return float(self._loss.value(message[size], message[size + 1])), self._gradient.value(message)

    def loss_error(self, n_shards: int) -> float:
        """Return how far the loss over so many shards may be off, at most."""
        return self._loss.error(n_shards)
