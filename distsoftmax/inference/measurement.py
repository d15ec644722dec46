"""What is measured of the samples before anything is estimated: units, classes, features that follow from others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.columns import sum_weights
from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.parameters import gram, total
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.cores import choose_threads
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.data.features import columns_of, extremes
from distsoftmax.data.standardization import Weighted, fit_standardization
from distsoftmax.errors import InputError
from distsoftmax.inference.collinearity import Omitted, eliminate, elimination_order
from distsoftmax.inference.design import Design, Labelled, Shard, rows_in_standard_units
from distsoftmax.inference.likelihood import ROOM, add_limbs
from distsoftmax.inference.run_options import RunOptions
from distsoftmax.model import Model
from distsoftmax.objective.shard_sums import ShardSums

LARGEST = 10_000  # parameters of a table: a matrix of 800 MB
LARGEST_SUMS = LARGEST * LARGEST  # numbers that are kept of the clusters
THREADS_BYTES = 1 << 30  # what the sums of all threads of a rank may take
WORTH_SAYING = 1 << 28  # bytes
FLOAT64 = np.dtype(np.float64)


def measure(labelled: Labelled, model: Model, options: RunOptions, cluster: Communicator) -> Design:
    """Measure the samples of all ranks, and choose the features of the table. Collective.

    Raises
    ------
    InputError
        On every rank: a class has no samples, a feature is beyond what can be squared, or the table would be too large.
    """
    has_intercept, n_classes, names = bool(options.intercept), len(model.classes), model.feature_names
    class_weights, largest_weight, n_samples = _weigh(labelled, n_classes, cluster)
    for empty in np.flatnonzero(class_weights == 0)[:1]:
        raise InputError(
            f"{labelled.path}: class {model.classes[empty]!r} of the model has no samples here, so nothing can be "
            "estimated of it; give samples of every class, as those that the model was trained on"
        ).on_all_ranks()
    weight = total(class_weights)

    def rows() -> Iterator[Weighted]:
        return ((samples.shard, samples.features, samples.weights) for samples, _ in labelled.shards)

    units = fit_standardization(
        rows, weight, names=names, path=labelled.path, wanted=True, centre=True, dtype=FLOAT64, cluster=cluster
    )
    candidates = np.arange(len(names)) if units.trained is None else units.trained
    _require_size(n_classes, candidates.size + has_intercept, labelled)
    mean, scale = units.mean, units.scale
    if not has_intercept:  # a shift would bring one in
        mean, scale = np.zeros_like(mean), np.sqrt(scale * scale + mean * mean)
    largest = _largest(labelled.shards, mean, scale, cluster)
    candidates = candidates[largest[candidates] > 0]
    threads = choose_threads("auto", cluster)
    kept = candidates
    omitted: list[Omitted] = []
    if options.l2 == 0:  # with a penalty, every feature that varies has an estimate
        order = elimination_order(model.encoding)
        order = order[np.isin(order, candidates)]
        sums = ShardSums(cluster, _affordable(threads, order.size * order.size))
        kept, omitted = eliminate(_correlation(labelled.shards, order, mean, scale, weight, sums), order)
    width, nothing = kept.size + has_intercept, np.zeros(kept.size)
    constants = np.setdiff1d(np.arange(len(names)), candidates).tolist()
    omitted = [*omitted, *(Omitted(feature, nothing) for feature in constants)]
    return Design(
        labelled=labelled,
        n_samples=n_samples,
        class_weights=class_weights,
        total_weight=weight,
        largest_weight=largest_weight,
        kept=kept,
        omitted=tuple(sorted(omitted, key=lambda feature: feature.feature)),
        mean=mean,
        scale=scale,
        penalised=_penalised(units.scale[kept] if options.standardize else np.ones(kept.size), scale[kept], width),
        largest=np.append(largest[kept], np.ones(width - kept.size)),
        intercept=has_intercept,
        sums=ShardSums(cluster, _affordable(threads, n_classes * n_classes // 2 * width * width)),
        cluster=cluster,
    )


def _affordable(threads: int, n_numbers: int) -> int:
    """Return how many threads may have sums of so many numbers each, in two limbs."""
    return max(1, min(threads, THREADS_BYTES // (16 * n_numbers + 1)))


def _penalised(of_training: Doubles, scale: Doubles, width: int) -> Doubles:
    """Return the penalty's factor for each parameter in standard units: that of training acts in training's units."""
    ratio, result = of_training / scale, np.zeros(width)
    result[: scale.size] = ratio * ratio
    return result


def _weigh(labelled: Labelled, n_classes: int, cluster: Communicator) -> tuple[Doubles, float, int]:
    """Return the weight of each class, the largest weight of a sample, and the number of samples. Collective."""
    partials, largest, count = [], np.zeros(1), np.zeros(1, dtype=np.int64)
    for samples, _ in labelled.shards:
        weights = np.ones(len(samples)) if samples.weights is None else samples.weights
        partials.append(ShardSum(samples.shard, sum_weights(samples.classes, n_classes, weights)))
        largest = np.maximum(largest, weights.max(initial=0.0))
        count += len(samples)
    cluster.maximum(largest)
    cluster.sum_integers(count)
    return exact_sum(partials, (n_classes,), labelled.n_shards, cluster), float(largest[0]), int(count[0])


def _largest(shards: Iterable[Shard], mean: Doubles, scale: Doubles, cluster: Communicator) -> Doubles:
    """Return the largest magnitude of each feature in standard units. Collective."""
    result = np.zeros(mean.size)
    for samples, _ in shards:
        own = columns_of(samples.features)
        columns = slice(None) if own is None else own
        if own is not None:  # where no entry is stored the value is 0
            result = np.maximum(result, np.abs(mean))
        highest, lowest = extremes(samples.features) if len(samples) else np.stack([mean, -mean])[:, columns]
        distance = np.maximum(np.abs(highest - mean[columns]), np.abs(lowest + mean[columns]))
        result[columns] = np.maximum(result[columns], distance)
    cluster.maximum(result)
    return result / scale


def _correlation(
    shards: Iterable[Shard], order: Integers, mean: Doubles, scale: Doubles, weight: float, sums: ShardSums
) -> Doubles:
    """Return the weighted mean of z z^T over all samples, the features in this order. Collective."""
    fixed, n = FixedPoint(ROOM * weight), order.size
    ascending, position = np.sort(order), np.argsort(np.argsort(order))

    def work(shards: Iterable[Shard]) -> Integers:
        message = np.zeros((2, n, n), dtype=np.int64)
        for samples, _ in shards:
            for rows, columns in rows_in_standard_units(samples, ascending, mean, scale, intercept=False):
                weights = None if samples.weights is None else samples.weights[rows]
                add_limbs(message, fixed, gram(np.ascontiguousarray(columns[:, position]), weights))
        return message

    return fixed.value(sums.sum(work, shards)) / weight


def _require_size(n_classes: int, width: int, labelled: Labelled) -> None:
    """Refuse a table that is too large."""
    n_parameters = (n_classes - 1) * width
    if n_parameters > LARGEST:
        raise InputError(
            f"{labelled.path}: the table would have {n_parameters:,} parameters, {n_classes - 1} x {width}; their "
            f"covariance alone takes {8e-9 * n_parameters * n_parameters:,.1f} GB, and a table has {LARGEST:,} at "
            "most. Train on fewer features (--features), or on fewer classes"
        ).on_all_ranks()
    if n_parameters * labelled.n_groups > LARGEST_SUMS:
        raise InputError(
            f"{labelled.path}: there are {labelled.n_groups:,} clusters and {n_parameters:,} parameters, whose sums "
            f"take {16e-9 * n_parameters * labelled.n_groups:,.1f} GB on each rank, {16e-9 * LARGEST_SUMS:.1f} at "
            "most; give a --cluster of fewer and larger clusters, or train on fewer features"
        ).on_all_ranks()


def memory_note(design: Design, *, is_simple: bool) -> str:
    """Return what is said of the memory before the first pass; empty where it takes little.

    A covariance that is not simply the inverse hessian takes two matrices more.
    """
    matrices = (4 if is_simple else 6) * 8 * design.n_parameters * design.n_parameters
    sums = 16 * (design.n_classes * (design.n_classes - 1) // 2) * design.width * design.width
    if sums + matrices < WORTH_SAYING:
        return ""
    return (
        f"{design.n_parameters:,} parameters: the sums of the hessian take {sums / 1e9:.1f} GB on each rank, and the "
        f"matrices of the table {matrices / 1e9:.1f} GB on the first"
    )
