"""A run that starts from a model: whether it fits the data, and what it is in training's units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.dataset import Dataset
from distsoftmax.errors import InputError
from distsoftmax.model import Model, NumberedNames

SHOWN = 3  # names that differ in a message, at most


def start_parameters(model: Model, dataset: Dataset, init: str, intercept: bool) -> NDArray[np.float64]:
    """Return a model's parameters, (n_classes, n_features + 1), in training's units. Not collective.

    Classes and features are matched by their names, so that their order is that of the data.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    init : str
        What --init names.
    intercept : bool
        Whether the run fits one.

    Raises
    ------
    InputError
        The model is not one of these classes and features; names the differences.
    """
    names = dataset.encoding.feature_names
    differences = [
        *_index_differences(model.encoding.index_base, dataset.encoding.index_base),
        *_differences("classes", model.classes, dataset.classes),
        *_differences("features", model.feature_names, names),
    ]
    if differences:
        raise InputError(
            f"--init {init}: the model does not fit the data: {'; '.join(differences)}. Give a model of the same "
            "classes and features, or leave --init out"
        )
    if not intercept and model.intercept.any():
        raise InputError(f"--init {init}: the model has intercepts; leave --no-intercept out, or leave --init out")
    rows, columns = _order(model.classes, dataset.classes), _order(model.feature_names, names)
    parameters = dataset.standardization.in_training_units(model.coef[rows][:, columns], model.intercept[rows])
    if not np.isfinite(parameters).all():
        raise InputError(f"--init {init}: the model holds coefficients that are not finite numbers; train it again")
    return parameters


def _index_differences(of_model: int | None, of_data: int | None) -> list[str]:
    if of_model is None or of_data is None or of_model == of_data:
        return []
    return [f"its columns count from {of_model}, those of the data from {of_data}: give --index-base {of_model}"]


def _differences(what: str, of_model: Sequence[str], of_data: Sequence[str]) -> list[str]:
    """Return what the model has that the data lack, and the other way round; nothing where they agree."""
    if of_model == of_data:
        return []
    counts = f"it has {len(of_model)} {what}, the data {len(of_data)}"
    if isinstance(of_model, NumberedNames) and isinstance(of_data, NumberedNames):
        return [counts + (f": give --n-features {len(of_model)}" if len(of_model) > len(of_data) else "")]
    names_of_data, names_of_model = set(of_data), set(of_model)
    missing = [name for name in of_model if name not in names_of_data]
    new = [name for name in of_data if name not in names_of_model]
    if not missing and not new and len(of_model) != len(of_data):
        return [counts]  # a name occurs twice
    return [
        *([f"the data lack its {what} {_first(missing)}"] if missing else []),
        *([f"it lacks the data's {what} {_first(new)}"] if new else []),
    ]


def _first(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more ({len(names)} in all)" if rest > 0 else "")


def _order(names: Sequence[str], wanted: Sequence[str]) -> slice | list[int]:
    """Return the indices of the names wanted; a slice where that is all of them as they stand."""
    if names == wanted:
        return slice(None)
    index = {name: number for number, name in enumerate(names)}
    return [index[name] for name in wanted]
