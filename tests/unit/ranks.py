"""Threads that stand for the ranks of a cluster, and a source read by them together."""

import threading
import time

import numpy as np
from scipy.sparse import csr_array, issparse, vstack

from distsoftmax.cluster.assignment import owned_shards
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.open_source import open_source
from distsoftmax.data.shards import default_n_shards, shard_bounds
from distsoftmax.data.source import SourceSpec

PARTS = [1, 2, 3, 5, 16]
SHARDS = [None, 1, 2, 3, 50]


class ThreadCommunicator(Communicator):
    """The ranks of a job as threads of one process."""

    def __init__(self, rank, size, barrier, board):
        self.rank, self.size = rank, size
        self.communication_seconds = 0.0
        self._barrier, self._board = barrier, board

    def allgather(self, value):
        self._board[self.rank] = value
        self.barrier()
        values = list(self._board)
        self.barrier()
        return values

    def alltoall(self, values):
        assert len(values) == self.size
        return [given[self.rank] for given in self.allgather(list(values))]

    def broadcast(self, value):
        return self.allgather(value)[0]

    def broadcast_bytes(self, content, root=0):
        return self.allgather(content)[root]

    def agree(self, done):
        return done

    def confirm_loss(self):
        return False

    def repair(self):
        raise NotImplementedError

    def sum_integers(self, values):
        values[...] = np.sum(self.allgather(values.copy()), axis=0, dtype=np.int64)

    def maximum(self, values):
        values[...] = np.max(self.allgather(values.copy()), axis=0)

    def gather_records(self, record):
        return np.array(self.allgather(record.copy()), dtype=record.dtype).reshape(self.size)

    def in_rank_order(self, value):
        yield from self.allgather(value) if self.rank == 0 else self.allgather(value)[:0]

    def barrier(self):
        start = time.perf_counter()
        self._barrier.wait()
        self.communication_seconds += time.perf_counter() - start

    def abort(self, text, status=1):
        self._barrier.abort()
        raise SystemExit(text)


def on_ranks(size, work):
    """Return what `work(rank)` returns or raises on each of `size` threads."""
    barrier, board, outcomes = threading.Barrier(size, timeout=60), [None] * size, [None] * size

    def run(number):
        try:
            outcomes[number] = work(ThreadCommunicator(number, size, barrier, board))
        except Exception as error:
            outcomes[number] = error
            if not getattr(error, "agreed", False):
                barrier.abort()

    threads = [
        threading.Thread(target=run, args=(number,), name=f"rank {number}", daemon=True) for number in range(size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads), "a rank hangs"
    return outcomes


class Table:
    """What the ranks together read: features (dense or csr_array), labels (texts), weights, categories (texts)."""

    def __init__(self, source, shards):
        self.source = source
        self.names = tuple(source.feature_names)
        features = [rows.features for rows in shards] or [np.empty((0, len(self.names)))]
        if source.sparse:
            assert all(issparse(rows.features) and rows.features.shape[1] == len(self.names) for rows in shards)
            self.features = vstack([csr_array(some) for some in features], format="csr")
        else:
            self.features = np.concatenate(features)
        assert self.features.shape == (source.n_rows, len(self.names))
        self.labels = texts_of([rows.labels for rows in shards])
        weights = [rows.weights for rows in shards if rows.weights is not None]
        self.weights = np.concatenate(weights) if weights else None
        self.categories = [
            texts_of([rows.categories[place] for rows in shards]) for place in range(len(source.category_names))
        ]


def texts_of(columns):
    """The cells of a column that was read a shard at a time; None for a missing one, and for no column at all."""
    if any(column is None for column in columns):
        return None
    return [column.texts[code] if code >= 0 else None for column in columns for code in column.codes]


def read(*paths, ranks=1, shards=None, **spec):
    """Return the `Table` that so many ranks read together, or raise what a rank raises."""

    def work(rank):
        source = open_source(SourceSpec(paths=tuple(str(path) for path in paths), **spec), rank)
        source.scan(rank)
        n_shards = min(shards or default_n_shards(source.n_rows), source.n_rows)
        owned = [owned_shards(number, rank.size, n_shards) for number in range(rank.size)]
        bounds = shard_bounds(source.n_rows, n_shards) if n_shards else np.zeros(1, dtype=np.int64)
        source.divide(bounds, owned, rank)
        return source, [source.read(shard) for shard in owned[rank.rank]]

    outcomes = on_ranks(ranks, work)
    for error in outcomes:
        if isinstance(error, Exception) and not isinstance(error, threading.BrokenBarrierError):
            raise error
    assert len({source.n_rows for source, _ in outcomes}) == 1
    assert len({source.index_base for source, _ in outcomes}) == 1
    return Table(outcomes[0][0], [rows for _, own in outcomes for rows in own])


def assert_says(text, *words):
    for word in words:
        assert word in text
