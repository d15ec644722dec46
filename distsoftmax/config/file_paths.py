"""Paths in a file of options: those of a hand-written one count from its folder, those of a saved one hold anywhere."""

from __future__ import annotations

import glob
import os

from distsoftmax.errors import InputError
from distsoftmax.run_folder import beside

READ = ("data", "labels", "valid", "valid-labels", "class-weight", "weights", "init")  # options that name files to read
WRITTEN = ("out", "scratch")  # those that name folders, which may not be there yet


def located(file: str, name: str, value: object, *, is_given: bool) -> object:
    """Return what an option's value in a file of options is for this process; what is no path stays.

    A relative path counts from the folder of the file; what is not there, from the working directory.

    Parameters
    ----------
    file : str
    name : str
        Of the option.
    value : object
        A text, or a list of them, where the file is in order.
    is_given : bool
        Whether the option is also on the command line, which wins.

    Raises
    ------
    InputError
        There is no such file in either folder.
    """
    if isinstance(value, list):
        return [located(file, name, item, is_given=is_given) for item in value]
    if not isinstance(value, str) or not _is_relative(name, value):
        return value
    if name in WRITTEN:
        return beside(file, value)
    folder = os.path.dirname(file)
    if not folder or os.path.samefile(folder, os.curdir):
        return value
    path = os.path.join(glob.escape(folder) if _is_pattern(value) else folder, value)
    if is_given or _is_there(path):
        return _without_detours(path)
    if _is_there(value):
        return value
    raise InputError(
        f"{file}: {name} is {value}, and that is neither in {folder} nor in the working directory {os.getcwd()}. "
        "Correct it, or write an absolute path"
    )


def lasting(name: str, value: object) -> object:
    """Return an option's value as it means the same from any folder: its relative paths made absolute."""
    if isinstance(value, (list, tuple)):
        return [lasting(name, item) for item in value]
    if not isinstance(value, str) or not _is_relative(name, value):
        return value
    here = os.getcwd()
    return _without_detours(os.path.join(glob.escape(here) if _is_pattern(value) else here, value))


def _is_relative(name: str, value: str) -> bool:
    """Whether a value is a path from some folder: not absolute, no URL, and no word that stands for something else."""
    if name not in (*READ, *WRITTEN) or not value or os.path.isabs(value) or "://" in value:
        return False
    return not (name == "class-weight" and is_inline(value))


def is_inline(class_weight: str) -> bool:
    """Whether a --class-weight says what it means itself, and names no file."""
    return class_weight == "balanced" or class_weight.startswith("{")


def _without_detours(path: str) -> str:
    """Return a path that leads to the same, but through no folder which it leaves again: that may be moved."""
    if os.pardir not in path.split(os.sep):
        return path
    straight = os.path.normpath(path)
    return straight if os.path.realpath(straight) == os.path.realpath(path) else path  # .. of a link is elsewhere


def _is_pattern(value: str) -> bool:
    return glob.escape(value) != value and not os.path.exists(value)


def _is_there(path: str) -> bool:
    return os.path.exists(path) or bool(glob.glob(path))
