"""Each rank's part of the training set: read, held out, standardised and numbered; the same on any number of ranks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.config import DataConfig
from distsoftmax.data.labels import class_codes, find_classes
from distsoftmax.data.shards import DividedSource, RawShard, ShowProgress, divide_source, show_nothing
from distsoftmax.data.source import Source, SourceSpec
from distsoftmax.data.standardization import Standardization, fit_standardization
from distsoftmax.errors import InputError


@dataclass(frozen=True)
class Samples:
    """Rows of one shard, ready for the kernels: features in the run's type, classes 0 ... n_classes - 1."""

    shard: int
    features: NDArray[np.floating]
    classes: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What a rank holds of the data (its samples), and what all ranks know of it (the rest).

    Attributes
    ----------
    training, held_out : tuple of Samples
        This rank's shards, in order.
    shard_digests : ndarray of int64, (n_shards,)
        A digest of each shard's features and classes as read; a changed source shows here.
    """

    training: tuple[Samples, ...]
    held_out: tuple[Samples, ...]
    n_shards: int
    n_rows: int
    n_training: int
    n_held_out: int
    classes: tuple[str, ...]
    feature_names: tuple[str, ...]
    standardization: Standardization
    dtype: np.dtype
    shard_digests: NDArray[np.int64]


def load_partition(
    config: DataConfig, intercept: bool, cluster: Cluster, show: ShowProgress = show_nothing
) -> Partition:
    """Read this rank's shards of the source and make them ready for training. Collective.

    Raises
    ------
    InputError
        On every rank, the same: what is wrong with the data, and where.
    """
    divided = _open_training_source(config, cluster)
    with cluster.agreement():
        shards = list(divided.read(cluster, show))
    path = divided.source.path
    classes = find_classes([shard.labels for shard in shards if shard.labels is not None], cluster)
    if len(classes) < 2:
        raise InputError(f"{path}: all samples are of one class, {classes[0]!r}; two are needed").on_all_ranks()
    codes = [class_codes(path, shard, classes) for shard in shards]
    if divided.source.headless_by_guess:
        _refuse_header_among_rows(path, classes, shards, codes, cluster)
    dtype = _choose_dtype(config, shards, cluster)
    digests = _shard_digests(shards, codes, divided.n_shards, cluster)

    held = [_held_out_rows(config, shard, divided) for shard in shards]
    rows = [(shard.number, _take(shard.features, ~out)) for shard, out in zip(shards, held, strict=True)]
    counts = np.zeros(len(classes), dtype=np.int64)
    for code, out in zip(codes, held, strict=True):
        counts += np.bincount(code[~out], minlength=len(classes))
    cluster.sum_integers(counts)
    _check_counts(config, path, classes, counts, divided)
    transform = fit_standardization(rows, divided, int(counts.sum()), config.standardize, intercept, cluster)
    names = divided.source.feature_names
    training, held_out = [], []
    with cluster.agreement():
        for (number, features), shard, code, out in zip(rows, shards, codes, held, strict=True):
            training.append(Samples(number, transform.apply(features, dtype, path, names), code[~out]))
            features = transform.apply(_take(shard.features, out), dtype, path, names)
            held_out.append(Samples(number, features, code[out]))
    n_held_out = divided.source.n_rows - int(counts.sum())
    if config.valid is not None:
        held_out, n_held_out = _read_held_out_file(config, divided.source, classes, transform, dtype, cluster, show)
    return Partition(
        training=tuple(training),
        held_out=tuple(held_out),
        n_shards=divided.n_shards,
        n_rows=divided.source.n_rows,
        n_training=int(counts.sum()),
        n_held_out=n_held_out,
        classes=classes,
        feature_names=names,
        standardization=transform,
        dtype=dtype,
        shard_digests=digests,
    )


def _open_training_source(config: DataConfig, cluster: Cluster) -> DividedSource:
    if config.data is None:
        from distsoftmax.data.arrays import digits

        return divide_source(digits(), config.shards, cluster)
    spec = SourceSpec(path=config.data, labels_path=config.labels, label=config.label, header=config.header)
    return divide_source(spec, config.shards, cluster)


def _read_held_out_file(
    config: DataConfig,
    source: Source,
    classes: tuple[str, ...],
    transform: Standardization,
    dtype: np.dtype,
    cluster: Cluster,
    show: ShowProgress,
) -> tuple[list[Samples], int]:
    assert config.valid is not None
    spec = SourceSpec(
        path=config.valid,
        labels_path=config.valid_labels,
        label=config.label,
        header=config.header,
        expected_names=source.feature_names,
    )
    divided = divide_source(spec, None, cluster)
    path = divided.source.path
    divided.require_features(len(source.feature_names), "the training data")
    with cluster.agreement():
        held_out = [
            Samples(
                shard.number,
                transform.apply(shard.features, dtype, path, source.feature_names),
                class_codes(path, shard, classes),
            )
            for shard in divided.read(cluster, show)
        ]
    return held_out, divided.source.n_rows


def _refuse_header_among_rows(
    path: str, classes: tuple[str, ...], shards: list[RawShard], codes: list[NDArray[np.intp]], cluster: Cluster
) -> None:
    """Suspect the first line of a CSV file that was taken for a row: a header of numbers looks like one. Collective."""
    counts = sum((np.bincount(code, minlength=len(classes)) for code in codes), np.zeros(len(classes), dtype=np.int64))
    cluster.sum_integers(counts)
    with cluster.agreement():
        for shard, code in zip(shards, codes, strict=True):
            if shard.first_row == 0 and code.size and counts[code[0]] == 1:
                raise InputError(
                    f"{path}: the first line was taken for a row, but its label {classes[code[0]]!r} stands in no "
                    "other row; say --header yes if it holds the columns' names, or --header no"
                )


def _choose_dtype(config: DataConfig, shards: list[RawShard], cluster: Cluster) -> np.dtype:
    """Return the type of the features in memory: as stored where that is float32 or float64, else float32."""
    if config.dtype != "stored":
        return np.dtype(config.dtype)
    if config.data is not None and config.data.lower().endswith(".csv"):
        return np.dtype(np.float32)
    own = shards[0].features.dtype.name if shards else ""
    stored = max(cluster.allgather(own))
    return np.dtype(stored if stored in ("float32", "float64") else np.float32)


def _shard_digests(
    shards: list[RawShard], codes: list[NDArray[np.intp]], n_shards: int, cluster: Cluster
) -> NDArray[np.int64]:
    digests = np.zeros(n_shards, dtype=np.int64)
    for shard, code in zip(shards, codes, strict=True):
        digest = hashlib.blake2b(shard.features.view(np.uint8).data, digest_size=8)
        digest.update(code.astype("<i8").tobytes())
        digests[shard.number] = int.from_bytes(digest.digest(), "little", signed=True)
    cluster.sum_integers(digests)
    return digests


def _held_out_rows(config: DataConfig, shard: RawShard, divided: DividedSource) -> NDArray[np.bool_]:
    """Return which rows of a shard are held out: it follows from (seed, shard, row) alone."""
    rows = len(shard.features)
    fraction = config.held_out_fraction
    count = int(divided.bounds[shard.number + 1] * fraction) - int(divided.bounds[shard.number] * fraction)
    draws = np.random.Generator(np.random.Philox(key=[config.seed, shard.number])).random(rows)
    held = np.zeros(rows, dtype=bool)
    held[np.argsort(draws, kind="stable")[:count]] = True
    return held


def _take(features: NDArray, rows: NDArray[np.bool_]) -> NDArray:
    """Return the rows asked for; a view where that is all of them."""
    return features if rows.all() else features[rows]


def _check_counts(
    config: DataConfig, path: str, classes: tuple[str, ...], counts: NDArray[np.int64], divided: DividedSource
) -> None:
    """Refuse data from which nothing can be learnt. Every rank knows the same, and raises the same."""
    fraction = config.held_out_fraction
    if fraction and counts.sum() == divided.source.n_rows:
        raise InputError(
            f"--valid-fraction {fraction} of {divided.source.n_rows} samples holds none of them out; raise it"
        ).on_all_ranks()
    for name, count in zip(classes, counts, strict=True):
        if count == 0:
            raise InputError(
                f"{path}: class {name!r} is in the held-out samples but never seen in training; lower --valid-fraction "
                "or take another --seed"
            ).on_all_ranks()
