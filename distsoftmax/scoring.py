"""A model over a source, shard by shard: what `predict` and `evaluate` share."""

from __future__ import annotations

import numpy as np

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.config import ScoringConfig
from distsoftmax.data.shards import DividedSource, divide_source
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


def kernel_of(model: Model) -> SoftmaxKernel:
    """Return the kernel of a model, in float64: it takes the features in their own units, which may be far from 0."""
    return SoftmaxKernel(model.parameters, np.dtype(np.float64))
