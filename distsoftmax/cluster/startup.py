"""The first thing a command does: it joins the job, and loads the compiled core on every rank."""

from __future__ import annotations

import faulthandler
import os
from typing import Any

from distsoftmax.arithmetic import library
from distsoftmax.cluster.communicator import Alone, Communicator
from distsoftmax.cluster.early_exit import SIZES, started_processes
from distsoftmax.cluster.watchdog import STDERR, Watchdog
from distsoftmax.config.values import TIMEOUT
from distsoftmax.errors import ClusterError, CoreError

__all__ = ["SIZES", "join_job", "load_core", "mpi_library"]


def join_job(timeout: float = TIMEOUT) -> Communicator:
    """Join the job this process was started in, or stand alone where it was not started by mpirun, and be watched.

    Collective: every rank of the job must call it. Without mpi4py, or an MPI library that it finds, a process stands
    alone.

    Parameters
    ----------
    timeout : float
        Seconds to wait for the other ranks to start, and later for progress of any rank; 0: for ever.

    Raises
    ------
    ClusterError
        Several processes were started, and mpi4py or the MPI library is missing: each would train alone.
    """
    cluster = _wait_for_all_ranks_to_start(timeout)
    Watchdog(cluster, timeout).start()
    return cluster


def _wait_for_all_ranks_to_start(timeout: float) -> Communicator:
    """Start MPI, which waits for the others. Its name is what the stack says where one of them never comes."""
    if timeout:
        faulthandler.dump_traceback_later(timeout, exit=True, file=STDERR)
    try:
        return start_mpi()
    finally:
        faulthandler.cancel_dump_traceback_later()


def start_mpi(communicator: Any = None) -> Communicator:
    """Return the ranks of an mpi4py communicator, or all of the job; without MPI a process stands alone. Collective.

    Raises
    ------
    ClusterError
        See `join_job`.
    """
    try:
        from distsoftmax.cluster.mpi import MpiCommunicator, world

        return world() if communicator is None else MpiCommunicator(communicator)
    except ImportError as error:
        if not _is_without_mpi(error):
            raise
        started = started_processes()
        if started != 1:
            raise ClusterError(_no_mpi(error, started)) from None
        return Alone()


def _is_without_mpi(error: ImportError) -> bool:
    """Whether it is mpi4py that cannot be imported, or that finds no MPI library."""
    return error.name in ("mpi4py", "mpi4py.MPI")


def _no_mpi(error: ImportError, started: int) -> str:
    """Return why so many processes cannot talk to each other, and what to do."""
    if error.name == "mpi4py":
        why, remedy = "mpi4py is not installed", "pip install mpi4py"
    else:
        why, remedy = "mpi4py finds no MPI library", "pip install mpich, or load the module of this site's MPI"
    return (
        f"{why}, so the {started} processes of this job cannot talk to each other; install it in the environment of "
        f"every rank: {remedy}"
    )


def mpi_library() -> str | None:
    """Return the versions of the MPI library and of mpi4py, without starting MPI; None where there is none.

    For a process that does nothing else with MPI: it cannot be started afterwards.
    """
    os.environ["MPI4PY_RC_INITIALIZE"] = "0"
    try:
        from distsoftmax.cluster.mpi import library
    except ImportError as error:
        if not _is_without_mpi(error):
            raise
        return None
    return library()


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
