"""How quick a rank is while all ranks work: a short run of the kernel in which training spends its time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.arithmetic.samples import CoreRows, dense_rows
from distsoftmax.arithmetic.sums import Sums
from distsoftmax.cluster.communicator import Communicator

ROWS, FEATURES, CLASSES = 16_384, 256, 10  # 16 MiB of float32, more than a core's own cache
PROBE_SECONDS = 0.3
COPIES = 3  # of the same bytes; the quickest counts, for the first one waits for its memory


def kernel_speed(cluster: Communicator, threads: int, seconds: float = PROBE_SECONDS) -> float:
    """Return the rows a second of which this rank computes loss and gradient, all ranks at once. Collective.

    Parameters
    ----------
    threads : int
        That compute at once.
    seconds : float
        How long to measure.
    """
    rows = dense_rows(_features(), np.dtype(np.float32), np.arange(ROWS, dtype=np.int64) % CLASSES)
    _pass(rows)  # the first one loads what the others find loaded
    cluster.barrier()
    start = time.perf_counter()

    def work(_: int) -> int:
        passes = 0
        while time.perf_counter() - start < seconds:
            _pass(rows)
            passes += 1
        return passes

    with ThreadPoolExecutor(threads) as pool:
        n_passes = sum(int(passes) for passes in pool.map(work, range(threads)))
    return n_passes * ROWS / (time.perf_counter() - start)


def copied_bytes(cluster: Communicator) -> float:
    """Return the bytes a second that this rank reads and writes in memory, all ranks at once. Collective."""
    source = np.ones((ROWS, FEATURES), dtype=np.float32)
    target = np.empty_like(source)
    cluster.barrier()
    quickest = np.inf
    for _ in range(COPIES):
        start = time.perf_counter()
        np.copyto(target, source)
        quickest = min(quickest, time.perf_counter() - start)
    return 2 * source.nbytes / quickest


def _features() -> np.ndarray:
    numbers: np.ndarray = (np.arange(ROWS * FEATURES, dtype=np.float32) % 7 - 3).reshape(ROWS, FEATURES)
    return numbers


def _pass(rows: CoreRows) -> None:
    """Compute loss and gradient once."""
    scorer = Scorer(np.zeros((CLASSES, FEATURES + 1)), rows.dtype, sparse=False)
    sums = Sums(FixedPoint(np.full(FEATURES + 1, 3.0 * ROWS)), FixedPoint(3.0 * ROWS), CLASSES, by_column=False)
    scorer.add_loss_and_gradient(rows, sums.empty())
