"""What a user gives, looked at as scikit-learn does: X, y and sample_weight as rows that the training loop takes."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.class_names import class_names, number_text
from distsoftmax.data.rows_of_ranks import LABEL_KINDS, RowsOfRanks, told_apart
from distsoftmax.data.source import TextColumn
from distsoftmax.errors import DistSoftmaxError, InputError, InvalidArgument

Value = TypeVar("Value")

NARROW = 1 << 16  # the largest difference of integers that are counted, not sorted
PARAMETERS = {  # as the command line names them
    "tolerance": "tol",
    "max-steps": "max_iter",
    "threads": "n_jobs",
    "seed": "random_state",
    "intercept": "fit_intercept",
    "no-intercept": "fit_intercept=False",
    "init": "warm_start",
    "weight": "sample_weight",
    "l2-path": "l2s",
    "no-standardize": "standardize=False",
}


@contextmanager
def in_python_words() -> Iterator[None]:
    """Name parameters, not options of the command line, in errors of ours; those of input are ValueErrors then."""
    try:
        yield
    except DistSoftmaxError as error:
        text = re.sub(r"--([a-z][a-z0-9-]*)", _parameter, str(error))
        kind = InvalidArgument if isinstance(error, InputError) else type(error)
        renamed = kind(text)
        renamed.agreed, renamed.node = error.agreed, error.node
        raise renamed from error


def _parameter(option: re.Match[str]) -> str:
    return PARAMETERS.get(option[1], option[1].replace("-", "_"))


def agreed(cluster: Communicator, work: Callable[[], Value]) -> Value:
    """Return what `work` returns; where it raises a ValueError or TypeError on one rank, all raise that. Collective.

    A process alone raises its own error as it is.
    """
    if cluster.size == 1:
        return work()
    values: list[Value] = []
    with cluster.agreement():
        try:
            values.append(work())
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"rank {cluster.rank}: {error}") from error
    return values[0]


def require_alike(parameters: Mapping[str, object], cluster: Communicator) -> None:
    """Refuse parameters that are not the same on all ranks. Collective.

    Raises
    ------
    InvalidArgument
        On every rank: names the first parameter that differs.
    """
    if cluster.size == 1:
        return
    everyone = cluster.allgather({name: (_content(value), reprlib.repr(value)) for name, value in parameters.items()})
    for rank, others in enumerate(everyone):
        for name, (digest, text) in everyone[0].items():
            if others[name][0] != digest:
                raise InvalidArgument(
                    f"{name} is {text} on rank 0 and {others[name][1]} on rank {rank}; give the same on all ranks"
                ).on_all_ranks()


def _content(value: Any) -> str:
    """Return a text that is the same for equal values on all ranks; arrays and random states by what they hold."""
    if isinstance(value, np.random.RandomState):
        return f"RandomState {_content(value.get_state(legacy=True))}"
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return _content(value.tolist())
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return repr(sorted((_content(key), _content(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return repr([_content(item) for item in value])
    return repr(value)


def given_rows(
    estimator: Any, X: Any, y: Any, sample_weight: Any, cluster: Communicator
) -> tuple[RowsOfRanks, NDArray]:
    """Return the rows that this rank gives, and the distinct labels among them; nothing of X that can stay is copied.

    Samples of a class of which none weighs anything are left out: scikit-learn's BaggingClassifier gives such.
    Sets `n_features_in_` and, where X names its columns, `feature_names_in_`. Collective.

    Raises
    ------
    ValueError, TypeError
        On every rank: as scikit-learn's checks say it.
    """
    X, y, weights = agreed(cluster, lambda: _checked(estimator, X, y, sample_weight, cluster))
    names = tuple(estimator.feature_names_in_) if hasattr(estimator, "feature_names_in_") else None
    values, codes = agreed(cluster, lambda: _numbered(y))
    texts = tuple(map(_spelled, values.tolist()))
    weighs = np.zeros(len(texts), dtype=np.bool_)
    weighs[codes if weights is None else codes[weights != 0]] = True
    that_weigh = set(cluster.union(text for text, does in zip(texts, weighs.tolist(), strict=True) if does))
    kept = np.array([text in that_weigh for text in texts], dtype=np.bool_)

    def rows_of_rank() -> tuple[RowsOfRanks, NDArray]:
        if not that_weigh or kept.all():
            return RowsOfRanks(_usable(X), TextColumn(texts, codes), values.dtype, weights, names), values
        rows = kept[codes]
        labels = TextColumn(
            tuple(text for text in texts if text in that_weigh), (np.cumsum(kept, dtype=np.int64) - 1)[codes[rows]]
        )
        of_rows = None if weights is None else weights[rows]
        return RowsOfRanks(_usable(X[rows]), labels, values.dtype, of_rows, names), values[kept]

    return agreed(cluster, rows_of_rank)


def _checked(
    estimator: Any, X: Any, y: Any, sample_weight: Any, cluster: Communicator
) -> tuple[Any, NDArray, NDArray[np.float64] | None]:
    """Return X, y and the weights as scikit-learn's checks leave them; it raises what they raise."""
    least = 1 if cluster.size == 1 else 0
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    X, y = validate_data(estimator, X, y, accept_sparse="csr", ensure_min_samples=least, order=None)
    if len(y):
        check_classification_targets(y)
    weights = None
    if sample_weight is not None:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64) if len(y) else np.zeros(0)
    if y.dtype.kind not in LABEL_KINDS:
        raise ValueError(f"y is of type {y.dtype}; give numbers or texts, such as y.astype(str)")
    if cluster.size > 1 and y.dtype == object and not all(isinstance(label, str) for label in y):
        raise ValueError("y holds objects that are no texts; give numbers or texts")
    return X, y, weights


