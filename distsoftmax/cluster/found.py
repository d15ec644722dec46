"""The job that a call from Python runs in: alone, or the ranks that mpirun has started."""

from __future__ import annotations

import multiprocessing
from typing import Any

from distsoftmax.cluster.communicator import Alone, Communicator
from distsoftmax.cluster.early_exit import started_processes
from distsoftmax.errors import InvalidArgument

_joined: list[tuple[Any, Communicator]] = []  # mpi4py's communicators, and ours: one for each, as MPI has few


def found_job(communicator: Any = None) -> Communicator:
    """Return the ranks of an mpi4py communicator; without one, those that the launcher has started, or this process.

    Whether there is a launcher is told by its environment variables. Processes that a rank has started itself, such as
    joblib's workers, stand alone. MPI is neither started nor imported where a process is alone.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm or Communicator, optional

    Raises
    ------
    ClusterError
        Several processes were started, and mpi4py is missing.
    InvalidArgument
        The communicator is none.

    Notes
    -----
    Collective at the first call with a communicator, or with none.
    """
    if hasattr(communicator, "sum_integers"):
        given: Communicator = communicator
        return given
    is_worker = multiprocessing.parent_process() is not None
    if communicator is None and (is_worker or started_processes() == 1):
        return Alone()
    for known, cluster in _joined:
        if known is communicator or (known is not None and communicator is not None and known == communicator):
            return cluster
    if communicator is not None and not hasattr(communicator, "Get_group"):
        raise InvalidArgument(f"comm is {communicator!r}; give a communicator of mpi4py, or None")
    from distsoftmax.cluster.startup import load_core, start_mpi

    cluster = start_mpi(communicator)
    load_core(cluster)
    _joined.append((communicator, cluster))
    return cluster
