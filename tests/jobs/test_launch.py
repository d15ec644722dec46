"""The launch scripts, the terminal and the README, as a new user meets them."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from conftest import OPEN_MPI, ROOT

MPI = "openmpi" if OPEN_MPI else "mpich"
LOCAL = ROOT / "launch" / "local.sh"


@pytest.mark.launcher
def test_local_script_trains_from_any_folder_with_trains_own_options(run, tmp_path):
    ended = run(LOCAL, "--mpi", MPI, "-n", 2, "--max-steps", 3, "--out", "here")
    assert ended.status == 0, ended.err
    assert "on 2 ranks" in ended.out
    assert (tmp_path / "here" / "model.safetensors").exists()


@pytest.mark.launcher
def test_local_script_passes_the_exit_status_of_bad_input_on(run):
    ended = run(LOCAL, "--mpi", MPI, "-n", 2, "--data", "none.csv")
    assert ended.status == 2
    assert "error: none.csv: no such file" in ended.err


@pytest.mark.launcher
def test_setup_has_nothing_to_do_the_second_time(run):
    run(ROOT / "launch" / "setup.sh", MPI)
    again = run(ROOT / "launch" / "setup.sh", MPI, deadline=20)
    assert (again.status, again.out, again.err) == (0, "", "")


def test_setup_refuses_what_it_does_not_know(run):
    ended = run(ROOT / "launch" / "setup.sh", "lam")
    assert ended.status == 2
    assert "say mpich or openmpi" in ended.err


def test_setup_names_the_version_where_python_is_too_old(run, tmp_path):
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")  # what an old one answers to the question whether it is new enough
    old.chmod(0o755)
    ended = run(ROOT / "launch" / "setup.sh", "mpich", env={"PYTHON": old})
    assert ended.status == 2
    assert "older than Python 3.10" in ended.err


def test_setup_names_the_package_where_venv_is_missing(run, tmp_path):
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n')
    bare.chmod(0o755)
    ended = run(ROOT / "launch" / "setup.sh", "mpich", env={"PYTHON": bare})
    assert ended.status == 2
    assert "apt install python3-venv" in ended.err


def test_setup_with_the_systems_mpi_needs_one(run, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "env", "dirname", "cat", "python3"):
        (tools / tool).symlink_to(shutil.which(tool))
    ended = run(ROOT / "launch" / "setup.sh", env={"PATH": tools, "MPI": "system"})
    assert ended.status == 2
    assert "no mpirun on PATH" in ended.err


QUICK_COMPILER = """#!/bin/bash
# optimizes nothing but what tells whether the core rounds as it must: an eighth of the time
[[ $* = *ieee.c* ]] || set -- "${@/#-O3/-O0}"
exec cc "$@"
"""
# what lies in the environment that is made: an MPI with its programs, what loads it, and what installs
OWN = ("mpich", "mpi4py", "pip", "setuptools", "distsoftmax", "__editable__")


def link_packages(folder):
    """Link the packages of this environment into a folder on PYTHONPATH, where pip finds what it need not install."""
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(OWN) and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)


@pytest.mark.skipif(OPEN_MPI, reason="once is enough, and it takes half a minute")
def test_a_path_with_a_space_is_no_obstacle(run, tmp_path):
    clone = tmp_path / "a path with spaces"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".venv*", ".git", "runs", "__pycache__", "*.egg-info"))
    (clone / "compiler").write_text(QUICK_COMPILER)
    (clone / "compiler").chmod(0o755)
    link_packages(tmp_path / "packages")
    quick = {"PYTHONPATH": tmp_path / "packages"}
    if shutil.which("cc"):
        quick["CC"] = f"'{clone / 'compiler'}'"
    ended = run("launch/local.sh", "-n", 2, "--max-steps", 2, cwd=clone, env=quick, deadline=300)
    assert ended.status == 0, ended.err
    assert list((clone / "runs").glob("*/model.safetensors"))


@pytest.mark.launcher
def test_the_batch_script_runs_the_same_job(run, tmp_path):
    """Without Slurm: the script is a shell script that Slurm starts in the folder of submission."""
    environment = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_NTASKS": "2"}
    (tmp_path / ".venv").symlink_to(os.path.dirname(os.path.dirname(sys.executable)))
    ended = run("bash", ROOT / "launch" / "slurm.sbatch", "--max-steps", 3, "--out", "batch", env=environment)
    assert ended.status == 0, ended.err
    assert "on 2 ranks" in ended.out
    assert (tmp_path / "batch" / "model.safetensors").exists()


def on_a_terminal(arguments, cwd, during=None):
    """Run a command on a terminal of 100 columns; return what it shows and its exit status."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(cwd)
        os.environ["TERM"] = "xterm"
        subprocess.run(["stty", "cols", "100"], check=False)
        os.execvp(arguments[0], arguments)
    shown, deadline = b"", time.monotonic() + 90
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if ready:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:
                break
            if not chunk:
                break
            shown += chunk
        if during is not None and during(shown):
            os.write(terminal, b"\x03")
            during = None
    else:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(status)


