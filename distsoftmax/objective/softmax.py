"""Softmax loss, gradient and hessian product of one run of samples, fused and blockwise.

Conventions
-----------
features   (rows, n_features)             float32 or float64, C-contiguous; or `Compact`, or `SparseFeatures`
classes    (rows,)                        intp, the class of each sample, 0 ... n_classes - 1
weights    (rows,) or None                float64, the weight of each sample; None: 1
parameters (n_classes, n_features + 1)    float64, the intercept last
scores     (n_classes, block rows)        the type computed in; class-major, so that the maximum, the exponential and
                                          the sum over classes run along contiguous memory
loss       float64                        sum over samples of weight * cross-entropy
gradient   `Part` for coef, and (n_classes,) float64 for the intercept, of that sum

Derivation
----------
For one sample with scores z = coef x + intercept and class y, p = softmax(z):

    loss      = log sum_k exp(z_k) - z_y
    dloss/dz_k = exp(z_k) / sum_l exp(z_l) - [k = y] = p_k - [k = y]
    dloss/dcoef = (p - e_y) x^T,   dloss/dintercept = p - e_y

and along a direction v with u = v (x, 1), the derivative of p_k is p_k (u_k - sum_l p_l u_l): the hessian's product
with v is the sum of that times (x, 1)^T.

The largest score is subtracted first, which changes neither p nor the loss and leaves every exponent at most 0: scores
of any finite size are safe. A block's products are in the features' type; blocks are added in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.features import Prepared
from distsoftmax.objective.linear import DenseLinear, Floats, Linear, Part, SparseLinear

LEAST_EXPONENT = {np.dtype(np.float32): -75.0, np.dtype(np.float64): -690.0}  # exp() of it is far from denormal


@dataclass(frozen=True)
class Loss:
    """The sum of the cross-entropy over some samples, and how many of them got the largest score for their class."""

    total: float
    n_correct: int


@dataclass(frozen=True)
class Gradient:
    """A sum over some samples: with respect to coef, and to the intercept, (n_classes,) float64."""

    coef: Part
    intercept: NDArray[np.float64]


class SoftmaxKernel:
    """Loss and gradient at fixed parameters, for any number of runs of samples in one type.

    It keeps its temporaries from one call to the next, so each thread needs a kernel of its own.

    Parameters
    ----------
    parameters : ndarray of float64, (n_classes, n_features + 1)
    dtype : numpy.dtype
        The type to compute in; features of another one are converted a block at a time.
    sparse : bool
        Whether the features are `SparseFeatures`.
    """

    def __init__(self, parameters: NDArray[np.float64], dtype: np.dtype, *, sparse: bool = False) -> None:
        self._linear: Linear = SparseLinear(parameters, dtype) if sparse else DenseLinear(parameters, dtype)
        self._n_classes = len(parameters)
        self._dtype = dtype

    def loss_and_gradient(
        self, features: Prepared, classes: NDArray[np.intp], weights: NDArray[np.float64] | None = None
    ) -> tuple[float, Gradient]:
        """Return the loss summed over the samples, and the sum of its gradient, valid until the next call."""
        loss = 0.0
        intercept = np.zeros(self._n_classes)
        for run, scores in self._linear.blocks(features):
            losses = errors_in_place(scores, classes[run], None if weights is None else weights[run])
            loss += float(np.sum(losses))
            intercept += scores.sum(axis=1)
            self._linear.add(scores)
        return loss, Gradient(self._linear.part(), intercept)

    def probability_blocks(self, features: Prepared) -> Iterator[tuple[slice, Floats]]:
        """Yield (rows, probabilities of shape (n_classes, rows)), run by run; valid until the next one."""
        for run, scores in self._linear.blocks(features):
            scores -= scores.max(axis=0)
            np.maximum(scores, LEAST_EXPONENT[self._dtype], out=scores)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=0)
            yield run, scores

    def probability_products(
        self, features: Prepared, weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return the sum over the samples of weight * (diag(p) - p p^T), (n_classes, n_classes).

        It is the hessian of their loss with respect to the intercept.
        """
        total = np.zeros((self._n_classes, self._n_classes))
        for run, probabilities in self.probability_blocks(features):
            weighted = probabilities if weights is None else probabilities * weights[run].astype(self._dtype)
            total -= weighted @ probabilities.T
            total[np.diag_indices(self._n_classes)] += weighted.sum(axis=1)
        return total

    def loss_and_accuracy(self, features: Prepared, classes: NDArray[np.intp]) -> Loss:
        """Return the loss summed over the samples, and the number of samples classified correctly."""
        total, n_correct = 0.0, 0
        for run, scores in self._linear.blocks(features):
            samples = classes[run]
            n_correct += int(np.count_nonzero(scores.argmax(axis=0) == samples))
            of_class = _subtract_largest(scores, samples)
            np.exp(scores, out=scores)
            total += float(np.sum(np.log(scores.sum(axis=0), dtype=np.float64) - of_class))
        return Loss(total, n_correct)

    def probabilities(self, features: Prepared) -> Floats:
        """Return the probability of each class for each sample, shape (rows, n_classes)."""
        return self.loss_and_probabilities(features, np.zeros(len(features), dtype=np.intp))[1]

    def loss_and_probabilities(self, features: Prepared, classes: NDArray[np.intp]) -> tuple[float, Floats]:
        """Return the loss summed over the samples, and the probability of each class for each, (rows, n_classes)."""
        total = 0.0
        result: Floats = np.empty((len(features), self._n_classes), dtype=self._dtype)
        for run, scores in self._linear.blocks(features):
            of_class = _subtract_largest(scores, classes[run])
            np.exp(scores, out=scores)
            sums = scores.sum(axis=0)
            total += float(np.sum(np.log(sums, dtype=np.float64) - of_class))
            scores /= sums
            result[run] = scores.T
        return total, result


