"""Integer sums over the shards of all ranks: the same bits for any ranks and threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.data.partition import Samples

Work = Callable[[Iterable[Samples]], NDArray[np.int64]]


class ShardSums:
    """Does work on this rank's shards, on several threads if asked to, and sums it over all ranks.

    Attributes
    ----------
    compute_seconds : float
        Seconds this rank has spent on its own samples.
    """

    def __init__(self, cluster: Cluster, threads: int) -> None:
        self.compute_seconds = 0.0
        self._cluster = cluster
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def sum(self, work: Work, samples: Iterable[Samples]) -> NDArray[np.int64]:
        """Return the sum over all ranks of what `work` makes of the samples. Collective: one Allreduce.

        Each thread calls `work` once, with those of this rank's samples that no other thread has taken.
        """
        start = time.perf_counter()
        if self._pool is None:
            message = work(samples)
        else:
            shared = _Shared(samples)
            message, *others = self._pool.map(work, [shared] * self._threads)
            for other in others:
                message += other
        self.compute_seconds += time.perf_counter() - start
        self._cluster.sum_integers(message)
        return message


class _Shared(Iterable[Samples]):
    """Samples that several threads take from, each those that no other has taken."""

    def __init__(self, samples: Iterable[Samples]) -> None:
        self._samples = iter(samples)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Samples]:
        while True:
            with self._lock:
                some = next(self._samples, None)
            if some is None:
                return
            yield some
