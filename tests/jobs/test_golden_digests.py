"""The golden runs make the models whose digests stand in tests/golden, whatever computes them, and however many."""

import importlib.util
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import OPEN_MPI, ROOT

from distsoftmax.arithmetic import build, library

PROGRAM = ROOT / "tests" / "golden" / "runs.py"
DIGESTS = ROOT / "tests" / "golden" / "digests.txt"
ALONE = [sys.executable, PROGRAM]
SETS = build.instruction_sets()
KNOWS_NO_MPI = pytest.mark.skipif(OPEN_MPI, reason="the core knows no MPI; MPICH's environment tests this")


def digests(text):
    return dict(re.findall(r"^(\S+) ([0-9a-f]{64})$", text, re.MULTILINE))


def golden():
    assert DIGESTS.exists(), f"there is no {DIGESTS}; write it with python {PROGRAM} --write"
    return digests(DIGESTS.read_text())


def runnable():
    return [name for name in SETS if library.LEVELS[name] <= library.core().ds_processor_level()]


@pytest.fixture
def models(start):
    """Start a job for each of several environments at once, and return the digests that each prints."""

    def models(*environments, command=ALONE):
        jobs = [start(*command, env=env, deadline=100) for env in environments]
        ended = [job.wait() for job in jobs]
        assert [end.status for end in ended] == [0] * len(jobs), "\n".join(end.err for end in ended)
        return [digests(end.out) for end in ended]

    return models


@pytest.mark.parametrize(("ranks", "threads"), [(1, 1), (1, 3), (2, 2), (3, 1), (4, 3), (5, 1)])
def test_digests_do_not_depend_on_the_number_of_ranks_or_threads(models, ranks, threads):
    (printed,) = models({}, command=["mpirun", "-n", ranks, *ALONE, "--threads", threads])
    assert printed == golden()


def test_ranks_on_unequal_processors_make_the_same_models(models):
    """Two sorts of nodes, played by one rank with the lowest instruction set and one with the highest."""
    lowest, highest = (["-n", 1, "env", f"DISTSOFTMAX_ISA={name}", *ALONE] for name in (runnable()[0], runnable()[-1]))
    (printed,) = models({}, command=["mpirun", *lowest, ":", *highest])
    assert printed == golden()


@KNOWS_NO_MPI
def test_digests_do_not_depend_on_the_instruction_set(models):
    for printed in models(*({"DISTSOFTMAX_ISA": name} for name in runnable())):
        assert printed == golden()


@KNOWS_NO_MPI
def test_digests_do_not_depend_on_what_numpy_and_blas_choose_for_the_processor(models):
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    dispatched = " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    environment = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": dispatched}
    (printed,) = models(environment)
    assert printed == golden()


@KNOWS_NO_MPI
@pytest.mark.parametrize("command", ["gcc", "clang", "zig"])
def test_digests_do_not_depend_on_the_compiler(models, tmp_path, command):
    words = [sys.executable, "-m", "ziglang", "cc"] if command == "zig" else [command]
    if shutil.which(words[0]) is None or (command == "zig" and importlib.util.find_spec("ziglang") is None):
        pytest.skip(f"{command} is not installed")
    compiler = build.probe(words)
    if compiler.family == build.find_compiler().family:
        pytest.skip(f"{command} compiles what all other tests use")
    build.compile_core(tmp_path / "core", compiler=compiler)
    environments = [{"DISTSOFTMAX_CORE": tmp_path / "core", "DISTSOFTMAX_ISA": name} for name in runnable()]
    for printed in models(*environments):
        assert printed == golden()


# --- a sum in another order is noticed

# file, what is written there, what is written in its place, and a run that it must change
REORDERED = {
    "rows of a gradient": (
        "dense.h",
        "for (int64_t r = 0; r < n_rows; r++) {\n        reals x[TILE_VECTORS];",
        "for (int64_t r = n_rows - 1; r >= 0; r--) {\n        reals x[TILE_VECTORS];",
        "accelerated",
    ),
}


def reordered_core(folder, file, old, new):
    """Compile the core, with a change in one file, for the highest instruction set of this machine."""
    sources = Path(shutil.copytree(build.SOURCES, folder / "sources"))
    text = (sources / file).read_text()
    assert text.count(old) == 1, f"{file} does not hold, once: {old}"
    (sources / file).write_text(text.replace(old, new))
    compiler, name, files = build.find_compiler(), runnable()[-1], sorted(sources.glob("*.c"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build._run, (build._compile(compiler, folder, name, path, "reordered") for path in files)))
    build._run(build._link(compiler, folder, name, files))
    if name != "baseline":  # which tells what the processor can run
        shutil.copy(build.HERE / build.library_name("baseline"), folder)
    return folder


@KNOWS_NO_MPI
@pytest.mark.parametrize("change", REORDERED)
def test_a_sum_in_another_order_changes_the_digests(models, tmp_path, change):
    *edit, name = REORDERED[change]
    (printed,) = models({"DISTSOFTMAX_CORE": reordered_core(tmp_path, *edit)})
    assert printed.keys() == golden().keys()
    assert printed[name] != golden()[name]
