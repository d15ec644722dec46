"""The trained model, in the user's own units, and its file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import DamagedFile, InputError
from distsoftmax.run_folder import model_file
from distsoftmax.tensor_file import Buffer, read_tensor_file, tensor_file_content

if TYPE_CHECKING:
    from distsoftmax.config import OnMissing

FORMAT_VERSION = 2
INTERIM_NOTE = "is an interim model: its run was stopped early, and goes on when it is started again"
DENSE_CATEGORIES = 64  # features of categories that are always dense
LARGEST_DENSITY = 0.1  # of sparse features: a stored entry takes half as much again, and more work, than a dense one


class NumberedNames(Sequence[str]):
    """The names x0, x1, ... of features that have none; ten million of them take no memory.

    Examples
    --------
    >>> NumberedNames(10_000_000)[-2:]
    ('x9999998', 'x9999999')
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        numbers = range(self._count)[index]
        return f"x{numbers}" if isinstance(numbers, int) else tuple(f"x{number}" for number in numbers)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NumberedNames):
            return self._count == other._count
        return isinstance(other, Sequence) and len(other) == self._count and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(("NumberedNames", self._count))

    def __repr__(self) -> str:
        return f"NumberedNames({self._count})"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the columns of a source become features; a model takes raw rows, so it keeps this.

    Attributes
    ----------
    numeric : sequence of str
        The columns taken as numbers.
    fill : ndarray of float64, () or (n_numeric,), or None
        What stands for a missing number; None: a missing cell is an error.
    categories : tuple of (str, tuple of str)
        The text columns, each with the categories seen in training; each category is a feature, 1 where it stands.
    index_base : int or None
        The index of the first column in svmlight files.
    missing : tuple of str
        What a missing cell says, besides what does so in every source.
    drop_rows_missing : bool
        Whether rows with a missing cell are left out.

    Examples
    --------
    >>> Encoding(numeric=("size",), categories=(("colour", ("blue", "red")),)).feature_names
    ('size', 'colour=blue', 'colour=red')
    """

    numeric: Sequence[str]
    fill: NDArray[np.float64] | None = None
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    index_base: int | None = None
    missing: tuple[str, ...] = ()
    drop_rows_missing: bool = False

    @property
    def is_sparse(self) -> bool:
        """Whether features are kept as compressed rows: of many categories, each row has one a column.

        It follows from the columns alone, so that training, held-out data, predictions and every rank have it alike.
        """
        width = sum(len(texts) for _, texts in self.categories)
        n_columns, n_features = (len(self.numeric) + count for count in (len(self.categories), width))
        return width > DENSE_CATEGORIES and n_columns < LARGEST_DENSITY * n_features

    @property
    def on_missing(self) -> OnMissing:
        """What becomes of a missing cell."""
        if self.drop_rows_missing:
            return "drop row"
        return "error" if self.fill is None else "fill"

    @property
    def feature_names(self) -> Sequence[str]:
        """The features' names: the numeric columns, then column=category."""
        if not self.categories:
            return self.numeric
        return (*self.numeric, *(f"{column}={text}" for column, texts in self.categories for text in texts))