def _usable(X: Any) -> Any:
    """Return features as a source takes them, the same where they are such."""
    if not isinstance(X, np.ndarray):
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        return X
    return X.astype(np.float64) if X.dtype.itemsize > 8 else X


def _numbered(y: NDArray) -> tuple[NDArray, NDArray[np.integer]]:
    """Return the distinct labels, ascending, and for each row the number of its own among them."""
    if np.can_cast(y.dtype, np.int64) and y.dtype.kind in "iu" and y.size:
        first, last = int(y.min()), int(y.max())
        if last - first < NARROW:
            shifted = y.astype(np.int64) - first if first else y
            present = np.bincount(shifted) > 0
            values = (np.flatnonzero(present) + first).astype(y.dtype)
            number = np.zeros(present.size, dtype=np.uint16 if values.size > 256 else np.uint8)
            number[present] = np.arange(values.size)
            return values, number[shifted]
    values, codes = np.unique(y, return_inverse=True)
    return values, codes.reshape(-1)


def _spelled(label: object) -> str:
    return number_text(label) if isinstance(label, float) else str(label)


@dataclass(frozen=True)
class Classes:
    """The classes of all ranks.

    Attributes
    ----------
    values : ndarray, (n_classes,)
        As the user knows them, in the order of `numpy.unique`.
    names : tuple of str
        Of each, as the command line and the model's file call it.
    """

    values: NDArray
    names: tuple[str, ...]

    @classmethod
    def of(cls, source: RowsOfRanks, own: NDArray, cluster: Communicator) -> Classes:
        """Return the classes of a source that is scanned.

        Parameters
        ----------
        own : ndarray
            The distinct labels of this rank.
        """
        texts = told_apart(source.label_texts)
        name = class_names(texts)
        names = [name[text] for text in texts]
        if cluster.size == 1:
            return cls(own, tuple(names))
        values = np.array([_value(text, source.label_dtype) for text in source.label_texts], dtype=source.label_dtype)
        order = np.argsort(values, kind="stable")
        return cls(values[order], tuple(names[number] for number in order))

    def order_in(self, names: Sequence[str]) -> list[int]:
        """Return where each class stands among names."""
        number = {name: index for index, name in enumerate(names)}
        return [number[name] for name in self.names]

    def weights(self, class_weight: object) -> str | None:
        """Return what `class_weight` says as the training data take it; a class that it leaves out weighs 1.

        Raises
        ------
        InvalidArgument
            It is neither None, nor "balanced", nor a mapping of classes to weights.
        """
        if class_weight is None or class_weight == "balanced":
            return None if class_weight is None else "balanced"
        if not isinstance(class_weight, Mapping):
            raise InvalidArgument(f"class_weight is {class_weight!r}; give a dict of classes, 'balanced', or None")
        own = {name: class_weight.get(value) for name, value in zip(self.names, self.values.tolist(), strict=True)}
        unknown = [label for label in class_weight if label not in set(self.values.tolist())]
        if unknown and None in own.values():
            raise InvalidArgument(f"class_weight has no weight for some classes, and one for {unknown[0]!r}, not in y")
        for weight in own.values():
            if weight is not None and not isinstance(weight, Real):
                raise InvalidArgument(f"class_weight holds {weight!r}; give each class a number above 0")
        return json.dumps({name: 1.0 if weight is None else float(weight) for name, weight in own.items()})


def _value(text: str, dtype: np.dtype) -> object:
    """Return the label that a text spells."""
    if dtype.kind == "b":
        return text == "True"
    return int(text) if dtype.kind in "iu" else float(text) if dtype.kind == "f" else text
