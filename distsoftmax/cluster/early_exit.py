"""Ends the whole job where one of its processes ends before it has joined the others.

They wait for it in the start of MPI, where no launcher ends them: MPICH's takes no notice of an exit that no signal
has caused, and Open MPI's of none at all with `--with-ft ulfm`. This module needs nothing but the standard library, so
that it comes before all that can fail.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from types import TracebackType

# variables in which launchers tell a process how many have been started: MPICH and Intel MPI, Open MPI, PMIx, Slurm
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
ULFM = "OMPI_MCA_mpi_ft_enable"  # set by Open MPI's mpirun --with-ft ulfm
DRAIN_SECONDS = 1.0  # mpirun forwards what a rank printed only while the job lives; MPICH's ends it at once on an abort


def started_processes() -> int:
    """Return how many processes the launcher says it has started; 1 where there is no launcher."""
    started = next((os.environ[name] for name in SIZES if name in os.environ), "1")
    return int(started) if started.isdecimal() else 1


def is_first_process() -> bool:
    """Return whether this is rank 0, as its launcher says; MPI need not be started."""
    return _launcher_rank("0") == "0"


def end_the_job_with_this_process() -> None:
    """From now on, let an end of this process end the job, unless MPI has been started by then."""
    if started_processes() > 1:
        atexit.register(_end_the_job)


def end_the_job_with_an_uncaught_error() -> None:
    """From now on, let an error that a script does not catch end the job: the others would wait for this process.

    Processes that a rank has started itself, such as joblib's workers, are none of the job's.
    """
    if started_processes() == 1 or multiprocessing.parent_process() is not None:
        return
    show = sys.excepthook

    def end_the_job(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        show(kind, error, trace)
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is None:
            _end_the_job()
        elif mpi.Is_initialized() and not mpi.Is_finalized():
            time.sleep(DRAIN_SECONDS)
            mpi.COMM_WORLD.Abort(1)

    sys.excepthook = end_the_job


def end_before_joining(status: int) -> None:
    """End the job with an exit status, as far as the launcher can be told, and this process where it cannot."""
    atexit.unregister(_end_the_job)
    _tell_the_launcher(status)
    sys.exit(status)


def _end_the_job() -> None:
    if "mpi4py.MPI" in sys.modules:  # from there on MPI and the watchdog end the job
        return
    rank = _launcher_rank("?")
    with contextlib.suppress(OSError):
        text = f"rank {rank} of {started_processes()} on node {os.uname().nodename} failed before it joined the others"
        os.write(2, f"{text}; the job is ended\n".encode())
    _tell_the_launcher(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _launcher_rank(default: str) -> str:
    return next((os.environ[name] for name in RANKS if name in os.environ), default)


def _tell_the_launcher(status: int) -> None:
    """Ask the launcher to end the job, in its own words."""
    with contextlib.suppress(OSError, ValueError):
        if "PMI_FD" in os.environ:  # MPICH's, version 1 of the process management interface
            time.sleep(DRAIN_SECONDS)
            os.write(int(os.environ["PMI_FD"]), f"cmd=abort exitcode={status}\n".encode())
            time.sleep(DRAIN_SECONDS)
        elif os.environ.get(ULFM) == "1":  # it takes the death of a process for no reason to end the others
            time.sleep(DRAIN_SECONDS)
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(DRAIN_SECONDS)
