"""What multiplies the learning rate of stochastic gradient descent as it goes on, and how many samples a step looks at.

The rate itself is set in `stochastic_gradient`. With t the epochs done before a step, E their number and w those of the
warm-up, it is multiplied by

    constant   1
    step       1, from t = E/2 on 0.1, from t = 3E/4 on 0.01
    inverse    1 / (1 + max(t - w, 0))        H. Robbins and S. Monro, "A stochastic approximation method", 1951: its
                                              sum over all steps is infinite, that of its square finite
    cosine     (1 + cos(pi max(t - w, 0) / (E - w))) / 2
                                              I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm
                                              restarts", ICLR 2017, equation (5), without a restart

and during the warm-up by a factor that rises by the same amount each step and is 1 at the last. Warm-up, and a
learning rate in proportion to the batch: P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour",
2017, sections 2.1 and 2.2.
"""

from __future__ import annotations

import math

from distsoftmax.config import SolverConfig
from distsoftmax.errors import InputError

BATCH = 4096  # samples of a mini-batch by default: a pass costs little more than a full-batch one
LEAST_STEPS = 16  # an epoch, by default: fewer would leave little that is stochastic
FALLS = (0.5, 0.75)  # the fractions of the epochs after which the step schedule falls
FALL = 0.1  # factor of the learning rate at each of them
SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(9))  # Taylor; the rest is below 1e-19 up to pi / 4


def batch_size(config: SolverConfig, n_samples: int) -> int:
    """Return the samples of a mini-batch.

    Raises
    ------
    InputError
        On every rank: they are more than there are.
    """
    size = config.batch
    if isinstance(size, str):
        return min(BATCH, -(-n_samples // LEAST_STEPS))
    if size > n_samples:
        raise InputError(
            f"--batch is {size}, and there are {n_samples} training samples; give at most so many, or auto"
        ).on_all_ranks()
    return size


def learning_rate_factor(config: SolverConfig, step: int, n_batches: int) -> float:
    """Return what the learning rate is multiplied by at a step, counted from 0, of so many an epoch."""
    warming = config.warm_up * n_batches  # steps
    factor = min(1.0, (step + 1) / warming) if warming else 1.0
    time = step / n_batches
    cooling = max(time - config.warm_up, 0.0)
    if config.schedule == "step":
        return factor * math.prod(FALL for fraction in FALLS if time >= fraction * config.epochs)
    if config.schedule == "inverse":
        return factor / (1 + cooling)
    if config.schedule == "cosine":
        return factor * half_cosine(cooling / (config.epochs - config.warm_up))
    return factor


def half_cosine(x: float) -> float:
    """Return (1 + cos(pi x)) / 2 for x from 0 to 1, in operations that every machine rounds alike.

    With s = sin(pi v / 2) it is 1 - s^2 at v = x up to 1/2, and s^2 at v = 1 - x beyond, where the difference is exact.
    s is Taylor's polynomial, by Horner's rule.
    """
    angle = math.pi / 2 * min(x, 1 - x)
    square = angle * angle
    sine = 0.0
    for coefficient in reversed(SINE):
        sine = sine * square + coefficient
    sine *= angle
    return 1 - sine * sine if x <= 0.5 else sine * sine
