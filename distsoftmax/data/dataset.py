"""Each rank's part of the training set: read, held out, standardised and numbered; the same on any number of ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.samples import CoreRows
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig, parse_memory
from distsoftmax.data.column_sums import Columns
from distsoftmax.data.encoding import agree_on_unseen, count_unseen, encode
from distsoftmax.data.features import Prepared, SparseFeatures, core_rows
from distsoftmax.data.labels import class_codes
from distsoftmax.data.residency import ShardStore
from distsoftmax.data.shards import DividedSource, ShowProgress, divide_source, show_nothing
from distsoftmax.data.source import RawRows, SourceSpec
from distsoftmax.data.standardization import Standardization, fit_standardization
from distsoftmax.data.survey import Survey, shard_digest, take_survey
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding


@dataclass(frozen=True)
class Samples:
    """Rows of one shard, ready for the kernels: features in training's units, classes 0 ... n_classes - 1.

    Attributes
    ----------
    weights : ndarray of float64, (rows,), or None
        Sample weight times class weight, divided by a power of two that brings the largest near 1; None: 1.
    """

    shard: int
    features: Prepared
    classes: NDArray[np.intp]
    weights: NDArray[np.float64] | None = None
    _rows: dict[np.dtype, CoreRows] = field(default_factory=dict, init=False, repr=False, compare=False)

    def rows(self, dtype: np.dtype) -> CoreRows:
        """Return the samples as the core sees them, to be computed in a type."""
        if dtype not in self._rows:
            self._rows[dtype] = core_rows(self.features, dtype, self.classes, self.weights)
        return self._rows[dtype]


class Portion:
    """The training or the held-out samples of this rank's shards, in order; each iteration may read them anew."""

    def __init__(self, store: ShardStore, place: int) -> None:
        self._store = store
        self._place = place

    def __iter__(self) -> Iterator[Samples]:
        for _, both in self._store:
            yield both[self._place]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a rank holds of the data (its samples), and what all ranks know of it (the rest).

    Attributes
    ----------
    training, held_out : iterable of Samples
        This rank's shards, in order.
    total_weight : float
        The sum of the training samples' weights.
    shard_digests : ndarray of int64, (n_shards,)
        A digest of each shard as read; a changed source shows here.
    held_out_digest : str
        The same of the held-out samples; empty where they are a part of the source.
    bytes_held, bytes_streamed : int
        Of this rank's features, in memory and read again each time.
    notes : tuple of str
        What the user should know.
    """

    training: Iterable[Samples]
    held_out: Iterable[Samples]
    n_shards: int
    n_rows: int
    n_training: int
    n_held_out: int
    total_weight: float
    classes: tuple[str, ...]
    encoding: Encoding
    standardization: Standardization
    sparse: bool
    dtype: np.dtype
    shard_digests: NDArray[np.int64]
    held_out_digest: str
    class_weights: NDArray[np.float64] | None
    bytes_held: int
    bytes_streamed: int
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """The parameters': (n_classes, number of features trained on + 1)."""
        return len(self.classes), self.standardization.n_trained + 1


def load_dataset(
    config: DataConfig, intercept: bool, cluster: Communicator, show: ShowProgress = show_nothing
) -> Dataset:
    """Read this rank's shards of the source and make them ready for training. Collective.

    Raises
    ------
    InputError
        On every rank, the same: what is wrong with the data, and where.
    """
    bound = parse_memory(config.memory) if config.memory is not None else None
    divided = _open_training_source(config, cluster)
    source = divided.source
    store = ShardStore(divided, bound, missing=config.impute != "error")
    survey = take_survey(store, config, cluster, show)
    names = survey.encoding.feature_names
    with cluster.agreement():
        if survey.encoding.categories:
            rows = int(np.diff(divided.bounds).max())
            store.require_room(rows * len(names) * np.dtype(np.float64).itemsize)
        store.apply(lambda _, rows: encode(rows, survey.encoding), lambda features: int(features.nbytes))
    transform = fit_standardization(
        partial(_weighted_rows, store, survey),
        survey.sample_weight,
        names=names,
        path=source.path,
        wanted=config.standardize,
        centre=intercept and (config.center == "yes" or (config.center == "auto" and not source.sparse)),
        dtype=survey.dtype,
        cluster=cluster,
    )
    with cluster.agreement():
        store.apply(lambda number, features: _split(number, features, survey, transform, source.path), _size)
    n_training = int(survey.counts.sum(dtype=np.int64))
    n_held_out = source.n_rows - n_training
    held_out: Iterable[Samples] = Portion(store, 1) if n_held_out else ()
    held_out_digest, notes = "", source.notes
    if 2 * len(survey.classes) > n_training > 20:
        notes += (
            f"{len(survey.classes)} classes for {n_training} samples: is the label a number to be predicted? "
            "This trains a classifier",
        )
    if config.standardize and source.sparse and transform.offset is None and intercept:
        notes += ("sparse features are scaled to standard deviation 1 but not centred; --center yes does both",)
    if config.valid:
        rest = None if bound is None else max(bound - store.bytes_held, 0)
        held_out, n_held_out, held_out_digest, more = _read_held_out(
            config, survey, transform, source.sparse, rest, cluster, show
        )
        notes += more
    return Dataset(
        training=Portion(store, 0),
        held_out=held_out,
        n_shards=divided.n_shards,
        n_rows=source.n_rows,
        n_training=n_training,
        n_held_out=n_held_out,
        total_weight=survey.total_weight,
        classes=survey.classes,
        encoding=survey.encoding,
        standardization=transform,
        sparse=source.sparse,
        dtype=survey.dtype,
        shard_digests=survey.shard_digests,
        held_out_digest=held_out_digest,
        class_weights=survey.class_weights,
        bytes_held=store.bytes_held,
        bytes_streamed=store.bytes_streamed,
        notes=notes,
    )


