"""What rank 0 says at the start and at the end of a run or a path, on standard output."""

from __future__ import annotations

import math
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distsoftmax.arithmetic import library
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import TimeUp
from distsoftmax.cluster.cores import limit_of_node
from distsoftmax.config import SolverConfig, TrainConfig
from distsoftmax.data.dataset import Dataset
from distsoftmax.training.result import Interruption, Leg, Result

PATH_HEAD = (
    ("", "", "certified", "", "", "", "training", "", "held-out", ""),
    ("l2", "objective", "gap", "steps", "seconds", "features", "accuracy", "log loss", "accuracy", "log loss"),
)
MINOR_WORK = 1 << 26  # bytes of features, times classes, over which a step takes a core some milliseconds


def opening(dataset: Dataset, cluster: Communicator, threads: int, solver: str = "") -> str:
    """Return the lines on what is about to be done, with advice where the machine is not used well. Collective.

    Parameters
    ----------
    threads : int
        Of this rank.
    solver : str
        Which solver is used and why, where that was left to the program.
    """
    held_out = f" and {dataset.n_held_out} held-out" if dataset.n_held_out else ""
    ranks = "1 rank" if cluster.size == 1 else f"{cluster.size} ranks"
    kind = f"sparse {dataset.dtype}" if dataset.sparse else f"{dataset.dtype}"
    lines = [
        f"{dataset.n_training} training{held_out} samples x {len(dataset.encoding.feature_names)} features, "
        f"{len(dataset.classes)} classes, {kind}; {dataset.n_shards} shards on {ranks}",
        ", ".join(sorted(set(cluster.allgather(library.describe())))),
    ]
    lines += [solver] if solver else []
    lines += ["lost ranks are done without: the others take over their shards"] if cluster.repairs else []
    lines += [f"note: {note}" for note in dataset.notes]
    held, spooled = (sum(cluster.allgather(size)) for size in (dataset.bytes_held, dataset.bytes_spooled))
    if spooled:
        lines.append(f"memory: {_in_mib(held)} of features stay in memory, {_in_mib(spooled)} lie in scratch")
    if (held + spooled) * len(dataset.classes) < MINOR_WORK:
        return "\n".join(lines)  # more cores would not be felt
    if cluster.size > dataset.n_shards:
        lines.append(_idle_ranks(cluster.size, dataset.n_shards, dataset.n_rows))
    nodes = dict(cluster.allgather((os.uname().nodename, _cores())))
    cores = sum(nodes.values())
    used = sum(cluster.allgather(threads))
    best = min(cores, dataset.n_shards)
    if used < best:
        lines.append(
            f"note: {cores - used} of {cores} cores are idle; mpirun -n {best} python -m distsoftmax.train ... uses "
            "more of them"
        )
    return "\n".join(lines)


def _idle_ranks(n_ranks: int, n_shards: int, n_rows: int) -> str:
    """Return what to say where ranks outnumber the shards."""
    idle = f"note: {n_ranks - n_shards} ranks have no shard"
    if n_rows < n_ranks:
        return f"{idle}; there are {n_rows} samples, and more ranks than samples are of no use"
    return (
        f"{idle}; --shards {min(4 * n_ranks, n_rows)} gives each at least one (another sum, so the model's bits "
        f"change); with {n_shards} shards no more than {n_shards} ranks are of use"
    )


def closing(result: Result, config: TrainConfig, dataset: Dataset, sha256: str, path: Path) -> str:
    """Return the last lines of a run that has ended by itself."""
    steps = "1 step" if result.n_steps == 1 else f"{result.n_steps} steps"
    accuracy = f"{result.training.accuracy:.4f} on {dataset.n_training} training samples"
    if result.held_out is not None:
        accuracy = f"{result.held_out.accuracy:.4f} on {dataset.n_held_out} held-out samples, {accuracy}"
    lines = [f"stopped: {result.reason}, after {steps}"]
    if config.solver.patience is not None and result.held_out is not None:
        loss = result.held_out.log_loss
        lines.append(f"kept: the model of step {result.step}, with the lowest held-out log loss, {loss:.6g}")
    lines += [f"objective: {result.objective:.12g}", f"certified gap: {_certificate(result)}"]
    lines += [f"note: {text}" for text in closing_notes(result, config.solver, dataset.dtype)]
    if config.objective.sparse:
        n_features = len(dataset.encoding.feature_names)
        n_coefficients = len(dataset.classes) * n_features
        lines.append(
            f"features: {result.n_used_features} of {n_features} are used, {result.n_nonzero} of {n_coefficients} "
            "coefficients are not 0"
        )
    lines += [f"accuracy: {accuracy}", f"model: {path}", f"model sha256 {sha256}"]
    return "\n".join(lines)


def closing_notes(result: Result, config: SolverConfig, dtype: np.dtype) -> list[str]:
    """Return what a user should know of how a run has ended: the solver's remark, what meets a tolerance not met."""
    notes = [result.remark] if result.remark else []
    return notes if result.converged or config.tolerance == 0 else [*notes, _shortfall(result, config, dtype)]


