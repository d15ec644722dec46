"""What the steps of a run follow from besides its state: its options and its data. A resume must have the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.library import VERSION
from distsoftmax.config import TrainConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.errors import InputError
from distsoftmax.model import NumberedNames


@dataclass(frozen=True)
class RunIdentity:
    """What a run's steps follow from besides the state; a checkpoint is resumed by a run of the same one only.

    Attributes
    ----------
    options : mapping
        `TrainConfig.identity()`, and the model that the run started from.
    data : mapping
        What the dataset tells: n_rows, held_out_fraction, dtype, classes, columns, class_weights; the held-out
        samples where the steps depend on them.
    arithmetic : int
        The arithmetic version that the run began by. Another one is no obstacle, but other bits come out, and every
        resume, and whoever uses the model, says so.
    shard_digests : ndarray of int64, (n_shards,)
    """

    options: Mapping[str, object]
    data: Mapping[str, object]
    arithmetic: int
    shard_digests: NDArray[np.int64]

    @classmethod
    def of(cls, config: TrainConfig, dataset: Dataset) -> RunIdentity:
        """Return that of the present run, but for the model that it starts from. Not collective."""
        data = {
            "n_rows": dataset.n_rows,
            "held_out_fraction": config.data.held_out_fraction,
            "dtype": dataset.dtype.name,
            "classes": list(dataset.classes),
            "columns": _columns(dataset),
            "class_weights": None if dataset.class_weights is None else dataset.class_weights.tolist(),
        }
        if config.solver.patience is not None:
            data["held_out_samples"] = f"{dataset.n_held_out} {dataset.held_out_digest}".rstrip()
        return cls(config.identity(), data, VERSION, dataset.shard_digests)

    def continuing(self, then: RunIdentity) -> RunIdentity:
        """Return it with what stays of the identity that the run began with.

        That is the arithmetic version, and the digest of a model that is not there any more.
        """
        return replace(self, options={**then.options, **self.options}, arithmetic=then.arithmetic)


def refuse_other_run(path: Path, then: RunIdentity, now: RunIdentity) -> None:
    """Compare the identity of a checkpoint with that of the present run.

    Raises
    ------
    InputError
        They differ; the message names each difference.
    """
    differences = option_differences(then.options, now.options)
    for name, value in json.loads(json.dumps(now.data)).items():
        if then.data.get(name) != value:
            was, is_now = _shorten(then.data.get(name)), _shorten(value)
            differences.append(f"the data's {name.replace('_', ' ')} were {was}, now they are {is_now}")
    if not differences and then.shard_digests.shape != now.shard_digests.shape:
        differences.append(f"there were {then.shard_digests.size} shards, now there are {now.shard_digests.size}")
    if not differences:
        changed = np.flatnonzero(then.shard_digests != now.shard_digests)
        if changed.size:
            n_rows, n_shards = int(now.data["n_rows"]), now.shard_digests.size  # type: ignore[call-overload]
            first = int(changed[0])
            rows = f"{first * n_rows // n_shards + 1} to {(first + 1) * n_rows // n_shards}"
            differences.append(f"the data's content changed in {changed.size} shards, first in rows {rows}")
    if differences:
        raise InputError(
            f"{path} belongs to another run: {'; '.join(differences)}. Give the options and the data of that run to go "
            "on with it, or another --out to start anew"
        )


def option_differences(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return what to say of each option that is not what it was; `then` comes from JSON."""
    return [
        f"--{name} was {then.get(name)}, now it is {value}"
        for name, value in json.loads(json.dumps(now)).items()
        if then.get(name) != value
    ]


def _columns(dataset: Dataset) -> str:
    """Return the number of features, and a digest of all that makes them from the source's columns."""
    encoding = dataset.encoding
    names = repr(encoding.numeric if isinstance(encoding.numeric, NumberedNames) else tuple(encoding.numeric))
    fill = b"" if encoding.fill is None else encoding.fill.tobytes()
    made = hashlib.sha256(f"{names} {encoding.categories} {encoding.index_base}".encode() + fill).hexdigest()
    return f"{len(encoding.feature_names)} features ({made[:12]})"


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
