"""Prepared shards given from rank to rank in mid-run, to share the work anew: no bit depends on who holds a shard.

A shard travels as the content of its file (`shard_file.py`), and is believed where its digest is right. What the
receiver finds in scratch, as it does with --warm where the sender is on its node, is mapped and does not travel; what
arrives damaged is read again. The old dataset stays as it is until all ranks have the new one, so that ranks may be
lost at any time: some may then hold the old one and some the new one, which `dataset.take_over` sets right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distsoftmax.arithmetic.arrays import Integers
from distsoftmax.cluster.assignment import Assignment
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig
from distsoftmax.data.dataset import Dataset, held_by_others, origins
from distsoftmax.data.features import SparseFeatures, moved
from distsoftmax.data.preparation import PreparedShard, Samples
from distsoftmax.data.shard_file import content_of, shard_in
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import ShowProgress, show_nothing
from distsoftmax.data.shards_again import Origin
from distsoftmax.data.warm_files import WarmFolder
from distsoftmax.errors import DamagedFile


@dataclass(frozen=True)
class Move:
    """A shard's way from the rank that holds it to the one that shall."""

    shard: int
    sender: int
    receiver: int


def move_shards(
    dataset: Dataset,
    wanted: Assignment,
    config: DataConfig,
    cluster: Communicator,
    show: ShowProgress = show_nothing,
    warm: Path | None = None,
) -> Dataset:
    """Return a dataset whose shards lie with the ranks that shall hold them. Collective.

    Those of a source named by --valid go along, in proportion: a rank that shall compute less looks at fewer of both.

    Parameters
    ----------
    dataset : Dataset
        What this rank holds. It stays as it is, and what it gives away is in memory as long as it is.
    wanted : tuple of tuple of int
        The shards of --data that each rank shall hold.
    warm : Path or None
        See `load_dataset`: what arrives is kept there for a restart.

    Raises
    ------
    OutputError
        On every rank: scratch has no room for what --memory has no room for.
    InputError
        On every rank: what has arrived damaged cannot be read again.
    """
    stores = list(dataset.stores)
    given = 0  # bytes of what this rank has given away, which stays in memory as long as the old dataset
    for number, origin in enumerate(origins(dataset, config, WarmFolder(warm, ""))):
        store = stores[number]
        holders = _holders(store, origin.files.digests.size, cluster)
        if number == 0:
            receivers = holders.copy()
            for rank, numbers in enumerate(wanted):
                receivers[list(numbers)] = rank
        else:
            receivers = in_proportion(holders, [len(numbers) for numbers in wanted])
        others = held_by_others(stores, number) + given
        stores[number] = _moved(store, _moves(holders, receivers), origin, others, cluster, show)
        given += store.without(stores[number].numbers).bytes_held
    return replace(dataset, stores=tuple(stores))


def assignment_of(dataset: Dataset, cluster: Communicator) -> Assignment:
    """Return the shards of --data that each rank holds, ascending. Collective."""
    holders = _holders(dataset.stores[0], dataset.n_shards, cluster)
    return tuple(tuple(np.flatnonzero(holders == rank).tolist()) for rank in range(cluster.size))


def costs_of(dataset: Dataset, cluster: Communicator) -> Integers:
    """Return about the work that each shard is, (n_shards,), int64: its rows, or its entries if sparse. Collective."""
    costs = np.zeros(dataset.n_shards, dtype=np.int64)
    for samples in dataset.training:
        features = samples.features
        work = features.matrix.nnz if isinstance(features, SparseFeatures) else len(samples)
        costs[samples.shard] = max(work, 1)
    cluster.sum_integers(costs)
    return costs


def in_proportion(holders: Integers, counts: Sequence[int]) -> Integers:
    """Return who shall hold each shard, (n_shards,), so that ranks hold them in proportion to what they have of others.

    As few as can be change hands.

    Parameters
    ----------
    holders : ndarray of int64, (n_shards,)
        Who holds each shard.
    counts : sequence of int
        Of the other shards, what each rank has.

    Examples
    --------
    >>> in_proportion(np.array([0, 0, 0, 1, 1, 1]), [10, 20])
    array([0, 0, 1, 1, 1, 1])
    """
    ends = np.cumsum(counts, dtype=np.int64) * holders.size // sum(int(count) for count in counts)
    wanted: Integers = np.diff(ends, prepend=0)
    held = np.bincount(holders, minlength=len(counts))
    spare = [shard for rank in np.unique(holders) for shard in np.flatnonzero(holders == rank)[wanted[rank] :]]
    receivers: Integers = holders.copy()
    receivers[spare] = np.repeat(np.arange(len(counts)), np.maximum(wanted - held, 0))
    return receivers


