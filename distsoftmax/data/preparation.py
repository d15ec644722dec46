"""From a raw shard to samples, by one pure function: for training, held-out data, predictions, and any rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.randomness import Purpose, permutation
from distsoftmax.arithmetic.samples import CoreRows
from distsoftmax.config import DataConfig
from distsoftmax.data.encoding import encode_features
from distsoftmax.data.features import Prepared, SparseFeatures, core_rows, moved, size_of
from distsoftmax.data.shards import RawShard
from distsoftmax.data.standardization import Standardization
from distsoftmax.model import Encoding

SCORING_DTYPE = np.dtype(np.float64)  # to compute in where a model scores rows: raw features may be far from 0
LARGEST_SINGLE = 2.0**24  # up to which float32 has every integer


@dataclass(frozen=True)
class Samples:
    """The samples of one shard, ready for the kernels: features in training's units, classes 0 ... n_classes - 1.

    Attributes
    ----------
    classes : ndarray of intp, (rows,)
        0 where no labels were asked for.
    weights : ndarray of float64, (rows,), or None
        Sample weight times class weight, divided by a power of two that brings the largest near 1; None: 1.
    """

    shard: int
    features: Prepared
    classes: NDArray[np.intp]
    weights: NDArray[np.float64] | None = None
    _rows: dict[np.dtype, CoreRows] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, dtype: np.dtype) -> CoreRows:
        """Return the samples as the core sees them, to be computed in a type."""
        if dtype not in self._rows:
            self._rows[dtype] = core_rows(self.features, dtype, self.classes, self.weights)
        return self._rows[dtype]


@dataclass(frozen=True)
class EncodedShard:
    """A shard of numbers, before they are standardised.

    Attributes
    ----------
    path : str
        What an error calls the source.
    features : ndarray or SparseFeatures, (rows, n_features)
    classes : ndarray of intp, (rows,)
    weights : ndarray of float64, (rows,), or None
        Of the samples, as read, but for the power of two.
    held_out : ndarray of bool, (rows,)
    """

    number: int
    path: str
    features: NDArray | SparseFeatures
    classes: NDArray[np.intp]
    weights: NDArray[np.float64] | None
    held_out: NDArray[np.bool_]

    @property
    def nbytes(self) -> int:
        """The bytes of its features."""
        return size_of(self.features)

    def moved(self, keep: Callable[[NDArray], NDArray]) -> EncodedShard:
        """Return the same with the arrays of its features as `keep` returns them."""
        return replace(self, features=moved(self.features, keep))


@dataclass(frozen=True)
class PreparedShard:
    """The samples of a shard: those to train on, which are all where nothing is held out, and those held out."""

    training: Samples
    held_out: Samples

    @property
    def number(self) -> int:
        """The shard's."""
        return self.training.shard

    @property
    def nbytes(self) -> int:
        """The bytes of the features of both."""
        return size_of(self.training.features) + size_of(self.held_out.features)

    def moved(self, keep: Callable[[NDArray], NDArray]) -> PreparedShard:
        """Return the same with the arrays of its features as `keep` returns them."""
        training, held_out = (
            replace(samples, features=moved(samples.features, keep)) for samples in (self.training, self.held_out)
        )
        return PreparedShard(training, held_out)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """All that makes samples of a raw shard: equal on every rank, and the same whoever holds the shard.

    Attributes
    ----------
    encoding : Encoding
        Which columns there are, what missing numbers are filled with, and the categories.
    standardization : Standardization
    dtype : numpy.dtype
        To compute in.
    classes : tuple of str, or None
        None where samples have no labels.
    class_weights : ndarray of float64, (n_classes,), or None
    weight_exponent : int
        Sample weights are divided by 2 to this power, so that the largest is near 1 in any type. That changes neither
        the mean over the samples nor a bit of it.
    held_out_fraction : float
        Of the rows of the source.
    seed : int
        Draws the rows that are held out.
    """

    encoding: Encoding
    standardization: Standardization
    dtype: np.dtype
    classes: tuple[str, ...] | None
    class_weights: NDArray[np.float64] | None = None
    weight_exponent: int = 0
    held_out_fraction: float = 0.0
    seed: int = 0

    @classmethod
    def for_scoring(cls, encoding: Encoding, classes: tuple[str, ...] | None) -> Preparation:
        """Return the one for rows that a trained model scores: features in their own units."""
        as_they_are = Standardization.of_features_as_they_are(len(encoding.feature_names))
        return cls(encoding=encoding, standardization=as_they_are, dtype=SCORING_DTYPE, classes=classes)

    @property
    def of_held_out_source(self) -> Preparation:
        """The one for the source named by --valid, none of whose samples is trained on."""
        return replace(self, class_weights=None, held_out_fraction=0.0)

    def encode(self, shard: RawShard) -> EncodedShard:
        """Return the first half of what `prepare` does; pure, and not collective.

        Raises
        ------
        InputError
            A label is none of the classes.
        """
        weights = shard.rows.weights
        return EncodedShard(
            shard.number,
            shard.source.path,
            encode_features(shard.rows, self.encoding),
            np.zeros(len(shard), dtype=np.intp) if self.classes is None else shard.class_codes(self.classes),
            None if weights is None else np.ldexp(weights, -self.weight_exponent),
            held_out_rows(shard, self.held_out_fraction, self.seed),
        )

    def finish(self, shard: EncodedShard) -> PreparedShard:
        """Return the second half of what `prepare` does; pure, and not collective.

        Raises
        ------
        InputError
            A value is beyond the type to compute in.
        """
        weights = shard.weights
        if self.class_weights is not None:
            weights = self.class_weights[shard.classes] * (1.0 if weights is None else weights)

        def samples(rows: NDArray[np.bool_], weights: NDArray[np.float64] | None) -> Samples:
            features = self.standardization.apply(
                take_rows(shard.features, rows), self.dtype, shard.path, self.encoding.feature_names
            )
            weights_taken = None if weights is None else take_rows(weights, rows)
            return Samples(shard.number, features, take_rows(shard.classes, rows), weights_taken)

        return PreparedShard(samples(~shard.held_out, weights), samples(shard.held_out, None))

    def prepare(self, shard: RawShard) -> PreparedShard:
        """Return a shard's samples; pure, and not collective.

        Raises
        ------
        InputError
            A label is none of the classes, or a value beyond the type to compute in.
        """
        return self.finish(self.encode(shard))


