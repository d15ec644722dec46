"""A trained model on rows in memory, alone and without MPI: predictions in a notebook, a script, a server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.arithmetic.library import version_note
from distsoftmax.arithmetic.parameters import product
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.given_rows import given_rows
from distsoftmax.data.preparation import SCORING_DTYPE, Preparation, Samples
from distsoftmax.model import INTERIM_NOTE, Model
from distsoftmax.model import load_model as load_plain_model

ROWS_AT_ONCE = 256  # whose scores are computed together


class Predictor(Model):
    """A `Model` that scores rows in memory. Needs no MPI; no call is collective.

    Examples
    --------
    >>> from distsoftmax.model import Encoding
    >>> model = Predictor(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
    >>> model.predict([[2.0, 1.0], [2.0, 5.0]]).tolist()
    ['cat', 'dog']
    """

    @classmethod
    def of(cls, model: Model) -> Predictor:
        """Return a model as one that scores rows."""
        return cls(**vars(model))

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
        >>> from distsoftmax.model import Encoding
        >>> encoding = Encoding(numeric=("size",), fill=np.array([3.0]), categories=(("colour", ("blue", "red")),))
        >>> model = Predictor(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), np.zeros(2), ("cat", "dog"), encoding)
        >>> model.predict_proba({"size": [0.0, 1.0, np.nan], "colour": ["blue", "red", "green"]}).round(3)
        array([[0.269, 0.731],
               [0.881, 0.119],
               [0.953, 0.047]])
        """
        scorer, shards = self._opened(rows)
        return np.concatenate([scorer.probabilities(samples.rows(SCORING_DTYPE)) for samples in shards])

    def predict(self, rows: Any) -> NDArray[np.str_]:
        """Return the most probable class of each row, (rows,), as ``predict`` writes it; see `predict_proba`.

        Examples
        --------
        >>> from distsoftmax.model import Encoding
        >>> model = Predictor(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
        >>> model.predict([[2.0, 1.0], [2.0, 5.0]]).tolist()
        ['cat', 'dog']
        """
        scorer, shards = self._opened(rows)
        codes = np.concatenate([scorer.loss_and_prediction(samples.rows(SCORING_DTYPE))[1] for samples in shards])
        predicted: NDArray[np.str_] = np.array(self.classes)[codes]
        return predicted

    def decision_function(self, rows: Any) -> NDArray[np.float64]:
        """Return the scores coef x + intercept, (rows, n_classes), also of two classes; see `predict_proba`.

        Examples
        --------
        >>> from distsoftmax.model import Encoding
        >>> model = Predictor(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
        >>> model.decision_function([[2.0, 1.0]])
        array([[2., 1.]])
        """
        _, shards = self._opened(rows)
        return np.concatenate([block for samples in shards for block in self._scores(samples)])

    def _opened(self, rows: Any) -> tuple[Scorer, Iterator[Samples]]:
        """Return what scores rows, and their samples, some thousands at a time."""
        divided, encoding = given_rows(rows, self.encoding)
        preparation = Preparation.for_scoring(encoding, None)
        # where training left rows with a missing cell out, there is no answer for one
        shards = divided.read_all(on_missing="error" if encoding.fill is None else "fill")
        samples = (preparation.prepare(shard).training for shard in shards)
        return Scorer(self.parameters, SCORING_DTYPE, sparse=divided.source.sparse or encoding.is_sparse), samples

    def _scores(self, samples: Samples) -> Iterator[NDArray[np.float64]]:
        features = samples.features
        for start in range(0, max(len(samples), 1), ROWS_AT_ONCE):
            rows, coef = slice(start, start + ROWS_AT_ONCE), self.coef
            if isinstance(features, SparseFeatures):  # few columns occur in so few rows
                block = SparseFeatures.from_csr(features.matrix[rows])
                coef, values = coef[:, features.columns[block.columns]], block.matrix.toarray()
            else:
                values = np.asarray(features[rows])
            yield product(values.astype(np.float64), coef.T) + self.intercept


def load_model(path: str | Path) -> Predictor:
    """Read a model's file, for predictions on rows in memory. Needs no MPI.

    It warns (UserWarning) of a model of another arithmetic version, and of one whose run was stopped early.

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
    >>> from distsoftmax.model import Encoding
    >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
    >>> write_atomically(Path("model.safetensors"), *model.file_content())
    >>> load_model(".").predict_proba({"age": [5.0], "size": [5.0]})
    array([[0.5, 0.5]])
    """
    model = load_plain_model(path)
    for note in (version_note(model.arithmetic), INTERIM_NOTE if model.interim else ""):
        if note:
            warnings.warn(f"{path} {note}", stacklevel=2)
    return Predictor.of(model)
