"""Folds over one dataset: rows are left out by a weight of 0, so that no features are copied.

Which fold holds a row out follows from (seed, shard, row) and the classes of all rows, so it is the same on any ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.columns import sum_weights
from distsoftmax.arithmetic.randomness import Purpose, permutation
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.preparation import PreparedShard, Samples
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import shard_bounds
from distsoftmax.errors import InvalidArgument
from distsoftmax.estimation.given import agreed, require_alike

Mask = NDArray[np.bool_]
Masks = dict[int, Mask]  # of each shard of this rank, which of its rows are chosen


@dataclass(frozen=True)
class Fold:
    """Which rows are trained on, and which are held out, of the shards of this rank."""

    training: Masks
    held_out: Masks


def folds_of(cv: Any, dataset: Dataset, seed: int, cluster: Communicator) -> list[Fold]:
    """Return the folds that a `cv` means. Collective.

    Parameters
    ----------
    cv : int, float or iterable
        So many folds, with about the same part of each class in each; or one, which holds a fraction of each class out;
        or pairs of (training rows, held-out rows), numbers counted over all ranks. A class with a single sample is
        never held out.

    Raises
    ------
    InvalidArgument
        On every rank: it is none of these, or a class would be left without samples.
    """
    if isinstance(cv, (float, np.floating)):
        if not 0 < cv < 1:
            raise InvalidArgument(f"cv is {cv}; as a fraction it must be above 0 and less than 1")
        folds = _by_class(dataset, seed, cluster, 1, lambda rows: _is_first(rows, float(cv)))
    elif isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        if cv < 2:
            raise InvalidArgument(f"cv is {cv}; give 2 folds or more, or a fraction such as 0.2")
        number = int(cv)
        # counted on from class to class, so that folds are of one size also where classes are many and small
        folds = _by_class(dataset, seed, cluster, number, lambda rows: (rows.before + rows.position) % number)
    else:
        pairs = agreed(cluster, lambda: _pairs(cv))
        require_alike({"cv": pairs}, cluster)
        folds = [_of_rows(dataset, *pair) for pair in pairs]
    _require_samples(folds, dataset, cluster)
    return folds


class _Positions(NamedTuple):
    """Where rows stand among all ranks' rows, class after class; each an array (rows,) of int64.

    Attributes
    ----------
    position : ndarray
        Of the row among those of its class.
    of_class : ndarray
        How many rows its class has.
    before : ndarray
        How many rows the classes before its class have, those of a single row left out.
    """

    position: NDArray[np.int64]
    of_class: NDArray[np.int64]
    before: NDArray[np.int64]


def _is_first(rows: _Positions, fraction: float) -> NDArray[np.int64]:
    """Return 0 for the first rows of each class, the fraction that is held out, and 1 for the others."""
    return (rows.position >= np.maximum((rows.of_class * fraction).astype(np.int64), 1)).astype(np.int64)


def _by_class(
    dataset: Dataset,
    seed: int,
    cluster: Communicator,
    n_folds: int,
    fold_of: Callable[[_Positions], NDArray[np.int64]],
) -> list[Fold]:
    """Return folds by where the rows stand: class after class, and in a class drawn within each shard. Collective."""
    counts = np.zeros((dataset.n_shards, len(dataset.classes)), dtype=np.int64)
    for samples in dataset.training:
        counts[samples.shard] = np.bincount(samples.classes, minlength=counts.shape[1])
    cluster.sum_integers(counts)
    before, totals = np.cumsum(counts, axis=0, dtype=np.int64) - counts, counts.sum(axis=0, dtype=np.int64)
    held_out = np.where(totals > 1, totals, 0)
    before_class = np.cumsum(held_out, dtype=np.int64) - held_out
    chosen: list[Masks] = [{} for _ in range(n_folds)]
    for samples in dataset.training:
        classes = samples.classes
        drawn = permutation(Purpose.HOLD_OUT, seed, samples.shard, 0, len(samples))
        order = drawn[np.argsort(classes[drawn], kind="stable")]  # by class, and within each as drawn
        own = counts[samples.shard]
        position = np.empty(len(samples), dtype=np.int64)
        position[order] = np.arange(len(samples)) - np.repeat(np.cumsum(own, dtype=np.int64) - own, own)
        position += before[samples.shard][classes]
        rows = _Positions(position, totals[classes], before_class[classes])
        fold = np.where(held_out[classes] > 0, fold_of(rows), n_folds)
        for number, masks in enumerate(chosen):
            masks[samples.shard] = fold == number
    return [Fold({shard: ~mask for shard, mask in masks.items()}, masks) for masks in chosen]


def _pairs(cv: Any) -> list[tuple[Any, Any]]:
    if cv is None or isinstance(cv, (str, bytes)) or not hasattr(cv, "__iter__"):
        raise InvalidArgument(
            f"cv is {cv!r}; give a number of folds, a fraction, or pairs of (training rows, held-out rows), such as "
            "list(splitter.split(X, y))"
        )
    pairs = list(cv)
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InvalidArgument("cv must give pairs of (training rows, held-out rows), and at least one")
    return pairs


def _of_rows(dataset: Dataset, training: Any, held_out: Any) -> Fold:
    """Return the fold of two lists of rows."""
    bounds = shard_bounds(dataset.n_rows, dataset.n_shards)

    def masks(rows: Any) -> Masks:
        chosen = np.zeros(dataset.n_rows, dtype=np.bool_)
        chosen[np.asarray(rows)] = True
        return {number: chosen[bounds[number] : bounds[number + 1]] for number in dataset.training.store.numbers}

    try:
        return Fold(masks(training), masks(held_out))
    except IndexError as error:
        raise InvalidArgument(f"cv names a row that X does not have: {error}") from None


def _require_samples(folds: Sequence[Fold], dataset: Dataset, cluster: Communicator) -> None:
    """Refuse folds that leave a class without samples of any weight, or hold nothing out. Collective."""
    for number, fold in enumerate(folds):
        of_classes = weights_by_class(dataset, fold.training, cluster)
        for name, weight in zip(dataset.classes, of_classes, strict=True):
            if not weight > 0:
                raise InvalidArgument(
                    f"cv: fold {number} leaves no sample of class {name!r} to train on; give fewer folds, or others"
                ).on_all_ranks()
        if not weights_by_class(dataset, fold.held_out, cluster).any():
            raise InvalidArgument(f"cv: fold {number} holds no sample out; give fewer folds, or others").on_all_ranks()


def weights_by_class(dataset: Dataset, masks: Masks, cluster: Communicator) -> NDArray[np.float64]:
    """Return the sum of the chosen samples' weights, (n_classes,): the same on every rank. Collective."""
    n_classes = len(dataset.classes)
    partials = [
        ShardSum(samples.shard, sum_weights(samples.classes, n_classes, _masked(samples, masks)))
        for samples in dataset.training
    ]
    return exact_sum(partials, (n_classes,), dataset.n_shards, cluster)


