"""scikit-learn's interface to softmax regression: `SoftmaxRegression`, and the function that the project began with."""

from __future__ import annotations

from distsoftmax.estimation.regression import SoftmaxRegression

__all__ = ["SoftmaxRegression"]
