"""Makes a rank misbehave, as its environment says. Python imports this module at its start.

FAULT=<rank>:<what> does it from the rank's 200th call of the kernel on.

FAULTS=<place>:<what>:<rank>:<n>,... does it once, at the rank's n-th call of what PLACES names. Just before, it makes
the file FAULT_MARKS/<number of the fault>; where that is there the fault has happened, and the process behaves.
"""

import functools
import importlib
import os
import signal
import sys
import time

PLACES = {
    "read": ("distsoftmax.data.source", "Source.read"),
    "gradient": ("distsoftmax.arithmetic.kernels", "Scorer.add_loss_and_gradient"),
    "allreduce": ("distsoftmax.cluster.mpi", "MpiCommunicator.sum_integers"),
    "commit": ("distsoftmax.cluster.mpi", "MpiCommunicator.gather_records"),
    "move": ("distsoftmax.data.shards_again", "Origin.add_to"),  # of shards, and of those of a lost rank
    "repair": ("distsoftmax.cluster.mpi", "MpiCommunicator.repair"),
    "save": ("os", "replace"),  # of a checkpoint: it is written, and has not its name yet
}
LAUNCHERS = ("mpirun", "mpiexec", "prterun")


def misbehave(what):
    if what == "raise":
        raise RuntimeError("a fault made by the test")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "input":
        from distsoftmax.errors import InputError

        raise InputError("a complaint of one rank alone")
    if what == "full":  # every file this rank writes may have 4 KiB: the next checkpoint does not fit
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    if what == "slow":
        time.sleep(0.05)
    if what == "kill-all":
        import psutil

        for rank in psutil.Process().parent().children():
            if rank.pid != os.getpid():
                rank.kill()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "kill-launcher":
        import psutil

        next(process for process in psutil.Process().parents() if process.name().startswith(LAUNCHERS)).kill()
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if what.startswith("exit"):
        os._exit(int(what.removeprefix("exit")))
    if what == "segfault":
        import ctypes

        ctypes.string_at(0)
    if what == "memory":
        import resource

        import psutil

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (1 << 20), most))
        bytearray(1 << 26)  # raises MemoryError


class Hook:
    """Calls a function when a module is first looked for."""

    def __init__(self, module, function):
        self.module, self.function = module, function

    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            sys.meta_path.remove(self)
            self.function()


def wrap(owner, name, before):
    """Let a function call another one first, with its arguments."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapped(*arguments, **options):
        before(*arguments)
        return real(*arguments, **options)

    setattr(owner, name, wrapped)


def misbehave_from_the_200th_call(what):
    from distsoftmax.arithmetic.kernels import Scorer

    calls = 0

    def count(*arguments):
        nonlocal calls
        calls += 1
        if calls >= 200:
            misbehave(what)

    wrap(Scorer, "add_loss_and_gradient", count)


def misbehave_once(place, what, n, mark):
    calls = 0

    def count(*arguments):
        nonlocal calls
        if place == "save" and not os.path.basename(arguments[1]).startswith("step-"):
            return
        calls += 1
        if calls == n and not os.path.exists(mark):
            with open(mark, "x"):
                misbehave(what)

    module, name = PLACES[place]
    *owners, name = name.split(".")
    wrap(functools.reduce(getattr, owners, importlib.import_module(module)), name, count)


def install_faults():
    for number, fault in enumerate(os.environ["FAULTS"].split(",")):
        place, what, rank, n = fault.split(":")
        if rank == here:
            misbehave_once(place, what, int(n), os.path.join(os.environ["FAULT_MARKS"], str(number)))


here = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK")
if "FAULT" in os.environ:
    rank, what = os.environ["FAULT"].split(":")
    if rank in (here or "0", "all"):
        hook = functools.partial(misbehave_from_the_200th_call, what)
        sys.meta_path.insert(0, Hook("distsoftmax.objective.cross_entropy", hook))
if "FAULTS" in os.environ and here:
    sys.meta_path.insert(0, Hook("distsoftmax.trainer", install_faults))
