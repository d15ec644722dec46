"""Each rank's part of the training set: read, held out, standardised and numbered; the same on any number of ranks.

It comes from the source by a cold start, which reads all of it once; or, after a crash, from files in scratch. Ranks
that are left when others are lost take their shards over. `moving.py` gives shards to other ranks in mid-run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    stores : tuple of ShardStore
        This rank's shards of the source named by --data and, where there is one, of that named by --valid.
    """

    stores: tuple[ShardStore[PreparedShard], ...]

    @property
    def training(self) -> StoredSamples:
        """The training samples of this rank's shards, in order."""
        return StoredSamples(self.stores[0], attrgetter("training"))

    @property
    def held_out(self) -> StoredSamples | tuple[()]:
        """The held-out samples of this rank's shards, in order; none where nothing is held out."""
        if len(self.stores) > 1:
            return StoredSamples(self.stores[1], attrgetter("training"))
        return StoredSamples(self.stores[0], attrgetter("held_out")) if self.n_held_out else ()

    @property
    def bytes_held(self) -> int:
        """The bytes of this rank's features in memory."""
        return sum(int(store.bytes_held) for store in self.stores)

    @property
    def bytes_spooled(self) -> int:
        """The bytes of this rank's features in scratch for which --memory has no room."""
        return sum(int(store.bytes_spooled) for store in self.stores)

    def settled(self) -> Dataset:
        """Return the same, with what went to scratch while more was in memory taken out of it. Not collective."""
        stores = list(self.stores)
        for number, store in enumerate(stores):
            stores[number] = store.settled(held_by_others(stores, number))
        return replace(self, stores=tuple(stores))


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
    facts, stores = start_cold(divided, config, intercept, cluster, show, folder)
    return _told(Dataset(**vars(facts), stores=stores), config, cluster, folder)


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
    stores: list[ShardStore[PreparedShard]] = []
    wanted = []
    for store, digests in zip(dataset.stores, (dataset.shard_digests, dataset.held_out_digests), strict=False):
        held = held_once(cluster.allgather(store.numbers))
        wanted.append(lost_shards(held, digests.size)[cluster.rank])
        stores.append(store.without(set(store.numbers).difference(held[cluster.rank])))
    kept = replace(dataset, stores=tuple(stores))
    return _with_more(kept, wanted, config, cluster, show, WarmFolder(warm, ""))


def origins(dataset: Dataset, config: DataConfig, folder: WarmFolder | None) -> list[Origin]:
    """Return for each store of a dataset where its shards come from, when they are made once more. Not collective."""
    preparation, spool = dataset.preparation, dataset.stores[0].spool
    training = Origin(
        source=partial(training_source_again, config, preparation.encoding),
        n_rows=dataset.n_rows,
        on_missing=config.on_missing,
        files=WarmShards(folder, "training", preparation, dataset.shard_digests, spool),
    )
    if len(dataset.stores) == 1:
        return [training]
    source = partial(held_out_source, config, preparation.encoding)
    files = WarmShards(folder, "held-out", preparation.of_held_out_source, dataset.held_out_digests, spool)
    return [training, replace(training, source=source, n_rows=dataset.n_valid_rows, files=files)]


def held_by_others(stores: Sequence[ShardStore[PreparedShard]], number: int) -> int:
    """Return the bytes that all stores but one hold in memory."""
    return sum(int(store.bytes_held) for store in stores) - stores[number].bytes_held


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
    sizes = [(facts.n_rows, facts.n_shards)]
    if config.valid:
        sizes.append((facts.n_valid_rows, facts.held_out_digests.size))
    folder.prepare_for(facts.preparation, 0, cluster)
    wanted = [reading_runs(np.diff(shard_bounds(*size)), cluster.size, weights)[cluster.rank] for size in sizes]
    stores = tuple(ShardStore[PreparedShard](bound, spool) for _ in sizes)
    return _with_more(Dataset(**vars(facts), stores=stores), wanted, config, cluster, show, folder)


def _with_more(
    dataset: Dataset,
    wanted: Sequence[Sequence[int]],
    config: DataConfig,
    cluster: Communicator,
    show: ShowProgress,
    folder: WarmFolder | None,
) -> Dataset:
    """Return a dataset with more shards, those wanted for each of its stores. Collective."""
    stores = list(dataset.stores)
    for number, origin in enumerate(origins(dataset, config, folder)):
        others = held_by_others(stores, number)
        stores[number] = origin.add_to(stores[number], wanted[number], others, cluster, show)
    return replace(dataset, stores=tuple(stores))


def _told(dataset: Dataset, config: DataConfig, cluster: Communicator, folder: WarmFolder | None) -> Dataset:
    """Keep what is known of a dataset, and return it with what is to be said of scratch. Collective."""
    notes = dataset.notes
    if config.memory is not None:
        notes += dataset.stores[0].spool.notes(dataset.bytes_spooled, cluster)
    if folder is not None:
        folder.keep_facts(dataset, cluster)
        notes += folder.notes(cluster)
    return replace(dataset, notes=notes)
