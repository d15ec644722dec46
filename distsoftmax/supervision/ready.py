"""Whether hosts are ready for a job: python -m distsoftmax.supervision.ready (--hosts a,b:4 | --hostfile FILE)

Each host must answer to ssh, and have this folder, this Python at this path and this version of distsoftmax. Where all
have, the hosts with their slots, and the number of all slots, are printed as one line. Else each that has not is named,
and the status is 2. A host whose slots are not said has as many as cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import distsoftmax
from distsoftmax.arithmetic import library
from distsoftmax.supervision.hosts import Host, agent_of, hosts_of, is_here
from distsoftmax.supervision.remote import UNREACHED, Answer, ask

CHECK_SECONDS = 30.0  # for a host to answer and to import numpy, which may come from a slow file system
NO_FOLDER, NO_PYTHON = 201, 202  # exit statuses of the script
SCRIPT = (  # in one line: csh takes no quoted text of several
    "cd {folder} 2>/dev/null || exit {no_folder}; [ -x {python} ] || exit {no_python}; "
    "{pythonpath} exec {python} -c {program}"
)
PROGRAM = (
    "import json, os, mpi4py, numpy, distsoftmax; from distsoftmax.arithmetic import library; "
    'cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(); '
    "print(json.dumps([distsoftmax.__version__, library.VERSION, cores]))"
)


@dataclass(frozen=True)
class Environment:
    """Where a job starts, and with which Python: the same on every host."""

    folder: str
    python: str
    pythonpath: str

    @classmethod
    def here(cls) -> Environment:
        """Return this process's."""
        return cls(os.getcwd(), sys.executable, os.environ.get("PYTHONPATH", ""))

    @property
    def check(self) -> str:
        """A command for any shell: it prints two versions and the number of cores, or fails."""
        words = {name: shlex.quote(word) for name, word in vars(self).items()}
        words["pythonpath"] = f"PYTHONPATH={words['pythonpath']}" if self.pythonpath else ""
        script = SCRIPT.format(**words, program=shlex.quote(PROGRAM), no_folder=NO_FOLDER, no_python=NO_PYTHON)
        return f"sh -c {shlex.quote(script)}"

    def missing(self, host: str, answer: Answer) -> str:
        """Return what a host lacks, with the remedy; empty where it lacks nothing."""
        if answer.status == UNREACHED:
            return f"cannot be reached: {answer.complaint}"
        if answer.status == NO_FOLDER:
            return f"has no folder {self.folder}, in which the job starts; {_remedy(self.folder, host)}"
        if answer.status == NO_PYTHON:
            environment = os.path.dirname(os.path.dirname(self.python))
            return (
                f"has no {self.python}, or not the Python that it links to; install that, and "
                f"{_remedy(environment, host)}"
            )
        package = os.path.dirname(os.path.dirname(distsoftmax.__file__))
        if answer.status:
            return f"{self.python} cannot be used there: {answer.complaint}; {_remedy(package, host)}"
        try:
            versions = _facts(answer)[:2]
        except (ValueError, IndexError, TypeError):  # as from an account that may run one command alone
            last = answer.out.strip().rpartition("\n")[2]
            return f"runs something else than it is asked to, and answers {last[:80]!r}; let it run any command by ssh"
        if versions != (distsoftmax.__version__, library.VERSION):
            return (
                f"has distsoftmax {versions[0]} with arithmetic {versions[1]}, this host has "
                f"{distsoftmax.__version__} with {library.VERSION}; {_remedy(package, host)}"
            )
        return ""


def ready(hosts: Sequence[Host], environ: Mapping[str, str]) -> tuple[list[Host], list[str]]:
    """Ask all hosts at once, and return them with their slots, and a complaint for each that is not ready."""
    environment = Environment.here()
    agent = agent_of([], environ)
    names = list(dict.fromkeys(host.name for host in hosts))
    commands = {
        name: ["sh", "-c", environment.check] if is_here(name) else [*agent, name, environment.check] for name in names
    }
    answers = ask(commands, CHECK_SECONDS)
    complaints = [f"{name}: {text}" for name in names if (text := environment.missing(name, answers[name]))]
    if complaints:
        return [], complaints
    slots = dict.fromkeys(names, 0)
    for host in hosts:
        slots[host.name] += host.slots or _facts(answers[host.name])[2]
    return [Host(name, number) for name, number in slots.items()], []


def _facts(answer: Answer) -> tuple[str, int, int]:
    """Return the version of the package, that of the arithmetic, and the cores; a login script may print more."""
    version, arithmetic, cores = json.loads(answer.out.splitlines()[-1])
    return version, arithmetic, cores


def _remedy(path: str, host: str) -> str:
    return f"share {path} with it, or copy it: rsync -a {shlex.quote(path)}/ {host}:{shlex.quote(path)}/"


def main() -> int:
    """Read the command line, and say which hosts are ready."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m distsoftmax.supervision.ready", description=__doc__, formatter_class=form
    )
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument("--hosts", metavar="LIST", help="host or host:slots, separated by commas")
    named.add_argument("--hostfile", metavar="FILE", help="host, host:slots or host slots=N, a line each")
    options = parser.parse_args()
    if options.hostfile and not os.access(options.hostfile, os.R_OK):
        parser.error(f"{options.hostfile}: cannot be read")
    words = ["--host", options.hosts] if options.hosts is not None else ["--hostfile", options.hostfile]
    hosts = hosts_of(["mpirun", *words])
    if not hosts:
        parser.error("no host is named")
    usable, complaints = ready(hosts, os.environ)
    for complaint in complaints:
        print(f"hosts: {complaint}", file=sys.stderr)
    if complaints:
        return 2
    print(",".join(f"{host.name}:{host.slots}" for host in usable), sum(int(host.slots) for host in usable))
    return 0


if __name__ == "__main__":
    sys.exit(main())
