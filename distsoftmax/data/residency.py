"""Which of a rank's shards stay in memory, and the reading again of those that do not.

The first shards stay, as many as the bound allows; the others are read from the source each time they are needed, by a
thread that is one shard ahead. Whatever is done to shards is done to both kinds by the same functions, so that the
bits are the same.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

import numpy as np

from distsoftmax.data.shards import DividedSource, RawShard, ShowProgress
from distsoftmax.data.source import RawRows
from distsoftmax.errors import InputError

Value = TypeVar("Value")
IN_FLIGHT = 6  # shards at hand at once: read ahead, being read, being converted and in use, some of them twice as large


class ShardStore:
    """The shards of a rank, in order, as often as needed.

    Parameters
    ----------
    divided : DividedSource
    bound : int or None
        Bytes to keep in memory; None keeps everything.
    missing : bool
        Whether cells may be missing.
    """

    def __init__(self, divided: DividedSource, bound: int | None, *, missing: bool = False) -> None:
        self.divided = divided
        self._bound = bound
        self._missing = missing
        self._held: dict[int, Any] = {}
        self._functions: list[Callable[[int, Any], Any]] = []
        self.bytes_held = 0
        self.bytes_streamed = 0

    def first_read(self, show: ShowProgress) -> Iterator[RawShard]:
        """Read every shard once, and keep those that fit. The values are `RawRows` from here on. Not collective.

        Raises
        ------
        InputError
            The source cannot be used; or the bound leaves no room for the shards at hand while they are worked on.
        """
        largest = 0
        for shard in self.divided.read_all(show, missing=self._missing):
            size = size_of(shard.rows)
            largest = max(largest, size)
            if self._bound is None or self.bytes_held + size + IN_FLIGHT * largest <= self._bound:
                self._held[shard.number] = shard.rows
                self.bytes_held += size
            else:
                self.bytes_streamed += size
            yield shard
        if self.bytes_streamed and self.divided.source.is_held:
            raise InputError(
                f"{self.divided.source.path}: text that is compressed cannot be read again from the middle, so "
                "--memory cannot bound it; decompress it, or write it as Parquet"
            )
        if self.bytes_streamed:
            self.require_room(largest)

    def require_room(self, largest: int) -> None:
        """Refuse a bound that leaves no room for the shards at hand, the largest of so many bytes. Not collective.

        Raises
        ------
        InputError
        """
        if self._bound is None or IN_FLIGHT * largest <= self._bound:
            return
        raise too_little_memory(self.divided.source.path, self._bound, largest, self.divided.n_shards)

    def apply(self, function: Callable[[int, Any], Any], size: Callable[[Any], int]) -> None:
        """Replace each shard's value by function(number, value); of those read again, each time they are read.

        A shard whose new value, of size(value) bytes, leaves the bound is let go of.
        """
        self._functions.append(function)
        self.bytes_held = 0
        largest = 0
        for number, value in list(self._held.items()):
            made = function(number, value)
            n_bytes = size(made)
            largest = max(largest, n_bytes)
            if self._bound is None or self.bytes_held + n_bytes + IN_FLIGHT * largest <= self._bound:
                self._held[number] = made
                self.bytes_held += n_bytes
            else:
                del self._held[number]
                self.bytes_streamed += n_bytes

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Yield (number, value) of each shard of this rank, in order."""
        streamed = [number for number in self.divided.own if number not in self._held]
        again = read_ahead(self._read_again(number) for number in streamed)
        for number in self.divided.own:
            yield number, self._held[number] if number in self._held else next(again)

    def _read_again(self, number: int) -> Any:
        value: Any = self.divided.read(number, missing=self._missing).rows
        for function in self._functions:
            value = function(number, value)
        return value


def too_little_memory(path: str, bound: int, largest: int, n_shards: int) -> InputError:
    """Return the error for a bound below what the shards at hand take, the largest of so many bytes."""
    least = IN_FLIGHT * largest
    return InputError(
        f"{path}: --memory {bound / 2**20:.3g}MiB is too little for shards of {largest / 2**20:.3g} MiB, of which "
        f"{IN_FLIGHT} are at hand at once; allow {least / 2**20 + 0.01:.3g}MiB, or cut finer, as with "
        f"--shards {4 * n_shards}"
    )


def size_of(rows: RawRows) -> int:
    """Return the bytes of the features of some rows."""
    features = rows.features
    if isinstance(features, np.ndarray):
        return features.nbytes
    return int(features.data.nbytes + features.indices.nbytes + features.indptr.nbytes)


class _Failed(Generic[Value]):
    def __init__(self, error: BaseException) -> None:
        self.error = error


def read_ahead(items: Iterable[Value]) -> Iterator[Value]:
    """Yield the items of an iterable, which a thread works on one item ahead; its errors are raised here."""
    ahead: queue.Queue[Any] = queue.Queue(maxsize=1)
    done = threading.Event()
    end = object()

    def work() -> None:
        try:
            for item in items:
                if not _put(ahead, item, done):
                    return
            _put(ahead, end, done)
        except BaseException as error:  # raised where the items are used
            _put(ahead, _Failed(error), done)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ahead.get()) is not end:
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        done.set()
        thread.join()


def _put(ahead: queue.Queue[Any], item: object, done: threading.Event) -> bool:
    """Put an item as soon as there is room; False where nobody waits for it any more."""
    while not done.is_set():
        with suppress(queue.Full):
            ahead.put(item, timeout=0.05)
            return True
    return False
