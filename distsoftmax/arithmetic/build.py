"""Compiles the core: core/*.c, once for each instruction set of the architecture, into one shared library each.

Standard library alone and nothing of this package, as setup.py runs this file before the package is installed. By
hand, `python distsoftmax/arithmetic/build.py` compiles into this folder; `--help` names the rest.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "core"
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
IDENTITY = "_core.id"  # written last beside the libraries: which sources they are compiled from

# the instruction sets of x86-64, lowest first, with the compilers' names; other architectures have a baseline alone
X86_64 = {"baseline": "x86-64", "v3": "x86-64-v3", "v4": "x86-64-v4"}
STRICT = ("-fno-fast-math", "-fno-math-errno", "-fno-trapping-math")
FLAGS = ("-std=gnu11", "-O3", *STRICT, "-fPIC", "-fvisibility=default")
REMEDY = "Set CC to another compiler (GCC 9 or later, clang 17 or later), or unset CC and run: pip install ziglang"
DEADLINE = 300  # seconds that one call of a compiler may take

# What the core needs of a compiler: the standard headers, a linker, and fused multiply-adds of vectors.
PROBE = """
#include <stdlib.h>
#include <string.h>
#if defined(__clang__)
#if !__has_builtin(__builtin_elementwise_fma)
#error "this clang is older than 17"
#endif
#elif !defined(__GNUC__) || __GNUC__ < 9
#error "this compiler is neither GCC 9 or later nor clang 17 or later"
#endif
int probe(char *to, const char *from, size_t n) { return memcpy(to, from, n) != 0; }
"""


class BuildFailed(Exception):
    """The core cannot be compiled here. The message names the command, what it said, and the remedy."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler that works here.

    Attributes
    ----------
    command : tuple of str
        The words to call it with.
    family : str
        "gcc", "clang", or "zig", which is clang with its own names of processors.
    """

    command: tuple[str, ...]
    family: str


def instruction_sets() -> tuple[str, ...]:
    """Return the names of the instruction sets that this architecture is compiled for, lowest first.

    Raises
    ------
    BuildFailed
        The processor, or this Python, has not 64 bits.
    """
    machine = platform.machine()
    if sys.maxsize < 2**32 or re.fullmatch(r"i[3-6]86", machine):
        raise BuildFailed(
            f"this processor or this Python has 32 bits ({machine}), but the arithmetic core needs x86-64, arm64 or "
            "another processor of 64 bits. Run a 64-bit Python on such a machine"
        )
    return tuple(X86_64) if machine in ("x86_64", "AMD64") else ("baseline",)


def library_name(instruction_set: str) -> str:
    """Return the file name of the library for an instruction set."""
    return f"_core_{instruction_set}{SUFFIX}"


def identity(sources: Path = SOURCES) -> str:
    """Return the digest of the C sources, of this recipe and of the architecture: the name of a build."""
    import hashlib  # what only a build needs is imported late: a job starts sooner without it

    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}".encode())
    for path in [Path(__file__), *sorted(sources.glob("*.[ch]"))]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


def recorded_identity(folder: Path) -> str:
    """Return the build recorded beside the libraries of a folder; empty where there is none."""
    try:
        return (folder / IDENTITY).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def find_compiler() -> Compiler:
    """Return the compiler to use: $CC, else the first of cc, gcc, clang and the wheel ziglang that works.

    Raises
    ------
    BuildFailed
        $CC does not work, or nothing else does.
    """
    import shutil
    from importlib.util import find_spec

    try:
        chosen = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise BuildFailed(f"CC is {os.environ['CC']!r}, which is not a command: {error}. {REMEDY}") from None
    if chosen:
        return probe(chosen)
    candidates = [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    if find_spec("ziglang") is not None:
        candidates.append([sys.executable, "-m", "ziglang", "cc"])
    complaints = []
    for command in candidates:
        try:
            return probe(command)
        except BuildFailed as error:
            complaints.append(str(error))
    if complaints:
        raise BuildFailed(complaints[0])
    raise BuildFailed(f"the arithmetic core has to be compiled, and there is no C compiler here. {REMEDY}")


def probe(command: list[str]) -> Compiler:
    """Compile and link a tiny library, and return what compiler it is.

    Raises
    ------
    BuildFailed
        It cannot be started, is too old, or has no headers or linker.
    """
    with _temporary_folder() as folder:
        source = folder / "probe.c"
        source.write_text(PROBE, encoding="ascii")
        defined = _run([*command, "-dM", "-E", str(source)])
        _run([*command, "-O1", "-fPIC", "-shared", "-o", str(folder / f"probe{SUFFIX}"), str(source)])
        if "#define __clang__ 1" not in defined:
            return Compiler(tuple(command), "gcc")
        try:
            _run([*command, "-mcpu=baseline", "-c", "-o", str(folder / "probe.o"), str(source)])
        except BuildFailed:
            return Compiler(tuple(command), "clang")
        return Compiler(tuple(command), "zig")


def flags(family: str, instruction_set: str) -> list[str]:
    """Return the flags that compile for an instruction set of this architecture."""
    if len(instruction_sets()) == 1:
        target = ["-mcpu=baseline"] if family == "zig" else []
    else:
        name = X86_64[instruction_set]
        target = [f"-march={name.replace('-', '_') if family == 'zig' else name}"]
        if instruction_set == "v4":
            target.append("-mprefer-vector-width=512")
    # gcc has no fma of vectors, so it contracts a * b + c, and only where the processor has the instruction
    contract = family == "gcc" and (instruction_set != "baseline" or len(instruction_sets()) == 1)
    return [*FLAGS, f"-ffp-contract={'fast' if contract else 'off'}", *target]


def compile_core(into: Path, sources: Path = SOURCES, compiler: Compiler | None = None) -> str:
    """Compile a library for each instruction set into a folder, each file replaced at once; return the build's name.

    Raises
    ------
    BuildFailed
        There is no compiler, it fails, or the folder cannot be written.
    """
    from concurrent.futures import ThreadPoolExecutor

    compiler = compiler or find_compiler()
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = instruction_sets()
    files = sorted(sources.glob("*.c"))
    with _temporary_folder() as folder, ThreadPoolExecutor(workers) as pool:
        build = ""
        while build != identity(sources):  # a source that changes meanwhile is compiled again
            build = identity(sources)
            objects = [_compile(compiler, folder, name, file, build) for name in names for file in files]
            list(pool.map(_run, objects))
            list(pool.map(_run, [_link(compiler, folder, name, files) for name in names]))
        _deliver(folder, into, [library_name(name) for name in names], build)
    return build


def _compile(compiler: Compiler, folder: Path, name: str, file: Path, build: str) -> list[str]:
    defined = [f'-DINSTRUCTION_SET="{name}"', f'-DBUILD_ID="{build}"']
    target = ["-c", "-o", str(folder / f"{file.stem}_{name}.o")]
    return [*compiler.command, *flags(compiler.family, name), *defined, *target, str(file)]


def _link(compiler: Compiler, folder: Path, name: str, files: list[Path]) -> list[str]:
    # a symbol that no object defines, such as one of libm, is an error here and not on the first call
    strict = [] if sys.platform == "darwin" else ["-Wl,-z,defs"]
    target = ["-shared", *strict, "-o", str(folder / library_name(name))]
    objects = [str(folder / f"{file.stem}_{name}.o") for file in files]
    # linking is the same for all instruction sets, and zig makes its runtime for each that it hears of
    return [*compiler.command, *flags(compiler.family, "baseline"), *target, *objects]


def _deliver(folder: Path, into: Path, names: list[str], build: str) -> None:
    """Move the libraries, and then the name of their build, into a folder."""
    import shutil
    import tempfile

    try:
        into.mkdir(parents=True, exist_ok=True)
        (into / IDENTITY).unlink(missing_ok=True)  # a crash from here on leaves a folder that is compiled again
        (folder / IDENTITY).write_text(build + "\n", encoding="ascii")
        with tempfile.TemporaryDirectory(prefix=".core-", dir=into) as nearby:
            for name in [*names, IDENTITY]:
                shutil.copyfile(folder / name, Path(nearby) / name)
                os.replace(Path(nearby) / name, into / name)
    except OSError as error:
        raise BuildFailed(
            f"{into}: the compiled core cannot be written: {error.strerror}. Make the folder writable, or install the "
            "package as a user who may write there"
        ) from None


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    import tempfile

    try:
        folder = tempfile.TemporaryDirectory(prefix="distsoftmax-")
    except OSError as error:
        raise BuildFailed(f"the arithmetic core cannot be compiled: {error}. Set TMPDIR to a writable folder") from None
    with folder as name:
        yield Path(name)


def _run(command: list[str]) -> str:
    """Run a compiler and return what it prints."""
    import subprocess

    shown = shlex.join(command)
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"the C compiler did not end within {DEADLINE} seconds: {shown}. {REMEDY}") from None
    except OSError as error:
        raise BuildFailed(f"the C compiler cannot be started: {shown}: {error.strerror}. {REMEDY}") from None
    if done.returncode:
        text = (done.stderr or done.stdout).decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        said = "\n".join(lines[:8]) or f"nothing, but exit status {done.returncode}"
        raise BuildFailed(f"the arithmetic core cannot be compiled:\n  {shown}\nsaid:\n{said}\n{REMEDY}")
    return done.stdout.decode(errors="replace")


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Compile the arithmetic core.")
    parser.add_argument(
        "--into", type=Path, default=HERE, help="the folder of the libraries; default: beside this file"
    )
    parser.add_argument("--compiler", action="store_true", help="only print the compiler that would be used")
    options = parser.parse_args()
    try:
        if options.compiler:
            print(shlex.join(find_compiler().command))
        else:
            compile_core(options.into)
    except BuildFailed as failure:
        sys.exit(f"error: {failure}")
