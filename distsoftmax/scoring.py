"""A model over a source, shard by shard: what `predict` and `evaluate` share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.config import ScoringConfig
from distsoftmax.data.shards import DividedSource, RawShard, divide_source
from distsoftmax.data.source import SourceSpec
from distsoftmax.model import Model, load_model
from distsoftmax.objective.softmax import SoftmaxKernel


def open_for_scoring(config: ScoringConfig, needs_labels: bool, cluster: Cluster) -> tuple[Model, DividedSource]:
    """Open the model and the samples it is to be used on. Collective.

    Raises
    ------
    InputError
        On every rank: one of them cannot be read, or they do not fit each other.
    """
    with cluster.agreement():
        model = load_model(config.model_path)
    spec = SourceSpec(
        path=config.data,
        labels_path=config.labels,
        label=config.label,
        header=config.header,
        expected_names=model.feature_names,
        needs_labels=needs_labels,
    )
    divided = divide_source(spec, None, cluster)
    divided.require_features(len(model.feature_names), "the model")
    return model, divided


def predict_shards(
    model: Model, divided: DividedSource, cluster: Cluster
) -> Iterator[tuple[RawShard, NDArray[np.floating]]]:
    """Yield this rank's shards with the probability of each class for each row, (rows, n_classes). Not collective.

    Computed in float64: the model takes the features in their own units, which may be far from 0.
    """
    kernel = SoftmaxKernel(model.parameters, np.dtype(np.float64))
    for shard in divided.read(cluster):
        features = np.ascontiguousarray(shard.features, dtype=np.float64)
        yield shard, kernel.probabilities(features)
