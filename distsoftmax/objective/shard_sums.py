"""Integer sums over the shards of all ranks: the same bits for any ranks and threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from distsoftmax.arithmetic.arrays import Integers
from distsoftmax.cluster.communicator import Communicator

Item = TypeVar("Item")


class ShardSums:
    """Does work on this rank's shards, on several threads if asked to, and sums it over all ranks.

    Attributes
    ----------
    compute_seconds : float
        Seconds this rank has spent on its own samples.
    """

    def __init__(self, cluster: Communicator, threads: int) -> None:
        self.compute_seconds = 0.0
        self._cluster = cluster
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def sum(self, work: Callable[[Iterable[Item]], Integers], items: Iterable[Item]) -> Integers:
        """Return the sum over all ranks of what `work` makes of their items. Collective: one Allreduce.

        Items are this rank's samples of a shard, or whatever stands for some shards. Each thread calls `work` once,
        with those that no other thread has taken.
        """
        start = time.perf_counter()
        if self._pool is None:
            message = work(self._counted(items))
        else:
            shared = _Shared(self._counted(items))
            message, *others = self._pool.map(work, [shared] * self._threads)
            for other in others:
                message += other
        self.compute_seconds += time.perf_counter() - start
        self._cluster.sum_integers(message)
        return message

    def _counted(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, and count each that is done with, for the watchdog."""
        for item in items:
            yield item
            self._cluster.n_shards_done += 1


class _Shared(Iterable[Item], Generic[Item]):
    """Items that several threads take from, each those that no other has taken."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._lock:
                item = next(self._items, None)
            if item is None:
                return
            yield item
