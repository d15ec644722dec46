"""Sparse features that are centred without being made dense.

With x - m for x, the scores are those of x with the intercept lowered by coef m, and the gradient is that of x less
(the intercept's gradient) m^T. `offset` is m, or None where the features are taken as they are stored.
"""

from __future__ import annotations

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import matrix_vector


def for_stored(parameters: Doubles, offset: Doubles | None) -> Doubles:
    """Return the parameters that give the features as stored the scores of the centred ones."""
    if offset is None:
        return parameters
    shifted: Doubles = parameters.copy()
    shifted[:, -1] -= matrix_vector(parameters[:, :-1], offset)
    return shifted


def centre_gradient(gradient: Doubles, offset: Doubles | None) -> None:
    """Turn the gradient with respect to `for_stored`'s parameters into that of the centred features', in place."""
    if offset is not None:
        gradient[:, :-1] -= np.outer(gradient[:, -1], offset)
