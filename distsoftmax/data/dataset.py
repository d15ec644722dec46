"""Each rank's part of the training set: read, held out, standardised and numbered; the same on any number of ranks.

It comes from the source by a cold start, which reads all of it once; or, after a crash, from files in scratch. Ranks
that are left when others are lost take their shards over. `moving.py` gives shards to other ranks in mid-run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.assignment import held_once, lost_shards, reading_runs
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig, parse_memory
from distsoftmax.data.cold_start import start_cold
from distsoftmax.data.facts import Facts
from distsoftmax.data.open_source import held_out_source, training_source, training_source_again
from distsoftmax.data.preparation import PreparedShard, Samples
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import DividedSource, ShowProgress, divide_source, shard_bounds, show_nothing
from distsoftmax.data.shards_again import Origin, SourceChanged
from distsoftmax.data.spool import Spool
from distsoftmax.data.warm_files import WarmFolder, WarmShards, samples_key


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
class Dataset(Facts):
    """What a rank holds of the data, and what all ranks know of it.

    Attributes
    ----------
    training, held_out : StoredSamples
        This rank's shards, in order; no held-out ones where nothing is held out.
    """

    training: StoredSamples
    held_out: StoredSamples | tuple[()]

    @classmethod
    def of(
        cls, facts: Facts, training: ShardStore[PreparedShard], held_out: ShardStore[PreparedShard] | None
    ) -> Dataset:
        """Return the dataset of what a rank holds.

        Parameters
        ----------
        held_out : ShardStore or None
            Of the source named by --valid; None where there is none.
        """
        chosen: StoredSamples | tuple[()] = ()
        if held_out is not None:
            chosen = StoredSamples(held_out, attrgetter("training"))
        elif facts.n_held_out:
            chosen = StoredSamples(training, attrgetter("held_out"))
        known = {item.name: getattr(facts, item.name) for item in fields(Facts)}
        return cls(**known, training=StoredSamples(training, attrgetter("training")), held_out=chosen)

    @property
    def bytes_held(self) -> int:
        """The bytes of this rank's features in memory."""
        return sum(int(store.bytes_held) for store in self._stores)

    @property
    def bytes_spooled(self) -> int:
        """The bytes of this rank's features in scratch for which --memory has no room."""
        return sum(int(store.bytes_spooled) for store in self._stores)

    @property
    def held_out_store(self) -> ShardStore[PreparedShard] | None:
        """The shards of the source named by --valid."""
        store = self.held_out.store if isinstance(self.held_out, StoredSamples) else None
        return None if store is self.training.store else store

    def settled(self) -> Dataset:
        """Return the same, with what went to scratch while more was in memory taken out of it. Not collective."""
        training, held_out = self.training.store, self.held_out_store
        training = training.settled(0 if held_out is None else held_out.bytes_held)
        return Dataset.of(self, training, held_out and held_out.settled(training.bytes_held))

    @property
    def _stores(self) -> list[ShardStore[PreparedShard]]:
        return [store for store in (self.training.store, self.held_out_store) if store is not None]


