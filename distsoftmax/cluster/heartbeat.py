"""What the watchdogs of the ranks tell each other, and what follows from it: pure, without threads and sockets.

Ranks are numbered here as they were at the start of the job, whatever became of the others.
"""

from __future__ import annotations

import hmac
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TOKEN_BYTES = 16  # of the secret that a job's datagrams begin with, so that no stranger is believed
BEAT = struct.Struct(f"!{TOKEN_BYTES}sIQq16sd")  # token, rank, calls, step, call, idle seconds
ANSWER = struct.Struct(f"!{TOKEN_BYTES}s?")  # token, whether the job hangs


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a rank says of itself.

    Attributes
    ----------
    rank : int
    n_calls, call : int, str
        As of `Communicator`.
    step : int
        The one it is in; -1 before the first.
    idle : float
        Seconds since it last made progress.
    """

    rank: int
    n_calls: int
    call: str
    step: int
    idle: float

    def packed(self, token: bytes) -> bytes:
        """Return the datagram."""
        return BEAT.pack(token, self.rank, self.n_calls, self.step, self.call.encode(), self.idle)

    @staticmethod
    def unpacked(datagram: bytes, token: bytes) -> Heartbeat | None:
        """Return what a datagram says, or None for one that is none of this job's."""
        if len(datagram) != BEAT.size or not hmac.compare_digest(datagram[:TOKEN_BYTES], token):
            return None
        _, rank, n_calls, step, call, idle = BEAT.unpack(datagram)
        return Heartbeat(
            rank=rank, n_calls=n_calls, call=call.rstrip(b"\0").decode("ascii", "replace"), step=step, idle=idle
        )

    @property
    def place(self) -> str:
        """Where the rank is, in words."""
        where = f"waits in {self.call}, call {self.n_calls}" if self.call else f"works, after call {self.n_calls}"
        return where + (f", step {self.step}" if self.step >= 0 else "")


def packed_answer(token: bytes, hangs: bool) -> bytes:
    """Return the datagram that tells a rank whether the job hangs."""
    return ANSWER.pack(token, hangs)


def unpacked_answer(datagram: bytes, token: bytes) -> bool | None:
    """Return whether the job hangs, or None for a datagram that is no answer of this job's."""
    if len(datagram) != ANSWER.size or not hmac.compare_digest(datagram[:TOKEN_BYTES], token):
        return None
    return bool(ANSWER.unpack(datagram)[1])


@dataclass(frozen=True)
class Heard:
    """A rank's last heartbeat, and when it came, by `time.monotonic`."""

    beat: Heartbeat
    when: float


def idle_seconds(heard: Mapping[int, Heard], now: float) -> float:
    """Return for how long none of the ranks has made progress, as far as is known."""
    return min(last.beat.idle + now - last.when for last in heard.values())


def late_ranks(ranks: Iterable[int], heard: Mapping[int, Heard], now: float, silence: float) -> dict[int, str]:
    """Return the ranks that the others wait for, each with what is known of it.

    They are those that do not answer, are not in the newest collective call, or are in another one of that number.
    Where all wait in the same call there are none.

    Parameters
    ----------
    ranks : iterable of int
        Those that the job has.
    silence : float
        The seconds after which a rank counts as one that does not answer.
    """
    late = {}
    answering = {}
    for rank in ranks:
        if rank not in heard:
            late[rank] = "has never answered"
        elif now - heard[rank].when > silence:
            silent = now - heard[rank].when
            late[rank] = (
                f"has been silent for {silent:.0f} s (it is stopped, its node is lost, or a call keeps Python's lock); "
                f"before that it {_past(heard[rank].beat)}"
            )
        else:
            answering[rank] = heard[rank].beat
    newest = max((beat.n_calls for beat in answering.values() if beat.call), default=0)
    calls = Counter(beat.call for beat in answering.values() if beat.call and beat.n_calls == newest)
    expected = calls.most_common(1)[0][0] if calls else ""
    for rank, beat in answering.items():
        if (beat.n_calls, beat.call) != (newest, expected):
            late[rank] = beat.place
    return dict(sorted(late.items()))


def _past(beat: Heartbeat) -> str:
    return beat.place.replace("waits", "waited").replace("works", "worked")
