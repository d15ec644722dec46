"""The name of a label's class: labels that are equal numbers are one class, in every format and spelling.

Where every label of a source reads as a finite number, the labels are numbers, and a class has the number's shortest
spelling: 0, -0, 0.0 and np.savetxt's 0.000000000000000000e+00 are the class "0", +1 is "1", and 1.50 is "1.5".
Integers are compared digit by digit, other numbers in float64. Where one label is no number, all are texts and stay as
they stand. Digits that begin with a superfluous zero, as in 007 or the postal code 01067, are a code and no number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator
    from distsoftmax.data.source import TextColumn

INTEGER = re.compile(r"0|-?[1-9][0-9]*")  # in the spelling that a class has
NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def number_text(number: float | np.floating) -> str:
    """Return the shortest spelling of a finite number: without a point where it is an integer."""
    return str(int(number)) if number.is_integer() else str(number)


def class_names(labels: Collection[str]) -> dict[str, str]:
    """Return the name of the class of each of the labels of a whole source."""
    names = {}
    for label in labels:
        name = number_name(label)
        if name is None:
            return {label: label for label in labels}
        names[label] = name
    return names


def number_name(label: str) -> str | None:
    """Return the class of a label that is a number, blanks around it left out; None where it is none."""
    if INTEGER.fullmatch(label):
        return label
    text = label.strip(" \t")
    if not NUMBER.fullmatch(text):
        return None
    text = text.removeprefix("+")
    if INTEGER.fullmatch(text):
        return text
    number = float(text)
    return number_text(number) if math.isfinite(number) else None


def are_numbers(classes: Collection[str]) -> bool:
    """Return whether classes are those of labels that are numbers."""
    return all(number_name(name) == name for name in classes)


def in_order(classes: Collection[str]) -> tuple[str, ...]:
    """Return classes in their order: numbers by value, texts in Unicode's order."""
    return tuple(sorted(classes, key=Decimal)) if are_numbers(classes) else tuple(sorted(classes))


def find_classes(columns: Iterable[TextColumn | None], cluster: Communicator) -> tuple[str, ...]:
    """Return the classes of the labels on all ranks, in order; see `class_names` for what they are. Collective."""
    own = {text for column in columns if column is not None for text in column.texts}
    return in_order(set(class_names(cluster.union(own)).values()))
