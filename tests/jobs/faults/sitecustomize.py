"""Makes a rank misbehave from its 200th call of the kernel on: FAULT=<rank>:<what>.

Python imports this module at its start.
"""

import os
import sys
import time


def misbehave(what):
    if what == "raise":
        raise RuntimeError("a fault made by the test")
    if what == "kill":
        os.kill(os.getpid(), 9)
    if what == "input":
        from distsoftmax.errors import InputError

        raise InputError("a complaint of one rank alone")
    if what == "full":  # every file this rank writes may have 4 KiB: the next checkpoint does not fit
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    if what == "slow":
        time.sleep(0.05)


class Loader:
    """Wraps the kernel once its module is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name == "distsoftmax.objective.cross_entropy":
            sys.meta_path.remove(self)
            from distsoftmax.arithmetic.kernels import Scorer

            real, calls = Scorer.add_loss_and_gradient, 0

            def faulty(*arguments):
                nonlocal calls
                calls += 1
                if calls >= 200:
                    misbehave(what)
                return real(*arguments)

            Scorer.add_loss_and_gradient = faulty
        return


if "FAULT" in os.environ:
    rank, what = os.environ["FAULT"].split(":")
    here = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or "0"
    if rank in (here, "all"):
        sys.meta_path.insert(0, Loader())
