"""Text that a rank keeps from the scan of its parts until its shards are cut from it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from distsoftmax.data.spool import Spool

KEPT_BYTES = 2 << 30  # of plain parts that a rank keeps; the rest is read again
HEAD = struct.Struct("<qqq")  # of bytes on their way to another rank: their part, the first one there, their number


def packed(part: int, start: int, data: bytes) -> tuple[bytes, bytes]:
    """Return bytes of a part with their head, for `KeptText.keep_packed` of another rank."""
    return HEAD.pack(part, start, len(data)), data


@dataclass
class _Chunk:
    """Bytes of a part, and the shards that want some of them."""

    start: int
    data: bytes | memoryview
    wanted: set[int] = field(default_factory=set)

    def overlaps(self, start: int, stop: int) -> bool:
        return self.start < stop and start < self.start + len(self.data)


class KeptText:
    """Bytes of parts, by part and in order.

    Parameters
    ----------
    scratch : str or None
        The folder for text that cannot be read again, where no text is kept in memory.
    """

    def __init__(self, scratch: str | None) -> None:
        self._spool = None if scratch is None else Spool(scratch)
        self._chunks: dict[int, list[_Chunk]] = {}
        self._n_bytes = 0

    def offer(self, part: int, start: int, data: bytes) -> None:
        """Keep bytes of a part if there is room for them."""
        if self._spool is None and self._n_bytes + len(data) <= KEPT_BYTES:
            self._n_bytes += len(data)
            self._chunks.setdefault(part, []).append(_Chunk(start, data))

    def keep(self, part: int, start: int, data: bytes) -> None:
        """Keep bytes of a part that cannot be read again."""
        text: bytes | memoryview = data
        if self._spool is not None:
            text = self._spool.keep(np.frombuffer(data, dtype=np.uint8)).data
        self._chunks.setdefault(part, []).append(_Chunk(start, text))

    def keep_packed(self, content: bytes) -> None:
        """Keep the bytes that another rank has sent, one `packed` after the other."""
        at = 0
        while at < len(content):
            part, start, n_bytes = HEAD.unpack_from(content, at)
            at += HEAD.size + n_bytes
            self.keep(part, start, content[at - n_bytes : at])

    def want(self, part: int, start: int, stop: int, shard: int) -> None:
        """Note that a shard wants these bytes."""
        for chunk in self._chunks.get(part, ()):
            if chunk.overlaps(start, stop):
                chunk.wanted.add(shard)

    def give_up(self, part: int, shard: int) -> None:
        """Let go of what no shard but this one wants."""
        for chunk in self._chunks.get(part, ()):
            chunk.wanted.discard(shard)
        self._release(part)

    def release(self) -> None:
        """Let go of what no shard wants."""
        for part in self._chunks:
            self._release(part)

    def cut(self, part: int, start: int, stop: int, read: Callable[[int, int], bytes]) -> bytes:
        """Return bytes of a part; what is not kept is read: read(start, stop)."""
        blocks: list[bytes | memoryview] = []
        for chunk in self._chunks.get(part, ()):
            if chunk.overlaps(start, stop):
                if start < chunk.start:
                    blocks.append(read(start, chunk.start))
                    start = chunk.start
                blocks.append(chunk.data[start - chunk.start : stop - chunk.start])
                start += len(blocks[-1])
                if self._spool is not None:
                    self._spool.used(len(blocks[-1]))
        if start < stop:
            blocks.append(read(start, stop))
        return bytes(blocks[0]) if len(blocks) == 1 else b"".join(blocks)

    def _release(self, part: int) -> None:
        self._chunks[part] = [chunk for chunk in self._chunks.get(part, ()) if chunk.wanted]
