"""The estimators: scikit-learn's interface, the command line's bits, on one rank and on several."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import tracemalloc
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from in_process import trained
from ranks import on_ranks
from scipy.sparse import csc_array, csr_array, csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import distsoftmax
from distsoftmax import SoftmaxRegression, SoftmaxRegressionCV, softmax_regression
from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator import progress
from distsoftmax.estimation import run as estimation_run
from distsoftmax.estimation.given import Classes
from distsoftmax.scoring.predictor import Predictor

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

ROOT = Path(distsoftmax.__file__).parents[1]
DENSE, DIGITS = load_digits(return_X_y=True)
DENSE, DIGITS = DENSE[:400], DIGITS[:400]
IRIS, KINDS = load_iris(return_X_y=True)


@parametrize_with_checks([SoftmaxRegression()])
def test_scikit_learns_checks_pass(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.mark.sweep(12)
@parametrize_with_checks([SoftmaxRegressionCV(l2s=[0.1, 1e-3], cv=2)])
def test_scikit_learns_checks_pass_for_a_path(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


# --- the same bits as the command line's ---


def by_command(folder, X, y, weights=None, **options):
    """The digest of the model that the command line trains on the same samples."""
    path = folder / "samples.npz"
    arrays = {"y": y} | ({} if weights is None else {"w": weights})
    if isinstance(X, np.ndarray):
        arrays["X"] = X
    else:
        arrays |= {"data": X.data, "indices": X.indices, "indptr": X.indptr, "shape": X.shape, "format": b"csr"}
    np.savez(path, **arrays)
    data = DataConfig(
        data=(str(path),),
        weight=None if weights is None else "w",
        standardize=options.get("standardize", False),
        class_weight=options.get("class_weight"),
    )
    config = TrainConfig(
        data=data,
        objective=ObjectiveConfig(l2=options["l2"], l1=options.get("l1", 0.0)),
        solver=SolverConfig(tolerance=1e-5),
        run=RunConfig(out=str(folder / "run"), progress="never"),
    )
    return trained(config, Alone())


CASES = {
    "dense": (DENSE, {"l2": 1e-3}),
    "float32": (DENSE.astype(np.float32), {"l2": 1e-3}),
    "small integers": (DENSE.astype(np.uint8), {"l2": 1e-3, "standardize": True}),
    "standardised": (DENSE, {"l2": 1e-2, "standardize": True}),
    "balanced": (DENSE, {"l2": 1e-2, "class_weight": "balanced"}),
    "sparse": (csr_array(DENSE * (DENSE > 8)), {"l2": 1e-3}),
    "elastic": (DENSE / 16, {"l2": 1e-2, "l1": 1e-3}),
}


@pytest.mark.filterwarnings("ignore:the tolerance is not reached")  # 1e-5 is beyond float32
@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_the_command_line(name, tmp_path):
    X, options = CASES[name]
    weights = np.random.default_rng(0).integers(0, 4, len(DIGITS)) / 2.0 if name == "balanced" else None
    estimator = SoftmaxRegression(tol=1e-5, **options).fit(X, DIGITS, weights)
    assert estimator.model_.sha256 == by_command(tmp_path, X, DIGITS, weights, **options)


def divided_at(cuts, *arrays):
    ends = [0, *cuts, arrays[0].shape[0]]
    return [[None if of is None else of[a:b] for of in arrays] for a, b in pairwise(ends)]


@pytest.mark.parametrize("cuts", [[133], [0, 17], [5, 5, 250, 400]])
@pytest.mark.parametrize("kind", ["dense", "sparse", "weighted", "standardised"])
def test_each_rank_gives_its_own_rows_for_the_bits_of_all_rows(kind, cuts):
    X = DENSE[:, 2::4].astype(np.float32)  # few features: every rank learns a hessian of them
    X = csr_array(X * (X > 8)) if kind == "sparse" else X
    weights = np.random.default_rng(0).integers(0, 3, 400) / 2.0 if kind == "weighted" else None
    labels = np.array([f"digit {digit}" for digit in DIGITS]) if kind == "sparse" else DIGITS
    options = {"l2": 1e-3, "standardize": kind == "standardised", "class_weight": {3: 2.0} if kind == "dense" else None}
    alone = SoftmaxRegression(**options).fit(X, labels, weights)
    given = divided_at(cuts, X, labels, weights)

    def work(cluster):
        return SoftmaxRegression(comm=cluster, **options).fit(*given[cluster.rank])

    for estimator in on_ranks(len(cuts) + 1, work):
        assert not isinstance(estimator, Exception), estimator
        assert estimator.model_.sha256 == alone.model_.sha256
        np.testing.assert_array_equal(estimator.classes_, alone.classes_)
        assert estimator.classes_.dtype == alone.classes_.dtype
        np.testing.assert_array_equal(estimator.coef_, alone.coef_)


def test_folds_and_the_chosen_penalty_do_not_depend_on_the_ranks():
    options = {"l2s": [0.3, 1e-2], "cv": 3, "class_weight": "balanced"}
    alone = SoftmaxRegressionCV(**options).fit(IRIS, KINDS)
    given = divided_at([7, 120], IRIS, KINDS)
    for estimator in on_ranks(
        3, lambda cluster: SoftmaxRegressionCV(comm=cluster, **options).fit(*given[cluster.rank])
    ):
        np.testing.assert_array_equal(estimator.scores_, alone.scores_)
        assert (estimator.l2_, estimator.model_.sha256) == (alone.l2_, alone.model_.sha256)


def test_ranks_may_give_generators_and_random_states_that_are_alike():
    folds = StratifiedKFold(3)
    options = {"l2s": [0.1], "random_state": np.random.RandomState(5)}
    alone = SoftmaxRegressionCV(cv=list(folds.split(IRIS, KINDS)), **options).fit(IRIS, KINDS)
    given = divided_at([40], IRIS, KINDS)

    def work(cluster, rows=IRIS):
        options = {"l2s": [0.1], "random_state": np.random.RandomState(5), "comm": cluster}
        pairs = folds.split(IRIS, KINDS) if rows is IRIS else iter([(np.arange(150), np.arange(cluster.rank, 99))])
        return SoftmaxRegressionCV(cv=pairs, **options).fit(*given[cluster.rank])

    for estimator in on_ranks(2, work):
        np.testing.assert_array_equal(estimator.scores_, alone.scores_)
    for error in on_ranks(2, lambda cluster: work(cluster, None)):
        with pytest.raises(ValueError, match="cv is .* on rank 0 and .* on rank 1"):
            raise error


REFUSED = {
    "columns": (IRIS[:, :3], KINDS, None, {}, "ranks 0 and 1 .* X has 4 features and 3"),
    "type": (IRIS.astype(np.float32), KINDS, None, {}, "X is of type float64 and float32"),
    "sparse": (csr_array(IRIS), KINDS, None, {}, "sparse on one of them"),
    "labels": (IRIS, KINDS.astype(str), None, {}, "y holds numbers and text"),
    "weights": (IRIS, KINDS, np.ones(150), {}, "sample_weight is given on one"),
    "names": (pandas.DataFrame(IRIS, columns=list("abcd")), KINDS, None, {}, "different names"),
    "parameter": (IRIS, KINDS, None, {"tol": 0.5}, "tol is 0.0001 on rank 0 and 0.5 on rank 1"),
    "missing": (np.full((2, 4), np.nan), KINDS[:2], None, {}, "rank 1: Input X contains NaN"),
    "lengths": (IRIS, KINDS[:9], None, {}, "rank 1: .*inconsistent numbers of samples"),
    "threads": (IRIS, KINDS, None, {"n_jobs": 0}, "rank 1: n_jobs is 0"),
    "no option": (IRIS, KINDS, None, {"solver": "adam"}, "solver is 'auto' on rank 0 and 'adam'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_one_rank_gives_wrong_is_an_error_on_all(name):
    X, y, weights, options, text = REFUSED[name]

    def work(cluster):
        if cluster.rank == 1:
            return SoftmaxRegression(comm=cluster, **options).fit(X, y, weights)
        return SoftmaxRegression(comm=cluster).fit(IRIS, KINDS)

    for error in on_ranks(3, work):
        assert isinstance(error, ValueError)
        with pytest.raises(ValueError, match=text):
            raise error


# --- the optimum, against scikit-learn's ---


@pytest.mark.filterwarnings("ignore:the tolerance is not reached")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["plain", "weighted", "balanced", "no intercept"])
def test_the_solution_is_scikit_learns(classes, kind):
    rows = np.flatnonzero(np.isin(KINDS, range(classes)))
    X, y = IRIS[rows], KINDS[rows]
    weights = np.random.default_rng(1).integers(1, 5, len(y)) * 0.3 if kind in ("weighted", "balanced") else None
    shared = {
        "C": 0.7,
        "fit_intercept": kind != "no intercept",
        "class_weight": "balanced" if kind == "balanced" else {0: 3.0} if kind == "weighted" else None,
    }
    ours = SoftmaxRegression(tol=1e-14, **shared).fit(X, y, weights)
    theirs = LogisticRegression(tol=1e-13, max_iter=1000, solver="newton-cholesky", **shared).fit(X, y, weights)
    assert ours.coef_.shape == theirs.coef_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=2e-6)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=5e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), atol=5e-6)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.certified_gap_ < 1e-10


@pytest.mark.parametrize("penalty", [{"l1": 1e-3}, {"group": 1e-3}, {"l1": 1e-3, "l2": 1e-3}], ids=str)
def test_with_l1_raw_features_take_a_few_dozen_steps(penalty):
    """Their scales differ by 10,000, and they are far from 0; 3,000 steps of first order led nowhere near the end."""
    X, y = load_wine(return_X_y=True)
    estimator = SoftmaxRegression(**{"l2": 0.0, **penalty}, tol=1e-6, max_iter=60).fit(X, y)
    assert estimator.certified_gap_ <= 1e-6 * estimator.objective_
    if "l1" in penalty:
        assert np.count_nonzero(estimator.coef_) < estimator.coef_.size


def test_without_a_penalty_nothing_is_certified_and_the_end_of_steps_is_a_warning():
    with pytest.warns(ConvergenceWarning, match="limit of 3 steps.*max_iter"):
        estimator = SoftmaxRegression(l2=0.0, max_iter=3).fit(IRIS, KINDS)
    assert estimator.certified_gap_ is None
    assert estimator.n_iter_.tolist() == [3]


def test_a_tolerance_that_the_arithmetic_does_not_reach_is_a_warning():
    with pytest.warns(ConvergenceWarning, match="tolerance is not reached .tol=1e-14.: this arithmetic"):
        SoftmaxRegression(tol=1e-14).fit(IRIS, KINDS)


@pytest.mark.parametrize(
    ("options", "dtype", "remedy"),
    [
        ({"max_iter": 1}, "float64", "Increase max_iter, or scale the data: standardize=True"),
        ({"max_iter": 1, "standardize": True}, "float64", "Increase max_iter"),
        ({"tol": 1e-14}, "float64", "Increase tol, or scale the data: standardize=True"),
        ({"tol": 1e-14, "standardize": True}, "float32", 'Increase tol, or take dtype="float64"'),
    ],
)
def test_a_warning_names_the_remedies_that_are_left(options, dtype, remedy):
    with pytest.warns(ConvergenceWarning, match=re.escape(f". {remedy}") + "$"):
        SoftmaxRegression(**options).fit(IRIS.astype(dtype), KINDS)


def test_a_fit_that_its_gap_has_ended_gives_a_model_of_that_gap():
    """With L1 the solution is a proximal step away from where the objective was measured, and may be worse."""
    estimator = SoftmaxRegression(l2=1e-3, l1=1e-3).fit(IRIS, KINDS)
    assert estimator.stop_reason_ == "the certified gap is below 0.0001 of the objective"
    assert estimator.certified_gap_ <= 1e-4 * estimator.objective_


def test_predictions_have_the_bits_of_the_models_own():
    for rows in (slice(None), slice(100)):  # three classes, and two
        labels = np.array(["b", "a", "c"])[KINDS[rows]]
        estimator = SoftmaxRegression(C=10.0).fit(IRIS[rows], labels)
        model = Predictor.of(estimator.model_)
        order = [model.classes.index(name) for name in estimator.classes_]
        probabilities = estimator.predict_proba(IRIS[rows])
        np.testing.assert_array_equal(probabilities, model.predict_proba(IRIS[rows])[:, order])
        np.testing.assert_array_equal(estimator.predict(IRIS[rows]), model.predict(IRIS[rows]))
        np.testing.assert_allclose(
            estimator.predict_log_proba(IRIS[rows]), np.log(probabilities), rtol=1e-9, atol=1e-14
        )
        scores = estimator.decision_function(IRIS[rows])
        np.testing.assert_allclose(scores, (IRIS[rows] @ estimator.coef_.T + estimator.intercept_).squeeze(), rtol=1e-9)


def test_a_warm_start_goes_on_from_the_last_model():
    cold = SoftmaxRegression(l2=1e-3, tol=1e-9).fit(IRIS, KINDS)
    warm = clone(cold).set_params(warm_start=True).fit(IRIS, KINDS)
    warm.fit(IRIS, KINDS)
    assert warm.n_iter_[0] <= 1 < cold.n_iter_[0]
    with pytest.raises(
        ValueError, match=r"^warm_start .the last fit's model.: .* classes 0.*, or leave warm_start out$"
    ):
        warm.fit(IRIS[50:], KINDS[50:])
    with pytest.raises(ValueError, match="leave fit_intercept=False out, or leave warm_start out"):
        warm.set_params(fit_intercept=False).fit(IRIS, KINDS)


def test_scores_of_a_path_are_those_of_fits_on_its_folds():
    splits = list(StratifiedKFold(3, shuffle=True, random_state=0).split(IRIS, KINDS))
    l2s = [0.1, 1e-3]
    estimator = SoftmaxRegressionCV(l2s, cv=splits, tol=1e-10).fit(IRIS, KINDS)
    for number, (training, held_out) in enumerate(splits):
        for l2, score in zip(l2s, estimator.scores_[number], strict=True):
            fold = LogisticRegression(C=1 / (l2 * len(training)), tol=1e-10, max_iter=10_000)
            fold.fit(IRIS[training], KINDS[training])
            assert log_loss(KINDS[held_out], fold.predict_proba(IRIS[held_out])) == pytest.approx(score, rel=1e-4)
    assert estimator.l2_ == l2s[int(np.argmin(estimator.scores_.mean(axis=0)))]
    assert SoftmaxRegression(l2=estimator.l2_, tol=1e-10).fit(IRIS, KINDS).model_.sha256 == estimator.model_.sha256
    by_c = SoftmaxRegressionCV(Cs=[estimator.C_], cv=splits).fit(IRIS, KINDS)
    assert by_c.l2_ == pytest.approx(estimator.l2_)


def test_a_fraction_and_folds_hold_out_the_same_part_of_each_class():
    seen = []
    rows = np.arange(150.0)[:, None]
    estimator = SoftmaxRegressionCV([1.0], cv=5)
    original = estimation_run.Trainer.open

    def watched(self, config, dataset):
        seen.append(
            np.concatenate([s.features[s.weights > 0, 0] for s in dataset.training if s.weights is not None] or [[]])
        )
        return original(self, config, dataset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimation_run.Trainer, "open", watched)
        estimator.fit(rows, KINDS)
        clone(estimator).set_params(cv=0.2).fit(rows, KINDS)
    folds = [np.setdiff1d(rows[:, 0], training) for training in seen if len(training)]
    assert len(folds) == 6
    np.testing.assert_array_equal(np.sort(np.concatenate(folds[:5])), rows[:, 0])
    for held_out in folds:
        assert np.bincount(KINDS[held_out.astype(int)]).tolist() == [10, 10, 10]


def test_folds_are_of_one_size_also_where_classes_are_many_and_small(monkeypatch):
    labels = np.repeat(np.arange(12), [4] * 11 + [5])
    sizes = []
    original = estimation_run.Trainer.open

    def watched(self, config, dataset):
        sizes.append(sum(np.count_nonzero(s.weights) for s in dataset.training if s.weights is not None))
        return original(self, config, dataset)

    monkeypatch.setattr(estimation_run.Trainer, "open", watched)
    SoftmaxRegressionCV([1.0], cv=5).fit(np.random.default_rng(0).standard_normal((49, 2)), labels)
    assert sorted(49 - size for size in sizes[:5]) == [9, 10, 10, 10, 10]


def test_fits_of_folds_that_did_not_converge_are_named():
    with pytest.warns(ConvergenceWarning) as caught:
        SoftmaxRegressionCV([100.0, 1e-6], cv=2, max_iter=5).fit(IRIS, KINDS)
    assert "for l2 1e-06, so their scores_ are of unfinished models" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftmaxRegressionCV([10.0, 1e-2], cv=2).fit(IRIS, KINDS)


def test_cv_that_cannot_be_is_refused():
    for cv, text in [(1, "2 folds"), (1.5, "less than 1"), ("five", "pairs"), (None, "pairs"), ([([0], [999])], "row")]:
        with pytest.raises(ValueError, match=text):
            SoftmaxRegressionCV([1.0], cv=cv).fit(IRIS, KINDS)
    with pytest.raises(ValueError, match="no sample of class '2'"):
        SoftmaxRegressionCV([1.0], cv=[(np.arange(100), [120])]).fit(IRIS, KINDS)


# --- what X and y may be ---


def test_tables_of_every_kind_give_the_same_model_and_names():
    names = ["a", "b", "c", "d"]
    expected = SoftmaxRegression(dtype="float64").fit(IRIS, KINDS)
    tables = [pandas.DataFrame(IRIS, columns=names), polars.DataFrame(IRIS, schema=names)]
    tables.append(pyarrow.table(dict(zip(names, IRIS.T, strict=True))))
    for table in tables:
        estimator = SoftmaxRegression(dtype="float64").fit(table, KINDS)
        assert estimator.model_.sha256 == expected.model_.sha256
        assert estimator.feature_names_in_.tolist() == names
        assert estimator.model_.feature_names == tuple(names)
        np.testing.assert_array_equal(estimator.predict(table), expected.predict(IRIS))
        with pytest.raises(ValueError, match="feature names"):
            estimator.predict(pandas.DataFrame(IRIS, columns=list("abdc")))
    by_list = SoftmaxRegression(dtype="float64").fit(IRIS.tolist(), KINDS.tolist())
    assert by_list.model_.sha256 == expected.model_.sha256


@pytest.mark.parametrize(
    "kind", ["bool", "int8", "int64", "float16", "F", "strided", "csc", "int64 indices", "unsorted"]
)
def test_features_of_every_type_give_the_model_of_their_numbers(kind):
    X = np.round(IRIS * 2) / 2 if kind == "float16" else np.round(IRIS)
    X = (X > 2).astype(np.float64) if kind == "bool" else X
    expected = SoftmaxRegression(dtype="float64").fit(X, KINDS)
    given = {
        "F": lambda: np.asfortranarray(X),
        "strided": lambda: np.repeat(X, 2, axis=0)[::2],
        "csc": lambda: csc_array(X),
        "int64 indices": lambda: wide_indices(csr_array(X)),
        "unsorted": lambda: csr_matrix((X[:, ::-1].ravel(), np.tile([3, 2, 1, 0], 150), np.arange(0, 601, 4))),
    }.get(kind, lambda: X.astype(kind))()
    estimator = SoftmaxRegression(dtype="float64").fit(given, KINDS)
    np.testing.assert_allclose(estimator.coef_, expected.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(estimator.predict_proba(given), expected.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize("first", [0, 1_700_000_000])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint32])
def test_integers_are_told_apart_however_large_they_are(first, kind):
    X = (first + np.random.default_rng(0).integers(0, 200, (300, 1))).astype(kind)
    y = X[:, 0] > first + 100
    estimator = SoftmaxRegression(C=1e4, tol=0, max_iter=50)
    expected = clone(estimator).set_params(dtype="float64" if first else "float32").fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, y)
    assert estimator.model_.sha256 == expected.model_.sha256
    assert estimator.score(X, y) > 0.97


def wide_indices(matrix):
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


@pytest.mark.parametrize(
    "labels",
    [
        [3, 1, 2],
        [-1.0, 0.0, 10.0],
        ["cat", "dog", "eel"],
        ["9", "10", "2"],
        ["1", "1.0", "01"],
        [True, False, True],
        np.array(["b", "a", "c"], dtype=object),
        np.array([200, 0, 100], dtype=np.uint8),
        np.array([-128, 127, 0], dtype=np.int8),
        [10**12, 5, -(10**12)],
        np.array([2**64 - 1, 2**64 - 3, 2**64 - 2], dtype=np.uint64),
    ],
    ids=str,
)
def test_classes_are_those_of_numpys_unique(labels):
    y = np.asarray(labels)[KINDS]
    estimator = SoftmaxRegression(C=100.0).fit(IRIS, y)
    np.testing.assert_array_equal(estimator.classes_, np.unique(y))
    assert estimator.classes_.dtype == y.dtype
    assert estimator.score(IRIS, y) > (0.6 if y.dtype == bool else 0.95)
    if y.dtype != object:
        given = divided_at([60], IRIS, y)
        for of_rank in on_ranks(2, lambda cluster: SoftmaxRegression(100.0, comm=cluster).fit(*given[cluster.rank])):
            np.testing.assert_array_equal(of_rank.classes_, estimator.classes_)
            np.testing.assert_array_equal(of_rank.coef_, estimator.coef_)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"C": 1.0, "l2": 1.0}, "C and l2"),
        ({"C": 0.0}, "C is 0"),
        ({"l2": -1.0}, "^l2 is -1"),
        ({"tol": -1.0}, "^tol is -1"),
        ({"max_iter": -1}, "^max_iter is -1"),
        ({"solver": "saga"}, "solver is 'saga'"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"n_jobs": 0}, "n_jobs is 0"),
        ({"n_jobs": 1.5}, "n_jobs is 1.5; it must be a whole number"),
        ({"max_iter": 2.5}, "max_iter is 2.5; it must be a whole number"),
        ({"l2": "x"}, "l2 is 'x'; it must be a number"),
        ({"C": "x"}, "C is 'x'; it must be a number"),
        ({"class_weight": {0: "x"}}, "class_weight holds 'x'"),
        ({"solver": "sgd", "solver_options": {"learning_rate": "big"}}, "learning_rate is 'big'"),
        ({"solver_options": [1]}, "solver_options is .1.; give a dict"),
        ({"comm": 3}, "comm is 3; give a communicator of mpi4py"),
        ({"shards": 151}, "^shards is 151"),
        ({"class_weight": "even"}, "class_weight is 'even'"),
        ({"class_weight": {0: -1.0}}, "class_weight"),
        ({"class_weight": {7: 1.0}}, "class_weight has no weight for some"),
        ({"solver_options": {"rate": 1.0}}, "solver_options has 'rate'"),
        ({"solver": "lbfgs", "solver_options": {"epochs": 3}}, "^epochs is not for solver lbfgs"),
        ({"solver": "trust-region", "l1": 1.0}, "trust-region"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(options, text):
    with pytest.raises(ValueError, match=text):
        SoftmaxRegression(**options).fit(IRIS, KINDS)


def test_labels_that_are_neither_numbers_nor_texts_are_refused():
    with pytest.raises(ValueError, match=r"y is of type datetime64\[D\]; give numbers or texts"):
        SoftmaxRegression().fit(IRIS, KINDS.astype("M8[D]"))


def test_bad_weights_are_named():
    with pytest.raises(ValueError, match="X: row 3: the weight is -1"):
        SoftmaxRegression().fit(IRIS, KINDS, np.where(np.arange(150) == 2, -1.0, 1.0))
    with pytest.raises(ValueError, match="non-zero"):
        SoftmaxRegression().fit(IRIS, KINDS, np.zeros(150))


# --- a process of the user's own ---


@pytest.mark.parametrize("kind", ["float32", "float64", "sparse"])
def test_a_fit_takes_a_fifth_of_the_memory_of_the_data_at_most(kind):
    generator = np.random.default_rng(0)
    y, rows = generator.integers(0, 3, 200_000), np.arange(200_000)
    if kind == "sparse":
        columns = (np.arange(0, 40, 2) + rows[:, None] % 2).astype(np.int32)
        ends = np.arange(0, 20 * rows.size + 1, 20, dtype=np.int32)
        X = csr_array((generator.standard_normal(columns.size), columns.ravel(), ends), shape=(rows.size, 40))
        size = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    else:
        X = generator.standard_normal((rows.size, 60)).astype(kind)
        size = X.nbytes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        SoftmaxRegression(max_iter=1).fit(IRIS, KINDS)  # what is imported late
        tracemalloc.start()
        SoftmaxRegression(max_iter=2).fit(X, y)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 0.2 * size


def interrupting_at(steps, patch):
    """Let Ctrl-C come with these steps."""
    record = estimation_run.Onlooker.record

    def recording(self, state, *arguments, **options):
        record(self, state, *arguments, **options)
        if state.step in steps:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(estimation_run.Onlooker, "record", recording)


def test_ctrl_c_ends_a_fit_after_the_step_with_a_model(monkeypatch):
    interrupting_at([3], monkeypatch)
    before = signal.getsignal(signal.SIGINT)
    with pytest.warns(ConvergenceWarning, match="interrupted after 4 steps"):
        estimator = SoftmaxRegression(tol=1e-12).fit(DENSE, DIGITS)
    assert signal.getsignal(signal.SIGINT) is before
    assert estimator.interrupted_
    assert estimator.n_iter_.tolist() == [4]
    assert estimator.score(DENSE, DIGITS) > 0.5
    assert 0 < estimator.certified_gap_ < np.inf


def test_a_second_ctrl_c_ends_a_fit_at_once(monkeypatch):
    record = estimation_run.Onlooker.record

    def recording(self, *arguments, **options):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        record(self, *arguments, **options)

    monkeypatch.setattr(estimation_run.Onlooker, "record", recording)
    with pytest.raises(KeyboardInterrupt):
        SoftmaxRegression().fit(DENSE, DIGITS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_ends_a_path_with_the_model_at_hand(monkeypatch):
    interrupting_at([2], monkeypatch)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        estimator = SoftmaxRegressionCV([1e-3], cv=2, tol=1e-12).fit(DENSE, DIGITS)
    assert np.isnan(estimator.scores_).all()
    assert estimator.score(DENSE, DIGITS) > 0.5


def test_a_fit_in_another_thread_is_the_same():
    fitted = []
    thread = threading.Thread(target=lambda: fitted.append(SoftmaxRegression().fit(IRIS, KINDS)))
    thread.start()
    thread.join(60)
    assert fitted[0].model_.sha256 == SoftmaxRegression().fit(IRIS, KINDS).model_.sha256


PROGRAM = """
import os, sys, warnings
import joblib
from sklearn.datasets import load_iris
from distsoftmax import SoftmaxRegression