def held_out_rows(shard: RawShard, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which rows of a shard are held out: it follows from (seed, shard, row) alone.

    Rows that are left out change nothing for the others.
    """
    n_rows = len(shard) if shard.complete is None else shard.complete.size
    first, stop = shard.first_row, shard.first_row + n_rows
    count = int(stop * fraction) - int(first * fraction)
    held_out = np.zeros(n_rows, dtype=bool)
    if count:
        held_out[permutation(Purpose.HOLD_OUT, seed, shard.number, 0, n_rows)[:count]] = True
    return held_out if shard.complete is None else held_out[shard.complete]


def take_rows(of_rows: Any, rows: NDArray[np.bool_]) -> Any:
    """Return the rows asked for; the same where that is all of them."""
    return of_rows if rows.all() else of_rows[rows]


def compute_dtype(config: DataConfig, is_text: bool, stored: Iterable[str], largest: float) -> np.dtype:
    """Return the type to compute in: of the types that are stored where that is float32 or float64, else float32.

    Integers and text that are trained on as they are, not standardised, take float64 where the largest of them, by its
    absolute value, is beyond the integers that float32 tells apart.
    """
    if config.dtype != "stored":
        return np.dtype(config.dtype)
    common = np.result_type(*stored)
    if common in (np.float32, np.float64) and not is_text:
        return common
    return np.dtype(np.float64 if largest > LARGEST_SINGLE and not config.standardize else np.float32)
