"""The hosts and the ranks in the words of mpirun, for MPICH and Open MPI, and which of the hosts answer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distsoftmax.supervision import remote
from distsoftmax.supervision.job import say

RANKS = ("-n", "-np", "--n", "--np", "-c")
LISTS = ("--host", "-host", "-H", "-hosts", "--hosts")  # host or host:slots, separated by commas
FILES = ("--hostfile", "-hostfile", "--machinefile", "-machinefile", "-f")  # a line each: as above, or host slots=N
AGENT_VARIABLES = ("HYDRA_LAUNCHER_EXEC", "PRTE_MCA_plm_ssh_agent", "OMPI_MCA_plm_ssh_agent", "OMPI_MCA_plm_rsh_agent")
AGENT_WORDS = ("-launcher-exec", "--launcher-exec", "plm_ssh_agent", "plm_rsh_agent")
AGENT_ARGUMENTS = ("HYDRA_LAUNCHER_EXTRA_ARGS", "PRTE_MCA_plm_ssh_args")
KEEP_ALIVE = "-oServerAliveInterval=5 -oServerAliveCountMax=3"  # ssh ends where a host is silent for 15 to 20 seconds
OWN_LAUNCHERS = ("SLURM_JOB_ID", "LSB_JOBID", "PE_HOSTFILE", "LOADL_HOSTFILE")  # of batch systems: MPICH prefers them


@dataclass(frozen=True)
class Host:
    """A host of a job, and how many ranks it may start; 0 where that is not said."""

    name: str
    slots: int = 0


def hosts_of(words: Sequence[str]) -> list[Host]:
    """Return the hosts that the words of mpirun name, in a list or a file; none where they name none."""
    number = _option(words, (*LISTS, *FILES))
    if number is None:
        return []
    if words[number] in LISTS:
        return [_host(entry) for entry in words[number + 1].split(",") if entry]
    try:
        lines = Path(words[number + 1]).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # mpirun itself will say so
    return [_host(line) for text in lines if (line := text.partition("#")[0].strip())]


def on_hosts(words: Sequence[str], hosts: Sequence[Host], answering: Collection[str]) -> list[str]:
    """Return the words that start a job on those of its hosts that answer, with as many fewer ranks.

    Parameters
    ----------
    words : sequence of str
        Of mpirun and its program. Where they name hosts, a list takes the place of the list or the file.
    hosts : sequence of Host
        All that the job was to run on.
    answering : collection of str
        The names of those that are left, at least one.

    Examples
    --------
    >>> hosts = [Host("red", 2), Host("blue", 2)]
    >>> " ".join(on_hosts(["mpirun", "-f", "hosts", "-n", "4", "python"], hosts, {"blue"}))
    'mpirun --host blue:2 -n 2 python'
    """
    kept = [host for host in hosts if host.name in answering]
    if not kept or len(kept) == len(hosts):
        return list(words)
    n_ranks = ranks_of(words)
    equal = 1 if n_ranks is None else -(-n_ranks // len(hosts))  # Open MPI starts one rank where no number is named
    entries = ",".join(f"{host.name}:{host.slots or equal}" for host in kept)
    number = _option(words, (*LISTS, *FILES))
    after = words[1:] if number is None else [*words[1:number], *words[number + 2 :]]
    reduced = [words[0], "--host", entries, *after]
    if os.path.basename(words[0]) == "srun":
        names = ",".join(host.name for host in kept)
        reduced = [words[0], f"--nodelist={names}", f"--nodes={len(kept)}", *after]
    if n_ranks is None:
        return reduced
    before, now = (sum(host.slots or equal for host in group) for group in (hosts, kept))
    return on_ranks(reduced, max(1, n_ranks * now // before))


def ranks_of(words: Sequence[str]) -> int | None:
    """Return the number of ranks that the words of mpirun ask for; None where they leave it open."""
    number = _option(words, RANKS)
    return int(words[number + 1]) if number is not None and words[number + 1].isdecimal() else None


def on_ranks(words: Sequence[str], n_ranks: int) -> list[str]:
    """Return the words that start a job on so many ranks instead.

    Examples
    --------
    >>> on_ranks(["mpirun", "-n", "4", "python"], 2)
    ['mpirun', '-n', '2', 'python']
    """
    number = _option(words, RANKS)
    return list(words) if number is None else [*words[: number + 1], str(n_ranks), *words[number + 2 :]]


def that_answer(hosts: Sequence[Host], words: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """Return the names of the hosts on which a command can be started, in the way that mpirun does it.

    What ssh says of each of the others is said on standard error.
    """
    agent = agent_of(words, environment)
    names = {host.name: None for host in hosts}
    answers = remote.ask({name: [*agent, name, "true"] for name in names if not is_here(name)}, remote.PROBE_SECONDS)
    lost = {name: answer for name, answer in answers.items() if answer.status}
    for name, answer in lost.items():
        say(f"{name} cannot be reached: {answer.complaint or f'status {answer.status}'}")
    return set(names) - set(lost)


def agent_of(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the words by which mpirun reaches another host, whose name comes next; ssh asks for no password."""
    agent = shlex.split(_agent(words, environment))
    if os.path.basename(agent[0]) == "ssh":
        agent += ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={remote.PROBE_SECONDS:.0f}"]
    return agent


def is_here(name: str) -> bool:
    """Return whether a name is that of this host, to which no ssh is needed."""
    node = os.uname().nodename
    return name in ("localhost", "127.0.0.1", node, node.partition(".")[0])


def keeping_alive(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for mpirun in which its ssh ends when a host does not answer any more, and so mpirun.

    A node whose network is gone closes no connection: mpirun would wait for it for a quarter of an hour.
    """
    agent = shlex.split(_agent(words, environment))
    if os.path.basename(agent[0]) != "ssh" or any(name in environment for name in OWN_LAUNCHERS):
        return dict(environment)
    return {**dict.fromkeys(AGENT_ARGUMENTS, KEEP_ALIVE), **environment}


def _agent(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the command by which mpirun reaches other hosts."""
    number = _option(words, AGENT_WORDS)
    if number is not None:
        return words[number + 1]
    return next((environment[name] for name in AGENT_VARIABLES if environment.get(name)), "ssh")


def _option(words: Sequence[str], names: Sequence[str]) -> int | None:
    """Return where one of mpirun's own options stands, before its value; None where it is not given."""
    for number, word in enumerate(words[:-1]):
        if os.path.basename(word).startswith(("python", "distsoftmax")):
            return None  # the program begins here
        if word in names:
            return number
    return None


def _host(text: str) -> Host:
    """Return the host of an entry of a list, or of a line of a host file."""
    first, *more = text.split()
    name, _, slots = first.partition(":")
    slots = next((word.removeprefix("slots=") for word in more if word.startswith("slots=")), slots)
    return Host(name, int(slots) if slots.isdecimal() else 0)
