"""The core computes the same bits, whatever compiled it and whatever processor runs it.

`tests/cross/digests.c` calls what the core exports and prints a digest of each result. It is linked with the core of
each compiler and instruction set here, and cross-compiled for other architectures, which qemu emulates.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distsoftmax.arithmetic import build, library

SOURCE = Path(__file__).parents[1] / "cross/digests.c"
COMPILERS = {"gcc": ["gcc"], "clang": ["clang"], "zig": [sys.executable, "-m", "ziglang", "cc"]}
TARGETS = {"aarch64": "aarch64", "riscv64": "riscv64", "powerpc64le": "ppc64le"}  # by architecture, qemu's name
FLAGS = ["-std=gnu11", "-O1", "-ffp-contract=off", "-w", f"-I{build.SOURCES}"]


def words_of(compiler):
    """The words to call a compiler with; skips the test where it is missing."""
    words = COMPILERS.get(compiler, [compiler])
    if shutil.which(words[0]) is None or (compiler == "zig" and importlib.util.find_spec("ziglang") is None):
        pytest.skip(f"{compiler} is not installed")
    return words


def run_all(commands):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build._run, commands))


def digests(*command):
    """The lines that the program prints: of each result, its digest."""
    done = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: exit status {done.returncode}: {done.stderr}"
    lines = done.stdout.splitlines()
    return {f"{line} {name}": digest for line, (name, _, digest) in enumerate(line.rpartition(" ") for line in lines)}


def digests_of_library(path, folder):
    """What is printed with a core of this machine."""
    program = folder / "digests"
    compiler = build.find_compiler().command
    build._run([*compiler, *FLAGS, str(SOURCE), str(path), f"-Wl,-rpath,{path.parent}", "-o", str(program)])
    return digests(str(program))


def assert_same(printed, expected):
    assert len(expected) > 500
    different = [name for name in expected if printed.get(name) != expected[name]]
    assert not different, f"{len(different)} results differ, the first: {different[:3]}"
    assert len(printed) == len(expected)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What is printed with the core that this process computes with."""
    return digests_of_library(Path(library.core()._name), tmp_path_factory.mktemp("own"))


@pytest.mark.parametrize("name", build.instruction_sets())
def test_bits_do_not_depend_on_the_instruction_set(name, expected, tmp_path):
    if library.LEVELS[name] > library.core().ds_processor_level():
        pytest.skip(f"this processor cannot run {name}")
    core = Path(library.core()._name).parent
    assert_same(digests_of_library(core / build.library_name(name), tmp_path), expected)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_bits_do_not_depend_on_the_compiler(compiler, expected, drawn, tmp_path):
    words = words_of(compiler)
    compiler = build.probe(words)
    if compiler.family == build.find_compiler().family:
        pytest.skip("it compiles what all other tests use")
    level = library.core().ds_processor_level()
    for name in drawn([name for name in build.instruction_sets() if library.LEVELS[name] <= level], 1):
        folder, files = tmp_path / name, sorted(build.SOURCES.glob("*.c"))
        folder.mkdir()
        run_all(build._compile(compiler, folder, name, file, "by a test") for file in files)
        build._run(build._link(compiler, folder, name, files))
        assert_same(digests_of_library(folder / build.library_name(name), folder), expected)


def cross_compilers():
    """Return (architecture, compiler's words, its flags) for each that can be compiled for and run here."""
    found = []
    for architecture, emulated in TARGETS.items():
        if shutil.which(f"qemu-{emulated}"):
            if importlib.util.find_spec("ziglang") is not None:
                target = ["-target", f"{architecture}-linux-musl", "-mcpu=baseline"]
                found.append((architecture, COMPILERS["zig"], ["-ffp-contract=off", *target]))
            if shutil.which(gcc := f"{architecture}-linux-gnu-gcc"):
                found.append((architecture, [gcc], ["-ffp-contract=fast"]))
    return found


def test_bits_do_not_depend_on_the_architecture(expected, drawn, tmp_path):
    """Of one in each run, drawn: that takes a minute."""
    compilers = cross_compilers()
    if not compilers:
        pytest.skip("qemu, or a compiler for what it emulates, is not installed (Debian: apt install qemu-user)")
    for number, (architecture, words, own_flags) in enumerate(drawn(compilers, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        flags = [*build.FLAGS, *own_flags, f"-I{build.SOURCES}", "-w"]
        objects = {file: str(folder / f"{file.stem}.o") for file in [SOURCE, *build.SOURCES.glob("*.c")]}
        run_all([*words, *flags, "-c", "-o", to, str(file)] for file, to in objects.items())
        program = str(folder / "digests")
        build._run([*words, *flags, "-static", "-o", program, *objects.values()])
        assert_same(digests(f"qemu-{TARGETS[architecture]}", program), expected)
