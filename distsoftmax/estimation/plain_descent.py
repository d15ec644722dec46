"""The function that the project began with: gradient descent by so many steps of one length, from 0."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_X_y

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.preparation import Preparation, PreparedShard
from distsoftmax.data.rows_of_ranks import RowsOfRanks
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import divide_source
from distsoftmax.data.source import TextColumn
from distsoftmax.data.spool import Spool
from distsoftmax.data.standardization import Standardization
from distsoftmax.errors import InvalidArgument
from distsoftmax.estimation.given import in_python_words
from distsoftmax.estimation.settings import require_number
from distsoftmax.model import Encoding
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.solvers import make_solver

DTYPE = np.dtype(np.float64)


def softmax_regression(
    X: Any, y: Any, num_classes: int, learning_rate: float, num_iterations: int
) -> NDArray[np.float64]:
    """Fit theta of p = softmax(X theta) by gradient descent on the mean cross-entropy. Alone, in float64.

    theta starts from 0, and num_iterations times theta becomes theta - learning_rate * X^T (p - onehot(y)) / n_samples.
    There is no intercept and no penalty; `SoftmaxRegression` has both, and knows when to stop.

    Parameters
    ----------
    X : array-like, (n_samples, n_features)
    y : array-like of int, (n_samples,)
        Classes from 0 to num_classes - 1; some may be absent.
    num_classes : int
        2 or more.
    learning_rate : float
        Above 0.
    num_iterations : int
        0 or more.

    Returns
    -------
    ndarray of float64, (n_features, n_classes)

    Raises
    ------
    ValueError
        An argument cannot be used; says which.
    Diverged
        The learning rate is too large.

    Examples
    --------
    >>> theta = softmax_regression([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]], [0, 1, 2, 1], 3, 0.01, 1000)
    >>> theta.round(3)
    array([[-1.055,  0.493,  0.561],
           [-0.168,  0.094,  0.074],
           [ 0.718, -0.305, -0.413]])
    """
    X, y = check_X_y(X, y, dtype=np.float64, order="C")
    require_number("num_classes", num_classes, Integral)
    require_number("learning_rate", learning_rate, Real)
    require_number("num_iterations", num_iterations, Integral)
    if num_classes < 2:
        raise InvalidArgument(f"num_classes is {num_classes}; it must be at least 2")
    if num_iterations < 0:
        raise InvalidArgument(f"num_iterations is {num_iterations}; it must be 0 or more")
    classes = y.astype(np.int64) if y.dtype.kind in "iufb" else np.array([-1])
    if classes.min() < 0 or (classes != y).any() or classes.max() >= num_classes:
        raise InvalidArgument(f"y must hold integers from 0 to num_classes - 1, which is {num_classes - 1}")
    with in_python_words():
        config = SolverConfig(solver="gradient-descent", learning_rate=learning_rate, max_steps=num_iterations)
        objective = SoftmaxObjective(_dataset(X, classes, num_classes), ObjectiveConfig(intercept=False), Alone())
        solver = make_solver(config, objective.config)
        state = solver.init(objective, np.zeros(objective.shape))
        for _ in range(num_iterations):
            state = solver.step(objective, state)
    return np.ascontiguousarray(state.parameters[:, :-1].T)


def _dataset(X: NDArray[np.float64], classes: NDArray[np.int64], num_classes: int) -> Dataset:
    """Return samples as they are, also where classes have none."""
    names = tuple(map(str, range(num_classes)))
    source = RowsOfRanks(X, TextColumn(names, classes), classes.dtype)
    divided = divide_source(source, None, Alone())
    preparation = Preparation(
        encoding=Encoding(numeric=source.feature_names),
        standardization=Standardization.of_features_as_they_are(X.shape[1]),
        dtype=DTYPE,
        classes=names,
    )
    store = ShardStore[PreparedShard](None, Spool(""))
    for shard in divided.read_all():
        store.add(preparation.prepare(shard))
    return Dataset(
        preparation=preparation,
        n_rows=len(X),
        n_training=len(X),
        n_held_out=0,
        total_weight=float(len(X)),
        sparse=False,
        shard_digests=np.zeros(divided.n_shards, dtype=np.int64),
        held_out_digests=np.zeros(0, dtype=np.int64),
        notes=(),
        stores=(store,),
    )
