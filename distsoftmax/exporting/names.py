"""What an exported file says of a model beside its numbers: names, and how raw columns become features."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from distsoftmax.errors import InputError
from distsoftmax.model import Model, names_as_json


def columns_as_json(model: Model) -> dict[str, object]:
    """Return how the columns of a source become the model's features, as JSON takes it.

    Returns
    -------
    dict
        ``numeric``: the names of the columns taken as numbers, or ``{"numbered": n}`` for x0, x1, ...
        ``missing``: what a missing cell says, besides an empty one. ``fill``: what stands for a missing number: one for
        all, a list of one a column, or null for an error. ``drop_rows_missing``: whether a row with a missing cell has
        no prediction.
        ``categories``: for each text column its name and its categories; a category is a feature, 1 where it stands,
        and these features follow the numeric ones. ``index_base``: the first column's index in svmlight files.
    """
    encoding = model.encoding
    return {
        "numeric": names_as_json(encoding.numeric),
        "missing": list(encoding.missing),
        "drop_rows_missing": encoding.drop_rows_missing,
        "fill": None if encoding.fill is None else encoding.fill.tolist(),
        "categories": [[column, list(texts)] for column, texts in encoding.categories],
        "index_base": encoding.index_base,
    }


def metadata(model: Model) -> Mapping[str, str]:
    """Return texts for formats that take them: classes, feature names and columns in JSON, and the model's SHA-256."""
    return {
        "classes": json.dumps(model.classes),
        "feature_names": json.dumps(names_as_json(model.feature_names)),
        "columns": json.dumps(columns_as_json(model)),
        "model_sha256": model.sha256,
    }


def encoding_note(model: Model) -> str:
    """Return what to say where a file takes features, and the model takes raw columns; empty where these are equal."""
    encoding, done_before = model.encoding, []
    if encoding.categories:
        done_before.append("texts spread over columns of 0 and 1")
    if encoding.fill is not None:
        done_before.append("missing numbers filled in")
    if not done_before:
        return ""
    return (
        f"it takes features with {' and '.join(done_before)}, as 'columns' in it describes; a file of --to onnx takes "
        "raw columns"
    )


def parameters_in(model: Model, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients and intercepts rounded to a type, in the computer's byte order.

    Raises
    ------
    InputError
        One of them is beyond the type.
    """
    with np.errstate(over="ignore"):
        coef, intercept = model.coef.astype(dtype), model.intercept.astype(dtype)
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        raise InputError(f"a coefficient is beyond {dtype}; take --dtype float64, or rescale the features")
    return coef, intercept