def _certificate(result: Result) -> str:
    if result.gap is None:
        return "none: it takes an L2 term (--l2)"
    relative = f" ({result.relative_gap:.2g} of the objective)" if result.objective > 0 else ""
    return f"within {result.gap:.3g} of the optimum{relative}, certified"


def _shortfall(result: Result, config: SolverConfig, dtype: np.dtype) -> str:
    """Say what would meet the tolerance that was not met."""
    reached, what, unit = result.relative_gap, "the gap", "the objective"
    if reached is None:
        reached, what, unit = result.relative_gradient, "the gradient's norm", "its first"
    if result.least_gap is not None and result.least_gap > config.tolerance * result.objective:
        least = result.least_gap / result.objective if result.objective > 0 else math.inf
        remedy = f"float64 can prove no less than {least:.2g} here; rescale or centre the features"
    elif result.exhausted:
        remedy = f"as close as {dtype} comes" + ("; take --dtype float64" if dtype == np.float32 else "")
    elif config.solver == "sgd":
        remedy = "more --epochs come closer, other solvers reach it"
    else:
        remedy = "the same command with more --max-steps goes on from here"
    return f"--tolerance {config.tolerance:g} was not reached: {what} is {reached:.2g} of {unit}; {remedy}"


def stop_cause(ended: Interruption, config: TrainConfig) -> str:
    """Return what has ended a run early."""
    if ended.signal:
        return signal.Signals(ended.signal).name
    if ended.out_of_time == TimeUp.DEADLINE:
        return f"--deadline {config.run.deadline}" if config.run.deadline else "the coming end of the Slurm job"
    return f"--max-seconds {config.solver.max_seconds:g}"


def interrupted(ended: Interruption, config: TrainConfig, folder: Path, n_ranks: int, leg: str = "") -> str:
    """Return the last lines of a run that was ended early, with the one that resumes it.

    Parameters
    ----------
    folder : Path
        The one that holds the options, and the model so far.
    leg : str
        Which of several runs it was.
    """
    options = shlex.quote(str(folder / "config.toml"))
    return (
        f"model so far: {folder / 'model.safetensors'}\n"
        f"stopped by {stop_cause(ended, config)} after step {ended.step}{leg and f' of {leg}'}; go on with\n"
        f"{f'mpirun -n {n_ranks} ' if n_ranks > 1 else ''}python -m distsoftmax.train --config {options}"
    )


def choose(legs: Sequence[Leg]) -> Leg:
    """Return the run with the lowest held-out log loss, of equal ones the first; the last where none is held out."""
    if legs[-1].result.held_out is None:
        return legs[-1]
    return min(legs, key=_held_out_log_loss)


def path_closing(legs: Sequence[Leg], chosen: Leg, path: Path, tolerance: float = 0.0) -> str:
    """Return the last lines of a path whose runs have a tolerance; 0: none."""
    held_out = chosen.result.held_out
    width = len(PATH_HEAD[0]) if held_out is not None else len(PATH_HEAD[0]) - 2
    rows = [*(head[:width] for head in PATH_HEAD), *(_cells(leg)[:width] for leg in legs)]
    widths = [max(len(row[column]) for row in rows) for column in range(width)]
    lines = ["  ".join(cell.rjust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    best = len(PATH_HEAD) + list(legs).index(chosen)
    if held_out is None:
        choice = "no samples are held out to choose by: the model is that of the last"
    else:
        lines[best] += "  < lowest held-out log loss"
        choice = f"chosen: l2 {chosen.l2:g}, by its held-out log loss"
    short = [f"{leg.l2:.4g}" for leg in legs if tolerance > 0 and not leg.result.converged]
    notes = [f"note: --tolerance {tolerance:g} was not reached for l2 {', '.join(short)}"] if short else []
    return "\n".join([*lines, *notes, choice, f"model: {path}", f"model sha256 {chosen.sha256}"])


def _in_mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _cores() -> int:
    """Return the cores of this node that the job may use."""
    return max(1, int(min(os.cpu_count() or 1, limit_of_node(os.environ))))


def _held_out_log_loss(leg: Leg) -> float:
    held_out = leg.result.held_out
    return held_out.log_loss if held_out is not None and not math.isnan(held_out.log_loss) else math.inf


def _cells(leg: Leg) -> tuple[str, ...]:
    result, held_out = leg.result, leg.result.held_out
    return (
        f"{leg.l2:.4g}",
        f"{result.objective:.8f}",
        "" if result.gap is None else f"{result.gap:.1e}",
        f"{result.n_steps}",
        f"{leg.seconds:.1f}",
        f"{result.n_used_features}",
        f"{result.training.accuracy:.4f}",
        f"{result.training.log_loss:.5f}",
        "" if held_out is None else f"{held_out.accuracy:.4f}",
        "" if held_out is None else f"{held_out.log_loss:.5f}",
    )
