"""The command line that trains on a source, with the options that what was counted of it asks for."""

from __future__ import annotations

import math
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace

from distsoftmax.config import DataConfig
from distsoftmax.inspection.diagnosis import Diagnosis
from distsoftmax.inspection.tally import TextTally

HELD_OUT = 0.2  # fraction of the samples
FEWEST_HELD_OUT = 20  # samples, below which what they tell is mostly chance
MOST_AT_RISK = 0.01  # the chance, at most, that a class is held out whole
EXPONENTS = (2, 6)  # of 1 / l2, the least and the largest that are suggested
CELLS_OF_ONE_PROCESS = 2_000_000  # rows times features, below which several ranks gain nothing over their start
MOST_NAMES = 30  # of columns on the command line


def suggest(diagnosis: Diagnosis, n_features: int, n_shards: int, ranks: int | None) -> str | None:
    """Return a command line that trains on the source; None where no options make that possible.

    It has the options that were given, and those that are lacking: --label where the one column of text may be it,
    --one-hot for columns of text, --drop for those that name the rows, --impute for missing numbers. With
    these nothing that is known of the source stops training.

    Parameters
    ----------
    diagnosis : Diagnosis
        With the options that were given.
    n_features, n_shards : int
    ranks : int or None
        What --ranks asks about; None: as many as this machine has cores, where there is work for them.
    """
    source, labels = diagnosis.source, diagnosis.census.labels
    config = diagnosis.config if labels is not None else _with_a_label(diagnosis)
    if config is None:
        return None
    config = _with_columns(diagnosis, config)
    texts = () if labels is None else diagnosis.census.categories  # without labels the one column of text is these
    if config.impute == "error" and (diagnosis.census.numbers.missing.count or any(text.missing for text in texts)):
        config = replace(config, impute="zero" if source.sparse else "mean")
    if any(problem.severity == "error" for problem in replace(diagnosis, config=config).problems()):
        return None
    classes = (labels or diagnosis.census.categories[0]).rows
    words = ["--data", *config.data, *_given(config)]
    # each row is held out by chance: a class all of whose rows are is an error
    at_risk = math.fsum(HELD_OUT**count for count in classes.values())
    if at_risk < MOST_AT_RISK and HELD_OUT * source.n_rows >= FEWEST_HELD_OUT:
        words += ["--valid-fraction", f"{HELD_OUT:g}"]
    words += ["--l2", _penalty(source.n_rows)]
    if ranks is None:
        ranks = min(n_shards, os.cpu_count() or 1) if source.n_rows * n_features > CELLS_OF_ONE_PROCESS else 1
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 and shutil.which("mpirun") else []
    return shlex.join([*launcher, "python", "-m", "distsoftmax.train", *words])


def _with_a_label(diagnosis: Diagnosis) -> DataConfig | None:
    """Return the options with the one column of text as the label; None where there is none that may be it."""
    columns = diagnosis.census.categories
    if len(columns) != 1 or diagnosis.config.one_hot or diagnosis.config.label is not None:
        return None
    if not diagnosis.source.feature_names:
        return None  # there would be nothing to learn from
    (tally,) = columns
    if len(tally.rows) < 2 or tally.missing or tally.numbers or _names_rows(tally):
        return None
    return replace(diagnosis.config, label=diagnosis.word(diagnosis.source.category_names[0]))


def _with_columns(diagnosis: Diagnosis, config: DataConfig) -> DataConfig:
    """Return the options with the columns of text as categories, but for those that name the rows."""
    source = diagnosis.source
    columns = dict(zip(source.category_names, diagnosis.census.categories, strict=True))
    if config.one_hot or config.label != diagnosis.config.label:
        return config
    if any(tally.numbers or diagnosis.remedy_for_commas(tally) for tally in columns.values()):
        return config  # cells of numbers that went wrong are to be corrected
    naming_rows = {name for name, tally in columns.items() if _names_rows(tally)}
    if len(naming_rows) > MOST_NAMES:
        naming_rows = set()
    kept = tuple(diagnosis.word(name) for name in columns if name not in naming_rows)
    dropped = tuple(diagnosis.word(name) for name in columns if name in naming_rows)
    return replace(config, one_hot=kept, drop=(*config.drop, *dropped))


def _names_rows(tally: TextTally) -> bool:
    """Whether a column of text has so many different texts that nothing can be learnt from them."""
    return 2 * len(tally.rows) > tally.rows.total() > 2


def _given(config: DataConfig) -> Iterator[str]:
    """Yield the options on the data, but for the data themselves, that are not their defaults."""
    for item in fields(DataConfig):
        value = getattr(config, item.name)
        if item.name == "data" or value == item.default:
            continue
        name = f"--{item.name.replace('_', '-')}"
        if isinstance(value, bool):
            yield name if value else name.replace("--", "--no-", 1)
        elif isinstance(value, tuple):
            yield from (name, *value)
        else:
            yield from [f"{name}={value}"] if str(value).startswith("-") else [name, str(value)]


def _penalty(n_rows: int) -> str:
    """Return scikit-learn's default C = 1 as l2, which is 1 / n, to a power of ten."""
    return f"1e-{min(max(len(str(n_rows)) - 1, EXPONENTS[0]), EXPONENTS[1])}"
