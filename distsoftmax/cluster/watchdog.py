"""A thread in every rank that ends the job when no rank has made progress for too long, and says who is late.

A rank that waits in a collective call while another still makes progress does not hang. So the watchdogs talk, beside
MPI, by small datagrams: each rank sends its heartbeat to the first, which answers whether the job hangs. Where it does,
every rank prints its stacks, the first names the ranks that the others wait for, and all of them abort. Where the first
rank does not answer, or no datagram comes through, each rank judges by itself. A thread of Python stands still while a
call keeps Python's lock; for that case `faulthandler` has a timer which does without, and which the thread winds up.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import secrets
import socket
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from distsoftmax.cluster.communicator import Communicator, complain
from distsoftmax.cluster.early_exit import DRAIN_SECONDS, started_processes
from distsoftmax.cluster.heartbeat import (
    TOKEN_BYTES,
    Heard,
    Heartbeat,
    idle_seconds,
    late_ranks,
    packed_answer,
    unpacked_answer,
)

BEAT_SECONDS = 1.0  # between two heartbeats of a rank; a tenth of the timeout where that is less
BEATS_PER_SECOND = 200  # that the first rank receives at most, so that thousands of ranks beat more slowly
MISSED_BEATS = 3.5  # after which a rank counts as one that does not answer
REPAIR_SECONDS = 30.0  # that a repair may take: the agreement of survivors is known to deadlock
EXIT_SECONDS = 5.0  # after which a process that MPI does not end, ends itself
STDERR = 2  # its file descriptor: `sys.stderr` may be locked by a thread that hangs
OWN_THREADS = ("watchdog", "signals")  # whose stacks say nothing
MOST_NAMED = 16  # late ranks in a message


@dataclass(frozen=True)
class Post:
    """Where the watchdog of a rank is reached: its node, the addresses of that and the port, 0 for none."""

    node: str
    addresses: tuple[str, ...]
    port: int
    token: bytes
    timeout: float


class Watchdog:
    """Watches over a rank, and over all of them where it is the first. See the module.

    Collective: the ranks exchange where they are reached.

    Parameters
    ----------
    cluster : Communicator
    timeout : float
        Seconds without progress after which the job is ended; rank 0's counts. 0: never, and the watchdog only sees
        whether the launcher still lives.
    """

    def __init__(self, cluster: Communicator, timeout: float) -> None:
        self._cluster = cluster
        self._socket = _open_socket() if cluster.size > 1 else None
        port = self._socket.getsockname()[1] if self._socket else 0
        node = os.uname().nodename
        own = Post(node, _addresses() if port else (), port, secrets.token_bytes(TOKEN_BYTES), timeout)
        self._posts = cluster.allgather(own)
        self._own = cluster.rank
        self._token, self.timeout = self._posts[0].token, self._posts[0].timeout
        beats = max(BEAT_SECONDS, cluster.size / BEATS_PER_SECOND)
        self._interval = min(beats, self.timeout / 10) if self.timeout else BEAT_SECONDS
        self._parent = os.getppid() if started_processes() > 1 else 0
        self._progress: tuple[int, int, int] = (-1, -1, -1)
        self._since = self._last_answer = time.monotonic()
        self._started = self._since
        self._is_noted = False
        self._own_reads = 0
        self._heard: dict[int, Heard] = {}
        self._senders: dict[int, tuple[str, int]] = {}
        self._answered_by: tuple[str, int] | None = None

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name=OWN_THREADS[0], daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                now = time.monotonic()
                self._end_with_the_launcher()
                if self.timeout:
                    self._watch(now)
                self._listen(now + self._interval)
        finally:  # a timer that nobody winds up any more would end a sound job
            faulthandler.cancel_dump_traceback_later()

    def _watch(self, now: float) -> None:
        """Wind up the timer, look at this rank, send its heartbeat, and judge."""
        faulthandler.dump_traceback_later(self.timeout + self._interval + DRAIN_SECONDS / 2, exit=True, file=STDERR)
        beat = self._look(now)
        if beat.call == "repair" and beat.idle > min(REPAIR_SECONDS, self.timeout):
            self._end(f"the repair of the job took more than {min(REPAIR_SECONDS, self.timeout):g} s")
        first = self._cluster.members[0]
        if self._own == first:
            self._heard[self._own] = Heard(beat, now)
            self._judge(now)
        else:
            self._send(beat.packed(self._token), first)
            if min(beat.idle, now - self._last_answer) >= self.timeout:
                who = f"rank 0 on node {self._posts[first].node} does not answer"
                self._end(f"this rank has made no progress for {self.timeout:g} s, and {who}")

    def _look(self, now: float) -> Heartbeat:
        """Return this rank's heartbeat."""
        cluster = self._cluster
        progress = (cluster.n_calls, cluster.n_shards_done, self._bytes_moved())
        if progress != self._progress:
            self._progress, self._since = progress, now
        return Heartbeat(
            rank=self._own, n_calls=cluster.n_calls, call=cluster.call, step=cluster.step, idle=now - self._since
        )

    def _bytes_moved(self) -> int:
        """Return the bytes that this process has read and written, but for the reads of this function (Linux)."""
        try:
            with open("/proc/self/io", "rb", buffering=0) as file:
                text = file.read(4096)
        except OSError:
            return 0
        counts = dict(line.split(b": ") for line in text.splitlines())
        moved = sum(int(counts.get(name, 0)) for name in (b"rchar", b"wchar", b"read_bytes")) - self._own_reads
        self._own_reads += len(text)
        return moved

    def _judge(self, now: float) -> None:
        """On the first rank: end the job if nobody makes progress."""
        heard = {rank: self._heard[rank] for rank in self._cluster.members if rank in self._heard}
        silent = len(self._cluster.members) - len(heard)
        if silent and not self._is_noted and now - self._started > 3 * MISSED_BEATS * self._interval:
            self._is_noted = True
            complain(
                f"note: the watchdogs of {silent} ranks do not reach that of rank 0 by UDP, so --timeout counts on "
                "each rank by itself: give more seconds than a rank may wait for another"
            )
        if idle_seconds(heard, now) < self.timeout:
            return
        for sender in self._senders.values():
            self._send_to(sender, packed_answer(self._token, hangs=True))
        late = late_ranks(self._cluster.members, heard, now, MISSED_BEATS * self._interval)
        names = [
            f"rank {self._cluster.members.index(rank)} on node {self._posts[rank].node} {what}"
            for rank, what in late.items()
        ]
        more = f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        whom = f"late: {'; '.join(names[:MOST_NAMED])}{more}" if names else "all ranks wait in the same call"
        self._end(f"no rank has made progress for {self.timeout:g} s; {whom}")

    def _listen(self, until: float) -> None:
        """Receive datagrams until a time by `time.monotonic`: heartbeats, which are answered, or answers."""
        while (rest := until - time.monotonic()) > 0:
            if self._socket is None:
                time.sleep(rest)
                continue
            self._socket.settimeout(rest)
            try:
                datagram, sender = self._socket.recvfrom(256)
            except TimeoutError:
                return
            except OSError:  # such as an earlier datagram that nobody took
                time.sleep(min(rest, self._interval / 10))
                continue
            self._receive(datagram, sender)

    def _receive(self, datagram: bytes, sender: tuple[str, int]) -> None:
        hangs = unpacked_answer(datagram, self._token)
        if hangs is not None:
            self._last_answer, self._answered_by = time.monotonic(), sender
            if hangs:
                self._end("no rank makes progress")
            return
        beat = Heartbeat.unpacked(datagram, self._token)
        if beat is not None and 0 <= beat.rank < len(self._posts):
            self._heard[beat.rank] = Heard(beat, time.monotonic())
            self._senders[beat.rank] = sender
            self._send_to(sender, packed_answer(self._token, hangs=False))

    def _send(self, datagram: bytes, first: int) -> None:
        """Send to the first rank: to all its addresses until one has answered, and again where it no longer does."""
        post = self._posts[first]
        if self._answered_by and time.monotonic() - self._last_answer < MISSED_BEATS * self._interval:
            self._send_to(self._answered_by, datagram)
            return
        here = post.node == self._posts[self._own].node
        for address in (*post.addresses, *(["127.0.0.1"] if here else [])):
            self._send_to((address, post.port), datagram)

    def _send_to(self, where: tuple[str, int], datagram: bytes) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(datagram, where)

    def _end_with_the_launcher(self) -> None:
        """End this process where the launcher has gone, as after kill -9: nobody would end it any more."""
        if self._parent and os.getppid() != self._parent:
            with contextlib.suppress(OSError):
                os.write(STDERR, f"rank {self._cluster.rank}: the launcher has gone, so this rank ends, too\n".encode())
            os._exit(1)

    def _end(self, why: str) -> NoReturn:
        """Print this rank's stacks and its place, and end the job."""
        threading.Thread(target=_exit_later, name=OWN_THREADS[0], daemon=True).start()
        rank, size, node = self._cluster.rank, self._cluster.size, self._posts[self._own].node
        beat = self._look(time.monotonic())
        with contextlib.suppress(OSError):
            os.write(STDERR, f"rank {rank} of {size} on node {node} {beat.place}:\n{_stacks()}".encode())
        self._cluster.abort(f"rank {rank} of {size}: {why}; the job is ended")


def _stacks() -> str:
    """Return where each thread is, without a look at the source files: their disk may be what does not answer."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, innermost in sys._current_frames().items():
        name = names.get(ident, f"thread {ident}")
        frame: FrameType | None = innermost
        if name in OWN_THREADS:
            continue
        lines.append(f"  {name}, most recent call first:")
        while frame is not None:
            lines.append(f'    File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
            frame = frame.f_back
    return "\n".join(lines) + "\n"


def _exit_later() -> None:
    time.sleep(EXIT_SECONDS)
    os._exit(1)


def _open_socket() -> socket.socket | None:
    """Return a socket for datagrams at a port of its own, or None where there can be none."""
    try:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("", 0))
    except OSError:
        return None
    return opened


def _addresses() -> tuple[str, ...]:
    """Return the addresses of this node on its networks, without the one that each node has for itself."""
    import psutil

    try:
        entries = [entry for of_interface in psutil.net_if_addrs().values() for entry in of_interface]
    except OSError:
        return ()
    return tuple(
        entry.address
        for entry in entries
        if entry.family == socket.AF_INET and not entry.address.startswith("127.") and entry.address
    )
