"""From a source to prepared shards, by one reading of all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig, parse_memory
from distsoftmax.data.encoding import agree_on_unseen, count_unseen, dropped_rows, encoded_row_bytes
from distsoftmax.data.facts import Facts
from distsoftmax.data.features import Columns
from distsoftmax.data.open_source import held_out_source
from distsoftmax.data.preparation import EncodedShard, Preparation, PreparedShard, take_rows
from distsoftmax.data.row_numbers import numbers_rows
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import DividedSource, RawShard, ShowProgress, divide_source
from distsoftmax.data.source import Source
from distsoftmax.data.spool import Spool
from distsoftmax.data.standardization import fit_standardization
from distsoftmax.data.survey import Survey, no_complete_row, shard_digest, take_survey
from distsoftmax.data.warm_files import WarmFolder, WarmShards
from distsoftmax.errors import InputError


def start_cold(
    divided: DividedSource,
    config: DataConfig,
    intercept: bool,
    cluster: Communicator,
    show: ShowProgress,
    folder: WarmFolder | None,
) -> tuple[Facts, tuple[ShardStore[PreparedShard], ...]]:
    """Read this rank's shards of a source, once, and make them ready for training. Collective.

    Parameters
    ----------
    folder : WarmFolder or None
        Where the prepared shards are kept, if they are.

    Returns
    -------
    Facts
    tuple of ShardStore
        This rank's shards of the source named by --data and, where there is one, of that named by --valid.

    Raises
    ------
    InputError, OutputError
        See `dataset.load_dataset`.
    """
    bound = None if config.memory is None else parse_memory(config.memory)
    spool = Spool(config.scratch_folder)
    ranks_here = 1
    if bound is not None:  # they share a disk
        ranks_here = cluster.allgather(os.uname().nodename).count(os.uname().nodename)
    source = divided.source
    raw = ShardStore[RawShard](bound, spool)
    survey = take_survey(_read(divided, raw, ranks_here, config, show), divided, config, cluster)
    preparation = survey.preparation
    sparse = source.sparse or preparation.encoding.is_sparse
    names = preparation.encoding.feature_names
    with cluster.agreement():
        if preparation.encoding.categories:
            row_bytes = encoded_row_bytes(preparation.encoding, np.dtype(np.float64))
            raw.require_memory(divided, largest=int(np.diff(divided.bounds).max()) * row_bytes)
        encoded = raw.turned_into(preparation.encode)
    standardization = fit_standardization(
        partial(_weighted_rows, encoded),
        survey.sample_weight,
        names=names,
        path=source.path,
        wanted=config.standardize,
        centre=intercept and (config.center == "yes" or (config.center == "auto" and not sparse)),
        dtype=preparation.dtype,
        cluster=cluster,
    )
    preparation = replace(preparation, standardization=standardization)
    if folder is not None:
        folder.prepare_for(preparation, encoded.bytes_held + encoded.bytes_spooled, cluster)
    files = WarmShards(folder, "training", preparation, survey.shard_digests, spool)
    with cluster.agreement():
        prepared = encoded.turned_into(lambda shard: files.keep(preparation.finish(shard)))
    facts = Facts(
        preparation=preparation,
        n_rows=source.n_rows,
        n_training=survey.n_training,
        n_held_out=source.n_rows - survey.n_dropped - survey.n_training,
        total_weight=survey.total_weight,
        unit_exponent=survey.unit_exponent,
        sparse=sparse,
        shard_digests=survey.shard_digests,
        held_out_digests=np.zeros(0, dtype=np.int64),
        label=source.label_name,
        notes=(*source.notes, *_notes(config, preparation, survey, source, intercept)),
    )
    if not config.valid:
        return facts, (prepared,)
    facts, held_out = _with_held_out(facts, prepared, divided.weights, config, cluster, show, folder)
    return facts, (prepared, held_out)


def _read(
    divided: DividedSource, store: ShardStore[RawShard], ranks_here: int, config: DataConfig, show: ShowProgress
) -> Iterator[RawShard]:
    """Yield this rank's shards as they are read and kept."""
    for shard in divided.read_all(show, on_missing=config.on_missing):
        if store.bound is not None and shard.number == divided.own.start:
            store.spool.require_disk(max(shard.nbytes * len(divided.own) - store.bound, 0) * ranks_here)
        yield store.add(shard)
    if store.bytes_spooled:
        store.require_memory(divided)


