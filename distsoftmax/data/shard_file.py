"""A prepared shard as the content of a file, which says what it is of and whether it is whole.

It lies so in a file of scratch (`warm_files.py`), and travels so from rank to rank (`moving.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from mmap import mmap
from pathlib import Path

from numpy.typing import NDArray

from distsoftmax.data.features import COMPACT, Compact, Prepared, SparseFeatures, compressed
from distsoftmax.data.preparation import Preparation, PreparedShard, Samples
from distsoftmax.errors import DamagedFile
from distsoftmax.tensor_file import Buffer, tensor_file_content, tensors_in

KIND = "prepared shard"
DIGEST = hashlib.blake2b  # twice as quick as SHA-256 where the processor has no instructions for that


def content_of(shard: PreparedShard, digest: int) -> list[Buffer]:
    """Return the content of a shard's file in several buffers, without a copy of its arrays.

    Parameters
    ----------
    digest : int
        The raw shard's.
    """
    tensors = _tensors_of(shard.training, "training") | _tensors_of(shard.held_out, "held_out")
    return tensor_file_content(KIND, tensors, {"number": str(shard.number), "digest": str(digest)}, DIGEST)


def shard_in(
    content: bytes | mmap, path: Path, number: int, digest: int, preparation: Preparation, *, is_known: bool = False
) -> PreparedShard:
    """Return the shard in the content of a file, whose arrays lie in it.

    Parameters
    ----------
    path : Path
        What an error calls the content.
    number, digest : int
        Of the raw shard that it must have been made of.
    preparation : Preparation
        What has made its samples.
    is_known : bool
        Whether the bytes need no look: they were written just now.

    Raises
    ------
    DamagedFile
        It is not whole, or of another shard.
    """
    tensors, metadata = tensors_in(KIND, path, content, None if is_known else DIGEST)
    if metadata != {"number": str(number), "digest": str(digest)}:
        raise DamagedFile(f"{path}: is of another shard")
    training, held_out = (_samples_in(tensors, prefix, number, preparation) for prefix in ("training", "held_out"))
    return PreparedShard(training, held_out)


def _tensors_of(samples: Samples, prefix: str) -> dict[str, NDArray]:
    features = samples.features
    arrays: dict[str, NDArray | None] = {"classes": samples.classes, "weights": samples.weights}
    if isinstance(features, SparseFeatures):
        matrix = features.matrix
        arrays |= {"columns": features.columns, "data": matrix.data}
        arrays |= {"indices": matrix.indices, "indptr": matrix.indptr}
    else:
        arrays["features"] = features.stored if isinstance(features, Compact) else features
    return {f"{prefix}.{name}": array for name, array in arrays.items() if array is not None}


def _samples_in(tensors: Mapping[str, NDArray], prefix: str, number: int, preparation: Preparation) -> Samples:
    own = {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    features: Prepared
    if "columns" in own:
        matrix = compressed(own["data"], own["indices"], own["indptr"], own["columns"].size)
        features = SparseFeatures(own["columns"], matrix)
    elif own["features"].dtype.name in COMPACT:
        features = preparation.standardization.compact(own["features"], preparation.dtype)
    else:
        features = own["features"]
    return Samples(number, features, own["classes"], own.get("weights"))
