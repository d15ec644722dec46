"""The nodes and the steps of a Slurm job, from inside of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from distsoftmax.supervision import remote
from distsoftmax.supervision.hosts import Host

STEP_NAME = "--job-name="  # srun's option by which its step is known


def allocated(environment: Mapping[str, str]) -> tuple[list[Host], set[str]]:
    """Return the nodes of this job, and the names of those on which a step can be started; none outside of Slurm.

    Slurm needs minutes to find out that a node is lost. So each node that it does not call lost is tried.
    """
    nodelist = environment.get("SLURM_JOB_NODELIST", "")
    names = _lines(["scontrol", "show", "hostnames", nodelist]) if nodelist else []
    if not names:
        return [], set()
    states = dict(line.split() for line in _lines(["sinfo", "-h", "-N", "-n", nodelist, "-o", "%N %t"]))
    lost = {name for name, state in states.items() if state.endswith("*") or state.startswith(("down", "fail"))}
    likely = [name for name in names if name not in lost]
    one = ["srun", "--overlap", "--nodes=1", "--ntasks=1", "--mpi=none"]
    answers = remote.ask({name: [*one, f"--nodelist={name}", "true"] for name in likely}, remote.PROBE_SECONDS)
    started = {name for name, answer in answers.items() if answer.status == 0}
    # an srun that starts nothing anywhere tells nothing of the nodes
    return [Host(name) for name in names], started or set(likely)


def end_steps(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """End what an srun of these words has left running, where it was killed before it could.

    The ranks are not its children but those of Slurm's daemons, on this node, too. They are known by its --job-name;
    without one nothing is ended.
    """
    name = next((word.removeprefix(STEP_NAME) for word in words if word.startswith(STEP_NAME)), None)
    job = environment.get("SLURM_JOB_ID")
    if name is None or job is None or os.path.basename(words[0]) != "srun":
        return
    steps = [line.split(maxsplit=1) for line in _lines(["squeue", "-h", "-s", "-j", job, "-o", "%i %j"])]
    left_over = [step[0] for step in steps if step[1:] == [name] and step[0].rpartition(".")[2].isdecimal()]
    if left_over:
        _lines(["scancel", *left_over])


def _lines(words: Sequence[str]) -> list[str]:
    """Return what a command prints, by lines; none where it fails."""
    answer = remote.ask({words[0]: words}, remote.PROBE_SECONDS)[words[0]]
    return answer.out.splitlines() if answer.status == 0 else []
