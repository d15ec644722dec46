"""Tests that start jobs as a user does, each under a deadline; past it the whole process group is killed.

They use the mpirun and the python of the active environment.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LETTER = ROOT.parent / "shared" / "data" / "letter.csv"
TRAININGS = Path(__file__).with_name("trainings.py")
OPEN_MPI = "Open MPI" in subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout


# what tests/conftest.py sets for the computations of the tests' own processes: jobs start as a user starts them
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.pop(name, None)


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def sha256(self):
        (sha256,) = self.all_sha256
        return sha256

    @property
    def all_sha256(self):
        """Those of the models of several trainings."""
        return re.findall(r"^model sha256 ([0-9a-f]{64})$", self.out, re.MULTILINE)


class Process:
    """A process group under a deadline."""

    def __init__(self, arguments, cwd, env, deadline):
        remove_dead_sessions()
        self.started = time.monotonic()
        self.deadline = deadline
        self.popen = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait(self):
        try:
            out, err = self.popen.communicate(timeout=self.deadline)
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)
            out, err = self.popen.communicate()
            pytest.fail(f"not over after {self.deadline} s: {self.popen.args}\n{out}\n{err}")
        return Ended(self.popen.returncode, out, err, time.monotonic() - self.started)

    def ranks(self):
        """The process ids of the ranks."""
        import psutil

        found = []
        for process in psutil.Process(self.popen.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # ended since it was listed
                if any(part.startswith("distsoftmax.") for part in process.cmdline()):
                    found.append(process.pid)
        return found

    def wait_for(self, condition, what):
        while not condition():
            if self.popen.poll() is not None:
                ended = self.wait()
                pytest.fail(f"ended with {ended.status} before {what}:\n{ended.out}\n{ended.err}")
            if time.monotonic() - self.started > self.deadline:
                self.wait()
            time.sleep(0.02)


def remove_dead_sessions():
    """Remove the folders of killed mpiruns of Open MPI: the next one with that process id would not start."""
    for session in Path(tempfile.gettempdir()).glob("ompi.*"):
        if not Path("/proc", session.suffix[1:]).exists():
            shutil.rmtree(session, ignore_errors=True)


@contextlib.contextmanager
def processes(folder):
    """Yield a function that starts a command without waiting for it; what still runs at the end is killed."""
    started = []

    def start(*arguments, cwd=folder, env=None, deadline=120):
        process = Process(arguments, cwd, env, deadline)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.popen.poll() is None:
            os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.communicate()


def running(start):
    """Return a function that runs a command to its end."""

    def run(*arguments, **options):
        return start(*arguments, **options).wait()

    return run


def on_ranks(run):
    """Return a function that runs a module of distsoftmax on so many ranks."""

    def mpirun(n, command, *arguments, **options):
        return run("mpirun", "-n", n, sys.executable, "-m", f"distsoftmax.{command}", *arguments, **options)

    return mpirun


@pytest.fixture
def start(tmp_path):
    """Start a command in the test's folder without waiting for it."""
    with processes(tmp_path) as start:
        yield start


@pytest.fixture
def run(start):
    """Run a command to its end."""
    return running(start)


@pytest.fixture
def mpirun(run):
    """Run a module of distsoftmax on so many ranks."""
    return on_ranks(run)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """A folder for what several tests of a module only look at."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def shared_run(shared_folder):
    """Run a command to its end, in the shared folder."""
    with processes(shared_folder) as start:
        yield running(start)


@pytest.fixture(scope="module")
def shared_mpirun(shared_run):
    """Run a module of distsoftmax on so many ranks, in the shared folder."""
    return on_ranks(shared_run)


@pytest.fixture
def letter(tmp_path):
    if not LETTER.exists():
        pytest.skip("the shared data set letter.csv is not here")
    return Path(shutil.copy(LETTER, tmp_path / "letter.csv"))
