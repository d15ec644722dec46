"""The time of a step on n ranks, as a formula: computation, which n divides, and messages, which it does not.

    T(n) = shards a rank · seconds a shard + serial + sums · allreduce(n, message) + allgather(n, control message)

Allreduce takes the quicker of two algorithms, with a the seconds that a message takes to come, and b those of each byte
(R. Thakur, R. Rabenseifner and W. Gropp, "Optimization of collective communication operations in MPICH", Int. J. High
Performance Computing Applications 19(1), 2005, section 4): recursive doubling, log2(n) (a + m b), and Rabenseifner's,
2 log2(n) a + 2 (1 - 1/n) m b. Allgather: log2(n) a + (n - 1) m b. To add integers takes no time of its own here. Where
a node has several ranks these combine in its memory first; then n counts the nodes, and the formula errs on the side
of too long a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distsoftmax.cluster.control import MESSAGE

INTEGER = 8  # bytes of an int64
BESIDES = 3  # integers in a message besides the gradient: the loss in two limbs, and the shards that are not finite


def message_bytes(n_features: int, n_classes: int) -> int:
    """Return the bytes of the one Allreduce of a gradient."""
    return INTEGER * (n_classes * (n_features + 1) + BESIDES)


@dataclass(frozen=True)
class Network:
    """What messages take between nodes.

    Attributes
    ----------
    latency : float
        Seconds from the begin of a small message to its end.
    byte_seconds : float
        Seconds that each byte adds.
    """

    name: str
    latency: float
    byte_seconds: float

    @classmethod
    def of_rate(cls, name: str, latency: float, bits_per_second: float) -> Network:
        """Return the network of a rate in bits a second."""
        return cls(name, latency, 8 / bits_per_second)

    def allreduce(self, n_ranks: int, n_bytes: int) -> float:
        """Return the seconds of an Allreduce."""
        rounds = _rounds(n_ranks)
        doubling = rounds * (self.latency + n_bytes * self.byte_seconds)
        halves = 2 * rounds * self.latency + 2 * (1 - 1 / n_ranks) * n_bytes * self.byte_seconds
        return min(doubling, halves)

    def allgather(self, n_ranks: int, n_bytes: int) -> float:
        """Return the seconds of an Allgather, to which each rank gives so many bytes."""
        return _rounds(n_ranks) * self.latency + (n_ranks - 1) * n_bytes * self.byte_seconds


@dataclass(frozen=True)
class Problem:
    """What a step has to do.

    Attributes
    ----------
    seconds : float
        Of a step's computation, all shards on one rank.
    n_bytes : int
        Of an Allreduce.
    serial_seconds : float
        Of a step, what every rank does for itself: the update of the parameters.
    n_sums : float
        Allreduces a step.
    n_shards : int or None
        None: as many as divide evenly on any number of ranks.
    """

    name: str
    seconds: float
    n_bytes: int
    serial_seconds: float = 0.0
    n_sums: float = 1.0
    n_shards: int | None = None

    def step_seconds(self, n_ranks: int, network: Network) -> float:
        """Return the seconds of a step."""
        if self.n_shards is None:
            compute = self.seconds / n_ranks
        else:
            compute = -(-self.n_shards // n_ranks) * self.seconds / self.n_shards
        message = self.n_sums * network.allreduce(n_ranks, self.n_bytes)
        return compute + self.serial_seconds + message + network.allgather(n_ranks, MESSAGE.itemsize)

    def efficiency(self, n_ranks: int, network: Network) -> float:
        """Return the time of a step on one rank, over n times that on n ranks; 1 is ideal."""
        return self.step_seconds(1, network) / (n_ranks * self.step_seconds(n_ranks, network))

    def most_ranks(self, network: Network, least: float, limit: int) -> int:
        """Return up to how many ranks the efficiency is `least` or better, `limit` at most."""
        return max(n_ranks for n_ranks in range(1, limit + 1) if self.efficiency(n_ranks, network) >= least)


def fitted(name: str, n_bytes: Sequence[int], seconds: Sequence[float]) -> Network:
    """Return the network on which Allreduces of two ranks take these times, as near as can be in relative terms."""
    measured = np.asarray(seconds)
    design = np.column_stack([np.ones(len(measured)), np.asarray(n_bytes, dtype=float)]) / measured[:, np.newaxis]
    latency, byte_seconds = np.linalg.lstsq(design, np.ones(len(measured)), rcond=None)[0]
    return Network(name, max(float(latency), 0.0), max(float(byte_seconds), 0.0))


def _rounds(n_ranks: int) -> int:
    return (n_ranks - 1).bit_length()
