"""The largest coefficients of each class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distsoftmax.model import Model
from distsoftmax.reporting.blocks import Block, Cell, Table
from distsoftmax.reporting.canvas import MINUS
from distsoftmax.reporting.record import shown

MOST_CLASSES = 24
MOST_FEATURES, FEWER_FEATURES = 10, 6  # of a class; of many classes
MANY_CLASSES = 12
LONGEST_FEATURE = 26  # characters


def coefficients_block(model: Model, options: dict[str, object]) -> Block | None:
    """Return the largest coefficients by class; None where the model has no feature."""
    if not model.coef.size:
        return None
    n_classes = len(model.classes)
    tables = tuple(_of_class(model, number) for number in range(min(n_classes, MOST_CLASSES)))
    sentences = tuple(_sentences(model, options))
    return Block("Largest coefficients", sentences, grid=tables)


def _sentences(model: Model, options: dict[str, object]) -> Iterator[str]:
    n_features = model.coef.shape[1]
    whose = (
        "each class"
        if len(model.classes) <= MOST_CLASSES
        else f"the first {MOST_CLASSES} of {len(model.classes):,} classes"
    )
    most = _most_features(model)
    if n_features > most:
        yield f"The {most} largest of {n_features:,} coefficients of {whose}, by magnitude."
    else:
        yield f"The coefficients of {whose}, the largest first."
    yield (
        "A coefficient is what one unit of its feature, as it is in the data files, adds to the score of the class; "
        "scores are the logarithms of the probabilities up to a common constant, so only differences"
        " between classes count."
    )
    if options.get("standardize", True):
        yield (
            "Training has standardised the features, and the penalty acts on them so; these are turned back to the "
            "files' own units, so features of different units are not to be compared by them."
        )


def _most_features(model: Model) -> int:
    return MOST_FEATURES if len(model.classes) < MANY_CLASSES else FEWER_FEATURES


def _of_class(model: Model, number: int) -> Table:
    row = np.nan_to_num(np.abs(model.coef[number]), nan=-1.0)
    count = min(_most_features(model), row.size)
    # the smallest that are kept may be tied: whichever they are, they are shown in the order of the features
    candidates = np.flatnonzero(row >= np.partition(row, row.size - count)[row.size - count])
    order = candidates[np.argsort(-row[candidates], kind="stable")][:count]
    largest = float(row[order[0]]) or 1.0
    rows = tuple(
        (
            Cell(shown(model.feature_names[feature], LONGEST_FEATURE)),
            Cell(_in_decimals(value, largest), part=value / largest),
        )
        for feature, value in ((int(each), float(model.coef[number, each])) for each in order)
        if value != 0
    )
    none = ((Cell("all are 0"), Cell("")),)
    return Table((shown(model.classes[number]), "coefficient"), rows or none, signed=True)


def _in_decimals(value: float, largest: float) -> str:
    """Return a number with its sign, and with as many decimals as give the largest of its table four digits."""
    exponent = int(f"{largest:e}".split("e")[1])
    text = f"{value:+.{max(0, 3 - exponent)}f}" if -4 <= exponent < 6 else f"{value:+.3e}"
    return text.replace("-", MINUS)
