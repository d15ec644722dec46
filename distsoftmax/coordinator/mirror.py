"""The newest state of a run in the memory of two nodes, from which a restart goes on: a checkpoint that costs no disk.

A state is the same on every rank, so the first rank of each of two nodes keeps it; one of them outlives the other.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from pathlib import Path

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.coordinator.checkpoint import Checkpoint, checkpoint_content, load_checkpoint
from distsoftmax.coordinator.run_identity import RunIdentity, refuse_other_run
from distsoftmax.coordinator.saver import Saver
from distsoftmax.durable import write_atomically
from distsoftmax.errors import InputError
from distsoftmax.solvers.state import State
from distsoftmax.training.early_stopping import EarlyStopping

N_NODES = 2  # that keep the state
SHORTEST_SECONDS = 0.005  # from one state that is kept to the next: quicker steps are not slowed down by it
LEAST_FREE = 4  # times a state's bytes that must be free in memory
SMALLEST_RATIO = 20  # of that time to the time that writing takes: it needs no more than 5 % of a core


class Mirror:
    """Keeps the newest state on the ranks that are chosen for it. Made by every rank.

    Parameters
    ----------
    folder : Path or None
        In memory; None on a rank that cannot keep anything.
    cluster : Communicator
    """

    def __init__(self, folder: Path | None, cluster: Communicator) -> None:
        self._path = None if folder is None else folder / "state.safetensors"
        self._cluster = cluster
        self._keeps = self._reads = False
        self._saver = Saver()
        self._next = 0.0  # when the next one may be kept

    def choose_ranks(self) -> None:
        """Choose the ranks that keep the state, and those that look what is kept. Collective; again after a loss."""
        nodes = self._cluster.allgather(os.uname().nodename)
        first_ranks = [nodes.index(node) for node in dict.fromkeys(nodes)]
        self._keeps = self._cluster.rank in first_ranks[:N_NODES]
        self._reads = self._cluster.rank in first_ranks

    def keep(self, state: State, identity: RunIdentity, best: EarlyStopping | None, seconds: float) -> None:
        """Keep a state instead of the one before, on a thread of its own. Not collective; what fails is left out."""
        if self._path is None or not self._keeps or time.monotonic() < self._next:
            return
        path, self._next = self._path, math.inf

        def write() -> None:
            start = time.monotonic()
            content = checkpoint_content(state, identity, best=best, seconds=seconds)
            if sum(len(buffer) for buffer in content) * LEAST_FREE > shutil.disk_usage(path.parent).free:
                return  # and no later one: memory is short
            write_atomically(path, *content)
            self._next = start + max(SHORTEST_SECONDS, SMALLEST_RATIO * (time.monotonic() - start))

        self._saver.save(write)  # where it fails there is no next one

    def wait(self) -> None:
        """Return when nothing is being written any more. Not collective."""
        self._saver.wait()

    def newest(self, now: RunIdentity) -> Checkpoint | None:
        """Return what this node keeps of a run of this identity, on one rank of it; else None. Collective."""
        self.choose_ranks()
        if self._path is None or not self._reads:
            return None
        try:
            checkpoint = load_checkpoint(self._path)
            refuse_other_run(self._path, checkpoint.identity, now)
        except InputError:
            return None
        return checkpoint
