"""The trained model, in the user's own units, and its file."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from distsoftmax.errors import InputError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Model:
    """A softmax regression: scores = coef x + intercept, probabilities = softmax(scores).

    Attributes
    ----------
    coef : ndarray of float64, (n_classes, n_features)
    intercept : ndarray of float64, (n_classes,)
    classes : tuple of str
        The labels, in the order of the rows of `coef`.
    feature_names : tuple of str
        In the order of the columns of `coef`.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    classes: tuple[str, ...]
    feature_names: tuple[str, ...]

    @property
    def parameters(self) -> NDArray[np.float64]:
        """Coefficients and intercept in one array, (n_classes, n_features + 1), the intercept last."""
        return np.column_stack([self.coef, self.intercept])

    @property
    def sha256(self) -> str:
        """The SHA-256 of the coefficients' bytes, then the intercepts', little-endian, in hexadecimal."""
        digest = hashlib.sha256(self.coef.astype("<f8").tobytes())
        digest.update(self.intercept.astype("<f8").tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of the model's file: safetensors, with the names as JSON in its metadata."""
        metadata = {
            "format": "distsoftmax model",
            "format_version": str(FORMAT_VERSION),
            "classes": json.dumps(self.classes),
            "feature_names": json.dumps(self.feature_names),
        }
        tensors = {
            "coef": np.ascontiguousarray(self.coef, dtype="<f8"),
            "intercept": np.ascontiguousarray(self.intercept, dtype="<f8"),
        }
        return save(tensors, metadata)


def load_model(path: Path) -> Model:
    """Read a model's file.

    Raises
    ------
    InputError
        The file is missing, damaged, or no model of a version known here.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such model; give the model.safetensors of a run, or the run's folder")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            version = metadata.get("format_version")
            if metadata.get("format") != "distsoftmax model":
                raise InputError(f"{path}: is not a model of distsoftmax")
            if version != str(FORMAT_VERSION):
                raise InputError(
                    f"{path}: has format version {version}; this program reads {FORMAT_VERSION}: update it"
                )
            model = Model(
                file.get_tensor("coef"),
                file.get_tensor("intercept"),
                tuple(json.loads(metadata["classes"])),
                tuple(json.loads(metadata["feature_names"])),
            )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: is damaged or unreadable: {error}") from None
    if model.coef.shape != (len(model.classes), len(model.feature_names)) or model.intercept.shape != (
        len(model.classes),
    ):
        raise InputError(f"{path}: is damaged: its names do not fit its tensors")
    return model
