"""How long a checkpoint holds up a step: steps while one is written, against steps alone and against a copy.

    pip install -e ".[mpich]"
    python tests/benchmarks/checkpoint_delay.py

A job of --ranks processes trains a model of ten million parameters (a state of three arrays of 80 MB) with a step as
short as that allows. Three kinds of step take turns: alone; with a save that begins as the step does, by the thread
that saves in a run; and with a save before the step, on its own thread, as a trainer without such a thread would do.
The delay is the difference of the medians, and stands beside the time that a copy of the state takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from comparison import Table, parser_of
from jobs import run_ranks

N_CLASSES, N_FEATURES, N_ROWS = 100, 100_000, 200


def be_rank(folder: Path, steps: int) -> None:
    """Be a rank that takes steps of each kind in turn; rank 0 prints the seconds, [alone, thread, before, copy]."""
    from distsoftmax.cluster.startup import join_job

    cluster = join_job()
    from distsoftmax.config import DataConfig, ObjectiveConfig, SolverConfig
    from distsoftmax.coordinator.checkpoint import save_checkpoint
    from distsoftmax.coordinator.run_identity import RunIdentity
    from distsoftmax.coordinator.saver import Saver
    from distsoftmax.data.dataset import load_dataset
    from distsoftmax.objective.softmax_objective import SoftmaxObjective
    from distsoftmax.solvers import make_solver

    source = DataConfig(data=(str(folder / "X.npy"),), labels=(str(folder / "y.npy"),), standardize=False)
    penalty, config = ObjectiveConfig(l2=1e-3), SolverConfig(solver="gradient-descent")
    dataset = load_dataset(source, True, cluster)
    objective = SoftmaxObjective(dataset, penalty, cluster)
    solver, saver = make_solver(config, penalty), Saver()
    state = solver.init(objective, np.zeros(objective.shape))
    identity = RunIdentity({}, {}, 1, dataset.shard_digests)

    def step_after(prepare: Callable[[], object]) -> float:
        nonlocal state
        cluster.barrier()
        start = time.perf_counter()
        if cluster.rank == 0:
            prepare()
        state = solver.step(objective, state)
        return time.perf_counter() - start

    rows = []
    for _ in range(1 + steps):
        alone = step_after(lambda: None)
        save = partial(save_checkpoint, folder, state, identity, 1)
        meanwhile = step_after(partial(saver.save, save))
        saver.wait()
        if saver.errors():
            raise OSError("there is no room for the checkpoints")
        before = step_after(partial(save_checkpoint, folder, state, identity, 1))
        start = time.perf_counter()
        copies = [array.copy() for array in (state.parameters, state.evaluation.gradient, state.last_plain)]
        rows.append((alone, meanwhile, before, time.perf_counter() - start))
        del copies
    cluster.say(json.dumps(rows[1:]))
    cluster.leave(0)


def main() -> None:
    parser = parser_of(__doc__, turns=None, steps=9)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        be_rank(options.folder, options.steps)
        return
    generator = np.random.default_rng(0)
    table = Table("ranks", "step, ms", "saving, ms", "delay, ms", "copy, ms", "ratio", "save first, ms", width=10)
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "X.npy", generator.standard_normal((N_ROWS, N_FEATURES), dtype=np.float32))
        np.save(Path(name) / "y.npy", np.arange(N_ROWS) % N_CLASSES)
        for ranks in options.ranks:
            rows = run_ranks(__file__, "--folder", name, "--steps", str(options.steps), ranks=ranks)
            alone, saving, first, copy = (1e3 * statistics.median(column) for column in zip(*rows, strict=True))
            table.row(str(ranks), alone, saving, saving - alone, copy, f"{saving / alone:.3f}", first)


if __name__ == "__main__":
    main()
