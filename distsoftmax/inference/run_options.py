"""What the run that made a model minimised, from the config.toml beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distsoftmax.errors import InputError
from distsoftmax.run_folder import read_toml


@dataclass(frozen=True)
class RunOptions:
    """The objective that a model is an optimum of.

    Attributes
    ----------
    l2 : float
    standardize : bool
        Whether the penalty acts on coefficients of standardised features.
    intercept : bool or None
        None where it is not known.
    weight : str or None
        The column of the sample weights.
    notes : tuple of str
        How the samples of the run may differ from its data.
    """

    l2: float = 0.0
    standardize: bool = True
    intercept: bool | None = None
    weight: str | None = None
    notes: tuple[str, ...] = ()


def read_run_options(model_path: Path) -> RunOptions:
    """Return the options of a model's run; without a config.toml those of one without penalty. Not collective.

    Raises
    ------
    InputError
        The file is damaged, or tells of a penalty for which standard errors make no sense.
    """
    path = model_path.parent / "config.toml"
    if not path.is_file():
        note = f"there is no config.toml beside {model_path}: the model is taken for one without penalty"
        return RunOptions(notes=(note,))
    try:
        table = read_toml(path)
        objective, data = table["objective"], table["data"]
        l2, l1, group = (float(objective.get(name, 0.0)) for name in ("l2", "l1", "group"))
        if "l2-path" in objective:
            l2 = _chosen_l2(path.parent)
        notes = tuple(_notes(data))
        options = RunOptions(
            l2=l2,
            standardize=bool(data.get("standardize", True)),
            intercept=bool(objective.get("intercept", True)),
            weight=data.get("weight"),
            notes=notes,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: is no config.toml of a run: {error}; it tells the penalty: restore it, or move the model to a "
            "folder of its own"
        ) from None
    for name, weight in (("l1", l1), ("group", group)):
        if weight > 0:
            raise InputError(
                f"{model_path}: was trained with --{name} {weight:g}; a penalty that makes coefficients 0 selects "
                "features by the same samples, and standard errors, p-values and intervals do not hold after that (H. "
                f"Leeb and B. M. Poetscher, 2005). Train without --{name}: on all features, or on other samples with "
                "the selected ones (--features)"
            )
    return options


def _chosen_l2(folder: Path) -> float:
    """Return the l2 of a path's model: of the best, or, where the path was stopped, of the best so far."""
    return float(json.loads((folder / "result.json").read_bytes())["path"]["l2"])


def _notes(data: dict[str, Any]) -> list[str]:
    notes = []
    fraction = data.get("valid-fraction", 0.0)
    if fraction:
        notes.append(
            f"the run held {fraction:.0%} of its --data out (--valid-fraction); here all samples that are given count"
        )
    if "class-weight" in data:
        notes.append("the run weighted the classes (--class-weight); here they have no weights")
    if data.get("impute", "error") != "error":
        notes.append("missing numbers were filled in (--impute); standard errors do not know of that uncertainty")
    return notes
