"""Features that follow from others: they are found in order, as R's `lm` and `glm` do, and left out of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.parameters import cholesky, product, squared_norm
from distsoftmax.model import Encoding

# of a feature's variance, what the features before it must leave unexplained; the sums' own rounding is near 1e-15
LEAST_RESIDUAL = 1e-11
NEGLIGIBLE = 1e-6  # a coefficient of standardised features that is not worth naming
FEATURES_NAMED = 4
OMITTED_NAMED = 10


@dataclass(frozen=True)
class Omitted:
    """A feature that is a linear combination of features before it, and of a constant.

    Attributes
    ----------
    feature : int
    weights : ndarray of float64, (n_kept,)
        In units of standardised features: feature = kept features @ weights. All 0 for a constant one.
    """

    feature: int
    weights: Doubles


def elimination_order(encoding: Encoding) -> Integers:
    """Return the features in the order in which they are kept: the first category of each text column comes last.

    So where each row has a category, the first one becomes the baseline of the others.
    """
    n_numeric = len(encoding.numeric)
    first, baselines = n_numeric, []
    for _, texts in encoding.categories:
        baselines.append(first)
        first += len(texts)
    rest = np.setdiff1d(np.arange(first), baselines)
    return np.concatenate([rest, np.array(baselines, dtype=np.int64)])


def eliminate(correlation: Doubles, order: Integers) -> tuple[Integers, list[Omitted]]:
    """Return which features are kept, ascending, and those that are omitted. Not collective.

    Cholesky's method row by row; a feature whose pivot is too small follows from those before it, and takes no row.

    Parameters
    ----------
    correlation : ndarray of float64, (n, n)
        Mean products of the standardised features, in the order in which they are to be kept: 1 on the diagonal, or 0
        for a constant feature.
    order : ndarray of int64, (n,)
        The features in that order.
    """
    n = len(correlation)
    lowered = correlation.copy()
    lowered[np.diag_indices(n)] -= LEAST_RESIDUAL
    if cholesky(lowered) is not None:  # no pivot is smaller than the least eigenvalue
        return np.sort(order), []
    rows = np.zeros((n, n))
    kept: list[int] = []
    omitted: list[tuple[int, Doubles]] = []
    for feature in range(n):
        n_kept = len(kept)
        column = np.ascontiguousarray(rows[:n_kept, feature])
        pivot = float(correlation[feature, feature]) - squared_norm(column)
        if not pivot > LEAST_RESIDUAL * max(float(correlation[feature, feature]), LEAST_RESIDUAL):
            omitted.append((feature, _back_substituted(rows[:n_kept, np.array(kept, dtype=np.int64)], column)))
            continue
        explained = product(column[None, :], rows[:n_kept, feature:])[0] if n_kept else 0.0
        rows[n_kept, feature:] = (correlation[feature, feature:] - explained) / np.sqrt(pivot)
        kept.append(feature)
    features = order[np.array(kept, dtype=np.int64)]
    ascending = np.argsort(features)
    return features[ascending], [
        Omitted(int(order[feature]), np.concatenate([weights, np.zeros(len(kept) - weights.size)])[ascending])
        for feature, weights in omitted
    ]


def _back_substituted(triangle: Doubles, column: Doubles) -> Doubles:
    """Return x with triangle @ x = column, for an upper triangle."""
    x = np.array(column)
    for row in range(len(x) - 1, -1, -1):
        x[row] /= triangle[row, row]
        x[:row] -= triangle[:row, row] * x[row]
    return x


def describe_omitted(omitted: Sequence[Omitted], names: Sequence[str], kept: Integers) -> tuple[str, ...]:
    """Return a few words on why each feature is omitted; of many, on the first ones."""
    texts = []
    for feature in omitted[:OMITTED_NAMED]:
        sizes = np.abs(feature.weights)
        involved = np.flatnonzero(sizes > NEGLIGIBLE)
        largest = involved[np.argsort(-sizes[involved], kind="stable")].tolist()
        words = ", ".join(names[kept[number]] for number in largest[:FEATURES_NAMED])
        rest = f" and {len(largest) - FEATURES_NAMED} more" if len(largest) > FEATURES_NAMED else ""
        why = f"follows from {words}{rest}" if largest else "is constant"
        texts.append(f"{names[feature.feature]} {why}")
    more = len(omitted) - len(texts)
    return (*texts, f"{more} more") if more else tuple(texts)
