"""The golden runs make the models whose digests stand in tests/golden, whatever computes them, and however many."""

import importlib.util
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import OPEN_MPI, ROOT
from golden.runs import RUNS

from distsoftmax.arithmetic import build, library

PROGRAM = ROOT / "tests" / "golden" / "runs.py"
DIGESTS = ROOT / "tests" / "golden" / "digests.txt"
ALONE = [sys.executable, PROGRAM]
KNOWS_NO_MPI = pytest.mark.skipif(OPEN_MPI, reason="the core knows no MPI, and MPICH's environment tests this")
COMPILERS = {"gcc": ["gcc"], "clang": ["clang"], "zig": [sys.executable, "-m", "ziglang", "cc"]}

# what is done in another order: the file, what stands there, what takes its place the first time, a run it must change
REORDERED = {
    "rows of a gradient": (
        "dense.h",
        "for (int64_t r = 0; r < n_rows; r++, errors += stride) {",
        "errors += (n_rows - 1) * stride;\n    for (int64_t r = n_rows - 1; r >= 0; r--, errors -= stride) {",
        "accelerated",
    ),
    "classes of a softmax": (
        "softmax.h",
        "for (int64_t k = 0; k < stride; k += CHAINS)",
        "for (int64_t k = (stride - 1) / CHAINS * CHAINS; k >= 0; k -= CHAINS)",
        "lbfgs-kronecker-panels",
    ),
    "entries of a sparse row": (
        "sparse.h",
        "for (int64_t entry = index_at(x->starts, bytes, row); entry < last; entry++)",
        "for (int64_t entry = last - 1; entry >= index_at(x->starts, bytes, row); entry--)",
        "descent-l1-sparse",
    ),
    "rows of a dot product": (
        "parameters.c",
        "for (int64_t r = 0; r < rows; r++) add_row(",
        "for (int64_t r = rows - 1; r >= 0; r--) add_row(",
        "lbfgs-many-features",
    ),
    "inner indices of a matrix product": (
        "tiles.h",
        "for (int64_t k = 0; k < n_inner; k++) {",
        "for (int64_t k = n_inner - 1; k >= 0; k--) {",
        "lbfgs-l2",
    ),
    "rows of a column's sum": (
        "columns.c",
        "for (int64_t row = 0; row < x->n_rows; row += ROWS)",
        "for (int64_t row = (x->n_rows - 1) / ROWS * ROWS; row >= 0; row -= ROWS)",
        "descent",
    ),
}


def digests(text):
    """Return the name of each run, and the sha256 of its model."""
    return dict(re.findall(r"^(\S+) ([0-9a-f]{64})$", text, re.MULTILINE))


def golden():
    assert DIGESTS.exists(), f"there is no {DIGESTS}; write it with python {PROGRAM} --write"
    return digests(DIGESTS.read_text())


def changed(printed, runs):
    """Return the names of the models of some runs that are others than those that stand in the file, or are missing."""
    of_runs = [name for name in golden() if name in runs or re.sub(r"-\d+$", "", name) in runs]
    assert len(of_runs) >= len(runs)
    return [name for name in of_runs if printed.get(name) != golden()[name]]


@pytest.fixture
def runs(drawn):
    """The runs that a test makes: a third of them, drawn."""
    return drawn(RUNS, len(RUNS) // 3)


def runnable():
    """Return the instruction sets that this processor can run, lowest first."""
    level = library.core().ds_processor_level()
    return [name for name in build.instruction_sets() if library.LEVELS[name] <= level]


@pytest.fixture
def printed(start):
    """Return the digests that jobs print, one job for each of several environments, all at once."""

    def printed(*environments, command=ALONE):
        jobs = [start(*command, env=env, deadline=120) for env in environments]
        ended = [job.wait() for job in jobs]
        for end in ended:
            assert end.status == 0, end.err
        return [digests(end.out) for end in ended]

    return printed


@pytest.mark.launcher
def test_every_run_makes_the_model_of_the_file(printed):
    (models,) = printed({}, command=["mpirun", "-n", 2, *ALONE, "--threads", 2])
    assert models == golden()


@pytest.mark.sweep(2)
@pytest.mark.launcher
@pytest.mark.parametrize(("ranks", "threads"), [(1, 1), (1, 3), (3, 1), (4, 3), (5, 1)])
def test_digests_do_not_depend_on_the_number_of_ranks_or_threads(printed, runs, ranks, threads):
    (models,) = printed({}, command=["mpirun", "-n", ranks, *ALONE, "--threads", threads, "--only", *runs])
    assert not changed(models, runs)


@KNOWS_NO_MPI
def test_ranks_on_unequal_processors_make_the_same_models(printed, runs):
    """Two sorts of nodes, played by a rank with the lowest instruction set and one with the highest."""
    lowest, highest = (
        ["-n", 1, "env", f"DISTSOFTMAX_ISA={name}", *ALONE, "--only", *runs] for name in (runnable()[0], runnable()[-1])
    )
    (models,) = printed({}, command=["mpirun", *lowest, ":", *highest])
    assert not changed(models, runs)


@KNOWS_NO_MPI
def test_digests_do_not_depend_on_the_instruction_set(printed, runs):
    names = runnable()
    jobs = printed(*({"DISTSOFTMAX_ISA": name} for name in names), command=[*ALONE, "--only", *runs])
    for name, models in zip(names, jobs, strict=True):
        assert not changed(models, runs), name


@KNOWS_NO_MPI
def test_digests_do_not_depend_on_what_numpy_and_blas_choose_for_the_processor(printed, runs):
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    dispatched = " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    lowest = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": dispatched}
    (models,) = printed(lowest, command=[*ALONE, "--only", *runs])
    assert not changed(models, runs)


