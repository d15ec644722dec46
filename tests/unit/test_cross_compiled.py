"""The core computes the same bits, whatever compiled it and whatever processor runs it.

`tests/cross/digests.c` calls what the core exports and prints a digest of each result. It is linked with the core of
each compiler and instruction set here, and cross-compiled for other architectures, which qemu emulates.
"""

import importlib.util
import os
import platform
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


@pytest.fixture(scope="module")
def core_of(tmp_path_factory):
    """Return the folder of the core that a compiler makes."""
    folders = {}
    if not os.environ.get("DISTSOFTMAX_CORE"):
        folders[build.find_compiler().family] = Path(library.core()._name).parent

    def core_of(compiler):
        words = words_of(compiler)
        if compiler not in folders:
            folders[compiler] = tmp_path_factory.mktemp(compiler)
            build.compile_core(folders[compiler], compiler=build.probe(words))
        return folders[compiler]

    return core_of


@pytest.mark.parametrize("name", build.instruction_sets())
@pytest.mark.parametrize("compiler", COMPILERS)
def test_bits_do_not_depend_on_the_compiler_or_the_instruction_set(compiler, name, core_of, expected, tmp_path):
    folder = core_of(compiler)
    if library.LEVELS[name] > library.core().ds_processor_level():
        pytest.skip(f"this processor cannot run {name}")
    assert_same(digests_of_library(folder / build.library_name(name), tmp_path), expected)


@pytest.mark.parametrize("architecture", TARGETS)
@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_bits_do_not_depend_on_the_architecture(compiler, architecture, expected, tmp_path):
    emulator = f"qemu-{TARGETS[architecture]}"
    if architecture != platform.machine() and shutil.which(emulator) is None:
        pytest.skip(f"{emulator} is not installed (Debian: apt install qemu-user)")
    words = words_of("zig" if compiler == "zig" else f"{architecture}-linux-gnu-gcc")
    target = ["-target", f"{architecture}-linux-musl", "-mcpu=baseline"] if compiler == "zig" else []
    flags = [*build.FLAGS, f"-ffp-contract={'off' if compiler == 'zig' else 'fast'}", *target]
    objects = {file: str(tmp_path / f"{file.stem}.o") for file in [SOURCE, *build.SOURCES.glob("*.c")]}
    run_all([*words, *flags, f"-I{build.SOURCES}", "-w", "-c", "-o", to, str(file)] for file, to in objects.items())
    program = str(tmp_path / "digests")
    build._run([*words, *flags, "-static", "-o", program, *objects.values()])
    assert_same(digests(emulator, program), expected)
