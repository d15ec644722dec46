"""From an estimator's parameters to the options that the training loop takes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sklearn.utils import check_random_state

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.cores import choose_threads, own_grant
from distsoftmax.config import DataConfig, ObjectiveConfig, SolverConfig, TrainConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.errors import InvalidArgument

OF_A_SOLVER = {"learning_rate", "momentum", "nesterov", "batch", "epochs", "schedule", "warm_up"}
OF_A_SOLVER |= {"linear_scaling", "average"}
NUMBERS = dict.fromkeys(("C", "l2", "l1", "group", "tol", "learning_rate", "momentum", "warm_up"), Real)
NUMBERS |= dict.fromkeys(("max_iter", "n_jobs", "shards", "batch", "epochs", "linear_scaling"), Integral)
MAY_BE_NONE = ("C", "l2", "max_iter", "n_jobs", "shards", "linear_scaling")
OF_THE_MACHINE = ("comm", "n_jobs", "verbose")  # parameters that may differ from rank to rank
WORDS = {  # of each option that is one of some words; to find them takes a tenth of the time of a small fit
    of_config: {name: get_args(hint) for name, hint in get_type_hints(of_config).items() if get_origin(hint) is Literal}
    for of_config in (DataConfig, SolverConfig)
}


def parameters_of_all(estimator: Any) -> dict[str, Any]:
    """Return the parameters that must be the same on all ranks; folds that an iterator gives are compared as folds."""
    parameters: dict[str, Any] = estimator.get_params(deep=False)
    return {
        name: value
        for name, value in parameters.items()
        if name not in OF_THE_MACHINE and not hasattr(value, "__next__")
    }


def options_of(estimator: Any, class_weight: str | None) -> TrainConfig:
    """Return the options that an estimator's parameters mean, the weight of the L2 penalty left out. Not collective.

    Parameters
    ----------
    class_weight : str or None
        As `Classes.weights` returns it.

    Raises
    ------
    InputError
        A value is out of range, or two do not go together.
    TypeError
        A value is of another type.
    """
    given = estimator.solver_options or {}
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"solver_options is {given!r}; give a dict, or None")
    for name in given:
        if name not in OF_A_SOLVER:
            raise InvalidArgument(f"solver_options has {name!r}; it takes {', '.join(sorted(OF_A_SOLVER))}")
    _require_numbers({**estimator.get_params(deep=False), **given})
    data = DataConfig(
        valid_fraction=0.0,
        standardize=estimator.standardize,
        dtype=estimator.dtype,
        shards=estimator.shards,
        seed=seed_of(estimator.random_state),
    )
    objective = ObjectiveConfig(l1=estimator.l1, group=estimator.group, intercept=bool(estimator.fit_intercept))
    solver = SolverConfig(solver=estimator.solver, tolerance=estimator.tol, max_steps=estimator.max_iter, **given)
    for config in (data, solver):
        _refuse_other_words(config)
    return TrainConfig(data=replace(data, class_weight=class_weight), objective=objective, solver=solver)


def _require_numbers(parameters: Mapping[str, Any]) -> None:
    """Refuse what is no number where there must be one, also on one rank alone."""
    for name in NUMBERS.keys() & parameters.keys():
        value, kind = parameters[name], NUMBERS[name]
        may_be_text = name in ("learning_rate", "batch") and value == "auto"
        if not (may_be_text or (value is None and name in MAY_BE_NONE)):
            require_number(name, value, kind)
    if parameters["n_jobs"] == 0:
        raise InvalidArgument("n_jobs is 0; give a number of threads, or None for all cores")


def require_number(name: str, value: object, kind: type) -> None:
    """Refuse an argument that is no number.

    Raises
    ------
    InvalidArgument
        The value is not of the kind, Integral or Real.
    """
    if not isinstance(value, kind):
        raise InvalidArgument(f"{name} is {value!r}; it must be a {'whole ' if kind is Integral else ''}number")


def l2_of(C: float | None, l2: float | None, dataset: Dataset) -> float:
    """Return the weight of the L2 penalty: l2 itself, or what scikit-learn's C means for these samples.

    scikit-learn minimises C * sum_i s_i loss_i + |coef|^2 / 2. The mean of the losses is their sum divided by that of
    the weights, W, so l2 = 1 / (C W). For two classes scikit-learn has one row of coefficients w, where there are two
    here, -w/2 and w/2 at the optimum: |coef|^2 is half as large, and l2 = 2 / (C W).

    Raises
    ------
    InvalidArgument
        Both are given, or C is not above 0.
    """
    if l2 is not None:
        if C is not None:
            raise InvalidArgument("C and l2 both set the L2 penalty; give one of them")
        return float(l2)
    inverse = 1.0 if C is None else float(C)
    if not inverse > 0:
        raise InvalidArgument(f"C is {C}; it must be a number above 0")
    return l2_of_inverse(inverse, dataset)


def l2_of_inverse(inverse: float, dataset: Dataset) -> float:
    """Return the l2 that a C means, or the C that an l2 means: they are each other's inverse but for a factor."""
    if math.isinf(inverse):
        return 0.0
    weight = math.ldexp(dataset.total_weight, dataset.unit_exponent)
    return math.inf if inverse == 0 else (2.0 if len(dataset.classes) == 2 else 1.0) / (inverse * weight)


def seed_of(random_state: Any) -> int:
    """Return the seed that a `random_state` means: None is 0, so that a fit gives the same twice."""
    if random_state is None:
        return 0
    if hasattr(random_state, "randint") or not hasattr(random_state, "__index__"):
        return int(check_random_state(random_state).randint(2**31 - 1))
    return int(random_state)


def threads_of(n_jobs: int | None, cluster: Communicator) -> int:
    """Return the threads that `n_jobs` means, as scikit-learn counts; None is all cores that are free. Collective.

    Where OMP_NUM_THREADS is set, as joblib does in its workers, None and -1 are no more than that.
    """
    cores, limit = len(own_grant().cores), os.environ.get("OMP_NUM_THREADS", "")
    if n_jobs is not None and n_jobs != -1:
        return choose_threads(n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs), cluster)
    threads = choose_threads("auto", cluster)
    return min(threads, int(limit)) if limit.isdecimal() and int(limit) > 0 else threads


def _refuse_other_words(config: DataConfig | SolverConfig) -> None:
    """Refuse words that the command line's parser would have refused."""
    for name, known in WORDS[type(config)].items():
        value = getattr(config, name)
        if value not in known:
            raise InvalidArgument(f"{name} is {value!r}; it must be one of {', '.join(known)}")
