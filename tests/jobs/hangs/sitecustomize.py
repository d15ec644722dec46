"""Makes a rank hang, or fail before it has joined the others: HANG=<rank>:<what>.

Python imports this module at its start.
"""

import ctypes
import os
import resource
import signal
import sys
import time


def fail_early(what):
    if what == "import":
        sys.modules["tyro"] = None
    if what == "mpi4py":
        sys.modules["mpi4py"] = None
    if what == "status-0":
        sys.exit(0)
    if what == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))
    if what == "never":
        time.sleep(60)


def hang(what, cluster):
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "read":  # as from a server that is gone
        os.read(os.pipe()[0], 1)
    if what == "lock":
        ctypes.PyDLL(None).sleep(60)
    if what == "order":
        cluster.barrier()


def work_slowly(items):
    """Yield items after a while each: less than the timeout, but together more."""
    for item in items:
        time.sleep(0.6)
        yield item


class Loader:
    """Runs something before a module is loaded."""

    def __init__(self, module, work):
        self.module, self.work = module, work

    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            sys.meta_path.remove(self)
            self.work()
        return


def wrap_the_sums():
    """Let the tenth sum over the ranks hang before it begins."""
    from distsoftmax.objective.shard_sums import ShardSums

    real, calls = ShardSums.sum, 0

    def faulty(sums, work, items):
        nonlocal calls
        calls += 1
        if calls == 10:
            hang(what, sums._cluster)
        return real(sums, work, work_slowly(items) if what == "slow" and calls == 1 else items)

    ShardSums.sum = faulty


if "HANG" in os.environ:
    rank, what = os.environ["HANG"].split(":")
    here = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or "0"
    if rank in (here, "all"):
        sys.meta_path.insert(0, Loader("distsoftmax.objective.cross_entropy", wrap_the_sums))
        sys.meta_path.insert(0, Loader("distsoftmax.config", lambda: fail_early(what)))
