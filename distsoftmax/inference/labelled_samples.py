"""The samples that inference needs in memory: with labels, weights and clusters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Integers
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.class_names import find_classes
from distsoftmax.data.missing import only_rows
from distsoftmax.data.preparation import Samples
from distsoftmax.data.shards import DividedSource, RawShard, ShowProgress, divide_source
from distsoftmax.data.source import RawRows, SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.inference.design import Labelled, Shard
from distsoftmax.inference.options import SummaryConfig
from distsoftmax.model import Model
from distsoftmax.scoring.source_scorer import SourceScorer, open_for_scoring

MISSING_CLUSTER = (
    "the cluster is missing (an empty cell, NA, nan, null or the like); leave the row out, or give the cluster a name"
)


def open_labelled_samples(config: SummaryConfig, cluster: Communicator, show: ShowProgress) -> tuple[Model, Labelled]:
    """Read this rank's samples, with their labels, weights and clusters. Collective.

    Returns
    -------
    model : Model
    labelled : Labelled

    Raises
    ------
    InputError
        On every rank: the model or the samples cannot be used, or they do not fit each other.
    """
    left_out = () if config.cluster is None else (config.cluster,)
    model, divided = open_for_scoring(config, needs_labels=True, cluster=cluster, weighted=True, left_out=left_out)
    if len(model.classes) < 2:
        raise InputError(f"{config.model_path}: has a single class; there is nothing to compare").on_all_ranks()
    source = SourceScorer(model, divided, labelled=True)
    samples: list[Samples] = []
    complete: list[NDArray[np.bool_] | None] = []
    with cluster.agreement():
        for raw, of_shard in source.shards():
            show(f"reading {divided.source.path}", len(samples), len(divided.own))
            samples.append(of_shard)
            complete.append(raw.complete)
    source.say_unseen(cluster)
    groups: Sequence[Integers | None] = [None] * len(samples)
    names: tuple[str, ...] = ()
    if config.cluster is not None:
        groups, names = _clusters(config, model, complete, cluster, show)
    shards = tuple(_that_weigh(*shard) for shard in zip(samples, groups, strict=True))
    n_groups = 0
    if config.cluster is not None:
        shards, n_groups = _present(shards, config.cluster, names, divided.source.path, cluster)
    return model, Labelled(shards, n_groups, divided.n_shards, divided.source.path)


def _present(
    shards: tuple[Shard, ...], column: str, names: tuple[str, ...], path: str, cluster: Communicator
) -> tuple[tuple[Shard, ...], int]:
    """Return the shards with the clusters that occur in them numbered anew, and how many these are. Collective.

    A cluster whose rows all have weight 0 is none. Where no row weighs anything there is none at all.

    Raises
    ------
    InputError
        On every rank: there is only one.
    """
    numbers = [groups for _, groups in shards if groups is not None]
    counts = np.zeros(len(names), dtype=np.int64)
    for of_shard in numbers:
        counts += np.bincount(of_shard, minlength=len(names))
    cluster.sum_integers(counts)
    (present,) = np.nonzero(counts)
    if present.size == 1:
        raise InputError(
            f"{path}: all samples have the same cluster, {column} {names[present[0]]!r}; cluster-robust standard "
            "errors compare clusters: name another column, or use --covariance sandwich"
        ).on_all_ranks()
    anew = [np.searchsorted(present, of_shard) for of_shard in numbers]
    return tuple((samples, of_shard) for (samples, _), of_shard in zip(shards, anew, strict=True)), present.size


def _that_weigh(samples: Samples, groups: Integers | None) -> Shard:
    """Return samples and their clusters without those of weight 0."""
    if samples.weights is None or (samples.weights > 0).all():
        return samples, groups
    rows = samples.weights > 0
    kept = Samples(samples.shard, samples.features[rows], samples.classes[rows], samples.weights[rows])
    return kept, None if groups is None else groups[rows]


def _clusters(
    config: SummaryConfig,
    model: Model,
    complete: Sequence[NDArray[np.bool_] | None],
    cluster: Communicator,
    show: ShowProgress,
) -> tuple[list[Integers], tuple[str, ...]]:
    """Return the number of each row's cluster in this rank's shards, and the clusters' names. Collective.

    The source is read once more, as if the clusters were its labels; of rows that are not complete nothing is asked.
    """
    encoding = model.encoding
    spec = replace(
        SourceSpec.of(config).expecting(encoding),
        expected_categories=tuple(name for name, _ in encoding.categories if name != config.cluster),
        label=config.cluster,
        left_out=tuple(name for name in (config.label or model.label, config.weight) if name is not None),
        rows_may_lack_labels=True,
    )
    if config.cluster in encoding.numeric:  # a feature of the model
        spec = replace(spec, expected_names=tuple(name for name in encoding.numeric if name != config.cluster))
    shards: list[RawShard] = []
    try:
        again = divide_source(spec, None, cluster)
        with cluster.agreement():
            for number, of_shard in zip(again.own, complete, strict=True):
                show("reading the clusters", len(shards), len(again.own))
                shards.append(_read_clusters(again, number, of_shard))
    except InputError as error:
        if not error.agreed:
            raise
        text = re.sub(r"\b(the|no) (label column|label in column|array of labels)", _of_clusters, str(error))
        raise InputError(text.replace("--label", "--cluster")).on_all_ranks() from None
    names = find_classes((shard.rows.labels for shard in shards), cluster)
    with cluster.agreement():
        return [shard.class_codes(names).astype(np.int64) for shard in shards], names


def _read_clusters(source: DividedSource, number: int, complete: NDArray[np.bool_] | None) -> RawShard:
    """Return the clusters of a shard's complete rows, as its labels, without any features."""
    shard = source.read_unchecked(number)
    rows = shard.rows if complete is None else only_rows(shard.rows, complete)
    assert rows.labels is not None
    shard = replace(shard, rows=RawRows(np.zeros((rows.labels.codes.size, 0)), rows.labels), complete=complete)
    for row in np.flatnonzero(rows.labels.codes < 0)[:1]:
        raise InputError(f"{shard.where(row)}, column {source.source.label_name}: {MISSING_CLUSTER}")
    return shard


def _of_clusters(words: re.Match[str]) -> str:
    return words[0].replace("label", "cluster")
