"""The numerical platform: which BLAS kernels and vector instructions turn a shard into bits.

OpenBLAS and numpy choose their kernels by the processor they wake up on, and each choice rounds differently. Ranks on
unequal nodes would so give different bits for the same shard. Before numpy is imported the ranks therefore agree on the
lowest kernel that all of them can run; after, they compare what they got.
"""

from __future__ import annotations

import os
import platform as machine
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from distsoftmax.errors import PlatformMismatch

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Cluster

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# OpenBLAS's names for x86-64 kernels, lowest first, with the processor flags each needs (OpenBLAS, dynamic.c).
CORE_TYPES = {
    "Prescott": frozenset({"pni"}),
    "Nehalem": frozenset({"pni", "ssse3", "sse4_1", "sse4_2"}),
    "Sandybridge": frozenset({"avx"}),
    "Haswell": frozenset({"avx2", "fma"}),
    "SkylakeX": frozenset({"avx2", "fma", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}),
}
# numpy's names for what lies above AVX2: since numpy 2.4, and before.
NUMPY_ABOVE_AVX2 = ("X86_V4 AVX512_ICL AVX512_SPR", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL")


def hold_blas_to_one_thread() -> None:
    """Tell every BLAS to use one thread; the rank is the unit of parallelism. Call it before numpy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"


def pin_kernels(cluster: Cluster) -> None:
    """Set the lowest core type among the ranks for OpenBLAS, and numpy's instructions to match.

    Collective. A core type that the user set in OPENBLAS_CORETYPE counts as that rank's own. Where numpy is already
    loaded, as in a test or a notebook, it is too late to choose, and `agree_on_platform` only compares.
    """
    own = os.environ.get("OPENBLAS_CORETYPE") or detect_core_type()
    gathered = [name.lower() for name in cluster.allgather(own) if name is not None]
    if "numpy" in sys.modules or len(gathered) < cluster.size:
        return
    names = {name.lower(): rung for rung, name in enumerate(CORE_TYPES)}
    if not all(name in names for name in gathered):
        return  # a user's choice that is none of ours, such as Zen: used as it is, and compared afterwards
    lowest = list(CORE_TYPES)[min(names[name] for name in gathered)]
    os.environ["OPENBLAS_CORETYPE"] = lowest
    mixed = len(set(gathered)) > 1
    if mixed and lowest != "SkylakeX" and detect_core_type() == "SkylakeX":
        newer = tuple(int(part) for part in metadata.version("numpy").split(".")[:2]) >= (2, 4)
        os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", NUMPY_ABOVE_AVX2[0 if newer else 1])


def detect_core_type() -> str | None:
    """Return the highest of `CORE_TYPES` this processor can run; None where /proc/cpuinfo does not say."""
    if machine.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set[str]())
    except OSError:
        return None
    runnable = [name for name, needed in CORE_TYPES.items() if needed <= flags]
    return runnable[-1] if runnable else None


def check_one_thread() -> None:
    """Hold any BLAS that is still on several threads to one.

    Raises
    ------
    PlatformMismatch
        A BLAS stays on several threads, so its sums would depend on how many.
    """
    import numpy  # noqa: F401  (loads the BLAS that is looked at here)
    import threadpoolctl

    threadpoolctl.threadpool_limits(1, user_api="blas")
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "blas" and library["num_threads"] != 1:
            raise PlatformMismatch(
                f"{library['filepath']} runs on {library['num_threads']} threads although it was told to use one; "
                "set OPENBLAS_NUM_THREADS=1 (or your BLAS's own variable) before the run"
            )


def describe() -> str:
    """Return this rank's numerical platform in one line: numpy, its vector instructions, and the BLAS kernels."""
    import numpy
    import threadpoolctl
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    simd = "+".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name)) or "baseline"
    blas = "+".join(
        sorted(  # a process lists the libraries it has loaded in no particular order
            f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()
            for library in threadpoolctl.threadpool_info()
            if library["user_api"] == "blas"
        )
    )
    return f"{machine.machine()}, numpy {numpy.__version__} {simd}, {blas or 'unknown BLAS'}"


def agree_on_platform(cluster: Cluster) -> str:
    """Return the platform all ranks share. Collective.

    Raises
    ------
    PlatformMismatch
        On every rank, naming the first two that differ.
    """
    own = describe()
    gathered = cluster.allgather((own, machine.node()))
    for rank, (other, node) in enumerate(gathered):
        if other != gathered[0][0]:
            raise PlatformMismatch(
                f"rank 0 on {gathered[0][1]} computes with {gathered[0][0]}, rank {rank} on {node} with {other}: the "
                "same shard would give different bits; install the same numpy on all nodes and set "
                "OPENBLAS_CORETYPE and NPY_DISABLE_CPU_FEATURES to what all of them can run"
            ).on_all_ranks()
    return own
