"""The parameters as other programs take them; nothing is pickled, and what is done to raw columns is told beside them.

--to csv                coefficients with their names, a row each
--to sklearn-json       what scikit-learn's LogisticRegression knows once it is fitted
--to torch-safetensors  weight and bias of a torch.nn.Linear
"""

from __future__ import annotations

import csv
import io
import json
from typing import BinaryIO

import numpy as np

from distsoftmax.exporting.names import columns_as_json, metadata, parameters_in
from distsoftmax.model import Model, NumberedNames
from distsoftmax.tensor_file import tensor_file_content


def write_coefficients(model: Model, file: BinaryIO) -> None:
    """Write the columns class, feature and coefficient: for each class its intercept, then its features in their order.

    A number has the shortest digits that give it back exactly; UTF-8, and quotes as in RFC 4180.

    Raises
    ------
    OSError

    Examples
    --------
    >>> import numpy as np
    >>> from distsoftmax.model import Encoding
    >>> model = Model(np.array([[0.1, -2.0]]), np.array([1.5]), ("cat",), Encoding(numeric=("size", "age")))
    >>> content = io.BytesIO()
    >>> write_coefficients(model, content)
    >>> print(content.getvalue().decode(), end="")
    class,feature,coefficient
    cat,(intercept),1.5
    cat,size,0.1
    cat,age,-2.0
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class", "feature", "coefficient"])
    names = ["(intercept)", *model.feature_names]
    for name, intercept, row in zip(model.classes, model.intercept.tolist(), model.coef, strict=True):
        # repr of a float is its shortest digits
        table.writerows(zip([name] * len(names), names, map(repr, [intercept, *row.tolist()]), strict=True))
        file.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()


def write_sklearn_json(model: Model, file: BinaryIO) -> None:
    """Write one JSON object: `fitted` are the estimator's attributes, `columns` says which features it takes.

    These lines make the estimator of the file:

        estimator, fitted = LogisticRegression(), json.load(open("wine.json"))["fitted"]
        for name, value in fitted.items():
            setattr(estimator, name, np.array(value) if isinstance(value, list) else value)

    Of two classes scikit-learn keeps one row: its score is the second class's less the first one's. Numbers have the
    shortest digits that give them back exactly. Features without names of their own have no `feature_names_in_`, so
    that the estimator takes plain arrays.

    Raises
    ------
    OSError

    Examples
    --------
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
    if not isinstance(model.feature_names, NumberedNames):
        fitted["feature_names_in_"] = list(model.feature_names)
    content = {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "model_sha256": model.sha256,
        "columns": columns_as_json(model),
        "fitted": fitted,
    }
    file.write(json.dumps(content, allow_nan=False).encode() + b"\n")


def write_torch_tensors(model: Model, file: BinaryIO, dtype: np.dtype) -> None:
    """Write `weight` (n_classes, n_features) and `bias` (n_classes,), with names and columns as texts in the metadata.

        linear = torch.nn.Linear(n_features, n_classes)
        linear.load_state_dict(safetensors.torch.load_file("wine.torch.safetensors"))
        probabilities = torch.softmax(linear(features), dim=1)

    Parameters
    ----------
    dtype : numpy.dtype
        float32 or float64. A `Linear` takes float32 unless it was made with ``dtype=torch.float64``.

    Raises
    ------
    InputError
        A coefficient is beyond the type.
    OSError

    Examples
    --------
    >>> from safetensors.numpy import load
    >>> from distsoftmax.model import Encoding
    >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
    >>> content = io.BytesIO()
    >>> write_torch_tensors(model, content, np.dtype("float32"))
    >>> load(content.getvalue())["weight"].dtype
    dtype('float32')
    """
    weight, bias = parameters_in(model, dtype)
    for buffer in tensor_file_content("torch.nn.Linear", {"weight": weight, "bias": bias}, metadata(model)):
        file.write(buffer)
