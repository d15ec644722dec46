"""Loss and gradient of a few dense rows of each of several shards, all in the same few calls.

A mini-batch takes about the same few rows from every shard. A shard at a time, the calls would cost more than the
arithmetic; so the rows are gathered into one stack, `share` rows a shard, those missing are made up of others with
weight 0, and the stack is multiplied at once. Each shard's products have the same shape in any stack, so the bits do
not depend on which shards share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.features import Compact
from distsoftmax.objective.linear import FEATURES_BYTES, SCORES_BYTES, SMALL_PRODUCT, Floats
from distsoftmax.objective.softmax import errors_in_place

LEAST_SHARE = 8  # rows: sums over classes run along the rows of a stack, whose number may be 1 on one rank alone
LEAST_TILE = 16  # rows from which it pays to cut a share so that its products are small


@dataclass(frozen=True)
class Stack:
    """The rows that a batch takes of some shards.

    Attributes
    ----------
    features : sequence of ndarray or Compact
        Each shard's, all rows.
    rows : ndarray of intp, (n_shards, share)
        The places of those taken; `share` is a multiple of `StackedKernel.tile`.
    classes : ndarray of intp, (n_shards, share)
    weights : ndarray of float64, (n_shards, share), or None
        0 for a row that only fills the share; None: 1.
    """

    features: Sequence[Floats | Compact]
    rows: NDArray[np.intp]
    classes: NDArray[np.intp]
    weights: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, shards: slice) -> Stack:
        weights = None if self.weights is None else self.weights[shards]
        return Stack(self.features[shards], self.rows[shards], self.classes[shards], weights)


def tile_rows(share: int, n_features: int, n_classes: int, itemsize: int) -> int:
    """Return how many rows of each shard are multiplied at once, so that `share` falls into even tiles.

    They are as many as stay in cache and, if these are not too few, as make a small product (`linear.py`).
    """
    share = max(share, LEAST_SHARE)
    of_row = max(n_features, 1) * itemsize
    largest = max(min(FEATURES_BYTES // of_row, SCORES_BYTES // (n_classes * itemsize)), LEAST_TILE)
    small = SMALL_PRODUCT // max(n_features * n_classes, 1)
    if small >= LEAST_TILE:
        largest = min(largest, small)
    return -(-share // -(-share // largest))


class StackedKernel:
    """Loss and gradient of stacks at fixed parameters. It keeps its temporaries, so each thread needs its own.

    Parameters
    ----------
    parameters : ndarray of float64, (n_classes, n_features + 1)
    dtype : numpy.dtype
        The type to compute in.
    tile : int
        See `tile_rows`.
    n_shards : int
        The most in a stack.
    """

    def __init__(self, parameters: NDArray[np.float64], dtype: np.dtype, tile: int, n_shards: int) -> None:
        n_classes, width = parameters.shape
        self._coef = np.ascontiguousarray(parameters[:, :-1], dtype=dtype)
        self._intercept = parameters[:, -1:].astype(dtype)
        self._tile = tile
        self._block = np.empty((n_shards, tile, width - 1), dtype=dtype)
        self._scores = np.empty(n_classes * n_shards * tile, dtype=dtype)
        self._product = np.empty((n_shards, n_classes, width - 1), dtype=dtype)
        self._of_tile = np.empty_like(self._product) if tile else self._product

    def loss_and_gradient(self, stack: Stack) -> tuple[NDArray[np.float64], Floats, NDArray[np.float64]]:
        """Return sums over each shard's rows, valid until the next call, which may be overwritten.

        Returns
        -------
        losses : (n_shards,)
        coef : (n_shards, n_classes, n_features)
            The gradient with respect to coef, in the type computed in.
        intercept : (n_shards, n_classes)
        """
        n_shards, share = stack.rows.shape
        n_classes, tile = len(self._coef), self._tile
        block, product = self._block[:n_shards], self._product[:n_shards]
        scores = self._scores[: n_classes * n_shards * tile].reshape(n_classes, -1)
        by_shard = scores.reshape(n_classes, n_shards, tile).transpose(1, 0, 2)  # a view, (n_shards, n_classes, tile)
        losses, intercept = np.zeros(n_shards), np.zeros((n_shards, n_classes))
        for start in range(0, share, tile):
            run = slice(start, start + tile)
            self._gather(stack.features, stack.rows[:, run])
            np.matmul(self._coef, block.transpose(0, 2, 1), out=by_shard)
            scores += self._intercept
            weights = None if stack.weights is None else stack.weights[:, run].ravel()
            loss = errors_in_place(scores, stack.classes[:, run].ravel(), weights)
            losses += loss.reshape(n_shards, tile).sum(axis=1)
            intercept += by_shard.sum(axis=2)
            into = product if start == 0 else self._of_tile[:n_shards]
            np.matmul(by_shard, block, out=into)
            if start:
                product += into
        return losses, product, intercept

    def _gather(self, features: Sequence[Floats | Compact], rows: NDArray[np.intp]) -> None:
        """Copy each shard's rows into the block."""
        for place, of_shard in enumerate(features):
            if isinstance(of_shard, Compact):
                self._block[place] = of_shard[rows[place]]
            else:  # clip, for raise would gather into a buffer first
                of_shard.take(rows[place], axis=0, out=self._block[place], mode="clip")
