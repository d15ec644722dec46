"""Arithmetic on parameters a few rows at a time: without copies of all of them, which may take as much as the data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.parameters import axpy
from distsoftmax.arithmetic.parameters import squared_norm as squared_norm

RUN = 1 << 17  # numbers that are worked on at once


def row_runs(array: NDArray[np.float64]) -> Iterator[slice]:
    """Yield runs of rows small enough that copies of them cost no memory to speak of."""
    rows = max(RUN // max(array.shape[1], 1), 1)
    for start in range(0, len(array), rows):
        yield slice(start, start + rows)


def finish_gradient(gradient: NDArray[np.float64], parameters: NDArray[np.float64], l2: float, intercept: bool) -> None:
    """Add l2 * coef to a gradient, or to a hessian product, in place; without an intercept, its part becomes 0."""
    if l2 > 0:
        axpy(l2, parameters[:, :-1], gradient[:, :-1])
    if not intercept:
        gradient[:, -1] = 0.0
