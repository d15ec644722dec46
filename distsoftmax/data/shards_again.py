"""Prepared shards made once more: after a restart, or because the rank that held them is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import OnMissing
from distsoftmax.data.preparation import PreparedShard
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import DividedSource, ShowProgress, divide_source
from distsoftmax.data.source import Source, SourceSpec
from distsoftmax.data.survey import shard_digest
from distsoftmax.data.warm_files import WarmShards
from distsoftmax.errors import InputError


class SourceChanged(InputError):
    """A source does not hold any more what was read from it before."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the shards of a source come from, when they are made once more.

    Attributes
    ----------
    source : callable
        Returns the source, not yet open.
    n_rows : int
    on_missing : {"error", "fill", "drop row"}
        What becomes of a missing cell.
    files : WarmShards
        Where shards may lie that are prepared already; with the digest of each shard as it was read before.
    """

    source: Callable[[], Source | SourceSpec]
    n_rows: int
    on_missing: OnMissing
    files: WarmShards

    def add_to(
        self,
        store: ShardStore[PreparedShard],
        wanted: Sequence[int],
        others: int,
        cluster: Communicator,
        show: ShowProgress,
    ) -> ShardStore[PreparedShard]:
        """Return a store with more shards: those in files are mapped, only the others are read. Collective.

        Parameters
        ----------
        store : ShardStore
            What this rank holds; it stays as it is.
        wanted : sequence of int
            The numbers of the shards that this rank wants besides, ascending.
        others : int
            Bytes that another store holds in memory beside this one.

        Raises
        ------
        SourceChanged
            On every rank.
        InputError, OutputError
            On every rank: the source cannot be used any more; scratch has no room.
        """
        prepared: dict[int, PreparedShard | None] = {}
        with cluster.agreement():  # a signal may end it
            for count, number in enumerate(wanted):
                show("checking samples in scratch", count, len(wanted))
                prepared[number] = self.files.find(number)
        absent = [number for number, shard in prepared.items() if shard is None]
        owned = [range(*ends) for ends in cluster.allgather((absent[0], absent[-1] + 1) if absent else (0, 0))]
        divided = None
        if any(owned):
            divided = divide_source(self.source(), self.files.digests.size, cluster, owned=owned)
            if divided.source.n_rows != self.n_rows:
                raise changed(divided.source.path).on_all_ranks()

        def shards() -> Iterator[PreparedShard]:
            for number in wanted:
                shard = prepared.pop(number)
                yield self._made(number, divided, show) if shard is None else shard

        with cluster.agreement():
            return store.with_more(shards(), others)

    def _made(self, number: int, divided: DividedSource | None, show: ShowProgress) -> PreparedShard:
        """Read a shard and prepare it."""
        assert divided is not None
        show(f"reading {divided.source.path}", number - divided.own.start, len(divided.own))
        raw = divided.read(number, on_missing=self.on_missing)
        if shard_digest(raw) != self.files.digests[number]:
            raise changed(divided.source.path)
        return self.files.keep(self.files.preparation.prepare(raw))


def changed(path: str) -> SourceChanged:
    """Return the error for a source that is not the one that was read."""
    return SourceChanged(f"{path}: does not hold any more what this run has read from it; put it back, or start anew")
