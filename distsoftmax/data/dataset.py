"""Each rank's part of the training set: read, held out, standardised and numbered; the same on any number of ranks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig, parse_memory
from distsoftmax.data.column_sums import Columns
from distsoftmax.data.encoding import agree_on_unseen, count_unseen
from distsoftmax.data.preparation import EncodedShard, Preparation, PreparedShard, Samples, take_rows
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import DividedSource, RawShard, ShowProgress, divide_source, show_nothing
from distsoftmax.data.source import SourceSpec
from distsoftmax.data.spool import Spool
from distsoftmax.data.standardization import Standardization, fit_standardization
from distsoftmax.data.survey import shard_digest, take_survey
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding


@dataclass(frozen=True)
class StoredSamples:
    """The training or the held-out samples of this rank's shards, in order, as often as they are needed."""

    store: ShardStore[PreparedShard]
    choose: Callable[[PreparedShard], Samples]

    def __iter__(self) -> Iterator[Samples]:
        return map(self.choose, self.store)

    def release(self) -> None:
        """Let features in scratch leave this process's memory, after samples were used otherwise than in order."""
        if self.store.bytes_spooled:
            self.store.spool.release()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a rank holds of the data (its samples, and their bytes), and what all ranks know of it (the rest).

    Attributes
    ----------
    training, held_out : StoredSamples
        This rank's shards, in order.
    preparation : Preparation
        What made the samples; of any shard it makes them on any rank.
    total_weight : float
        The sum of the training samples' weights.
    shard_digests : ndarray of int64, (n_shards,)
        A digest of each shard as read; a changed source shows here.
    held_out_digest : str
        The same of the held-out samples; empty where they are a part of the source.
    bytes_held, bytes_spooled : int
        Of this rank's features, in memory and in scratch.
    notes : tuple of str
        What the user should know.
    """

    training: StoredSamples
    held_out: StoredSamples | tuple[()]
    preparation: Preparation
    n_shards: int
    n_rows: int
    n_training: int
    n_held_out: int
    total_weight: float
    sparse: bool
    shard_digests: NDArray[np.int64]
    held_out_digest: str
    bytes_held: int
    bytes_spooled: int
    notes: tuple[str, ...]

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


def load_dataset(
    config: DataConfig, intercept: bool, cluster: Communicator, show: ShowProgress = show_nothing
) -> Dataset:
    """Open the source that the options name, and make it ready for training. Collective.

    Raises
    ------
    InputError
        On every rank, the same: what is wrong with the data, and where.
    OutputError
        On every rank: scratch has no room.
    """
    if config.data:
        divided = divide_source(SourceSpec.of(config), config.shards, cluster)
    else:
        from distsoftmax.data.readers.arrays.source import digits

        divided = divide_source(digits(), config.shards, cluster)
    return prepare_dataset(divided, config, intercept, cluster, show)


def take_over(dataset: Dataset, config: DataConfig, cluster: Communicator) -> Dataset:
    """STUB"""
    return load_dataset(config, True, cluster)


def prepare_dataset(
    divided: DividedSource,
    config: DataConfig,
    intercept: bool,
    cluster: Communicator,
    show: ShowProgress = show_nothing,
) -> Dataset:
    """Read this rank's shards of a source, once, and make them ready for training. Collective.

    Raises
    ------
    InputError, OutputError
        See `load_dataset`.
    """
    bound = None if config.memory is None else parse_memory(config.memory)
    spool = Spool(config.scratch_folder)
    ranks_here = 1
    if bound is not None:  # they share a disk
        ranks_here = cluster.allgather(os.uname().nodename).count(os.uname().nodename)
    source = divided.source
    raw = ShardStore[RawShard](bound, spool, divided)
    survey = take_survey(_read(divided, raw, ranks_here, config, show), divided, config, cluster)
    preparation = survey.preparation
    names = preparation.encoding.feature_names
    with cluster.agreement():
        if preparation.encoding.categories:
            rows = int(np.diff(divided.bounds).max())
            raw.require_memory(rows * len(names) * np.dtype(np.float64).itemsize)
        encoded = raw.turned_into(preparation.encode)
    standardization = fit_standardization(
        partial(_weighted_rows, encoded),
        survey.sample_weight,
        names=names,
        path=source.path,
        wanted=config.standardize,
        centre=intercept and (config.center == "yes" or (config.center == "auto" and not source.sparse)),
        dtype=preparation.dtype,
        cluster=cluster,
    )
    preparation = replace(preparation, standardization=standardization)
    with cluster.agreement():
        prepared = encoded.turned_into(preparation.finish)
    n_held_out = source.n_rows - survey.n_training
    dataset = Dataset(
        training=StoredSamples(prepared, attrgetter("training")),
        held_out=StoredSamples(prepared, attrgetter("held_out")) if n_held_out else (),
        preparation=preparation,
        n_shards=divided.n_shards,
        n_rows=source.n_rows,
        n_training=survey.n_training,
        n_held_out=n_held_out,
        total_weight=survey.total_weight,
        sparse=source.sparse,
        shard_digests=survey.shard_digests,
        held_out_digest="",
        bytes_held=prepared.bytes_held,
        bytes_spooled=prepared.bytes_spooled,
        notes=(*source.notes, *_notes(config, preparation, survey.n_training, source.sparse, intercept)),
    )
    if config.valid:
        rest = None if bound is None else max(bound - prepared.bytes_held, 0)
        dataset = _with_held_out(dataset, config, rest, spool, cluster, show)
    if bound is None:
        return dataset
    return replace(dataset, notes=dataset.notes + _notes_on_scratch(dataset, spool, cluster))


def _read(
    divided: DividedSource, store: ShardStore[RawShard], ranks_here: int, config: DataConfig, show: ShowProgress
) -> Iterator[RawShard]:
    """Yield this rank's shards as they are read and kept."""
    for shard in divided.read_all(show, missing=config.impute != "error"):
        if shard.number == divided.own.start:
            store.require_disk(shard.nbytes, ranks_here)
        yield store.add(shard)
    if store.bytes_spooled:
        store.require_memory()