def load_dataset(
    config: DataConfig,
    intercept: bool,
    cluster: Communicator,
    show: ShowProgress = show_nothing,
    warm: Path | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Dataset:
    """Open the source that the options name, and make it ready for training. Collective.

    Parameters
    ----------
    warm : Path or None
        The private folder of this node in scratch: prepared samples are kept there, and where an earlier start has
        kept them, they are mapped, and the source is not read. What is missing there or damaged is made again. None on
        a rank whose node has no such folder.
    weights : ndarray of float64, (n_ranks,), or None
        The speed of each rank, the same on every rank, by which the shards are dealt out; None: all are equal.

    Raises
    ------
    InputError
        On every rank, the same: what is wrong with the data, and where.
    OutputError
        On every rank: scratch has no room for what --memory has no room for.
    """
    folder = None
    if any(cluster.allgather(warm is not None)):
        folder = WarmFolder(warm, samples_key(config, intercept, cluster))
        facts = folder.facts(cluster)
        if facts is not None:
            try:
                return _told(_start_warm(facts, config, cluster, show, folder, weights), config, cluster, folder)
            except SourceChanged:  # although its files look as before
                folder = WarmFolder(warm, samples_key(config, intercept, cluster))
    divided = divide_source(training_source(config), config.shards, cluster, weights=weights)
    return prepare_dataset(divided, config, intercept, cluster, show, folder)


def prepare_dataset(
    divided: DividedSource,
    config: DataConfig,
    intercept: bool,
    cluster: Communicator,
    show: ShowProgress = show_nothing,
    folder: WarmFolder | None = None,
) -> Dataset:
    """Read this rank's shards of a source, once, and make them ready for training. Collective.

    Raises
    ------
    InputError, OutputError
        See `load_dataset`.
    """
    started = start_cold(divided, config, intercept, cluster, show, folder)
    return _told(Dataset.of(started.facts, started.training, started.held_out), config, cluster, folder)


def take_over(
    dataset: Dataset,
    config: DataConfig,
    cluster: Communicator,
    show: ShowProgress = show_nothing,
    warm: Path | None = None,
) -> Dataset:
    """Return a dataset with the shards of ranks that are lost dealt out to those that are left. Collective.

    Where ranks were lost while shards were moved, two may hold the same one: the first of them keeps it. Nothing that a
    rank holds is read again, and the old dataset stays as it is: where more ranks are lost meanwhile, it is called
    again with the same.

    Parameters
    ----------
    dataset : Dataset
        What this rank holds.
    cluster : Communicator
        The ranks that are left.
    warm : Path or None
        See `load_dataset`.

    Raises
    ------
    InputError, OutputError
        On every rank: the source cannot be read any more, or has changed; scratch has no room.
    """
    stores: list[ShardStore[PreparedShard] | None] = []
    wanted = []
    for store, n_shards in (
        (dataset.training.store, dataset.n_shards),
        (dataset.held_out_store, dataset.held_out_digests.size),
    ):
        held = held_once(cluster.allgather([] if store is None else store.numbers))
        wanted.append(lost_shards(held, n_shards)[cluster.rank])
        stores.append(store and store.without(set(store.numbers).difference(held[cluster.rank])))
    training, held_out = stores
    assert training is not None
    kept = Dataset.of(dataset, training, held_out)
    return _with_more(kept, wanted, config, cluster, show, None if warm is None else WarmFolder(warm, ""))


def origin_of_training(dataset: Dataset, config: DataConfig, folder: WarmFolder | None) -> Origin:
    """Return where the shards of --data come from, when they are made once more. Not collective."""
    preparation = dataset.preparation
    return Origin(
        source=partial(training_source_again, config, preparation.encoding),
        n_rows=dataset.n_rows,
        digests=dataset.shard_digests,
        preparation=preparation,
        on_missing=config.on_missing,
        files=WarmShards(folder, "training", preparation, dataset.training.store.spool),
    )


def origin_of_held_out(dataset: Dataset, config: DataConfig, folder: WarmFolder | None) -> Origin:
    """Return where the shards of --valid come from, when they are made once more. Not collective."""
    preparation = dataset.preparation.of_held_out_source
    return Origin(
        source=partial(held_out_source, config, preparation.encoding),
        n_rows=dataset.n_valid_rows,
        digests=dataset.held_out_digests,
        preparation=preparation,
        on_missing=config.on_missing,
        files=WarmShards(folder, "held-out", preparation, dataset.training.store.spool),
    )


def _start_warm(
    facts: Facts,
    config: DataConfig,
    cluster: Communicator,
    show: ShowProgress,
    folder: WarmFolder,
    weights: NDArray[np.float64] | None,
) -> Dataset:
    """Return the dataset that a record tells of. Collective."""
    bound, spool = None if config.memory is None else parse_memory(config.memory), Spool(config.scratch_folder)
    training = ShardStore[PreparedShard](bound, spool)
    held_out = ShardStore[PreparedShard](bound, spool) if config.valid else None
    folder.prepare_for(facts.preparation, 0, cluster)
    wanted = [
        _own_run(facts.n_rows, facts.shard_digests.size, cluster, weights),
        _own_run(facts.n_valid_rows, facts.held_out_digests.size, cluster, weights),
    ]
    return _with_more(Dataset.of(facts, training, held_out), wanted, config, cluster, show, folder)


def _own_run(n_rows: int, n_shards: int, cluster: Communicator, weights: NDArray[np.float64] | None) -> range:
    """Return the shards of a source that this rank reads; there are none without --valid."""
    if n_shards == 0:
        return range(0)
    return reading_runs(np.diff(shard_bounds(n_rows, n_shards)), cluster.size, weights)[cluster.rank]


def _with_more(
    dataset: Dataset,
    wanted: Sequence[Sequence[int]],
    config: DataConfig,
    cluster: Communicator,
    show: ShowProgress,
    folder: WarmFolder | None,
) -> Dataset:
    """Return a dataset with more shards, wanted of --data and of --valid. Collective."""
    training, held_out = dataset.training.store, dataset.held_out_store
    others = 0 if held_out is None else held_out.bytes_held
    training = origin_of_training(dataset, config, folder).add_to(training, wanted[0], others, cluster, show)
    if held_out is not None:
        origin = origin_of_held_out(dataset, config, folder)
        held_out = origin.add_to(held_out, wanted[1], training.bytes_held, cluster, show)
    return Dataset.of(dataset, training, held_out)


def _told(dataset: Dataset, config: DataConfig, cluster: Communicator, folder: WarmFolder | None) -> Dataset:
    """Keep what is known of a dataset, and return it with what is to be said of scratch. Collective."""
    notes = dataset.notes
    if config.memory is not None:
        notes += dataset.training.store.spool.notes(dataset.bytes_spooled, cluster)
    if folder is not None:
        folder.keep_facts(dataset, cluster)
        notes += folder.notes(cluster)
    return replace(dataset, notes=notes)
