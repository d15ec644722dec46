"""scikit-learn's interface to softmax regression: `SoftmaxRegression`, and the function that the project began with."""

from __future__ import annotations

from distsoftmax.cluster.early_exit import end_the_job_with_an_uncaught_error
from distsoftmax.estimation.plain_descent import softmax_regression
from distsoftmax.estimation.regression import SoftmaxRegression
from distsoftmax.estimation.regression_cv import SoftmaxRegressionCV

__all__ = ["SoftmaxRegression", "SoftmaxRegressionCV", "softmax_regression"]

end_the_job_with_an_uncaught_error()  # also one that comes before the first fit, for which the others wait already
