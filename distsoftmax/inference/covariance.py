"""The covariance of estimates, by the inverse hessian or the sandwich, of a likelihood with or without an L2 penalty.

classical            H^-1, the inverse information (frequency weights: a row of weight 2 is two rows)
with an L2 penalty   H^-1 I H^-1, where I is the information and H = I + the penalty's hessian: the variance of the
                     penalised estimates, which are biased towards 0 (S. le Cessie and J. C. van Houwelingen,
                     "Ridge estimators in logistic regression", Applied Statistics 41(1), 1992)
sandwich             H^-1 M H^-1, where M is the sum of the scores' outer products (H. White, "Maximum likelihood
                     estimation of misspecified models", Econometrica 50(1), 1982): HC0, with no factor for small
                     samples; the score of a sample is weighted, so it holds for sampling weights
by cluster           the same, each cluster's scores added before the product, times G / (G - 1) for G clusters
                     (K.-Y. Liang and S. L. Zeger, Biometrika 73(1), 1986; the factor as in Stata)
"""

from __future__ import annotations

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import dot, inverse, matrix_vector, product
from distsoftmax.inference.design import Design


def covariance_of(
    information: Doubles, factor: Doubles, *, penalised: bool, outer: Doubles | None
) -> tuple[Doubles, float]:
    """Return the covariance from the information, the hessian's factor, and the scores' outer products if they count.

    Not collective: rank 0 calls it.

    Returns
    -------
    covariance : ndarray of float64, (n_parameters, n_parameters)
        Of the free parameters in standard units; see `in_own_units`.
    effective_parameters : float
        trace(H^-1 I), which is their number where there is no penalty.
    """
    bread = inverse(factor)
    effective = dot(bread, information) if penalised else float(len(bread))
    if outer is None and penalised:
        outer = information
    return bread if outer is None else product(product(bread, outer), bread), effective


def standard_errors(covariance: Doubles, design: Design) -> Doubles:
    """Return the standard errors of parameters in their own units, (n_classes - 1, width)."""
    width, n_kept = design.width, design.kept.size
    errors = np.empty((design.n_classes - 1, width))
    for number in range(design.n_classes - 1):
        own = covariance[number * width : (number + 1) * width, number * width : (number + 1) * width]
        errors[number, :n_kept] = np.sqrt(np.diagonal(own)[:n_kept]) / design.scale[design.kept]
        if design.intercept:
            row = _intercept_row(design)
            errors[number, -1] = np.sqrt(dot(matrix_vector(own, row), row))
    return errors


def in_own_units(covariance: Doubles, design: Design) -> Doubles:
    """Return the covariance of parameters in their own units; exactly symmetric."""
    width, n_kept, result = design.width, design.kept.size, covariance.copy()
    row, scale = _intercept_row(design), design.scale[design.kept]
    for matrix in (result, result.T):  # the rows, then the columns
        for start in range(0, len(result), width):
            if design.intercept:
                matrix[start + width - 1] = matrix_vector(matrix[start : start + width].T, row)
            matrix[start : start + n_kept] /= scale[:, None]
    symmetric: Doubles = (result + result.T) / 2
    return symmetric


def _intercept_row(design: Design) -> Doubles:
    """Return what the intercept in own units is of parameters in standard units, (width,)."""
    row = np.ones(design.width)
    kept = design.kept
    row[: kept.size] = -design.mean[kept] / design.scale[kept]
    return row
