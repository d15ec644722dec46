"""Softmax regression as an estimator of scikit-learn's kind."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

from distsoftmax.config import TrainConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.estimation.classifier import TrainedClassifier
from distsoftmax.estimation.run import Trainer
from distsoftmax.estimation.settings import l2_of
from distsoftmax.training.result import Result
from distsoftmax.training.warm_start import start_parameters


@dataclass(eq=False, repr=False)
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

    C: float | None = None
    _: KW_ONLY
    l2: float | None = None
    warm_start: bool = False

    def _train(self, config: TrainConfig, dataset: Dataset, trainer: Trainer) -> Result:
        l2 = l2_of(self.C, self.l2, dataset)
        session = trainer.open(replace(config, objective=replace(config.objective, l2=l2)), dataset)
        start = None
        if self.warm_start and hasattr(self, "model_"):
            start = start_parameters(self.model_, dataset, "(the last fit's model)", bool(self.fit_intercept))
        return trainer.run(session, "training", start)
