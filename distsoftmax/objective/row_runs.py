"""Arithmetic on parameters a few rows at a time: without copies of all of them, which may take as much as the data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RUN = 1 << 17  # numbers that are worked on at once


def row_runs(array: NDArray[np.float64]) -> Iterator[slice]:
    """Yield runs of rows small enough that copies of them cost no memory to speak of."""
    rows = max(RUN // max(array.shape[1], 1), 1)
    for start in range(0, len(array), rows):
        yield slice(start, start + rows)
