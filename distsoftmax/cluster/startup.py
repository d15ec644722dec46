"""The first thing a command does: MPI, the abort hook and the numerical platform, in this order."""

from __future__ import annotations

from distsoftmax.cluster import platform
from distsoftmax.cluster.communicator import Cluster


def join_job() -> Cluster:
    """Join the job this process was started in, or stand alone where it was not started by mpirun.

    Collective: every rank of the job must call it, before numpy is imported.
    """
    platform.hold_blas_to_one_thread()
    from mpi4py import MPI

    cluster = Cluster(MPI.COMM_WORLD)
    cluster.abort_on_uncaught_exception()
    return cluster


def settle_platform(cluster: Cluster) -> None:
    """Make all ranks compute with the same kernels on one thread, and load numpy. Collective.

    Raises
    ------
    PlatformMismatch
        On every rank: they would compute different bits for the same shard.
    """
    platform.pin_kernels(cluster)
    with cluster.agreement():
        platform.check_one_thread()
    cluster.platform = platform.agree_on_platform(cluster)