class HessianKernel:
    """The product of the hessian with one direction, for any number of runs of samples; see `SoftmaxKernel`.

    Parameters
    ----------
    direction : ndarray of float64, (n_classes, n_features + 1)
    """

    def __init__(self, direction: NDArray[np.float64], dtype: np.dtype, *, sparse: bool = False) -> None:
        self._along: Linear = SparseLinear(direction, dtype) if sparse else DenseLinear(direction, dtype)
        self._n_classes = len(direction)
        self._dtype = dtype

    def product(
        self,
        features: Prepared,
        probabilities: Iterable[tuple[slice, Floats]],
        weights: NDArray[np.float64] | None = None,
    ) -> Gradient:
        """Return the product of the hessian of the samples' loss with the direction, valid until the next call.

        Parameters
        ----------
        probabilities : iterable
            `SoftmaxKernel.probability_blocks` of the same features, at the parameters the hessian is taken at.
        """
        intercept = np.zeros(self._n_classes)
        for (run, change), (_, of_run) in zip(self._along.blocks(features), probabilities, strict=True):
            change -= np.einsum("kr,kr->r", of_run, change)
            change *= of_run
            if weights is not None:
                change *= weights[run].astype(self._dtype)
            intercept += change.sum(axis=1)
            self._along.add(change)
        return Gradient(self._along.part(), intercept)


def errors_in_place(
    scores: Floats, classes: NDArray[np.intp], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Turn the scores of some samples into weight * (p - e_y), in place, and return weight * loss of each sample."""
    places = classes * classes.size + np.arange(classes.size)  # of each sample's own class
    flat = scores.reshape(-1)
    scores -= scores.max(axis=0)
    of_class = flat[places]
    np.maximum(scores, LEAST_EXPONENT[scores.dtype], out=scores)  # denormals would slow the products down several times
    np.exp(scores, out=scores)
    sums = scores.sum(axis=0)
    losses: NDArray[np.float64] = np.log(sums, dtype=np.float64) - of_class
    scores /= sums  # the probabilities
    flat[places] -= 1
    if weights is not None:
        losses *= weights
        scores *= weights.astype(scores.dtype)
    return losses


def _subtract_largest(scores: Floats, classes: NDArray[np.intp]) -> Floats:
    """Subtract each sample's largest score in place; return what is then left of its own class's score."""
    scores -= scores.max(axis=0)
    of_class: Floats = scores[classes, np.arange(classes.size)]
    return of_class
