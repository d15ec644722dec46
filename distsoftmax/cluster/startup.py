"""The first thing a command does: it joins the job, and loads the compiled core on every rank."""

from __future__ import annotations

import os

from distsoftmax.arithmetic import library
from distsoftmax.cluster.communicator import Alone, Communicator
from distsoftmax.errors import ClusterError, CoreError

# variables in which launchers tell a process how many have been started: MPICH and Intel MPI, Open MPI, PMIx, Slurm
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")


def join_job() -> Communicator:
    """Join the job this process was started in, or stand alone where it was not started by mpirun.

    Collective: every rank of the job must call it. Without mpi4py a process stands alone.

    Raises
    ------
    ClusterError
        Several processes were started, and mpi4py is missing: each would train alone.
    """
    try:
        from distsoftmax.cluster.mpi import world
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            raise
        started = next((os.environ[name] for name in SIZES if name in os.environ), "1")
        if started != "1":
            raise ClusterError(
                f"mpi4py is not installed, so the {started} processes of this job cannot talk to each other; install "
                "it in the environment of every rank: pip install mpi4py"
            ) from None
        return Alone()
    return world()


def load_core(cluster: Communicator) -> None:
    """Load the core on every rank. Collective.

    Raises
    ------
    CoreError
        On every rank: one of them cannot load it, or has another arithmetic version.
    """
    with cluster.agreement():
        own = library.describe()
    for rank, (version, description) in enumerate(cluster.allgather((library.VERSION, own))):
        if version != library.VERSION:
            raise CoreError(
                f"rank {rank} computes with {description}, rank {cluster.rank} with {own}, so their sums do not fit "
                "together; install one version of distsoftmax on all nodes"
            ).on_all_ranks()
