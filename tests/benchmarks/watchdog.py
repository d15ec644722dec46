"""What the watchdog and the control message cost a step of 10 ms: mpirun -n 2 python tests/benchmarks/watchdog.py

A step sleeps for 10 ms, so that what is measured is their work, not how busy the machine is, and its processor time
is compared. The control message of a step is timed by itself, between ranks that have just met.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Lap, TimeUp, commit
from distsoftmax.cluster.startup import _wait_for_all_ranks_to_start
from distsoftmax.cluster.watchdog import Watchdog

STEP_SECONDS = 0.010
STEPS = 500  # of a measurement
ROUNDS = 5  # of each, with and without
PARAMETERS = np.zeros((10, 65))  # of the digits


def processor_seconds(steps: int) -> float:
    """Return the processor time that all threads of this process take in so many steps that do nothing."""
    start = time.process_time()
    for _ in range(steps):
        time.sleep(STEP_SECONDS)
    return (time.process_time() - start) / steps


def message_seconds(cluster: Communicator, steps: int) -> float:
    """Return the seconds that a control message takes, a median. Collective."""
    lap = Lap(seconds=None, compute_seconds=0.0, communication_seconds=0.0, out_of_time=TimeUp.NO)
    seconds = []
    for _ in range(steps):
        cluster.barrier()
        start = time.perf_counter()
        commit(cluster, PARAMETERS, lap)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print. Collective."""
    cluster = _wait_for_all_ranks_to_start(60.0)
    without = [processor_seconds(STEPS) for _ in range(ROUNDS)]
    Watchdog(cluster, 300.0).start()
    watched = [processor_seconds(STEPS) for _ in range(ROUNDS)]
    watchdog = statistics.median(watched) - statistics.median(without)
    message = message_seconds(cluster, STEPS)
    for name, seconds in (("watchdog", watchdog), ("control message", message), ("both", watchdog + message)):
        slowest = max(cluster.allgather(seconds))
        cluster.say(f"{name:16} {1e6 * slowest:8.1f} us a step, {100 * slowest / STEP_SECONDS:6.3f} % of 10 ms")
    cluster.leave(0)


if __name__ == "__main__":
    main()
