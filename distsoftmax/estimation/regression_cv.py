"""Softmax regression whose L2 penalty is chosen by held-out samples, as an estimator of scikit-learn's kind."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from distsoftmax.config import TrainConfig, parse_l2_path
from distsoftmax.data.dataset import Dataset
from distsoftmax.errors import InvalidArgument
from distsoftmax.estimation.classifier import TrainedClassifier, falls_short
from distsoftmax.estimation.folds import chosen_samples, folds_of, without_class_weights
from distsoftmax.estimation.run import Trainer
from distsoftmax.estimation.settings import l2_of_inverse
from distsoftmax.objective.cross_entropy import CrossEntropy
from distsoftmax.solvers.protocol import Array
from distsoftmax.training.result import Result


@dataclass(eq=False, repr=False)
class SoftmaxRegressionCV(TrainedClassifier):
    """Softmax regression with the l2 of a path that has the lowest log loss on held-out samples.

    For each fold the path is gone down from the largest l2, each run from the solution of the one before; then all
    samples are trained on with the best l2, for the bits of ``SoftmaxRegression(l2=l2_)``. The data are prepared once
    and shared by all folds: rows are held out by a weight of 0. Which ones follows from random_state, the shard, the
    row and the classes, on any number of ranks. With standardize=True the deviations are those of all rows.

    Parameters
    ----------
    l2s : str or sequence of float
        FROM:TO:COUNT as of the command line's ``--l2-path``, or values in any order.
    Cs : sequence of float, optional
        Values of scikit-learn's C in place of l2s.
    cv : int, float or iterable
        So many folds, with about the same part of each class in each; one fold that holds this fraction of each class
        out; or pairs of (training rows, held-out rows), as ``splitter.split(X, y)`` gives them, counted over all ranks.
    fit_intercept, class_weight, l1, group, tol, max_iter, solver, solver_options, standardize, dtype, random_state, \
verbose, n_jobs, shards, comm
        As of `SoftmaxRegression`. random_state decides which rows are held out, too.

    Attributes
    ----------
    l2_, C_ : float
        The chosen one, and what it is as scikit-learn's C.
    l2s_ : ndarray of float64, (n_l2s,)
        The path, descending.
    scores_ : ndarray of float64, (n_folds, n_l2s)
        The mean log loss of the held-out samples, by their sample weights. Where Ctrl-C has come before all are
        known, the rest is NaN, and the model is the one at hand.
    classes_, coef_, intercept_, n_iter_, objective_, certified_gap_, stop_reason_, interrupted_, model_, \
n_features_in_, feature_names_in_
        As of `SoftmaxRegression`, of the last fit, on all samples.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = SoftmaxRegressionCV(l2s="1:1e-4:5", cv=3).fit(X, y)
    >>> classifier.scores_.shape, classifier.l2_ in classifier.l2s_
    ((3, 5), True)
    """

    l2s: str | Sequence[float] = "1:1e-5:6"
    _: KW_ONLY
    Cs: Sequence[float] | None = None
    cv: Any = 5

    def _train(self, config: TrainConfig, dataset: Dataset, trainer: Trainer) -> Result:
        path = self._path(dataset)
        runs = [replace(config, objective=replace(config.objective, l2=float(l2))) for l2 in path]
        folds = folds_of(self.cv, dataset, config.data.seed, trainer.cluster)
        judged = without_class_weights(dataset)
        self.l2s_, self.scores_ = path, np.full((len(folds), len(runs)), np.nan)
        unfinished: set[float] = set()
        for number, fold in enumerate(folds):
            held_out = CrossEntropy(
                chosen_samples(judged, fold.held_out, trainer.cluster), trainer.cluster, trainer.threads, by_class=False
            )
            session = trainer.open(runs[0], chosen_samples(dataset, fold.training, trainer.cluster))
            parameters: Array | None = None
            for position, run in enumerate(runs):
                session.turn_to(run)
                task = f"fold {number + 1} of {len(folds)}, l2 {path[position]:.3g}"
                result = trainer.run(session, task, parameters)
                parameters = result.parameters
                if trainer.interrupts.received:  # the next run ends before its first step, where this one has
                    return self._train_on_all(position, parameters, runs, dataset, trainer)
                self.scores_[number, position] = held_out.evaluate(parameters, np.dtype(np.float64)).loss
                if falls_short(result, run):
                    unfinished.add(run.objective.l2)
        if unfinished:
            values = ", ".join(f"{l2:.3g}" for l2 in sorted(unfinished, reverse=True))
            warnings.warn(
                f"fits of folds have not reached the tolerance (tol={self.tol:g}) for l2 {values}, so their scores_ "
                "are of unfinished models. Increase max_iter, or leave these values out",
                ConvergenceWarning,
                stacklevel=3,
            )
        means = [math.fsum(of_l2) / len(of_l2) for of_l2 in self.scores_.T.tolist()]
        return self._train_on_all(int(np.argmin(means)), None, runs, dataset, trainer)

    def _train_on_all(
        self, chosen: int, start: Array | None, runs: Sequence[TrainConfig], dataset: Dataset, trainer: Trainer
    ) -> Result:
        """Train on all samples with a chosen value of the path."""
        self.l2_ = float(self.l2s_[chosen])
        self.C_ = l2_of_inverse(self.l2_, dataset)
        return trainer.run(trainer.open(runs[chosen], dataset), f"l2 {self.l2_:.3g}", start)

    def _path(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return the values of l2, descending.

        Raises
        ------
        InvalidArgument
            There are none, or one is not above 0.
        """
        if isinstance(self.l2s, str) and self.Cs is None:
            return np.array(parse_l2_path(self.l2s))
        given = self.l2s if self.Cs is None else self.Cs
        values = np.atleast_1d(np.asarray(given, dtype=np.float64))
        if values.ndim != 1 or not values.size or not (np.isfinite(values) & (values > 0)).all():
            raise InvalidArgument(f"{'l2s' if self.Cs is None else 'Cs'} is {given!r}; give numbers above 0")
        if self.Cs is not None:
            values = np.array([l2_of_inverse(inverse, dataset) for inverse in values.tolist()])
        return np.sort(values)[::-1]