LONG = ["--tolerance", "0", "--solver", "gradient-descent", "--learning-rate", "1e-3"]


@pytest.fixture(scope="module")
def interrupted(shared_folder):
    """What a terminal shows of a run, which steps it shows as they come, and the status after Ctrl-C at the fourth."""
    seen = []

    def has_moved(shown):
        seen.extend(int(step) for step in re.findall(rb"step (\d+) of", shown)[-1:])
        return len(set(seen)) > 3

    words = [str(LOCAL), "--mpi", MPI, "-n", "2", *LONG, "--max-steps", "1000000", "--out", "cut"]
    shown, status = on_a_terminal(words, shared_folder, has_moved)
    return shown, seen, status


@pytest.mark.launcher
def test_a_terminal_shows_a_moving_line_while_it_runs(interrupted):
    shown, seen, _ = interrupted
    steps = [int(step) for step in re.findall(r"step (\d+) of", shown)]
    assert steps == sorted(steps)
    assert len(set(seen)) > 3, shown  # shown as they came, not all at the end
    assert "\x1b[1A" in shown  # each over the one before


@pytest.mark.launcher
def test_ctrl_c_on_a_terminal_saves_and_says_how_to_go_on(interrupted, shared_folder):
    shown, _, status = interrupted
    assert status == 75, shown
    assert "stopped by SIG" in shown
    assert "--config cut/config.toml" in shown
    assert list((shared_folder / "cut" / "checkpoints").iterdir())


@pytest.mark.launcher
def test_a_log_has_plain_lines_only(mpirun):
    ended = mpirun(2, "train", *LONG, "--max-steps", 100)
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err


def commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line]


def test_every_command_of_the_readme_runs(run, tmp_path):
    """In one folder and one after the other, as they are written; launch/test.sh is the one running this."""
    lines = [line for line in commands() if not line.startswith(("#", "git clone", "cd ", "launch/test.sh", "sbatch "))]
    assert len(lines) > 8
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    venv = os.path.dirname(os.path.dirname(sys.executable))
    (tmp_path / ".venv").symlink_to(venv)
    (tmp_path / ".venv-openmpi").symlink_to(ROOT / ".venv-openmpi")
    for line in lines:
        script = f"set -eo pipefail; source .venv/bin/activate; {line}"
        ended = run("bash", "-c", script, deadline=200)
        assert ended.status == 0, (line, ended.out, ended.err)


def test_the_readmes_table_names_every_option(mpirun):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    help_text = mpirun(1, "train", "--help").out
    options = set(re.findall(r"--[a-z][a-z0-9-]+", help_text)) - {"--help"}
    negations = {option for option in options if option.startswith("--no-")}
    assert len(options) > 20
    for option in options - negations:
        assert f"`{option}" in text, option
