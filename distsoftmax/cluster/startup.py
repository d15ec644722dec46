"""The first thing a command does: it joins the job, and loads the compiled core on every rank."""

from __future__ import annotations

from mpi4py import MPI

from distsoftmax.arithmetic import library
from distsoftmax.cluster.communicator import Cluster
from distsoftmax.errors import CoreError


def join_job() -> Cluster:
    """Join the job this process was started in, or stand alone where it was not started by mpirun.

    Collective: every rank of the job must call it.
    """
    cluster = Cluster(MPI.COMM_WORLD)
    cluster.abort_on_uncaught_exception()
    return cluster


def load_core(cluster: Cluster) -> None:
    """Load the core on every rank, and note what each computes with. Collective.

    Raises
    ------
    CoreError
        On every rank: one of them cannot load it, or has another arithmetic version.
    """
    with cluster.agreement():
        own = library.describe()
    everywhere = cluster.allgather((library.VERSION, own))
    for rank, (version, description) in enumerate(everywhere):
        if version != library.VERSION:
            raise CoreError(
                f"rank {rank} computes with {description}, rank {cluster.rank} with {own}, so their sums do not fit "
                "together; install one version of distsoftmax on all nodes"
            ).on_all_ranks()
    cluster.arithmetic = ", ".join(sorted({description for _, description in everywhere}))
