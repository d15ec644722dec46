"""What rank 0 says at the start and at the end of a run, on standard output."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.data.partition import Partition
from distsoftmax.model import Model
from distsoftmax.solvers.protocol import State

if TYPE_CHECKING:
    from distsoftmax.objective.distributed import Scores


def opening(partition: Partition, cluster: Cluster, threads: int) -> str:
    """Return the lines on what is about to be done, with advice where the machine is not used well. Collective."""
    held_out = f" and {partition.n_held_out} held-out" if partition.n_held_out else ""
    ranks = "1 rank" if cluster.size == 1 else f"{cluster.size} ranks"
    kind = f"sparse {partition.dtype}" if partition.sparse else f"{partition.dtype}"
    lines = [
        f"{partition.n_training} training{held_out} samples x {len(partition.encoding.feature_names)} features, "
        f"{len(partition.classes)} classes, {kind}; {partition.n_shards} shards on {ranks}",
        f"platform: {cluster.platform}",
    ]
    lines += [f"note: {note}" for note in partition.notes]
    held, streamed = (sum(cluster.allgather(size)) for size in (partition.bytes_held, partition.bytes_streamed))
    if streamed:
        lines.append(f"memory: {_in_mib(held)} of features stay, {_in_mib(streamed)} are read again each step")
    if cluster.size > partition.n_shards:
        idle = f"note: {cluster.size - partition.n_shards} ranks have no shard"
        more = f"; --shards {4 * cluster.size} gives each some (another sum, so the model's bits change)"
        lines.append(idle + (more if partition.n_rows >= cluster.size else f"; there are {partition.n_rows} samples"))
    nodes = dict(cluster.allgather((os.uname().nodename, _cores())))
    cores = sum(nodes.values())
    best = min(cores // threads, partition.n_shards)
    if cluster.size < best:
        lines.append(
            f"note: {cores - cluster.size * threads} of {cores} cores are idle; mpirun -n {best} python -m "
            "distsoftmax.train ... uses more of them"
        )
    return "\n".join(lines)


def closing(
    state: State, reason: str, scores: tuple[Scores, Scores | None], partition: Partition, model: Model, place: str
) -> str:
    """Return the last lines of a run that has ended by itself."""
    training, held_out = scores
    steps = "1 step" if state.step == 1 else f"{state.step} steps"
    gap = state.certified_gap
    certificate = "none: it takes an L2 term (--l2)" if gap is None else f"{gap:.3g}"
    if gap is not None and state.value > 0:
        certificate += f" (within {gap / state.value:.2g} of the objective, certified)"
    accuracy = f"{training.accuracy:.4f} on {partition.n_training} training samples"
    if held_out is not None:
        accuracy = f"{held_out.accuracy:.4f} on {partition.n_held_out} held-out samples, {accuracy}"
    lines = [
        f"stopped: {reason}, after {steps}",
        f"objective: {state.value:.12g}",
        f"certified gap: {certificate}",
        f"accuracy: {accuracy}",
        f"model: {place}",
        f"model sha256 {model.sha256}",
    ]
    return "\n".join(lines)


def interrupted(state: State, number: int, folder: Path, n_ranks: int) -> str:
    """Return the last lines of a run that a signal has ended early, with the one that resumes it."""
    config = shlex.quote(str(folder / "config.toml"))
    return (
        f"stopped by {signal.Signals(number).name} after step {state.step}; go on with\n"
        f"mpirun -n {n_ranks} python -m distsoftmax.train --config {config}"
    )


def _in_mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _cores() -> int:
    """Return the cores of this node that the job may use: Slurm's word, or all of them."""
    granted = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return int(granted) if granted.isdecimal() else os.cpu_count() or 1
