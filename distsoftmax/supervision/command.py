"""The words of a command that starts a job, and what of them a supervisor must know or add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distsoftmax.run_folder import beside, new_folder, read_toml

TRAIN = "distsoftmax.train"
FRONT_DOOR = "distsoftmax"  # the console script, or the package that python -m runs; the command's name follows


@dataclass(frozen=True)
class Command:
    """A command such as mpirun -n 4 python -m distsoftmax.train --data wine.npz.

    Attributes
    ----------
    words : tuple of str
    out : Path or None
        The folder of the run that the command trains; None where it trains none.
    """

    words: tuple[str, ...]
    out: Path | None

    @classmethod
    def of(cls, words: Sequence[str], *, warm: bool, default_out: str | None = None) -> Command:
        """Return the command of these words; one that trains gets a folder, and --warm, where it has none.

        Parameters
        ----------
        default_out : str or None
            The folder that it gets; None: a new one.

        Examples
        --------
        >>> Command.of(["mpirun", "python", "-m", "distsoftmax.train", "--out", "runs/wine"], warm=True).words[-3:]
        ('--out', 'runs/wine', '--warm')
        """
        options = _options_of_training(words)
        if options is None:
            return cls(tuple(words), None)
        if {"--help", "-h", "--print-config"} & set(options):
            return cls(tuple(words), None)
        added = ["--warm"] if warm and not {"--warm", "--no-warm"} & set(options) else []
        out = _value("out", options) or _out_in_file(_value("config", options))
        if out is None:
            out = default_out or new_folder()
            added += ["--out", out]
        return cls((*words, *added), Path(out))


def _options_of_training(words: Sequence[str]) -> Sequence[str] | None:
    """Return the words after what starts a training; None where nothing does.

    Examples
    --------
    >>> _options_of_training(["mpirun", "-n", "4", "/opt/bin/distsoftmax", "train", "--warm"])
    ['--warm']
    """
    for number, word in enumerate(words):
        if word == TRAIN:
            return words[number + 1 :]
        if Path(word).name == FRONT_DOOR and words[number + 1 : number + 2] == ["train"]:
            return words[number + 2 :]
    return None


def _value(option: str, words: Sequence[str]) -> str | None:
    """Return the value of an option; of several the last, which wins."""
    value = None
    for number, word in enumerate(words):
        if word == f"--{option}" and number + 1 < len(words):
            value = words[number + 1]
        elif word.startswith(f"--{option}="):
            value = word.partition("=")[2]
    return value


def _out_in_file(path: str | None) -> str | None:
    """Return what a TOML file of options says of --out. What is wrong with the file the job itself will tell."""
    try:
        table = read_toml(Path(path)) if path else {}
    except (OSError, ValueError):
        return None
    sections = [table, *(section for section in table.values() if isinstance(section, dict))]
    return next((beside(str(path), str(section["out"])) for section in sections if "out" in section), None)
