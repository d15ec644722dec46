"""The compiled core: compiled from its sources, chosen for the processor, and compared with the Python beside it."""

import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from distsoftmax.arithmetic import build, library

TREE = build.HERE.parents[1]
SETS = build.instruction_sets()
CHECKS = ("build.c", "processor.c", "ieee.c")  # sources that every core needs, and that compile at once
SHOW = "from distsoftmax.arithmetic import library; print(library.core()._name, library.describe())"
COMPLAIN = f"""
import sys
from distsoftmax.errors import DistSoftmaxError
try:
    {SHOW}
except DistSoftmaxError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
"""
ON_X86_64 = pytest.mark.skipif(len(SETS) == 1, reason=f"{platform.machine()} has one instruction set")
IN_A_TREE = pytest.mark.skipif(not (TREE / "setup.py").is_file(), reason="the package is not in its source tree")


@pytest.fixture
def tree(tmp_path):
    """A source tree with a core of a few small files, and nothing compiled."""
    folder = tmp_path / "tree"
    shutil.copytree(
        TREE / "distsoftmax", folder / "distsoftmax", ignore=shutil.ignore_patterns("_core*", "*.c", "__py*")
    )
    for name in CHECKS:
        shutil.copy(build.SOURCES / name, folder / "distsoftmax/arithmetic/core")
    (folder / "pyproject.toml").write_text("")
    return folder