def chosen_samples(dataset: Dataset, masks: Masks, cluster: Communicator) -> Dataset:
    """Return the dataset in which only chosen samples have a weight. It shares the features. Collective."""
    store = ShardStore[PreparedShard](None, dataset.training.store.spool)
    for samples in dataset.training:
        none = Samples(samples.shard, samples.features[:0], samples.classes[:0])
        store.add(PreparedShard(replace(samples, weights=_masked(samples, masks)), none))
    total = math.fsum(weights_by_class(dataset, masks, cluster))
    return replace(dataset, total_weight=total, stores=(store,))


def without_class_weights(dataset: Dataset) -> Dataset:
    """Return the dataset in which samples have their own weights alone. It shares the features. Not collective."""
    of_classes = dataset.class_weights
    if of_classes is None:
        return dataset
    store = ShardStore[PreparedShard](None, dataset.training.store.spool)
    for shard in dataset.training.store:
        samples = shard.training
        assert samples.weights is not None
        weights = samples.weights / of_classes[samples.classes]
        store.add(PreparedShard(replace(samples, weights=weights), shard.held_out))
    return replace(dataset, stores=(store,))


def _masked(samples: Samples, masks: Masks) -> NDArray[np.float64]:
    chosen = masks[samples.shard]
    return chosen.astype(np.float64) if samples.weights is None else np.where(chosen, samples.weights, 0.0)
