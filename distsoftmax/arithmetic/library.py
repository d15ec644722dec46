"""The compiled core: chosen for this processor, compared with the Python beside it, and loaded once.

DISTSOFTMAX_ISA=baseline|v3|v4 forces an instruction set. DISTSOFTMAX_CORE=/path/to/folder, which is for tests, takes
the libraries of another folder: they may be of another build, but not of another arithmetic version.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
from pathlib import Path
from typing import Any

from distsoftmax.arithmetic import build, source_tree
from distsoftmax.errors import CoreError

VERSION = 3  # the arithmetic version: grows with every change of a bit of any result, as in core/build.c
LEVELS = {"baseline": 0, "v3": 3, "v4": 4}  # what ds_processor_level must return for each instruction set
FAULTS = {  # what ds_float_fault returns
    1: "floats are not rounded to the nearest number",
    2: "denormal numbers are taken for 0, as a library compiled with -ffast-math switches on",
    3: "a multiply-add is rounded twice",
}
TYPES: dict[str, Any] = {"n": ctypes.c_int64, "x": ctypes.c_double, "p": ctypes.c_void_p, "i": ctypes.c_int, "": None}


def core() -> ctypes.CDLL:
    """Return the core, loaded on the first call.

    Where the package lies in its source tree, a core that is missing or older than its sources is compiled first.

    Raises
    ------
    CoreError
        It cannot be compiled or loaded, is of another build or arithmetic version than the Python beside it, or
        DISTSOFTMAX_ISA names what cannot be run here.
    """
    return _loaded()[0]


@functools.cache
def function(name: str, parameters: str, result: str = "") -> Any:
    """Return a function of the core that knows the types of its parameters and of its result.

    One letter each: n a 64-bit integer, x a float64, p a pointer, i a C int. Without result it returns nothing.
    """
    known = core()[name]
    known.argtypes, known.restype = [TYPES[letter] for letter in parameters], TYPES[result]
    return known


def address(array: Any) -> int:
    """Return where the numbers of an array begin, for as long as the caller holds the array."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # three times as fast as what always works
    except (TypeError, ValueError):  # read-only, strided, or empty
        return int(array.ctypes.data)


def instruction_set() -> str:
    """Return the instruction set of the loaded core: baseline, v3 or v4."""
    return _loaded()[1]


def describe() -> str:
    """Return what computes here, such as "arithmetic 1 on x86-64-v4"."""
    name = instruction_set()
    return f"arithmetic {VERSION} on {build.X86_64[name] if len(build.instruction_sets()) > 1 else platform.machine()}"


def version_note(version: int | None) -> str:
    """Return what to say of numbers that another arithmetic version has made; empty for this one, and for none."""
    if version is None or version == VERSION:
        return ""
    return f"was made by arithmetic {version}, this program computes by arithmetic {VERSION}: other digits come out"


@functools.cache
def _loaded() -> tuple[ctypes.CDLL, str]:
    return _choose(os.environ.get("DISTSOFTMAX_ISA", ""))


def _choose(forced: str) -> tuple[ctypes.CDLL, str]:
    """Load the library of the instruction set asked for, or else of the highest that the processor can run."""
    try:
        names = build.instruction_sets()
        folder, expected = _folder_and_build()
    except build.BuildFailed as error:
        raise CoreError(str(error)) from None
    library = _open(folder, "baseline", expected)
    level = int(library.ds_processor_level())
    runnable = [name for name in names if LEVELS[name] <= level]
    chosen = forced or runnable[-1]
    if chosen not in runnable:
        reason = "this processor cannot run it" if chosen in LEVELS else "the core knows no such instruction set"
        raise CoreError(f"DISTSOFTMAX_ISA is {chosen!r}, but {reason}. Unset it, or choose from: {', '.join(runnable)}")
    if chosen != "baseline":
        library = _open(folder, chosen, expected)
    fault = int(library.ds_float_fault())
    if fault:
        raise CoreError(
            f"{folder / build.library_name(chosen)}: {FAULTS[fault]} in this process, so the model would depend on the "
            "machine. Load no library that changes how floats behave, and use a processor with IEEE arithmetic"
        )
    return library, chosen


def _folder_and_build() -> tuple[Path, str]:
    """Return the folder of the libraries, and the build they must be of, empty for any."""
    if os.environ.get("DISTSOFTMAX_CORE"):
        return Path(os.environ["DISTSOFTMAX_CORE"]), ""
    if source_tree.holds(build.HERE):
        return build.HERE, source_tree.bring_up_to_date(build.HERE)
    return build.HERE, build.recorded_identity(build.HERE) or "unknown"


def _open(folder: Path, name: str, expected: str) -> ctypes.CDLL:
    """Load a library, and compare its arithmetic version and its build with what is expected."""
    path = folder / build.library_name(name)
    try:
        _check_whole(path)
        library = ctypes.CDLL(str(path))
        library.ds_build_id.restype = ctypes.c_char_p
        version, identity = int(library.ds_arithmetic_version()), library.ds_build_id().decode()
    except (OSError, AttributeError) as error:
        raise CoreError(f"{path}: the arithmetic core cannot be loaded: {error}. {_remedy()}") from None
    if version != VERSION:
        raise CoreError(
            f"{path}: is of arithmetic version {version}, but the Python beside it expects {VERSION}. {_remedy()}"
        )
    if expected and identity != expected:
        raise CoreError(f"{path}: is of build {identity}, but the Python beside it expects {expected}. {_remedy()}")
    return library


def _check_whole(path: Path) -> None:
    """Raise an OSError where a library in ELF ends too early: to load it would end the process by a signal."""
    with path.open("rb") as file:
        head, size = file.read(64), os.fstat(file.fileno()).st_size
    if len(head) == 64 and head.startswith(b"\x7fELF\x02\x01"):
        sections, bytes_of_each, n_sections = struct.unpack_from("<40xQ10xHH", head)
        end = sections + bytes_of_each * n_sections
        if size < end:
            raise OSError(f"the file ends after {size} of {end} bytes")


def _remedy() -> str:
    if os.environ.get("DISTSOFTMAX_CORE"):
        return (
            "Unset DISTSOFTMAX_CORE, or compile that folder anew: python -m distsoftmax.arithmetic.build --into FOLDER"
        )
    if source_tree.holds(build.HERE):
        return f"Compile it anew: python {build.HERE / 'build.py'}"
    return "Install the package again: pip install --force-reinstall --no-deps distsoftmax"