def rounds(moves: Sequence[Move]) -> Iterator[list[Move]]:
    """Divide moves into rounds, in each of which a rank sends one shard at most, and receives one at most.

    Examples
    --------
    >>> [[move.shard for move in of_round] for of_round in rounds([Move(0, 0, 1), Move(1, 0, 2), Move(2, 1, 0)])]
    [[0, 2], [1]]
    """
    while moves:
        senders, receivers = set[int](), set[int]()
        now, later = list[Move](), list[Move]()
        for move in moves:
            if move.sender in senders or move.receiver in receivers:
                later.append(move)
            else:
                now.append(move)
                senders.add(move.sender)
                receivers.add(move.receiver)
        yield now
        moves = later


def _holders(store: ShardStore[PreparedShard], n_shards: int, cluster: Communicator) -> Integers:
    """Return the rank that holds each shard, (n_shards,), int64. Collective."""
    holders = np.zeros(n_shards, dtype=np.int64)
    holders[store.numbers] = cluster.rank
    cluster.sum_integers(holders)  # each has one holder
    return holders


def _moves(holders: Integers, receivers: Integers) -> list[Move]:
    return [
        Move(int(shard), int(holders[shard]), int(receivers[shard])) for shard in np.flatnonzero(holders != receivers)
    ]


def _moved(
    store: ShardStore[PreparedShard],
    moves: Sequence[Move],
    origin: Origin,
    others: int,
    cluster: Communicator,
    show: ShowProgress,
) -> ShardStore[PreparedShard]:
    """Return what a rank holds after moves. Collective, unless there are none."""
    if not moves:
        return store
    kept = store.without({move.shard for move in moves if move.sender == cluster.rank})
    others += store.bytes_held - kept.bytes_held  # which stay in memory until all have arrived
    wanted = {move.shard for move in moves if move.receiver == cluster.rank}
    with cluster.agreement():
        mapped = (origin.files.find(number) for number in sorted(wanted))
        kept = kept.with_more((shard for shard in mapped if shard is not None), others)
    absent = np.zeros(origin.files.digests.size, dtype=np.int64)
    absent[list(wanted.difference(kept.numbers))] = 1
    cluster.sum_integers(absent)
    travelling, n_done = [move for move in moves if absent[move.shard]], 0
    given = {shard.number: shard for shard in store if absent[shard.number]}
    for of_round in rounds(travelling):
        arrived = _exchanged(of_round, given, origin, cluster)
        with cluster.agreement():  # a signal may end it
            show("moving samples", n_done, len(travelling))
            kept = kept.with_more(map(origin.files.keep, arrived), others)
        n_done += len(of_round)
        cluster.n_shards_done += 1
    return origin.add_to(kept, sorted(wanted.difference(kept.numbers)), others, cluster, show)


def _exchanged(
    moves: Sequence[Move], given: dict[int, PreparedShard], origin: Origin, cluster: Communicator
) -> list[PreparedShard]:
    """Send and receive the shards of a round, and return those that have arrived whole. Collective."""
    contents, digests = [b""] * cluster.size, origin.files.digests
    for move in moves:
        if move.sender == cluster.rank:
            contents[move.receiver] = b"".join(content_of(given[move.shard], int(digests[move.shard])))
    received = cluster.alltoall(contents)
    arrived = []
    for move in moves:
        if move.receiver == cluster.rank:
            name, content = Path(f"shard {move.shard} from rank {move.sender}"), received[move.sender]
            try:
                shard = shard_in(content, name, move.shard, int(digests[move.shard]), origin.files.preparation)
            except DamagedFile:
                continue
            arrived.append(PreparedShard(_of_its_own(shard.training), _of_its_own(shard.held_out)))
    return arrived


def _of_its_own(samples: Samples) -> Samples:
    """Return samples with arrays of their own: any that lies in the message would keep all of it in memory."""
    weights = None if samples.weights is None else samples.weights.copy()
    return replace(samples, features=moved(samples.features, np.copy), classes=samples.classes.copy(), weights=weights)