def _open_training_source(config: DataConfig, cluster: Communicator) -> DividedSource:
    if not config.data:
        from distsoftmax.data.readers.arrays.source import digits

        return divide_source(digits(), config.shards, cluster)
    return divide_source(SourceSpec.of(config), config.shards, cluster)


def _weighted_rows(store: ShardStore, survey: Survey) -> Iterator[tuple[int, Columns, NDArray[np.float64] | None]]:
    """Yield the training rows of each shard as (shard, features, sample weights), those of weight 0 left out."""
    for number, features in store:
        facts = survey.facts[number]
        rows, weights = ~facts.held_out, facts.sample_weights
        if weights is not None:
            rows = rows & (weights > 0)
            weights = weights[rows]
        yield number, _take(features, rows), weights


def _split(
    number: int, features: NDArray | SparseFeatures, survey: Survey, transform: Standardization, path: str
) -> tuple[Samples, Samples]:
    """Return the training and the held-out samples of a shard, in training's units."""
    facts, names = survey.facts[number], survey.encoding.feature_names
    weights = facts.sample_weights
    if survey.class_weights is not None:
        weights = survey.class_weights[facts.classes] * (1.0 if weights is None else weights)
    training, held_out = ~facts.held_out, facts.held_out
    return (
        Samples(
            number,
            transform.apply(_take(features, training), survey.dtype, path, names),
            facts.classes[training],
            None if weights is None else weights[training],
        ),
        Samples(
            number,
            transform.apply(_take(features, held_out), survey.dtype, path, names),
            facts.classes[held_out],
        ),
    )


def _size(portions: tuple[Samples, ...]) -> int:
    return sum(int(some.features.nbytes) for some in portions)


def _take(features: Any, rows: NDArray[np.bool_]) -> Any:
    """Return the rows asked for; the same where that is all of them."""
    return features if rows.all() else features[rows]


def _read_held_out(
    config: DataConfig,
    survey: Survey,
    transform: Standardization,
    sparse: bool,
    bound: int | None,
    cluster: Communicator,
    show: ShowProgress,
) -> tuple[Iterable[Samples], int, str, tuple[str, ...]]:
    """Read the source named by --valid, and return its samples, their number and digest, and notes. Collective."""
    spec = replace(SourceSpec.of(config), paths=config.valid, labels_paths=config.valid_labels)
    divided = divide_source(spec.expecting(survey.encoding), config.shards, cluster)
    divided.require_columns(survey.encoding, "the training data")
    path, names = divided.source.path, survey.encoding.feature_names
    if divided.source.sparse != sparse:
        kinds = ("dense", "sparse")
        raise InputError(
            f"{path}: holds {kinds[divided.source.sparse]} features, the training data {kinds[sparse]} ones; give both "
            "in one kind of format"
        ).on_all_ranks()
    store = ShardStore(divided, bound, missing=config.impute != "error")
    codes: dict[int, NDArray[np.intp]] = {}
    digests = np.zeros(divided.n_shards, dtype=np.int64)
    n_unseen = 0
    with cluster.agreement():
        for shard in store.first_read(show):
            digests[shard.number] = shard_digest(shard)
            codes[shard.number] = class_codes(divided, shard.number, shard.rows.labels, survey.classes)
            n_unseen += count_unseen(shard.rows, survey.encoding)

    def prepare(number: int, rows: RawRows) -> tuple[Samples]:
        features = encode(rows, survey.encoding)
        return (Samples(number, transform.apply(features, survey.dtype, path, names), codes[number]),)

    with cluster.agreement():
        store.apply(prepare, _size)
    cluster.sum_integers(digests)
    unseen = agree_on_unseen(n_unseen, cluster)
    notes = (*divided.source.notes, f"{path}: {unseen}") if unseen else divided.source.notes
    return Portion(store, 0), divided.source.n_rows, hashlib.sha256(digests.tobytes()).hexdigest()[:12], notes
