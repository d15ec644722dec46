"""A proven lower bound on the optimum of the penalised objective, from what a step has computed anyway.

P(W, b) = mean_i [log sum_k exp(z_ik) - z_i,y(i)] + Omega(W),   z_i = W x_i + b,   Omega as in `penalties.py`.

Fenchel duality: for any q_i in the simplex, one for each sample, with mean_i q_i = mean_i e_y(i) (the condition under
which a free intercept cannot lower the bound for ever; it is void without an intercept),

    P*  >=  D(q) = mean_i H(q_i) - Omega*(-G_q),   G_q = mean_i (q_i - e_y(i)) x_i^T,   H the entropy.

(S. Shalev-Shwartz and T. Zhang, "Accelerated proximal stochastic dual coordinate ascent", 2014, section 5, for the
softmax.) At q = p, the probabilities of this step, mean_i H(p_i) = loss - <G, parameters> with G the gradient of the
mean loss, so with an L2 term alone P - D(p) = ||grad P||^2 / (2 l2). Two things may stand in the way of q = p:

- p meets the condition only where the intercept's gradient c is 0. It is repaired by mixing: q_i = (1 - a) p_i + a r
  with one r for all samples, r = pbar - c/a and the least a that leaves r in the simplex. The entropy is concave, so
  H(q_i) >= (1 - a) H(p_i) + a H(r), and everything else is linear. What this costs falls with |c|, the distance to the
  optimum with |c|^2; where that matters, `SoftmaxObjective.tighter_bound` takes p from better intercepts.
- Without an L2 term Omega*(-G) is infinite outside a set around 0. q_i is then scaled towards the labels,
  e_y(i) + s (q_i - e_y(i)), whose G is s G_q and whose entropy is at least s H(q_i) (E. Ndiaye, O. Fercoq, A. Gramfort
  and J. Salmon, "Gap safe screening rules for sparsity enforcing penalties", JMLR 18, 2017, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from distsoftmax.objective.penalties import SparsePenalty
from distsoftmax.objective.row_runs import row_runs, squared_norm


def lower_bounds(
    loss: float,
    gradient: NDArray[np.float64],
    parameters: NDArray[np.float64],
    class_means: NDArray[np.float64],
    l2: float,
    penalty: SparsePenalty | None,
    intercept: bool,
) -> tuple[float, float]:
    """Return a number that the optimum of the penalised objective is not below, in exact arithmetic.

    Parameters
    ----------
    loss : float
        The mean cross-entropy at `parameters`, without penalty.
    gradient : (n_classes, n_features + 1)
        Its gradient, the intercept's last; filled in even where there is no intercept.
    class_means : (n_classes, n_features + 1)
        mean_i of e_y(i) (x_i, 1)^T, so its last column holds the classes' shares.
    l2 : float
        0 or more, above 0 where `penalty` is None.
    intercept : bool
        Whether the intercepts are free.

    Returns
    -------
    proven, reachable : float
        The bound, and about what it would be with intercepts whose gradient is 0.
    """
    data_gradient = gradient[:, :-1]
    entropy = loss - math.fsum(float(np.vdot(gradient[run, :-1], parameters[run, :-1])) for run in row_runs(gradient))
    if l2 > 0:
        reachable = entropy - _conjugate(data_gradient, l2, penalty)
    else:
        assert penalty is not None
        reachable = penalty.feasible_scale(data_gradient) * entropy
    if not intercept:
        return reachable, reachable
    excess = gradient[:, -1] - gradient[:, -1].mean()  # its sum is 0 but for rounding
    shares = class_means[:, -1]
    mean_probabilities = np.maximum(excess + shares, 1e-300)
    mix = min(1.0, max(0.0, float(np.max(excess / mean_probabilities))))
    if mix == 0.0:
        return reachable, reachable
    reachable -= float(np.sum(excess * excess / mean_probabilities)) / 2  # about what better intercepts are worth
    entropy -= float(np.vdot(gradient[:, -1], parameters[:, -1]))
    repair = np.maximum(shares if mix == 1.0 else mean_probabilities - excess / mix, 0.0)
    if repair.sum() < 0.5:  # rounding is all there is
        return -math.inf, reachable
    repair /= repair.sum()
    mixed_entropy = (1 - mix) * entropy + mix * _entropy(repair)
    mean = class_means[:, :-1].sum(axis=0)
    if l2 > 0 and penalty is None:
        squares = (squared_norm(mixed) for _, mixed in _mixed(data_gradient, repair, mix, mean, class_means))
        return mixed_entropy - math.fsum(squares) / (2 * l2), reachable
    assert penalty is not None
    whole = np.empty_like(data_gradient)
    for run, mixed in _mixed(data_gradient, repair, mix, mean, class_means):
        whole[run] = mixed
    if l2 > 0:
        return mixed_entropy - penalty.conjugate(whole, l2), reachable
    return penalty.feasible_scale(whole) * mixed_entropy, reachable


def _conjugate(coef_gradient: NDArray[np.float64], l2: float, penalty: SparsePenalty | None) -> float:
    """Return Omega*(-coef_gradient) for l2 > 0."""
    return squared_norm(coef_gradient) / (2 * l2) if penalty is None else penalty.conjugate(coef_gradient, l2)


def _mixed(
    data_gradient: NDArray[np.float64],
    repair: NDArray[np.float64],
    mix: float,
    mean: NDArray[np.float64],
    class_means: NDArray[np.float64],
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield G_q of the mixture, a run of rows at a time."""
    for run in row_runs(data_gradient):
        repair_gradient = np.outer(repair[run], mean) - class_means[run, :-1]
        yield run, (1 - mix) * data_gradient[run] + mix * repair_gradient


def _entropy(distribution: NDArray[np.float64]) -> float:
    positive = distribution[distribution > 0]
    return float(-np.sum(positive * np.log(positive)))
