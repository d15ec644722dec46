"""What a fitted classifier says of samples, in scikit-learn's shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.extmath import safe_sparse_dot, softmax
from sklearn.utils.validation import check_is_fitted, validate_data

from distsoftmax.data.in_memory import feature_rows

AT_ONCE = 1 << 18  # features that are turned to float64 at once


class LinearClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with scores coef_ x + intercept_, whose probabilities are their softmax.

    Attributes
    ----------
    classes_ : ndarray, (n_classes,)
    coef_ : ndarray of float64, (n_classes, n_features), or (1, n_features) for two classes
    intercept_ : ndarray of float64, (n_classes,), or (1,) for two classes
    """

    classes_: NDArray
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

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
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False, order=None)
        scores = np.empty((X.shape[0], len(self.coef_)))
        rows_at_once = max(AT_ONCE // X.shape[1], 1)
        for start in range(0, len(scores), rows_at_once):
            rows = slice(start, min(start + rows_at_once, len(scores)))
            block = feature_rows(X, rows).astype(np.float64, copy=False)
            scores[rows] = safe_sparse_dot(block, self.coef_.T, dense_output=True)
        scores += self.intercept_
        return scores[:, 0] if len(self.coef_) == 1 else scores

    def predict(self, X: Any) -> NDArray:
        """Return the class of the largest score of each sample, (n_samples,). Not collective."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        predicted: NDArray = self.classes_[chosen]
        return predicted

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (n_samples, n_classes), in the order of `classes_`. Not collective."""
        probabilities: NDArray[np.float64] = softmax(self._scores(X), copy=False)
        return probabilities

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of `predict_proba`, finite where a probability is too small for float64."""
        scores = self._scores(X)
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        scores -= np.log(odds.sum(axis=1, keepdims=True))
        return scores

    def _scores(self, X: Any) -> NDArray[np.float64]:
        """Return a score for each class, (n_samples, n_classes)."""
        scores = self.decision_function(X)
        return scores if scores.ndim == 2 else np.column_stack([-scores / 2, scores / 2])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
