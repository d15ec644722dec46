"""--to csv: the coefficients with their names, a row each."""

from __future__ import annotations

import csv
import io
from typing import BinaryIO

from distsoftmax.model import Model

INTERCEPT = "(intercept)"


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
    names = [INTERCEPT, *model.feature_names]
    for name, intercept, row in zip(model.classes, model.intercept.tolist(), model.coef, strict=True):
        # repr of a float is its shortest digits
        table.writerows(zip([name] * len(names), names, map(repr, [intercept, *row.tolist()]), strict=True))
        file.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()
