"""What the machine can do at most: the GEMM peak and the memory bandwidth of two processes at work at the same time.

    python tests/benchmarks/roofline.py

No step takes less than the greater of 4 n d K flops at the peak of float32 products (OpenBLAS's fastest kernel on this
processor, 1024 x 1024 x 1024, one thread a process), and reading the features once at the bandwidth (the fastest of
numpy's passes over an array as large as a process's half of them; what fits in a cache is read from there). Of several
repeats the best counts, and the rate of the pair is that of the process that ends last.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from comparison import Table
from jobs import RANKS, run_ranks
from random_samples import SHAPES, Shape, text_of

SIZE = 1024
REPEATS = 10
READ_AT_ONCE = 2**28  # bytes, in a repeat
# OpenBLAS's names for its x86-64 kernels with fused multiply-add; those that the processor cannot run are passed over.
CORE_TYPES = ("Haswell", "Zen", "SkylakeX", "Cooperlake", "SapphireRapids")


@dataclass(frozen=True)
class Machine:
    """What the two processes do together.

    Attributes
    ----------
    flops : float
        A second.
    bandwidth : float
        Bytes a second.
    """

    flops: float
    bandwidth: float

    def step_seconds(self, shape: Shape, itemsize: int) -> float:
        """Return the least time of a step."""
        rows, n_features, n_classes = shape
        return max(4.0 * rows * n_features * n_classes / self.flops, rows * n_features * itemsize / self.bandwidth)


def measure(n_bytes: int, core_type: str = "") -> Machine:
    """Measure, with an array of so many bytes in each process."""
    environment = {"OPENBLAS_NUM_THREADS": "1"} | ({"OPENBLAS_CORETYPE": core_type} if core_type else {})
    return Machine(**run_ranks(__file__, "--bytes", str(n_bytes), environment=environment))


@functools.cache
def best_core_type() -> str:
    """Return the name of OpenBLAS's fastest kernel here; empty for the one that it chooses."""
    flops = {"": measure(2**20).flops}
    for core_type in CORE_TYPES if platform.machine() in ("x86_64", "AMD64") else ():
        try:
            flops[core_type] = measure(2**20, core_type).flops
        except RuntimeError:  # an illegal instruction
            continue
    return max(flops, key=lambda name: flops[name])


def least_seconds(shape: Shape, itemsize: int) -> float:
    """Return the least time of a step with features of so many bytes a number, measured now."""
    return measure(shape[0] * shape[1] * itemsize // RANKS, best_core_type()).step_seconds(shape, itemsize)


def be_rank(n_bytes: int) -> None:
    """Be one of the two processes; rank 0 prints what they do together."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD

    def rate(work: Callable[[], object], amount: float) -> float:
        best = 0.0
        for _ in range(REPEATS):
            world.Barrier()
            start = time.perf_counter()
            work()
            slowest = world.allreduce(time.perf_counter() - start, op=MPI.MAX)
            best = max(best, world.size * amount / slowest)
        return best

    left, right = np.ones((2, SIZE, SIZE), dtype=np.float32)
    product = np.empty_like(left)

    def multiply() -> None:
        for _ in range(4):
            np.matmul(left, right, out=product)

    array = np.ones(max(n_bytes // 4, 1), dtype=np.float32)
    passes = max(READ_AT_ONCE // array.nbytes, 1)

    def reading(read: Callable[[np.ndarray], object]) -> Callable[[], object]:
        return lambda: [read(array) for _ in range(passes)]

    flops = rate(multiply, 4 * 2.0 * SIZE**3)
    bandwidth = max(rate(reading(read), passes * array.nbytes) for read in (np.max, np.sum, lambda x: np.dot(x, x)))
    if world.rank == 0:
        print(json.dumps({"flops": flops, "bandwidth": bandwidth}))


def show() -> None:
    core_type = best_core_type()
    print(f"OpenBLAS's fastest kernel: {core_type or 'the one it chooses'}; {RANKS} processes together, float32")
    table = Table("rows x features x classes", "GFLOP/s", "GB/s", "step at least, ms", "of it products, ms")
    for shape in SHAPES:
        machine = measure(4 * shape[0] * shape[1] // RANKS, core_type)
        products = 1e3 * machine.step_seconds(shape, 0)
        least = 1e3 * machine.step_seconds(shape, 4)
        table.row(text_of(shape), machine.flops / 1e9, machine.bandwidth / 1e9, least, products)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bytes:
        be_rank(options.bytes)
    else:
        show()


if __name__ == "__main__":
    main()
