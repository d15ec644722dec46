"""The samples that inference needs in memory: with labels, weights and clusters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from distsoftmax.arithmetic.arrays import Integers
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.class_names import find_classes
from distsoftmax.data.preparation import Samples
from distsoftmax.data.shards import DividedSource, RawShard, ShowProgress, divide_source
from distsoftmax.data.source import MISSING_LABEL, SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.inference.measurement import Labelled
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
    with cluster.agreement():
        for of_shard in source.samples():
            show(f"reading {divided.source.path}", len(samples), len(divided.own))
            samples.append(of_shard)
    source.say_unseen(cluster)
    groups, n_groups = ((), 0) if config.cluster is None else _clusters(config, model, divided, cluster, show)
    return model, Labelled(tuple(samples), groups, n_groups, divided.n_shards, divided.source.path)


def _clusters(
    config: SummaryConfig, model: Model, divided: DividedSource, cluster: Communicator, show: ShowProgress
) -> tuple[tuple[Integers, ...], int]:
    """Return the number of each row's cluster in this rank's shards, and how many there are. Collective.

    The source is read once more, as if the clusters were its labels.
    """
    others = tuple(name for name in (config.label or model.label, config.weight) if name is not None)
    spec = SourceSpec.of(config).expecting(model.encoding)
    numeric = [name for name in model.encoding.numeric if name != config.cluster]
    texts = tuple(name for name, _ in model.encoding.categories if name != config.cluster)
    if len(numeric) < len(model.encoding.numeric):  # a feature of the model
        spec = replace(spec, expected_names=tuple(numeric))
    spec = replace(spec, expected_categories=texts, label=config.cluster, weight=None, left_out=others)
    try:
        again = divide_source(spec, None, cluster)
        with cluster.agreement():
            shards = [_without_features(again.read_unchecked(number)) for number in _shown(again, show)]
    except InputError as error:
        if not error.agreed:
            raise
        text = str(error).replace(MISSING_LABEL, MISSING_CLUSTER).replace("--label", "--cluster")
        for words in ("label column", "label in column", "array of labels"):
            text = text.replace(f"the {words}", f"the {words.replace('label', 'cluster')}")
            text = text.replace(f"no {words}", f"no {words.replace('label', 'cluster')}")
        raise InputError(text).on_all_ranks() from None
    names = find_classes((shard.rows.labels for shard in shards), cluster)
    if len(names) < 2:
        raise InputError(
            f"{divided.source.path}: all samples have the same cluster, {config.cluster} {names[0]!r}; cluster-robust "
            "standard errors compare clusters: name another column, or use --covariance sandwich"
        ).on_all_ranks()
    with cluster.agreement():
        return tuple(shard.class_codes(names).astype(np.int64) for shard in shards), len(names)


def _without_features(shard: RawShard) -> RawShard:
    return replace(shard, rows=replace(shard.rows, features=shard.rows.features[:0], categories=()))


def _shown(source: DividedSource, show: ShowProgress) -> Iterator[int]:
    for number in source.own:
        show("reading the clusters", number - source.own.start, len(source.own))
        yield number