def _weighted_rows(store: ShardStore[EncodedShard]) -> Iterator[tuple[int, Columns, NDArray[np.float64] | None]]:
    """Yield the training rows of each shard as (shard, features, sample weights), those of weight 0 left out."""
    for shard in store:
        rows, weights = ~shard.held_out, shard.weights
        if weights is not None:
            rows = rows & (weights > 0)
            weights = weights[rows]
        yield shard.number, take_rows(shard.features, rows), weights


def _notes(
    config: DataConfig, preparation: Preparation, survey: Survey, source: Source, intercept: bool
) -> Iterator[str]:
    n_classes, n_training = len(preparation.classes or ()), survey.n_training
    sparse = source.sparse or preparation.encoding.is_sparse
    if survey.n_dropped:
        yield f"{source.path}: {dropped_rows(survey.n_dropped, source.n_rows)}"
    for column in survey.row_numbers:
        yield numbers_rows(source, column, config)
    if 2 * n_classes > n_training > 20:
        yield (
            f"{n_classes} classes for {n_training} samples: is the label a number to be predicted? This trains a "
            "classifier"
        )
    if config.standardize and sparse and preparation.standardization.offset is None and intercept:
        because = "" if source.sparse else "the many categories make sparse features, and "
        yield f"{because}sparse features are scaled to standard deviation 1 but not centred; --center yes does both"


def _with_held_out(
    facts: Facts,
    training: ShardStore[PreparedShard],
    weights: NDArray[np.float64] | None,
    config: DataConfig,
    cluster: Communicator,
    show: ShowProgress,
    folder: WarmFolder | None,
) -> tuple[Facts, ShardStore[PreparedShard]]:
    """Return the samples of the source named by --valid, which are held out, and what all know then. Collective."""
    preparation, encoding = facts.preparation.of_held_out_source, facts.encoding
    divided = divide_source(held_out_source(config, encoding), config.shards, cluster, or_fewer=True, weights=weights)
    divided.require_columns(encoding, "the training data")
    source = divided.source
    sparse = source.sparse or encoding.is_sparse
    if sparse != facts.sparse:
        kinds = ("dense", "sparse")
        raise InputError(
            f"{source.path}: holds {kinds[sparse]} features, the training data {kinds[facts.sparse]} ones; "
            "give both in one kind of format"
        ).on_all_ranks()
    store = ShardStore[PreparedShard](training.bound, training.spool)
    digests = np.zeros(divided.n_shards, dtype=np.int64)
    files = WarmShards(folder, "held-out", preparation, digests, training.spool)
    n_unseen, n_dropped = 0, np.zeros(1, dtype=np.int64)
    with cluster.agreement():
        for shard in divided.read_all(show, on_missing=config.on_missing):
            digests[shard.number] = shard_digest(shard)
            n_unseen += count_unseen(shard.rows, encoding)
            n_dropped += shard.n_dropped
            store.add(files.keep(preparation.prepare(shard)), others=training.bytes_held)
        if store.bytes_spooled:
            store.require_memory(divided, others=training.bytes_held)
    cluster.sum_integers(digests)
    cluster.sum_integers(n_dropped)
    n_held_out = source.n_rows - int(n_dropped[0])
    if not n_held_out:
        raise no_complete_row(source.path).on_all_ranks()
    said = agree_on_unseen(n_unseen, cluster), dropped_rows(int(n_dropped[0]), source.n_rows)
    notes = (*facts.notes, *source.notes, *(f"{source.path}: {text}" for text in said if text))
    facts = replace(facts, n_held_out=n_held_out, n_valid_rows=source.n_rows, held_out_digests=digests, notes=notes)
    return facts, store
