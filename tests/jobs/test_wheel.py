"""The wheel: what is in it, and that it works where it is installed, without an MPI library and with one.

Nothing is installed but the wheel: what it needs is that of the environment of the tests.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import distsoftmax

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
NEEDED = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
BUILDS_ITSELF = int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77  # as pyproject.toml requires

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="this is no source tree")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree, with the core that is compiled there already."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.lock")
    shutil.copytree(ROOT / "distsoftmax", folder / "tree/distsoftmax", ignore=ignored)
    (folder / "tree/tests").mkdir()
    (folder / "tree/tests/__init__.py").touch()
    for name in NEEDED:
        shutil.copy(ROOT / name, folder / "tree")
    words = ["wheel", "--quiet", "--no-deps", *(["--no-build-isolation"] if BUILDS_ITSELF else [])]
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "PYTHONPATH")}
    made = subprocess.run(
        [*PIP, *words, "--wheel-dir", str(folder), str(folder / "tree")],
        check=False, timeout=150, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if "No matching distribution found for setuptools" in made.stderr or "NewConnectionError" in made.stderr:
        pytest.skip("pip reaches no package index, so it cannot bring a setuptools that is new enough")
    assert made.returncode == 0, made.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel):
    """The folder of the programs of an environment that the wheel is installed in."""
    environment = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n")
    words = ["--python", str(environment / "bin/python"), "install", "--quiet", "--no-deps", "--force-reinstall"]
    subprocess.run([*PIP, *words, "--target", str(packages), str(wheel)], check=True, timeout=60)
    shutil.copy(packages / "bin/distsoftmax", environment / "bin/distsoftmax")
    return environment / "bin"


@pytest.fixture
def run_installed(run, installed):
    """Run a program with the wheel, not with this tree, installed."""
    base = {"PYTHONPATH": "", "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    return lambda *words, **variables: run(*words, env={**base, **variables}, deadline=60)


WITHOUT_MPI = {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"}  # where mpi4py's wheel looks for the library
WITH_MPI = {"LD_LIBRARY_PATH": f"{sys.prefix}/lib{os.pathsep}{os.environ.get('LD_LIBRARY_PATH', '')}"}
STARTED = {"PMI_SIZE": "2", "PMI_RANK": "0"}  # as a launcher tells


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert {name.partition("/")[0] for name in content} == {
        "distsoftmax",
        f"distsoftmax-{distsoftmax.__version__}.dist-info",
    }
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "distsoftmax").rglob("*.py")}
    core = {
        f"distsoftmax/arithmetic/core/{path.name}" for path in (ROOT / "distsoftmax/arithmetic/core").glob("*.[ch]")
    }
    others = {
        "py.typed",
        "arithmetic/SPECIFICATION.md",
        "reporting/report.html",
        "usage/completion.bash",
        "usage/completion.zsh",
    }
    others = {f"distsoftmax/{name}" for name in others}
    compiled = {name for name in content if re.search(r"/_core(_\w+\.(so|dylib)|\.id)$", name)}
    assert len(compiled) >= 2
    assert {name for name in content if "dist-info" not in name} - compiled == own | core | others
    for name, text in content.items():
        for path in (str(ROOT), str(wheel.parent), os.path.expanduser("~") + "/"):
            assert path.encode() not in text, (name, path)
    scripts = content[f"distsoftmax-{distsoftmax.__version__}.dist-info/entry_points.txt"].decode()
    assert scripts.split() == ["[console_scripts]", "distsoftmax", "=", "distsoftmax.__main__:main"]


def test_without_an_mpi_library_a_process_trains_alone(run_installed, installed):
    ended = run_installed(installed / "distsoftmax", "train", "--max-steps", "2", "--out", "run", **WITHOUT_MPI)
    assert (ended.status, ended.err) == (0, "")
    assert "model sha256 " in ended.out
    version = run_installed(installed / "python", "-m", "distsoftmax", "--version", **WITHOUT_MPI)
    assert version.out.splitlines()[-1] == "MPI: none"
    where = run_installed(installed / "python", "-c", "import distsoftmax; print(distsoftmax.__file__)")
    assert Path(where.out.strip()).is_relative_to(installed.parent)


def test_several_processes_without_an_mpi_library_are_refused_with_the_remedy(run_installed, installed, tmp_path):
    words = [installed / "python", "-m", "distsoftmax.train", "--out", "run"]
    ended = run_installed(*words, **WITHOUT_MPI, **STARTED)
    assert ended.status == 2
    assert "mpi4py finds no MPI library, so the 2 processes of this job cannot talk to each other" in ended.err
    assert "pip install mpich" in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.launcher
def test_with_mpi_the_console_script_trains_under_mpirun(run_installed, installed):
    words = ["train", "--max-steps", "2", "--out"]
    ended = run_installed("mpirun", "-n", 2, installed / "distsoftmax", *words, "run", **WITH_MPI)
    assert (ended.status, ended.err) == (0, "")
    assert "16 shards on 2 ranks" in ended.out
    alone = run_installed(installed / "distsoftmax", *words, "alone", **WITHOUT_MPI)
    assert alone.sha256 == ended.sha256
    unknown = run_installed("mpirun", "-n", 2, installed / "distsoftmax", "trian", **WITH_MPI)
    assert unknown.status != 0
    assert unknown.err.count("did you mean train?") == 1