def _weighted_rows(store: ShardStore[EncodedShard]) -> Iterator[tuple[int, Columns, NDArray[np.float64] | None]]:
    """Yield the training rows of each shard as (shard, features, sample weights), those of weight 0 left out."""
    for shard in store:
        rows, weights = ~shard.held_out, shard.weights
        if weights is not None:
            rows = rows & (weights > 0)
            weights = weights[rows]
        yield shard.number, take_rows(shard.features, rows), weights


def _notes(
    config: DataConfig, preparation: Preparation, n_training: int, sparse: bool, intercept: bool
) -> Iterator[str]:
    n_classes = len(preparation.classes or ())
    if 2 * n_classes > n_training > 20:
        yield (
            f"{n_classes} classes for {n_training} samples: is the label a number to be predicted? This trains a "
            "classifier"
        )
    if config.standardize and sparse and preparation.standardization.offset is None and intercept:
        yield "sparse features are scaled to standard deviation 1 but not centred; --center yes does both"


def _notes_on_scratch(dataset: Dataset, spool: Spool, cluster: Communicator) -> tuple[str, ...]:
    """Return what to say of scratch, where it is used. Collective."""
    if not any(cluster.allgather(dataset.bytes_spooled)) or not any(cluster.allgather(spool.lies_in_memory)):
        return ()
    return (f"--scratch {spool.folder} lies in memory (tmpfs), so it saves none: name a folder on a disk",)


def _with_held_out(
    dataset: Dataset,
    config: DataConfig,
    bound: int | None,
    spool: Spool,
    cluster: Communicator,
    show: ShowProgress,
) -> Dataset:
    """Return the dataset with the samples of the source named by --valid held out. Collective."""
    preparation = replace(dataset.preparation, class_weights=None, held_out_fraction=0.0)
    encoding = preparation.encoding
    spec = replace(SourceSpec.of(config), paths=config.valid, labels_paths=config.valid_labels)
    divided = divide_source(spec.expecting(encoding), config.shards, cluster, or_fewer=True)
    divided.require_columns(encoding, "the training data")
    source = divided.source
    if source.sparse != dataset.sparse:
        kinds = ("dense", "sparse")
        raise InputError(
            f"{source.path}: holds {kinds[source.sparse]} features, the training data {kinds[dataset.sparse]} ones; "
            "give both in one kind of format"
        ).on_all_ranks()
    prepared = ShardStore[PreparedShard](bound, spool, divided)
    digests = np.zeros(divided.n_shards, dtype=np.int64)
    n_unseen = 0
    with cluster.agreement():
        for shard in divided.read_all(show, missing=config.impute != "error"):
            digests[shard.number] = shard_digest(shard)
            n_unseen += count_unseen(shard.rows, encoding)
            prepared.add(preparation.prepare(shard))
        if prepared.bytes_spooled:
            prepared.require_memory()
    cluster.sum_integers(digests)
    unseen = agree_on_unseen(n_unseen, cluster)
    return replace(
        dataset,
        held_out=StoredSamples(prepared, attrgetter("training")),
        n_held_out=source.n_rows,
        held_out_digest=hashlib.sha256(digests.tobytes()).hexdigest()[:12],
        bytes_held=dataset.bytes_held + prepared.bytes_held,
        bytes_spooled=dataset.bytes_spooled + prepared.bytes_spooled,
        notes=(*dataset.notes, *source.notes, *([f"{source.path}: {unseen}"] if unseen else ())),
    )