@dataclass(frozen=True)
class Model:
    """A softmax regression: scores = coef x + intercept, probabilities = softmax(scores).

    Attributes
    ----------
    coef : ndarray of float64, (n_classes, n_features)
    intercept : ndarray of float64, (n_classes,)
    classes : tuple of str
        The labels, in the order of the rows of `coef`.
    encoding : Encoding
        How the columns of a source become the columns of `coef`.
    arithmetic : int or None
        The arithmetic version that it was trained by; None for models older than these.
    label : str or None
        The column of labels in the training data, by name or number; None where it had no column of its own.
    interim : bool
        Whether the run that made it was stopped before its end.

    Examples
    --------
    >>> coef, intercept = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), np.zeros(3)
    >>> model = Model(coef, intercept, ("cat", "dog", "eel"), Encoding(numeric=("size", "age")))
    >>> model.parameters.shape
    (3, 3)
    >>> model.classes[np.argmax(model.coef @ [2.0, 5.0] + model.intercept)]
    'dog'
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    classes: tuple[str, ...]
    encoding: Encoding
    arithmetic: int | None = None
    label: str | None = None
    interim: bool = False

    @property
    def feature_names(self) -> Sequence[str]:
        """The features' names, in the order of the columns of `coef`."""
        return self.encoding.feature_names

    @property
    def parameters(self) -> NDArray[np.float64]:
        """Coefficients and intercept in one array, (n_classes, n_features + 1), the intercept last."""
        return np.column_stack([self.coef, self.intercept])

    @property
    def sha256(self) -> str:
        """The SHA-256 of the coefficients' bytes, then the intercepts', little-endian, in hexadecimal."""
        digest = hashlib.sha256(np.ascontiguousarray(self.coef, dtype="<f8").view(np.uint8).data)
        digest.update(self.intercept.astype("<f8").tobytes())
        return digest.hexdigest()

    def file_content(self) -> list[Buffer]:
        """Return the content of the model's file, with the names as JSON in its metadata; see `tensor_file_content`."""
        encoding = self.encoding
        columns = {
            "numeric": names_as_json(encoding.numeric),
            "categories": encoding.categories,
            "index_base": encoding.index_base,
            **({"missing": encoding.missing} if encoding.missing else {}),
            **({"drop_rows_missing": True} if encoding.drop_rows_missing else {}),
        }
        metadata = {
            "format_version": str(FORMAT_VERSION),
            "classes": json.dumps(self.classes),
            "feature_names": json.dumps(names_as_json(self.feature_names)),
            "columns": json.dumps(columns),
        }
        if self.arithmetic is not None:
            metadata["arithmetic"] = str(self.arithmetic)
        if self.label is not None:
            metadata["label"] = self.label
        if self.interim:
            metadata["interim"] = "yes"
        tensors = {
            "coef": np.ascontiguousarray(self.coef, dtype="<f8"),
            "intercept": np.ascontiguousarray(self.intercept, dtype="<f8"),
        }
        if encoding.fill is not None:
            tensors["fill"] = np.array(encoding.fill, dtype="<f8")
        return tensor_file_content("model", tensors, metadata)


def load_model(path: str | Path) -> Model:
    """Read a model's file.

    Parameters
    ----------
    path : str or Path
        The model.safetensors of a run, or the folder it stands in.

    Raises
    ------
    InputError
        The file is missing, damaged, or no model of a version known here.

    Examples
    --------
    >>> from distsoftmax.durable import write_atomically
    >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
    >>> write_atomically(Path("model.safetensors"), *model.file_content())
    >>> load_model(".").feature_names
    ('size', 'age')
    """
    path = model_file(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such model; give the model.safetensors of a run, or the run's folder")
    tensors, metadata = read_tensor_file("model", path, needs_checksum=False)  # the first models had none
    version = metadata.get("format_version")
    if version != str(FORMAT_VERSION):
        raise InputError(f"{path}: has format version {version}; this program reads {FORMAT_VERSION}: train it again")
    try:
        columns = json.loads(metadata["columns"])
        encoding = Encoding(
            numeric=names_from_json(columns["numeric"]),
            fill=tensors.get("fill"),
            categories=tuple((name, tuple(texts)) for name, texts in columns["categories"]),
            index_base=columns["index_base"],
            missing=tuple(columns.get("missing", ())),
            drop_rows_missing=bool(columns.get("drop_rows_missing")),
        )
        arithmetic = int(metadata["arithmetic"]) if "arithmetic" in metadata else None
        classes = tuple(json.loads(metadata["classes"]))
        n_features = len(encoding.numeric) + sum(len(texts) for _, texts in encoding.categories)
        label, interim = metadata.get("label"), metadata.get("interim") == "yes"
        model = Model(tensors["coef"], tensors["intercept"], classes, encoding, arithmetic, label, interim)
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise DamagedFile(f"{path}: is damaged: {error}") from None
    shapes = (len(classes), n_features), (len(classes),)
    if (model.coef.shape, model.intercept.shape) != shapes:
        raise DamagedFile(f"{path}: is damaged: its names do not fit its tensors")
    return model


def names_as_json(names: Sequence[str]) -> list[str] | dict[str, int]:
    """Return names as JSON takes them; those that are only numbered as their number."""
    return {"numbered": len(names)} if isinstance(names, NumberedNames) else list(names)


def names_from_json(value: list[str] | dict[str, int]) -> Sequence[str]:
    """Return the names that `names_as_json` has made this of."""
    return NumberedNames(value["numbered"]) if isinstance(value, dict) else tuple(value)
