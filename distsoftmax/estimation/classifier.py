"""What the two estimators have in common: how rows become a model, and what that says of samples."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from distsoftmax.arithmetic.elementary import exp, log
from distsoftmax.arithmetic.parameters import product
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.found import found_job
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.data.dataset import Dataset, prepare_dataset
from distsoftmax.data.shards import divide_source
from distsoftmax.estimation.given import Classes, agreed, given_rows, in_python_words, require_alike
from distsoftmax.estimation.run import Interrupts, Trainer
from distsoftmax.estimation.settings import options_of, parameters_of_all, threads_of
from distsoftmax.scoring.predictor import Predictor
from distsoftmax.training.result import Result
from distsoftmax.training.stopping import StepLimit

Fitted = TypeVar("Fitted", bound="TrainedClassifier")


@dataclass(kw_only=True, eq=False, repr=False)
class TrainedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with scores coef_ x + intercept_, whose probabilities are their softmax, by the compiled core.

    Its fields are the parameters that both estimators have; scikit-learn reads them off the `__init__` made of them.
    """

    l1: float = 0.0
    group: float = 0.0
    fit_intercept: bool = True
    class_weight: Any = None
    tol: float = 1e-4
    max_iter: int = 1000
    solver: str = "auto"
    solver_options: dict[str, Any] | None = None
    standardize: bool = False
    dtype: str = "stored"
    random_state: Any = None
    verbose: int = 0
    n_jobs: int | None = None
    shards: int | None = None
    comm: Any = None

    def fit(self: Fitted, X: Any, y: Any, sample_weight: Any = None) -> Fitted:
        """Train on samples. Collective under mpirun: each rank gives its own rows, none or more.

        Parameters
        ----------
        X : array-like or sparse matrix, (n_samples, n_features)
            float32, float64, float16, integers, truth values; numpy, scipy.sparse, pandas, polars, pyarrow. Arrays in C
            order and CSR matrices of floats are not copied.
        y : array-like, (n_samples,)
            Numbers or texts.
        sample_weight : array-like, (n_samples,), optional
            0 or more; a sample of weight 2 counts like two.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On every rank: an argument or a parameter cannot be used; says which, and why.
        """
        interrupts = Interrupts()
        with in_python_words():
            cluster = found_job(self.comm)
            require_alike(parameters_of_all(self), cluster)
            agreed(cluster, lambda: options_of(self, None))
            source, values = given_rows(self, X, y, sample_weight, cluster)
            threads = threads_of(self.n_jobs, cluster)
            divided = divide_source(source, self.shards, cluster)
            classes = Classes.of(source, values, cluster)
            config = options_of(self, classes.weights(self.class_weight))
            progress = ProgressLine("auto", silent=not self.verbose or cluster.rank != 0)
            with interrupts.noted():
                dataset = prepare_dataset(divided, config.data, config.objective.intercept, cluster)
                result = self._train(config, dataset, Trainer(cluster, interrupts, progress, threads))
        self._keep(result, dataset, classes, interrupted=bool(interrupts.received))
        self._tell(result, config, dataset, cluster)
        return self

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

    def _train(self, config: TrainConfig, dataset: Dataset, trainer: Trainer) -> Result:
        raise NotImplementedError

    def _keep(self, result: Result, dataset: Dataset, classes: Classes, *, interrupted: bool) -> None:
        """Set the attributes that tell of a result."""
        self.model_ = model = result.model(dataset)
        self._order = order = classes.order_in(model.classes)
        coef, intercept = model.coef[order], model.intercept[order]
        if len(order) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.classes_, self.coef_, self.intercept_ = classes.values, coef, intercept
        self.n_iter_ = np.array([result.n_steps], dtype=np.int32)
        self.objective_, self.certified_gap_ = result.objective, result.gap
        self.stop_reason_, self.interrupted_ = result.reason, interrupted

    def _tell(self, result: Result, config: TrainConfig, dataset: Dataset, cluster: Communicator) -> None:
        """Say how a run has ended where that is asked for, and warn where it has not come to its end."""
        if self.verbose:
            gap = "" if result.gap is None else f", certified gap {result.gap:.3g}"
            cluster.say(
                f"stopped: {result.reason}, after {result.n_steps} steps; objective {result.objective:.6g}{gap}"
            )
        limit = StepLimit.of_steps(config.solver.max_steps) if config.solver.max_steps is not None else None
        remedies = [] if config.data.standardize else ["scale the data: standardize=True"]
        if self.interrupted_:
            text = f"the fit was interrupted after {result.n_steps} steps; the model is that of the last one"
        elif limit is not None and result.reason == limit.reason:
            remedies.insert(0, "Increase max_iter")
            text = f"{result.reason} (max_iter) before the tolerance was (tol={self.tol:g}). {', or '.join(remedies)}"
        elif falls_short(result, config):
            remedies.insert(0, "Increase tol")
            remedies += [] if dataset.dtype == np.float64 else ['take dtype="float64"']
            text = f"the tolerance is not reached (tol={self.tol:g}): {result.reason}. {', or '.join(remedies)}"
        else:
            return
        warnings.warn(text, ConvergenceWarning, stacklevel=3)

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


def falls_short(result: Result, config: TrainConfig) -> bool:
    """Return whether a run has not reached a tolerance that was asked for; sgd ends by its epochs."""
    return config.solver.tolerance > 0 and config.solver.solver != "sgd" and not result.converged