@pytest.fixture
def sources(tmp_path):
    """The sources of a core of a few small files, to be changed."""
    folder = tmp_path / "sources"
    shutil.copytree(
        build.SOURCES, folder, ignore=lambda _, names: [n for n in names if n[-2:] == ".c" and n not in CHECKS]
    )
    return folder


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def environment(**variables):
    """This process's variables, without a choice of the core, and with others; by default the package tested here."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DISTSOFTMAX_ISA", "DISTSOFTMAX_CORE")}
    return kept | {"PYTHONPATH": str(TREE)} | {name: str(value) for name, value in variables.items()}


def start(script=COMPLAIN, *flags, **variables):
    command = [sys.executable, *flags, "-c", script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(**variables), cwd="/", start_new_session=True, **pipes)


def load(script=COMPLAIN, *flags, **variables):
    """Load the core in a process of its own; return its exit status and what it printed, errors last."""
    process = start(script, *flags, **variables)
    printed, errors = process.communicate(timeout=120)
    return process.returncode, printed + errors


def refusal(**variables):
    """What is said where the core is refused."""
    status, text = load(**variables)
    assert status == 2, text
    assert "Traceback" not in text
    return text


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def level(sources, number):
    """Make the sources say that the processor can run no more than a level."""
    edit(sources / "processor.c", "int ds_processor_level(void) {", f"int ds_processor_level(void) {{ return {number};")


# --- the choice of the instruction set


@ON_X86_64
@pytest.mark.parametrize("name", SETS)
def test_a_forced_instruction_set_is_the_one_loaded(name):
    status, text = load(DISTSOFTMAX_ISA=name)
    if status:
        assert "this processor cannot run it" in text
        pytest.skip(f"this processor cannot run {name}")
    assert text.strip().endswith(f"_core_{name}{build.SUFFIX} arithmetic {library.VERSION} on {build.X86_64[name]}")


def test_an_unknown_instruction_set_is_an_error_that_names_those_it_can_run():
    text = refusal(DISTSOFTMAX_ISA="sse9")
    assert "DISTSOFTMAX_ISA is 'sse9', but the core knows no such instruction set" in text
    assert "choose from: baseline" in text


@ON_X86_64
@pytest.mark.parametrize(("number", "runnable"), [(0, "baseline"), (3, "baseline, v3")])
def test_an_instruction_set_that_the_processor_cannot_run_is_an_error_that_names_those_it_can(
    number, runnable, sources, tmp_path
):
    level(sources, number)
    build.compile_core(tmp_path / "old", sources)
    text = refusal(DISTSOFTMAX_CORE=tmp_path / "old", DISTSOFTMAX_ISA="v4")
    assert f"this processor cannot run it. Unset it, or choose from: {runnable}\n" in text


@ON_X86_64
@pytest.mark.parametrize(("number", "name"), [(0, "x86-64"), (3, "x86-64-v3")])
def test_the_highest_instruction_set_that_the_processor_can_run_is_loaded(number, name, sources, tmp_path):
    if number > library.core().ds_processor_level():
        pytest.skip(f"this processor cannot run {name}")
    level(sources, number)
    build.compile_core(tmp_path / "old", sources)
    assert load(DISTSOFTMAX_CORE=tmp_path / "old")[1].endswith(f"arithmetic {library.VERSION} on {name}\n")


@ON_X86_64
def test_the_processor_says_what_the_system_says():
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    v3 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe"} <= set(flags)
    v4 = v3 and {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= set(flags)
    assert library.core().ds_processor_level() == (4 if v4 else 3 if v3 else 0)


@pytest.mark.parametrize("machine", ["i686", "i386"])
def test_a_processor_below_the_baseline_is_an_error(machine, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(library.CoreError, match=f"32 bits \\({machine}\\).* needs x86-64, arm64"):
        library._choose("")


def test_elsewhere_there_is_one_instruction_set_named_after_the_machine(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(library, "_loaded", lambda: (None, "baseline"))
    assert build.instruction_sets() == ("baseline",)
    assert library.describe() == f"arithmetic {library.VERSION} on aarch64"


# --- is it the core that the Python beside it expects


def test_all_instruction_sets_are_of_one_build(sources, tmp_path):
    identity = build.compile_core(tmp_path / "core", sources)
    assert identity == build.identity(sources) == build.recorded_identity(tmp_path / "core")
    for name in SETS:
        own = library._open(tmp_path / "core", name, identity)
        own.ds_instruction_set.restype = library.ctypes.c_char_p
        assert own.ds_instruction_set().decode() == name


def test_another_arithmetic_version_is_refused(sources, tmp_path):
    edit(sources / "build.c", f"ARITHMETIC_VERSION {library.VERSION}", f"ARITHMETIC_VERSION {library.VERSION + 1}")
    build.compile_core(tmp_path / "core", sources)
    text = refusal(DISTSOFTMAX_CORE=tmp_path / "core")
    assert f"is of arithmetic version {library.VERSION + 1}, but the Python beside it expects {library.VERSION}" in text
    assert "--into" in text


def test_another_build_in_an_installed_package_is_refused(tree, sources):
    (tree / "pyproject.toml").unlink()
    package = tree / "distsoftmax/arithmetic"
    build.compile_core(package, package / "core")
    assert load(PYTHONPATH=tree)[0] == 0
    edit(sources / "build.c", "return ARITHMETIC_VERSION", "return +ARITHMETIC_VERSION")
    recorded = build.recorded_identity(package)
    other = build.compile_core(package, sources)
    (package / build.IDENTITY).write_text(recorded)
    text = refusal(PYTHONPATH=tree)
    assert f"is of build {other}, but the Python beside it expects {recorded}" in text
    assert "pip install --force-reinstall" in text


def test_a_core_from_another_folder_may_be_of_another_build(sources, tmp_path):
    edit(sources / "build.c", "return ARITHMETIC_VERSION", "return +ARITHMETIC_VERSION")
    assert build.compile_core(tmp_path / "core", sources) != build.identity()
    status, text = load(DISTSOFTMAX_CORE=tmp_path / "core")
    assert status == 0, text
    assert str(tmp_path / "core") in text


def test_a_missing_or_damaged_library_is_an_error(tree):
    (tree / "pyproject.toml").unlink()
    assert "pip install --force-reinstall" in refusal(PYTHONPATH=tree)
    package = tree / "distsoftmax/arithmetic"
    build.compile_core(package, package / "core")
    for name in SETS:
        path = package / build.library_name(name)
        path.write_bytes(path.read_bytes()[:1000])
    assert "the arithmetic core cannot be loaded" in refusal(PYTHONPATH=tree)


@ON_X86_64
def test_a_process_that_takes_denormals_for_0_is_refused(tmp_path):
    source = tmp_path / "flush.c"
    source.write_text("void flush(void) { __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040); }")
    compiler = build.find_compiler()
    build._run([*compiler.command, "-shared", "-fPIC", "-o", str(tmp_path / "flush.so"), str(source)])
    text = load(f"import ctypes; ctypes.CDLL({str(tmp_path / 'flush.so')!r}).flush()\n{COMPLAIN}")[1]
    assert "denormal numbers are taken for 0" in text


# --- compiling


@pytest.mark.parametrize("command", ["/bin/false", "/no/such/compiler", "cc 'unclosed"])
def test_a_compiler_that_fails_is_one_error_with_its_remedy(command, tree):
    text = refusal(PYTHONPATH=tree, CC=command)
    assert command in text
    assert text.rstrip().endswith(build.REMEDY)


def test_a_compiler_that_fails_is_quoted(tree):
    source = tree / "distsoftmax/arithmetic/core/build.c"
    source.write_text(source.read_text() + "\nint ds_unfinished(void) { return }\n")
    text = refusal(PYTHONPATH=tree)
    assert f"{source}:" in text
    assert "-O3" in text
    assert len(text.splitlines()) < 15


def test_a_symbol_of_the_mathematics_library_fails_to_compile(sources, tmp_path):
    (sources / "libm.c").write_text("double exp(double); double ds_wrong(double x) { return exp(x); }")
    with pytest.raises(build.BuildFailed, match="exp"):
        build.compile_core(tmp_path / "core", sources)


def test_without_a_compiler_the_error_says_how_to_get_one(tree, tmp_path):
    status, text = load(COMPLAIN, "-S", PYTHONPATH=tree, PATH=tmp_path)
    assert status == 2
    assert "there is no C compiler here. Set CC" in text
    assert text.rstrip().endswith("pip install ziglang")


@pytest.mark.parametrize("name", ["build.c", "vector.h", "new.c"])
def test_a_source_that_changes_is_compiled_again_and_only_then(name, tree):
    package = tree / "distsoftmax/arithmetic"
    first = load(PYTHONPATH=tree)
    assert first[0] == 0, first[1]
    times = {path: path.stat().st_mtime_ns for path in package.glob("_core_*")}
    assert len(times) == len(SETS)
    assert load(PYTHONPATH=tree, CC="/bin/false") == first  # no compiler is asked
    assert {path: path.stat().st_mtime_ns for path in package.glob("_core_*")} == times
    with (package / "core" / name).open("a") as source:
        source.write("/* changed */\n")
    refusal(PYTHONPATH=tree, CC="/bin/false")
    assert load(PYTHONPATH=tree) == first
    assert all(path.stat().st_mtime_ns > times[path] for path in package.glob("_core_*"))


def logging_compiler(path, before=""):
    return script(
        path, f'{before}\necho "$@" >>"{path}.log"\nexec {build.shlex.join(build.find_compiler().command)} "$@"'
    )


def test_processes_that_start_together_compile_once(tree, tmp_path):
    compiler = logging_compiler(tmp_path / "compiler")
    processes = [start(PYTHONPATH=tree, CC=compiler) for _ in range(4)]
    texts = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(texts) == 1
    links = [line for line in Path(f"{compiler}.log").read_text().splitlines() if "-z,defs" in line or "dylib" in line]
    assert len(links) == len(SETS)


def test_processes_that_wait_hear_of_a_failure_without_trying_again(tree, tmp_path):
    wait = f'until [ -e "{tmp_path}/go" ]; do sleep 0.05; done'
    compiler = script(tmp_path / "compiler", f'echo "$@" >>"{tmp_path}/log"\n{wait}\necho no more room >&2\nexit 1')
    ready = "import numpy\nfrom distsoftmax.arithmetic import build, source_tree\nprint('ready', flush=True)"
    processes = [start(ready + COMPLAIN, PYTHONPATH=tree, CC=compiler) for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    time.sleep(1)  # until all of them wait
    (tmp_path / "go").touch()
    complaints = {process.communicate(timeout=120)[1] for process in processes}
    assert [process.returncode for process in processes] == [2] * 3
    assert len(complaints) == 1
    assert "no more room" in complaints.pop()
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert load(PYTHONPATH=tree)[0] == 0


def test_a_process_killed_while_it_compiles_holds_up_nobody(tree, tmp_path):
    compiler = logging_compiler(
        tmp_path / "compiler", before=f'case "$*" in *ieee*) touch "{tmp_path}/busy"; sleep 600;; esac'
    )
    process = start(PYTHONPATH=tree, CC=compiler)
    deadline = time.monotonic() + 60
    while not (tmp_path / "busy").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    begin = time.monotonic()
    try:
        assert load(PYTHONPATH=tree)[0] == 0
        assert time.monotonic() - begin < 100
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the compiler, which is asleep
        process.communicate(timeout=60)


@pytest.mark.parametrize("command", ["gcc", "clang", "zig"])
def test_every_compiler_makes_libraries_that_load(command, sources, tmp_path):
    words = [sys.executable, "-m", "ziglang", "cc"] if command == "zig" else [command]
    if shutil.which(words[0]) is None or (command == "zig" and importlib.util.find_spec("ziglang") is None):
        pytest.skip(f"{command} is not installed")
    compiler = build.probe(words)
    assert compiler.family in (command, "clang")  # macOS calls its clang gcc
    build.compile_core(tmp_path / "core", sources, compiler)
    for name in SETS:
        status, text = load(DISTSOFTMAX_CORE=tmp_path / "core", DISTSOFTMAX_ISA=name)
        assert status == 0 or "this processor cannot run it" in text, text


@IN_A_TREE
def test_a_wheel_holds_the_libraries_and_runs_without_a_compiler(tree, tmp_path):
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md"):
        shutil.copy(TREE / name, tree)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    made = subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tree)],
        check=False, timeout=120, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    if "No matching distribution found for setuptools" in made.stderr or "NewConnectionError" in made.stderr:
        pytest.skip("pip reaches no package index, so it cannot bring setuptools")
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    inside = {name.removeprefix("distsoftmax/arithmetic/") for name in zipfile.ZipFile(wheel).namelist()}
    assert {build.IDENTITY, "core/build.c", "core/vector.h", *map(build.library_name, SETS)} <= inside
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True, timeout=60)
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [*pip, "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)], check=True, timeout=60
    )
    variables = environment(
        PATH=tmp_path / "empty",
        CC="/bin/false",
        PYTHONPATH=os.pathsep.join(p for p in sys.path if "site-packages" in p),
    )
    ran = subprocess.run(
        [str(python), "-c", SHOW], check=False, timeout=60, env=variables, cwd="/", capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(tmp_path / "venv"))
