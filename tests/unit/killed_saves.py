"""Kill a process at each of its system calls: python tests/unit/killed_saves.py SCENARIO FOLDER

The process is a child that ptrace stops before and after every system call. It is killed at the first stop, the next
child at the second, and so on, until one comes to its end. What each leaves is looked at, and told as a line of JSON.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from test_checkpoint import identity, same, state

from distsoftmax.coordinator.checkpoint import newest_checkpoint, save_checkpoint
from distsoftmax.coordinator.metrics import MetricsFile
from distsoftmax.durable import remove_leftovers
from distsoftmax.solvers.accelerated_gradient import AcceleratedState

TRACEME, SYSCALL, SETOPTIONS, EXITKILL = 0, 24, 0x4200, 0x100000
NOT_PERMITTED = 77
PTRACE = ctypes.CDLL(None, use_errno=True).ptrace
PTRACE.argtypes, PTRACE.restype = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_long


def save(folder):
    save_checkpoint(folder, state(2), identity(), keep=1)


def newest(folder):
    """The step of the newest checkpoint, all of which must be whole."""
    found = newest_checkpoint(folder, sys.exit).state(AcceleratedState)
    assert same(found, state(found.step))
    return found.step


def append(folder):
    MetricsFile(folder / "metrics.jsonl", 2).write({"step": 2})


def last_line(folder):
    """The last step in the metrics, as a run that goes on from step 2 or 3 finds them."""
    path = folder / "metrics.jsonl"
    MetricsFile(path, 9)
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps in ([0, 1], [0, 1, 2]), steps
    return steps[-1]


def before(folder):
    save_checkpoint(folder, state(1), identity(), keep=1)
    metrics = MetricsFile(folder / "metrics.jsonl", 0)
    for step in range(2):
        metrics.write({"step": step})


SCENARIOS = {"checkpoint": (save, newest), "metrics": (append, last_line)}


def ends_before(stops, work):
    """Start a child, and kill it at a stop; return whether it came to its end before."""
    child = os.fork()
    if child == 0:
        if PTRACE(TRACEME, 0, None, None):
            os._exit(NOT_PERMITTED)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        sys.exit(NOT_PERMITTED)
    PTRACE(SETOPTIONS, child, None, EXITKILL)
    for _ in range(stops):
        PTRACE(SYSCALL, child, None, None)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return True
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main(scenario, folder):
    work, look = SCENARIOS[scenario]
    whole, found, has_ended = folder / "whole", [], False
    whole.mkdir()
    before(whole)
    while not has_ended:
        killed = folder / f"killed-{len(found)}"
        shutil.copytree(whole, killed)
        has_ended = ends_before(len(found), lambda: work(killed))  # noqa: B023 (called at once)
        remove_leftovers(killed)
        assert not list(killed.glob(".*")), os.listdir(killed)
        found.append(look(killed))
        shutil.rmtree(killed)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