@KNOWS_NO_MPI
@pytest.mark.parametrize("name", COMPILERS)
def test_digests_do_not_depend_on_the_compiler(printed, runs, drawn, tmp_path, name):
    command = COMPILERS[name]
    if shutil.which(command[0]) is None or (name == "zig" and importlib.util.find_spec("ziglang") is None):
        pytest.skip(f"{name} is not installed")
    compiler = build.probe(command)
    if compiler.family == build.find_compiler().family:
        pytest.skip(f"{name} compiles what all other tests use")
    for isa in drawn(runnable(), 1):
        core = tmp_path / isa
        core.mkdir()
        compile_files(core, sorted(build.SOURCES.glob("*.c")), isa, compiler, "-O3")
        link(core, isa, compiler)
        environment = {"DISTSOFTMAX_CORE": core, "DISTSOFTMAX_ISA": isa}
        (models,) = printed(environment, command=[*ALONE, "--only", *runs])
        assert not changed(models, runs), isa


# --- a sum in another order is noticed


def compile_files(folder, files, isa=None, compiler=None, level="-O2"):
    """Compile files of the core for one instruction set, the highest of this machine: a third of the usual time."""
    compiler, isa = compiler or build.find_compiler(), isa or runnable()[-1]
    calls = [build._compile(compiler, folder, isa, file, "by a test") for file in files]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build._run, ([level if word == "-O3" else word for word in call] for call in calls)))


def link(folder, isa=None, compiler=None):
    """Make a core of what is compiled in a folder, and of the lowest instruction set, which tells what can be run."""
    compiler, isa = compiler or build.find_compiler(), isa or runnable()[-1]
    build._run(build._link(compiler, folder, isa, sorted(build.SOURCES.glob("*.c"))))
    if isa != "baseline":
        shutil.copy(build.HERE / build.library_name("baseline"), folder)


def includers(sources, name):
    """Return the C files that are a file or include it, directly or not."""
    names = {name}
    for _ in sources.iterdir():
        names |= {path.name for path in sources.iterdir() if any(f'"{n}"' in path.read_text() for n in names)}
    return [sources / name for name in names if name.endswith(".c")]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder of what the core's sources compile to."""
    folder = tmp_path_factory.mktemp("compiled")
    compile_files(folder, sorted(build.SOURCES.glob("*.c")))
    return folder


@pytest.mark.sweep(2)
@KNOWS_NO_MPI
@pytest.mark.parametrize("what", REORDERED)
def test_a_sum_in_another_order_changes_the_digests(printed, compiled, tmp_path, what):
    file, old, new, name = REORDERED[what]
    core, sources = tmp_path / "core", tmp_path / "sources"
    shutil.copytree(compiled, core)
    shutil.copytree(build.SOURCES, sources)
    text = (sources / file).read_text()
    assert old in text
    (sources / file).write_text(text.replace(old, new, 1))
    compile_files(core, includers(sources, file))
    link(core)
    (models,) = printed({"DISTSOFTMAX_CORE": core}, command=[*ALONE, "--only", name])
    assert models[name] != golden()[name]


@KNOWS_NO_MPI
def test_the_same_order_with_fewer_optimizations_does_not_change_them(printed, runs, compiled):
    link(compiled)
    (models,) = printed({"DISTSOFTMAX_CORE": compiled}, command=[*ALONE, "--only", *runs])
    assert not changed(models, runs)
