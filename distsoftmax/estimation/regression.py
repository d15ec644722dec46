"""Softmax regression as an estimator of scikit-learn's kind."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.found import found_job
from distsoftmax.config import TrainConfig
from distsoftmax.data.dataset import Dataset, prepare_dataset
from distsoftmax.data.shards import divide_source
from distsoftmax.estimation.classifier import LinearClassifier
from distsoftmax.estimation.given import Classes, agreed, given_rows, in_python_words, require_alike
from distsoftmax.estimation.run import Interrupts, Start, Trainer, progress_line
from distsoftmax.estimation.settings import l2_of, options_of, parameters_of_all, threads_of
from distsoftmax.model import Model
from distsoftmax.solvers.protocol import Array
from distsoftmax.training.result import Result
from distsoftmax.training.stopping import StepLimit
from distsoftmax.training.warm_start import start_parameters

Fitted = TypeVar("Fitted", bound="TrainedClassifier")


class TrainedClassifier(LinearClassifier):
    """What `SoftmaxRegression` and `SoftmaxRegressionCV` have in common: how rows become a dataset and a model."""

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
            source, values = agreed(cluster, lambda: given_rows(self, X, y, sample_weight, cluster))
            threads = threads_of(self.n_jobs, cluster)
            divided = divide_source(source, self.shards, cluster)
            classes = Classes.of(source, values, cluster)
            config = options_of(self, classes.weights(self.class_weight))
            progress = progress_line(self.verbose, cluster)
            with interrupts.noted():
                dataset = prepare_dataset(divided, config.data, config.objective.intercept, cluster)
                result = self._train(config, dataset, Trainer(cluster, interrupts, progress, threads))
        self._keep(result, dataset, classes, interrupted=bool(interrupts.received))
        self._tell(result, config, cluster)
        return self

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

    def _tell(self, result: Result, config: TrainConfig, cluster: Communicator) -> None:
        """Say how a run has ended where that is asked for, and warn where it has not come to its end."""
        if self.verbose:
            gap = "" if result.gap is None else f", certified gap {result.gap:.3g}"
            cluster.say(
                f"stopped: {result.reason}, after {result.n_steps} steps; objective {result.objective:.6g}{gap}"
            )
        limit = StepLimit.of_steps(config.solver.max_steps) if config.solver.max_steps is not None else None
        if self.interrupted_:
            text = f"the fit was interrupted after {result.n_steps} steps; the model is that of the last one"
        elif limit is not None and result.reason == limit.reason:
            text = (
                f"{result.reason} (max_iter) before the tolerance was (tol={self.tol:g}). Increase max_iter, or scale "
                "the data: standardize=True"
            )
        elif config.solver.tolerance > 0 and not result.converged and config.solver.solver != "sgd":
            text = f"the tolerance is not reached (tol={self.tol:g}): {result.reason}"
        else:
            return
        warnings.warn(text, ConvergenceWarning, stacklevel=3)


class SoftmaxRegression(TrainedClassifier):
    """Softmax (multinomial logistic) regression with a proven bound on the distance to the optimum.

    It minimises the weighted mean cross-entropy + l2/2 |coef|² + l1 |coef|₁ + group Σ_j |coef[:, j]|₂ by the training
    loop of ``python -m distsoftmax.train``: the model has the same bits as the command line's for the same rows and
    options, on any number of threads and ranks. The intercept is not penalised.

    A process alone needs no MPI. Under mpirun every rank calls `fit` with its own rows, and each gets the model of all
    rows, taken in the order of the ranks.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the L2 penalty, as scikit-learn means it: l2 = 1 / (C W), for two classes 2 / (C W), where W
        is the sum of the weights. 1.0 where neither C nor l2 is given.
    l2 : float, optional
        Weight of the L2 penalty of the mean loss, as on the command line. 0: no penalty.
    l1, group : float
        Weights of the penalties that make coefficients 0, each alone or by features.
    fit_intercept : bool
    class_weight : dict or "balanced", optional
        Weights of the classes; a class that is left out weighs 1.
    tol : float
        End when the certified gap is below tol * objective; without a penalty, when the gradient's norm is below
        tol * its first.
    max_iter : int
        Steps after which a fit ends with a ConvergenceWarning.
    solver : {"auto", "lbfgs", "trust-region", "gradient-descent", "sgd"}
    solver_options : dict, optional
        More options of the solver, as on the command line: learning_rate, momentum, nesterov, batch, epochs, schedule,
        warm_up, linear_scaling, average.
    standardize : bool
        Train on features of mean 0 and deviation 1, in whose units the penalties act; coef_ still takes features as
        they are. Off, as in scikit-learn; the command line's default is on. It copies the features.
    dtype : {"stored", "float32", "float64"}
        The type to compute in; stored: that of X where it is float32 or float64, else float32.
    random_state : int, RandomState or None
        Decides which rows the preconditioner looks at, and the mini-batches; None: 0.
    warm_start : bool
        Start from the last fit's model, which must be of the same classes and features.
    verbose : int
        1: show how the steps go on, and why they end.
    n_jobs : int or None
        Threads; None and -1: all cores that this process may use, or OMP_NUM_THREADS where that is less.
    shards : int, optional
        Slices that the data are cut into; by default it follows from their number. It decides the last bits.
    comm : mpi4py.MPI.Comm, optional
        The ranks that train together; by default those that mpirun has started, or this process alone.

    Attributes
    ----------
    classes_ : ndarray, (n_classes,)
        The labels, sorted as by `numpy.unique`.
    coef_, intercept_ : ndarray of float64, (n_classes, n_features) and (n_classes,)
        For two classes (1, n_features) and (1,), as scikit-learn has it: the second row minus the first.
    n_iter_ : ndarray of int, (1,)
        Steps taken.
    objective_ : float
        Where the fit ended.
    certified_gap_ : float or None
        A proven bound on how far that is above the least value; None without a penalty.
    stop_reason_ : str
    interrupted_ : bool
        Whether Ctrl-C ended the fit. It ends after the step at hand, with a warning and a model; a second one raises.
    model_ : Model
        Both rows of two classes, and what the commands ``predict`` and ``evaluate`` need; see `Model.file_content`.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X names its columns.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = SoftmaxRegression(C=10.0, tol=1e-6).fit(X, y)
    >>> classifier.predict(X[:3]), classifier.score(X, y) > 0.95
    (array([0, 0, 0]), True)
    >>> bool(classifier.certified_gap_ < 1e-6 * classifier.objective_)
    True
    """

    def __init__(
        self,
        C: float | None = None,
        *,
        l2: float | None = None,
        l1: float = 0.0,
        group: float = 0.0,
        fit_intercept: bool = True,
        class_weight: Any = None,
        tol: float = 1e-4,
        max_iter: int = 1000,
        solver: str = "auto",
        solver_options: dict[str, Any] | None = None,
        standardize: bool = False,
        dtype: str = "stored",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        n_jobs: int | None = None,
        shards: int | None = None,
        comm: Any = None,
    ) -> None:
        self.C = C
        self.l2 = l2
        self.l1 = l1
        self.group = group
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.solver_options = solver_options
        self.standardize = standardize
        self.dtype = dtype
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.shards = shards
        self.comm = comm

    def _train(self, config: TrainConfig, dataset: Dataset, trainer: Trainer) -> Result:
        l2 = l2_of(self.C, self.l2, dataset)
        config = replace(config, objective=replace(config.objective, l2=l2))
        start: Start | None = None
        if self.warm_start and hasattr(self, "model_"):
            start = self._parameters_of_last_fit
        return trainer.run(trainer.open(config, dataset), "training", start)

    def _parameters_of_last_fit(self, dataset: Dataset) -> Array:
        model: Model = self.model_
        return start_parameters(model, dataset, "(the last fit's model, warm_start=True)", bool(self.fit_intercept))
