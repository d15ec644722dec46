"""A model over a source, shard by shard: what `predict` and `evaluate` share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from distsoftmax.arithmetic import library
from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import ScoringConfig
from distsoftmax.config.values import Words
from distsoftmax.data.encoding import agree_on_unseen, count_unseen, dropped_rows
from distsoftmax.data.preparation import SCORING_DTYPE, Preparation, Samples
from distsoftmax.data.shards import DividedSource, RawShard, divide_source
from distsoftmax.data.source import SourceSpec
from distsoftmax.data.survey import no_complete_row
from distsoftmax.errors import InputError
from distsoftmax.model import INTERIM_NOTE, Model, load_model


def open_for_scoring(
    config: ScoringConfig,
    needs_labels: bool,
    cluster: Communicator,
    *,
    weighted: bool = False,
    left_out: Words = (),
    keep: Words = (),
) -> tuple[Model, DividedSource]:
    """Open the model and the samples it is to be used on, with their weights where asked to. Collective.

    Parameters
    ----------
    weighted : bool
        Whether the column of weights is read.
    left_out : tuple of str
        See `SourceSpec`.
    keep : tuple of str
        Columns to read as they stand.

    Raises
    ------
    InputError
        On every rank: one of them cannot be read, or they do not fit each other.
    """
    with cluster.agreement():
        model = load_model(config.model_path)
    note = library.version_note(model.arithmetic)
    for text in (note, INTERIM_NOTE if model.interim else ""):
        if text:
            cluster.say(f"note: {config.model_path} {text}", to_stderr=True)
    spec = replace(SourceSpec.of(config).expecting(model.encoding, model.label), needs_labels=needs_labels, keep=keep)
    if weighted:
        if config.label is None and model.label in left_out:
            raise InputError(
                f"--cluster {model.label} is the column of the labels, as in training; name another"
            ).on_all_ranks()
        spec = replace(spec, weight=config.weight, left_out=left_out)
    divided = divide_source(spec, None, cluster)
    divided.require_columns(model.encoding, "the model")
    return model, divided


class SourceScorer:
    """A model over the shards of a source, in float64: features in their own units may be far from 0.

    Parameters
    ----------
    model : Model
    divided : DividedSource
    labelled : bool
        Whether the samples have labels, which must be classes of the model.

    Attributes
    ----------
    scorer : Scorer
    n_unseen : int
        Cells of this rank that hold a category the model never saw.
    n_dropped : int
        Rows of this rank that are left out for a missing cell.
    """

    def __init__(self, model: Model, divided: DividedSource, *, labelled: bool) -> None:
        self._preparation = Preparation.for_scoring(model.encoding, model.classes if labelled else None)
        self._divided = divided
        self.scorer = Scorer(model.parameters, SCORING_DTYPE, sparse=divided.source.sparse or model.encoding.is_sparse)
        self.n_unseen = self.n_dropped = 0

    def samples(self) -> Iterator[Samples]:
        """Yield the samples of this rank's shards; see `shards`."""
        return (samples for _, samples in self.shards())

    def shards(self) -> Iterator[tuple[RawShard, Samples]]:
        """Yield this rank's shards, as read and ready to be scored. Not collective.

        Raises
        ------
        InputError
            See `DividedSource.read` and `Preparation.prepare`.
        """
        encoding = self._preparation.encoding
        for shard in self._divided.read_all(on_missing=encoding.on_missing):
            self.n_unseen += count_unseen(shard.rows, encoding)
            self.n_dropped += shard.n_dropped
            yield shard, self._preparation.prepare(shard).training

    def say_unseen(self, cluster: Communicator) -> None:
        """Tell how many cells held categories that training never saw, and how many rows were left out. Collective.

        Raises
        ------
        InputError
            On every rank: of labelled samples none is left.
        """
        dropped = np.array([self.n_dropped])
        cluster.sum_integers(dropped)
        source = self._divided.source
        if dropped[0] == source.n_rows and self._preparation.classes is not None:
            raise no_complete_row(source.path).on_all_ranks()
        for text in (agree_on_unseen(self.n_unseen, cluster), dropped_rows(int(dropped[0]), source.n_rows)):
            if text:
                cluster.say(f"note: {text}", to_stderr=True)
