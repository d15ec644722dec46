"""What all ranks know of a dataset, and its record in a file, by which a run that is started again knows it, too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax import __version__
from distsoftmax.arithmetic.library import VERSION
from distsoftmax.data.preparation import Preparation
from distsoftmax.data.standardization import Standardization
from distsoftmax.errors import DamagedFile
from distsoftmax.model import Encoding, names_as_json, names_from_json
from distsoftmax.tensor_file import tensor_file_content, tensors_in

KIND = "record of a dataset"
# what is an array, or None, in a preparation, in its encoding and in its standardization
ARRAYS = ("fill", "mean", "inverse", "offset", "trained", "class_weights")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What all ranks know of a dataset: equal on every rank.

    Attributes
    ----------
    preparation : Preparation
        What made the samples; of any shard it makes them on any rank.
    n_rows, n_valid_rows : int
        Of the sources named by --data and --valid, with the rows that are left out.
    total_weight : float
        The sum of the training samples' weights.
    unit_exponent : int
        The power of two by which all weights were divided.
    shard_digests : ndarray of int64, (n_shards,)
        A digest of each shard as read; a changed source shows here.
    held_out_digests : ndarray of int64, (n_held_out_shards,)
        The same of the source named by --valid; empty where there is none.
    notes : tuple of str
        What the user should know.
    label : str or None
        The column of labels, see `Source.label_name`.
    """

    preparation: Preparation
    n_rows: int
    n_training: int
    n_held_out: int
    total_weight: float
    sparse: bool
    shard_digests: NDArray[np.int64]
    held_out_digests: NDArray[np.int64]
    notes: tuple[str, ...]
    unit_exponent: int = 0
    label: str | None = None
    n_valid_rows: int = 0

    @property
    def n_shards(self) -> int:
        """The number of shards on all ranks together."""
        return self.shard_digests.size

    @property
    def held_out_digest(self) -> str:
        """A digest of the held-out samples; empty where they are a part of the source."""
        digests = self.held_out_digests
        return hashlib.sha256(digests.tobytes()).hexdigest()[:12] if digests.size else ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the parameters' rows."""
        return self.preparation.classes or ()

    @property
    def encoding(self) -> Encoding:
        """The features that the source's columns became."""
        return self.preparation.encoding

    @property
    def standardization(self) -> Standardization:
        """The units that are trained in."""
        return self.preparation.standardization

    @property
    def dtype(self) -> np.dtype:
        """The type to compute in."""
        return self.preparation.dtype

    @property
    def class_weights(self) -> NDArray[np.float64] | None:
        """Each class's weight, (n_classes,)."""
        return self.preparation.class_weights

    @property
    def shape(self) -> tuple[int, int]:
        """The parameters': (n_classes, number of features trained on + 1)."""
        return len(self.classes), self.standardization.n_trained + 1

    def content(self, key: str) -> bytes:
        """Return the content of the record's file; see `facts_in`."""
        tensors, text = _in_parts(self.preparation)
        own = {item.name: getattr(self, item.name) for item in fields(Facts) if item.name != "preparation"}
        tensors |= {name: own.pop(name) for name in ("shard_digests", "held_out_digests")}
        metadata = {"key": key, "preparation": text, "facts": json.dumps(own)}
        return b"".join(tensor_file_content(KIND, tensors, metadata))


def facts_in(content: bytes, key: str, path: Path) -> Facts:
    """Return what a record holds.

    Parameters
    ----------
    key : str
        What the record must have been made for.

    Raises
    ------
    DamagedFile
        It is no record, is damaged, or is of something else.
    """
    tensors, metadata = tensors_in(KIND, path, content)
    if metadata.keys() != {"key", "preparation", "facts"} or metadata["key"] != key:
        raise DamagedFile(f"{path}: is the record of another dataset")
    facts = json.loads(metadata["facts"])
    facts["notes"] = tuple(facts["notes"])
    facts |= {name: tensors[name] for name in ("shard_digests", "held_out_digests")}
    return Facts(preparation=_put_together(tensors, json.loads(metadata["preparation"])), **facts)


def preparation_digest(preparation: Preparation) -> str:
    """Return a digest of all that samples of a raw shard follow from: which preparation, by which program."""
    tensors, text = _in_parts(preparation)
    digest = hashlib.sha256(f"{__version__} {VERSION} {text}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.shape}\n".encode() + tensor.tobytes())
    return digest.hexdigest()[:16]


def _in_parts(preparation: Preparation) -> tuple[dict[str, NDArray], str]:
    """Return the arrays of a preparation, of its encoding and of its units, by name; and the rest as JSON."""
    encoding, units = preparation.encoding, preparation.standardization
    values = {**vars(encoding), **vars(units), **vars(preparation)}
    values |= {"numeric": names_as_json(encoding.numeric), "dtype": preparation.dtype.name}
    arrays = {name: values[name] for name in ARRAYS if values[name] is not None}
    rest = {name: value for name, value in values.items() if name not in (*ARRAYS, "encoding", "standardization")}
    return arrays, json.dumps(rest)


def _put_together(tensors: Mapping[str, NDArray], rest: dict[str, Any]) -> Preparation:
    values = {**{name: tensors.get(name) for name in ARRAYS}, **rest}
    values |= {name: tuple(rest[name]) for name in ("missing", "classes")}
    values["categories"] = tuple((name, tuple(texts)) for name, texts in rest["categories"])
    values |= {"numeric": names_from_json(rest["numeric"]), "dtype": np.dtype(rest["dtype"])}
    values["encoding"] = Encoding(**{item.name: values[item.name] for item in fields(Encoding)})
    values["standardization"] = Standardization(**{item.name: values[item.name] for item in fields(Standardization)})
    return Preparation(**{item.name: values[item.name] for item in fields(Preparation)})
