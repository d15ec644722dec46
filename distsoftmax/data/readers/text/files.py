"""The records of text files in parts, found by a scan that the ranks divide among them by bytes.

A newline ends a record; within double quotes it does not, where the format has quotes. So each rank counts the quotes
in its range of a part, the ranks gather the counts, and each then knows which newlines of its range end a record.

A rank keeps the bytes it scanned until its shards are cut from them, so that a file is read once. A compressed part
cannot be divided: one rank decompresses and scans it, and ships each shard's text to the shard's owner. Where --memory
bounds what may be kept, a plain part is read again instead, and the text of a compressed one lies in scratch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.formats import compression_of
from distsoftmax.data.parts import FileState, of_each_part
from distsoftmax.data.readers.parted_source import JoinedRows
from distsoftmax.data.readers.text.kept_text import KeptText, packed
from distsoftmax.data.readers.text.records import Range, Starts, decompress, opened, scan_range
from distsoftmax.errors import InputError

SHIPPED_BYTES = 64 << 20  # of text that a rank sends at once
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TextFiles:
    """The records of text files, one part after the other, without the blank lines.

    Parameters
    ----------
    parts : tuple of FileState
    quoted : bool
        True (CSV): a newline within double quotes ends no record, and a blank line has nothing in it. False (svmlight):
        every newline ends a record, and a blank line has at most blanks and a comment (``# ...``) in it.
    scratch : str or None
        The folder for the text of compressed parts, where no text is kept in memory.

    Attributes
    ----------
    n_records : ndarray of int64, (n_parts,)
    records : JoinedRows
        Of all parts.
    notes : tuple of str
        See `Source.notes`; all of them after `scan`.
    """

    def __init__(self, parts: tuple[FileState, ...], *, quoted: bool, scratch: str | None = None) -> None:
        self.parts = parts
        self.n_records = np.zeros(len(parts), dtype=np.int64)
        self.records = JoinedRows(self.n_records)
        self.notes: tuple[str, ...] = ()
        self._quoted = quoted
        self._kept = KeptText(scratch)
        self._compressions: dict[int, str | None] = {}
        self._readers: dict[int, int] = {}  # of the compressed parts: the rank that decompresses each
        self._skip = [0] * len(parts)
        self._sizes = [part.size for part in parts]  # decompressed, after the scan
        self._scanned: list[tuple[int, NDArray[np.int64]]] = []  # of each own range: first record, starts of records
        self._bounds = self._offsets = np.zeros(1, dtype=np.int64)

    def head(self, part: int, n_bytes: int) -> bytes:
        """Return the first bytes of a part, decompressed; fewer where there are no more. Not collective.

        Raises
        ------
        InputError
            The part cannot be read, has changed, or its compressed stream is damaged.
        """
        compression = self._compression(part)
        if compression is not None:
            return b"".join(decompress(self.parts[part], compression, n_bytes))
        with opened(self.parts[part]) as read:
            return read(0, min(n_bytes, self.parts[part].size))

    def scan(self, cluster: Communicator, skip: Sequence[int] | None = None) -> None:
        """Find the records. Each rank reads its range of the bytes. Collective.

        Parameters
        ----------
        skip : sequence of int, or None
            How many bytes at the start of each part are no records: a header. None: a byte order mark, if there is one.

        Raises
        ------
        InputError
            On every rank: a part cannot be read, has changed, is damaged, or leaves a quote open.
        """
        self._look(cluster, skip)
        scans = []
        with cluster.agreement():
            for where in self._own_ranges(cluster):
                scans.append(self._scan(where))
        own = [(where.part, where.part_bytes, quotes, [of.size for of in starts]) for where, quotes, starts in scans]
        quotes = [0] * len(self.parts)
        firsts = []  # of each own range: its first record's number in its part, and the starts of its records
        for rank, of_rank in enumerate(cluster.allgather(own)):
            for number, (part, part_bytes, n_quotes, counts) in enumerate(of_rank):
                inside = quotes[part] % 2
                if rank == cluster.rank:
                    firsts.append((part, int(self.n_records[part]), scans[number][2][inside]))
                quotes[part] += n_quotes
                self.n_records[part] += counts[inside]
                self._sizes[part] = part_bytes
        odd = next((part for part, count in enumerate(quotes) if count % 2), None)
        if odd is not None:
            raise InputError(
                f"{self.parts[odd].path}: a quote is opened and never closed; write a quote inside a field twice"
            ).on_all_ranks()
        self.records = JoinedRows(self.n_records)
        self._scanned = [(int(self.records.starts[part]) + first, starts) for part, first, starts in firsts]

    def divide(self, bounds: NDArray[np.int64], owned: Sequence[range], cluster: Communicator) -> None:
        """Fix the shards over all parts' records; see `Source.divide`. Collective."""
        known = []
        for first, starts in self._scanned:
            shards = np.arange(*np.searchsorted(bounds, (first, first + starts.size)))
            known.append((shards, starts[bounds[shards] - first]))
        self._bounds, self._offsets = bounds, np.zeros(bounds.size, dtype=np.int64)
        for of_rank in cluster.allgather(known):
            for shards, offsets in of_rank:
                self._offsets[shards] = offsets
        self._scanned.clear()
        self._ship(owned, cluster)
        for shard in owned[cluster.rank]:
            for part, _, _ in self.records.within(*bounds[shard : shard + 2].tolist()):
                self._kept.want(part, *self._bytes(shard, part), shard)
        self._kept.release()

    def text(self, shard: int, part: int) -> bytes:
        """Return the text that a shard has of a part: whole records, and the blank lines among and around them.

        The last record may lack its newline. Not collective; as often as needed.

        Raises
        ------
        InputError
            The part has changed since it was scanned, or cannot be read any more.
        """
        self.parts[part].require_unchanged()
        data = self._cut(part, *self._bytes(shard, part))
        if part not in self._readers:
            self._kept.give_up(part, shard)
        return data

    def _compression(self, part: int) -> str | None:
        if part not in self._compressions:
            try:
                self._compressions[part] = compression_of(self.parts[part].path)
            except OSError as error:
                raise InputError(f"{self.parts[part].path}: cannot be read: {error.strerror}") from None
        return self._compressions[part]

    def _look(self, cluster: Communicator, skip: Sequence[int] | None) -> None:
        """Find which parts are compressed, and who reads them; and which begin with a byte order mark. Collective."""

        def look(part: int) -> tuple[str | None, int]:
            marked = skip is None and self.head(part, len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
            return self._compression(part), len(BYTE_ORDER_MARK) if marked else 0

        for part, (compression, mark) in enumerate(of_each_part(len(self.parts), look, cluster)):
            self._compressions[part], self._skip[part] = compression, mark
        if skip is not None:
            self._skip = list(skip)
        edges, at = self._edges(cluster.size), 0
        for part, state in enumerate(self.parts):
            if self._compressions[part] is not None:  # the rank in whose range its middle lies
                self._readers[part] = bisect_right(edges, at + state.size // 2) - 1
            at += state.size
        if self._readers:
            first, others = self.parts[min(self._readers)].path, len(self._readers) - 1
            are = f"and {others} more are" if others else "is"
            whole = "each whole" if others else "it whole"
            self.notes = (f"{first} {are} compressed and cannot be divided: one rank reads {whole}",)

    def _edges(self, n_ranks: int) -> list[int]:
        """Return where the ranks' ranges begin and end in all parts' bytes, one part after the other."""
        total = sum(part.size for part in self.parts)
        return [rank * total // n_ranks for rank in range(n_ranks + 1)]

    def _own_ranges(self, cluster: Communicator) -> Iterator[Range]:
        """Yield what this rank scans; of a compressed part, what it is before decompression."""
        low, high = self._edges(cluster.size)[cluster.rank : cluster.rank + 2]
        at = 0
        for part, state in enumerate(self.parts):
            skip = self._skip[part]
            start, stop = max(low - at, skip), min(high - at, state.size)
            if self._readers.get(part) == cluster.rank:
                yield Range(part, skip, state.size, True, state.size)
            elif part not in self._readers and start < stop:
                yield Range(part, start, stop, start == skip, state.size)
            at += state.size

    def _scan(self, where: Range) -> tuple[Range, int, Starts]:
        """Return what `scan_range` does, and the range, of a compressed part after decompression."""
        state, part, compression = self.parts[where.part], where.part, self._compressions[where.part]
        if compression is None:
            with opened(state) as read:
                return where, *scan_range(where, self._quoted, read, partial(self._kept.offer, part))
        size = 0
        for text in decompress(state, compression):
            self._kept.keep(part, size, text)
            size += len(text)
        where = replace(where, high=size, part_bytes=size)
        return where, *scan_range(
            where, self._quoted, lambda at, n_bytes: self._cut(part, at, at + n_bytes), lambda at, data: None
        )

    def _bytes(self, shard: int, part: int) -> tuple[int, int]:
        """Return where the text that a shard has of a part begins and ends in the part."""
        first, stop = self.records.starts[part : part + 2]
        start = self._skip[part] if self._bounds[shard] <= first else int(self._offsets[shard])
        return start, self._sizes[part] if self._bounds[shard + 1] >= stop else int(self._offsets[shard + 1])

    def _ship(self, owned: Sequence[range], cluster: Communicator) -> None:
        """Send the text of compressed parts to the shards' owners, some shards at a time. Collective."""
        if not self._readers:
            return
        parcels: list[list[tuple[int, int, int, int]]] = [[]]  # rank, part, start, stop
        size = 0
        for part in (part for part, reader in self._readers.items() if reader == cluster.rank and self.n_records[part]):
            low = int(np.searchsorted(self._bounds, self.records.starts[part], side="right")) - 1
            high = int(np.searchsorted(self._bounds, self.records.starts[part + 1]))
            for rank, shards in enumerate(owned):
                for shard in range(max(low, shards.start), min(high, shards.stop)) if rank != cluster.rank else ():
                    start, stop = self._bytes(shard, part)
                    parcels[-1].append((rank, part, start, stop))
                    size += stop - start
                    if size >= SHIPPED_BYTES:
                        parcels.append([])
                        size = 0
        for number in range(max(cluster.allgather(len(parcels)))):
            outgoing: list[list[bytes]] = [[] for _ in owned]
            for rank, part, start, stop in parcels[number] if number < len(parcels) else ():
                outgoing[rank] += packed(part, start, self._cut(part, start, stop))
            received = cluster.alltoall([b"".join(of_rank) for of_rank in outgoing])
            with cluster.agreement():
                for content in received:
                    self._kept.keep_packed(content)

    def _cut(self, part: int, start: int, stop: int) -> bytes:
        return self._kept.cut(part, start, stop, partial(self._read_again, part))

    def _read_again(self, part: int, start: int, stop: int) -> bytes:
        with opened(self.parts[part]) as read:
            return read(start, stop - start)
