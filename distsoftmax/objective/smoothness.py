"""How strongly the gradients of mini-batches may change: what a safe learning rate follows from.

The hessian of one sample's loss is (diag(p) - p p^T) (x) (x, 1)(x, 1)^T, and diag(p) - p p^T is at most 1/2 of the
identity (D. Boehning, "Multinomial logistic regression algorithm", Ann. Inst. Statist. Math. 44, 1992, with
1/2 (I - 1 1^T / n_classes)). So with M the weighted mean of (x, 1)(x, 1)^T,

    L     = largest eigenvalue of M / 2 + l2            bounds the curvature of the smooth part, and
    L_max = max_i n w_i / W |(x_i, 1)|^2 / 2 + l2       that of every sample's term.

Of a batch of b of the n samples the expected smoothness is at most

    n (b - 1) / (b (n - 1)) L + (n - b) / (b (n - 1)) L_max

(R. M. Gower et al., "SGD: General analysis and improved rates", ICML 2019, proposition 3.8). At parameters 0 all
probabilities are 1 / n_classes, so the hessian's largest eigenvalue is that of M over n_classes, plus l2: a few hessian
products give it.
"""

from __future__ import annotations

import math

import numpy as np

from distsoftmax.arithmetic.parameters import norm
from distsoftmax.arithmetic.randomness import Purpose, uniform
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.features import row_norms
from distsoftmax.solvers.protocol import Curvature

POWERS = 15  # hessian products
ROOM = 1.1  # what so few of them may fall short of


def expected_smoothness(
    at_zero: Curvature, l2: float, shape: tuple[int, int], batch_size: int, dataset: Dataset, cluster: Communicator
) -> float:
    """Return the expected smoothness of batches of a size. Collective: a few passes over the samples.

    Parameters
    ----------
    at_zero : Curvature
        The hessian of the smooth part at parameters 0.
    shape : tuple of int
        The parameters'.
    """
    n, b = dataset.n_training, batch_size
    of_mean = shape[0] / 2 * max(_largest_eigenvalue(at_zero, shape) - l2, 0.0) + l2
    of_samples = _largest_term(dataset, cluster) * n / dataset.total_weight / 2 + l2
    if n == 1:
        return of_samples
    share = (n - b) / (b * (n - 1))
    return (1 - share) * min(ROOM * of_mean, of_samples) + share * of_samples


def _largest_eigenvalue(curvature: Curvature, shape: tuple[int, int]) -> float:
    """Return about the largest eigenvalue, from below, by the power method. Collective."""
    direction = uniform(Purpose.START_DIRECTION, 0, 0, 0, math.prod(shape)).reshape(shape) - 0.5
    size = 0.0
    for _ in range(POWERS):
        direction /= norm(direction)
        product = curvature.product(direction)
        size = norm(product)
        if not 0 < size < np.inf:
            break
        direction = product
    return size


def _largest_term(dataset: Dataset, cluster: Communicator) -> float:
    """Return the largest weight * |(x, 1)|^2 of all samples. Collective."""
    largest = np.zeros(1)
    with cluster.agreement():
        for samples in dataset.training:
            squares = 1 + row_norms(samples.features, offset=dataset.standardization.offset)
            if samples.weights is not None:
                squares *= samples.weights
            largest[0] = np.max(squares, initial=largest[0])
    cluster.maximum(largest)
    return float(largest[0])
