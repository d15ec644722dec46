"""Whether the classes can be separated, so that the likelihood has no maximum, and by which features.

A direction in the parameters separates where no sample's score of its own class falls against any other's, and some
rise: along it the likelihood grows for ever (A. Albert and J. A. Anderson, "On the existence of maximum likelihood
estimates in logistic regression models", Biometrika 71(1), 1984). On such data the steps of Newton's method tend to
such a direction, each multiplying the odds of the samples concerned by about e; so a step is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import product
from distsoftmax.inference.design import Design
from distsoftmax.model import Model

TIE = 1e-5  # of the change of the log odds where it is largest: what counts as none
LEAST_RISE = 0.1  # of the log odds: along a separating direction a step of Newton's method adds about 1
FEATURES_NAMED = 3
WORTH_NAMING = 0.1  # of the largest part in the direction


@dataclass(frozen=True)
class Separation:
    """A direction that separates the classes.

    Attributes
    ----------
    direction : ndarray of float64, (n_classes, width)
        In standard units.
    least, most : ndarray of float64, (n_classes, n_classes)
        The least and the most that the score of a sample of class a rises against class b.
    """

    direction: Doubles
    least: Doubles
    most: Doubles

    @property
    def is_complete(self) -> bool:
        """Whether a class is separated from another without ties."""
        return bool((np.minimum(self.least, self.least.T) > TIE).any())

    def describe(self, model: Model, design: Design) -> str:
        """Return a sentence that names the classes and the features."""
        apart = np.minimum(self.least, self.least.T) > TIE
        if not apart.any():
            apart = np.maximum(self.most, self.most.T) > LEAST_RISE
        number = int(np.argmax(np.count_nonzero(apart, axis=1)))
        others = [model.classes[other] for other in np.flatnonzero(apart[number]).tolist()]
        how = "from" if self.is_complete else "but for ties from"
        rest = self.direction[np.flatnonzero(apart[number])]
        difference = np.abs(rest - self.direction[number]).max(axis=0)[: design.kept.size]
        sizes = np.argsort(-difference, kind="stable")[:FEATURES_NAMED]
        names = [
            model.feature_names[design.kept[position]]
            for position in sizes.tolist()
            if difference[position] > WORTH_NAMING * difference.max()
        ]
        return f"class {model.classes[number]!r} is separated {how} {_listed(others)} by {_listed(names, quoted=False)}"


def find_separation(design: Design, direction: Doubles) -> Separation | None:
    """Return how a direction, (n_classes, width), separates the samples; None where it does not. Collective."""
    n_classes = design.n_classes
    rises = np.full((2, n_classes, n_classes), -np.inf)  # minus the least, and the most
    for samples, _ in design.labelled.shards:
        for rows, columns in design.chunks(samples):
            scores, classes = product(columns, direction.T), samples.classes[rows]
            for number in np.unique(classes).tolist():
                own = scores[classes == number]
                rise = own[:, number][:, None] - own
                rises[0, number] = np.maximum(rises[0, number], (-rise).max(axis=0))
                rises[1, number] = np.maximum(rises[1, number], rise.max(axis=0))
    design.cluster.maximum(rises)
    least, most = -rises[0], rises[1]
    falls = max(-float(least.min()), 0.0)
    if float(most.max()) < LEAST_RISE or falls > TIE:
        return None
    return Separation(direction, least, most)


def _listed(words: Sequence[str], most: int = 4, *, quoted: bool = True) -> str:
    named = [repr(word) if quoted else word for word in words[:most]]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(named) + more
