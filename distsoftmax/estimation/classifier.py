"""What a fitted classifier says of samples, in scikit-learn's shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from distsoftmax.arithmetic.elementary import exp, log
from distsoftmax.arithmetic.parameters import product
from distsoftmax.model import Model
from distsoftmax.scoring.predictor import Predictor


class LinearClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with scores coef_ x + intercept_, whose probabilities are their softmax, by the compiled core.

    Attributes
    ----------
    classes_ : ndarray, (n_classes,)
    coef_ : ndarray of float64, (n_classes, n_features), or (1, n_features) for two classes
    intercept_ : ndarray of float64, (n_classes,), or (1,) for two classes
    model_ : Model
        What it predicts with: the bits are those of the command ``predict``.
    """

    classes_: NDArray
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    model_: Model
    _order: list[int]  # where each of the classes stands in the model

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the score of each class for each sample. Not collective: each rank asks for its own samples.

        Parameters
        ----------
        X : array-like or sparse matrix, (n_samples, n_features)

        Returns
        -------
        ndarray of float64, (n_samples, n_classes), or (n_samples,) for two classes
            For two classes the score of the second one minus that of the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> NDArray:
        """Return the class of the largest score of each sample, (n_samples,). Not collective."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        predicted: NDArray = self.classes_[chosen]
        return predicted

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (n_samples, n_classes), in the order of `classes_`. Not collective."""
        rows = self._rows(X)
        return Predictor.of(self.model_).predict_proba(rows).take(self._order, axis=1)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of `predict_proba`, finite where a probability is too small for float64."""
        scores = self._scores(X)
        scores -= scores.max(axis=1, keepdims=True)
        scores -= log(product(exp(scores), np.ones((scores.shape[1], 1))))
        return scores

    def _scores(self, X: Any) -> NDArray[np.float64]:
        """Return a score for each class, (n_samples, n_classes)."""
        rows = self._rows(X)
        return Predictor.of(self.model_).decision_function(rows).take(self._order, axis=1)

    def _rows(self, X: Any) -> Any:
        """Return samples as scikit-learn's checks leave them."""
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse="csr", reset=False, order=None)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
