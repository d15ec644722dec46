"""The shards of a rank: in memory as far as --memory allows, the others in scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.shards import DividedSource
from distsoftmax.data.spool import Spool
from distsoftmax.errors import InputError

AT_HAND = 4  # times a shard's bytes while one is worked on: as read, encoded, a block in float64, and prepared


class Shard(Protocol):
    """A rank's shard at one stage on its way."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def nbytes(self) -> int:
        """The bytes of its features."""

    def moved(self: Value, keep: Callable[[NDArray], NDArray]) -> Value:
        """Return the same with each large array as `keep` returns it."""


Value = TypeVar("Value", bound=Shard)
Made = TypeVar("Made", bound=Shard)


class ShardStore(Generic[Value]):
    """The shards of a rank, in order, as often as they are needed.

    Parameters
    ----------
    bound : int or None
        Bytes of features to keep in memory; None keeps everything.
    spool : Spool
        For what has no room.

    Attributes
    ----------
    bound : int or None
    spool : Spool
    bytes_held, bytes_spooled : int
        Of features, in memory and in scratch.
    """

    def __init__(self, bound: int | None, spool: Spool) -> None:
        self.bytes_held = 0
        self.bytes_spooled = 0
        self.spool = spool
        self.bound = bound
        self._largest = 0
        self._shards: list[tuple[Value, bool]] = []  # each with whether it lies in scratch

    def add(self, shard: Value, others: int = 0) -> Value:
        """Keep the next shard, and return it as it is kept. Not collective.

        Parameters
        ----------
        others : int
            Bytes that another store holds in memory beside this one.

        Raises
        ------
        OutputError
            Scratch has no room, or cannot be written.
        """
        size = shard.nbytes
        self._largest = max(self._largest, size)
        in_all = self.bytes_held + others + size + AT_HAND * self._largest
        fits = self.bound is None or in_all <= self.bound
        if fits:
            self.bytes_held += size
        else:
            shard = shard.moved(self.spool.keep)
            self.bytes_spooled += size
            self.spool.used(size)
        self._shards.append((shard, not fits))
        return shard

    @property
    def numbers(self) -> list[int]:
        """The shards' numbers."""
        return [shard.number for shard, _ in self._shards]

    def require_memory(self, divided: DividedSource, *, largest: int = 0, others: int = 0) -> None:
        """Refuse a bound that leaves no room for shards at hand while they are worked on. Not collective.

        Parameters
        ----------
        divided : DividedSource
            Whose shards they are.
        largest : int
            Bytes that one of them may come to, if that is more than the largest has.
        others : int
            Bytes that another store holds in memory beside this one.

        Raises
        ------
        InputError
        """
        largest = max(largest, self._largest)
        if self.bound is not None and AT_HAND * largest > self.bound - others:
            source, bound = divided.source, max(self.bound - others, 0)
            raise too_little_memory(source.path, source.n_rows, divided.n_shards, bound, largest)

    def turned_into(self, function: Callable[[Value], Made]) -> ShardStore[Made]:
        """Return the store of what a function makes of each shard; this one is empty then. Not collective."""
        store = cast(ShardStore[Made], copy.copy(self))
        store.bytes_held = store.bytes_spooled = store._largest = 0
        store._shards = []
        self._shards.reverse()
        while self._shards:
            shard, is_spooled = self._shards.pop()
            if not is_spooled:
                self.bytes_held -= shard.nbytes
            store.add(function(shard), others=self.bytes_held)
        return store

    def with_more(self, shards: Iterable[Value], others: int = 0) -> ShardStore[Value]:
        """Return a store of these shards and of more (see `add`), in order of number; this one stays as it is."""
        store = copy.copy(self)
        store._shards = list(self._shards)
        for shard in shards:
            store.add(shard, others)
        store._shards.sort(key=lambda kept: kept[0].number)
        return store

    def without(self, numbers: Collection[int]) -> ShardStore[Value]:
        """Return a store of these shards but those of some numbers; this one stays as it is."""
        store = copy.copy(self)
        store._shards = [kept for kept in self._shards if kept[0].number not in numbers]
        store.bytes_held = sum(int(shard.nbytes) for shard, is_spooled in store._shards if not is_spooled)
        store.bytes_spooled = sum(int(shard.nbytes) for shard, is_spooled in store._shards if is_spooled)
        return store

    def settled(self, others: int = 0) -> ShardStore[Value]:
        """Return a store of these shards, those in scratch in memory as far as there is room by now; see `add`."""
        store = copy.copy(self)
        store._shards = []
        for shard, is_spooled in self._shards:
            in_all = store.bytes_held + others + shard.nbytes + AT_HAND * self._largest
            if is_spooled and self.bound is not None and in_all <= self.bound:
                shard, is_spooled = shard.moved(np.array), False
                store.bytes_held += shard.nbytes
                store.bytes_spooled -= shard.nbytes
            store._shards.append((shard, is_spooled))
        return store

    def __iter__(self) -> Iterator[Value]:
        for shard, is_spooled in self._shards:
            yield shard
            if is_spooled:
                self.spool.used(shard.nbytes)


def too_little_memory(path: str, n_rows: int, n_shards: int, bound: int, largest: int) -> InputError:
    """Return the error for a bound below what the shards at hand take, the largest of so many bytes."""
    least, finer = AT_HAND * largest, min(4 * n_shards, n_rows)
    cut = f", or cut finer, as with --shards {finer}" if finer > n_shards else ""
    return InputError(
        f"{path}: --memory {bound / 2**20:.3g}MiB is too little for shards of {largest / 2**20:.3g} MiB, of which "
        f"{AT_HAND} are at hand at once; allow {least / 2**20 + 0.01:.3g}MiB{cut}"
    )
