"""--to sklearn-json: what scikit-learn's LogisticRegression knows once it is fitted, as JSON; nothing is pickled.

These lines make the estimator of the file:

    estimator, fitted = LogisticRegression(), json.load(open("wine.json"))["fitted"]
    for name, value in fitted.items():
        setattr(estimator, name, np.array(value) if isinstance(value, list) else value)
"""

from __future__ import annotations

import json
from typing import BinaryIO

from distsoftmax.exporting.names import columns_as_json, has_names
from distsoftmax.model import Model


def write_sklearn_json(model: Model, file: BinaryIO) -> None:
    """Write one JSON object: `fitted` are the estimator's attributes, `columns` says which features it takes.

    Of two classes scikit-learn keeps one row: its score is the second class's less the first one's. Numbers have the
    shortest digits that give them back exactly. Features without names of their own have no `feature_names_in_`, so
    that the estimator takes plain arrays.

    Raises
    ------
    OSError

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from distsoftmax.model import Encoding
    >>> model = Model(np.array([[0.1], [0.5]]), np.array([0.0, -1.0]), ("cat", "dog"), Encoding(numeric=("size",)))
    >>> content = io.BytesIO()
    >>> write_sklearn_json(model, content)
    >>> json.loads(content.getvalue())["fitted"]["coef_"], json.loads(content.getvalue())["fitted"]["classes_"]
    ([[0.4]], ['cat', 'dog'])
    """
    coef, intercept = model.coef, model.intercept
    if len(model.classes) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    fitted = {
        "classes_": list(model.classes),
        "n_features_in_": coef.shape[1],
        "intercept_": intercept.tolist(),
        "coef_": coef.tolist(),
    }
    if has_names(model):
        fitted["feature_names_in_"] = list(model.feature_names)
    content = {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "model_sha256": model.sha256,
        "columns": columns_as_json(model),
        "fitted": fitted,
    }
    file.write(json.dumps(content, allow_nan=False).encode() + b"\n")
