"""The trained model, in the user's own units, and its file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.arithmetic.parameters import FLOAT64, product
from distsoftmax.encoding import Encoding, NumberedNames, names_as_json, names_from_json
from distsoftmax.errors import DamagedFile, InputError
from distsoftmax.tensor_file import Buffer, read_tensor_file, tensor_file_content

if TYPE_CHECKING:
    from distsoftmax.data.preparation import Samples

__all__ = ["Encoding", "Model", "NumberedNames", "load_model"]

FORMAT_VERSION = 2
ROWS_AT_ONCE = 256  # whose scores are computed together


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

    def predict_proba(self, rows: Any) -> NDArray[np.float64]:
        """Return the probability of each class for each row, with the bits that ``predict --probabilities`` writes.

        Needs no MPI, and is not collective. The model is used as it was trained: missing numbers are filled, categories
        spread over columns; a category that training never saw, or a missing one, is none of the known ones.

        Parameters
        ----------
        rows : array, sparse matrix or table
            Features as an array of numbers, (rows, n_features), or a sparse matrix of scipy; or raw columns by name: a
            dict of arrays, (rows,) each, or a table of pandas, polars or pyarrow, whose other columns are left alone.
            For a model of svmlight files the column with the index `encoding.index_base` comes first.

        Returns
        -------
        ndarray of float64, (rows, n_classes)
            The columns in the order of `classes`.

        Raises
        ------
        InputError
            A column is missing, or a cell cannot be used: infinite, or missing where the model has no fill for it.

        Examples
        --------
        >>> encoding = Encoding(numeric=("size",), fill=np.array([3.0]), categories=(("colour", ("blue", "red")),))
        >>> model = Model(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), np.zeros(2), ("cat", "dog"), encoding)
        >>> model.predict_proba({"size": [0.0, 1.0, np.nan], "colour": ["blue", "red", "green"]}).round(3)
        array([[0.269, 0.731],
               [0.881, 0.119],
               [0.953, 0.047]])
        """
        scorer, shards = self._opened(rows)
        return np.concatenate([scorer.probabilities(samples.rows(FLOAT64)) for samples in shards])

    def predict(self, rows: Any) -> NDArray[np.str_]:
        """Return the most probable class of each row, (rows,), as ``predict`` writes it; see `predict_proba`.

        Examples
        --------
        >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
        >>> model.predict([[2.0, 1.0], [2.0, 5.0]]).tolist()
        ['cat', 'dog']
        """
        scorer, shards = self._opened(rows)
        codes = np.concatenate([scorer.loss_and_prediction(samples.rows(FLOAT64))[1] for samples in shards])
        predicted: NDArray[np.str_] = np.array(self.classes)[codes]
        return predicted

    def decision_function(self, rows: Any) -> NDArray[np.float64]:
        """Return the scores coef x + intercept, (rows, n_classes), also of two classes; see `predict_proba`.

        Examples
        --------
        >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
        >>> model.decision_function([[2.0, 1.0]])
        array([[2., 1.]])
        """
        _, shards = self._opened(rows)
        return np.concatenate([block for samples in shards for block in self._scores(samples)])

    def _opened(self, rows: Any) -> tuple[Scorer, Iterator[Samples]]:
        """Return what scores rows, and their samples, some thousands at a time."""
        from distsoftmax.data.given_rows import given_rows
        from distsoftmax.data.preparation import Preparation

        divided, encoding = given_rows(rows, self.encoding)
        preparation = Preparation.for_scoring(encoding, None)
        shards = divided.read_all(missing=encoding.fill is not None)
        samples = (preparation.prepare(shard).training for shard in shards)
        return Scorer(self.parameters, FLOAT64, sparse=divided.source.sparse), samples

    def _scores(self, samples: Samples) -> Iterator[NDArray[np.float64]]:
        from distsoftmax.data.features import SparseFeatures

        features = samples.features
        for start in range(0, max(len(samples), 1), ROWS_AT_ONCE):
            rows, coef = slice(start, start + ROWS_AT_ONCE), self.coef
            if isinstance(features, SparseFeatures):  # few columns occur in so few rows
                block = SparseFeatures.from_csr(features.matrix[rows])
                coef, values = coef[:, features.columns[block.columns]], block.matrix.toarray()
            else:
                values = np.asarray(features[rows])
            yield product(values.astype(np.float64), coef.T) + self.intercept

    def file_content(self) -> list[Buffer]:
        """Return the content of the model's file, with the names as JSON in its metadata; see `tensor_file_content`."""
        encoding = self.encoding
        columns = {
            "numeric": names_as_json(encoding.numeric),
            "categories": encoding.categories,
            "index_base": encoding.index_base,
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
    """Read a model's file. Needs no MPI.

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
    >>> load_model("model.safetensors").feature_names
    ('size', 'age')
    >>> load_model(".").predict([[2.0, 5.0]]).tolist()
    ['dog']
    """
    path = Path(path, "model.safetensors") if os.path.isdir(path) else Path(path)
    if not path.is_file():
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