def digest(number):
    sys.modules["mpi4py"] = None
    return SoftmaxRegression().fit(*load_iris(return_X_y=True)).model_.sha256

if __name__ == "__main__":
    digests = [digest(0)]
    assert "mpi4py.MPI" not in sys.modules
    warnings.simplefilter("ignore")
    os.environ.update(PMI_SIZE="4", PMI_RANK="0")  # as in a rank that mpirun has started
    for backend in ("loky", "multiprocessing"):
        digests += joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(digest)(number) for number in range(2))
    print(*digests)
"""


def test_no_mpi_is_needed_nor_started_also_in_workers_of_a_rank(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.stdout.split() == [SoftmaxRegression().fit(IRIS, KINDS).model_.sha256] * 5, process.stderr


def test_an_error_before_the_first_fit_ends_a_job_whose_other_ranks_wait():
    process = subprocess.run(
        [sys.executable, "-c", "from distsoftmax import SoftmaxRegression; raise RuntimeError('no rows')"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PMI_SIZE": "3", "PMI_RANK": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGTERM
    assert "RuntimeError: no rows\nrank 1 of 3" in process.stderr


def test_estimators_go_through_what_scikit_learn_does_with_them():
    X, y = load_breast_cancer(return_X_y=True)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SoftmaxRegression()), {"softmaxregression__C": [0.1, 1.0]}, cv=3
    )
    search.fit(X, y)
    assert search.best_score_ > 0.95
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
    assert clone(SoftmaxRegression(l2=0.5)).get_params()["l2"] == 0.5


def test_a_class_whose_samples_all_weigh_nothing_is_left_out_as_bagging_needs_it():
    weights = np.where(KINDS == 1, 0.0, 1.0)
    estimator = SoftmaxRegression().fit(IRIS, KINDS, weights)
    without = SoftmaxRegression().fit(IRIS[KINDS != 1], KINDS[KINDS != 1], weights[KINDS != 1])
    assert estimator.classes_.tolist() == [0, 2]
    assert estimator.model_.sha256 == without.model_.sha256
    y = KINDS.copy()
    y[:2] = 3  # in a bag of every seventh it is missing
    bag = BaggingClassifier(SoftmaxRegression(), n_estimators=20, random_state=0).fit(IRIS, y)
    assert {3} < {len(tree.classes_) for tree in bag.estimators_} == {3, 4}
    assert bag.predict_proba(IRIS).shape == (150, 4)


def test_a_class_weighs_by_the_samples_of_all_ranks():
    """It has samples of weight 0 alone on the first rank, and others on the second."""
    weights = np.where((KINDS == 1) & (np.arange(150) < 75), 0.0, 1.0)
    whole = SoftmaxRegression().fit(IRIS, KINDS, weights)

    def fit(comm):
        own = slice(0, 75) if comm.rank == 0 else slice(75, 150)
        return SoftmaxRegression(comm=comm).fit(IRIS[own], KINDS[own], weights[own]).model_.sha256

    assert on_ranks(2, fit) == [whole.model_.sha256] * 2


def test_verbose_shows_the_steps_and_why_they_end(capsys, monkeypatch):
    SoftmaxRegression().fit(IRIS, KINDS)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    SoftmaxRegression(verbose=1).fit(IRIS, KINDS)
    out, err = capsys.readouterr()
    assert out.startswith("stopped: the certified gap is below 0.0001 of the objective, after ")
    lines = [line for line in err.splitlines() if line.startswith("training: step ")]
    assert len(lines) > 3


# --- the rest of the package's door ---


def test_the_function_that_the_project_began_with_gives_its_numbers():
    X, y = np.arange(1, 13).reshape(4, 3), [0, 1, 2, 1]
    theta = softmax_regression(X, y, 3, 0.01, 1000)
    expected = [
        [-1.0547100335748156, 0.49326029439008406, 0.5614497391847306],
        [-0.1683223681200128, 0.09422765318774201, 0.07409471493227056],
        [0.7180652973347894, -0.30480498801459976, -0.4132603093201899],
    ]
    np.testing.assert_allclose(theta, expected, rtol=1e-13)
    absent = softmax_regression(X / 12, [0, 1, 0, 1], 3, 0.1, 5)  # class 2 has no sample
    theta = np.zeros((3, 3))
    for _ in range(5):
        p = np.exp(X / 12 @ theta)
        p /= p.sum(axis=1, keepdims=True)
        theta -= 0.1 * (X / 12).T @ (p - np.eye(3)[[0, 1, 0, 1]]) / 4
    np.testing.assert_allclose(absent, theta, rtol=1e-12)
    for classes in ([0, 1, 2, 3], [0, 1, 2, 0.5], [-1, 0, 1, 2], list("abcb")):
        with pytest.raises(ValueError, match="num_classes"):
            softmax_regression(X, classes, 3, 0.01, 10)
    with pytest.raises(ValueError, match="learning_rate"):
        softmax_regression(X, y, 3, -0.01, 10)
    bad = {
        "num_classes is 2.5": (2.5, 0.1, 2),
        "learning_rate is 'a'": (3, "a", 2),
        "num_iterations is -1": (3, 0.1, -1),
    }
    for text, arguments in bad.items():
        with pytest.raises(ValueError, match=text):
            softmax_regression(X, y, *arguments)


def test_importing_the_package_imports_nothing_else():
    program = "import sys, distsoftmax; assert 'numpy' not in sys.modules; print(*dir(distsoftmax))"
    process = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert {"SoftmaxRegression", "SoftmaxRegressionCV", "load_model", "Model"} <= set(process.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'Softmax'"):
        distsoftmax.Softmax  # noqa: B018
    assert distsoftmax.load_model.__module__ == "distsoftmax.scoring.predictor"
    assert Classes.__module__ == "distsoftmax.estimation.given"
