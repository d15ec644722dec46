"""All randomness: Philox's raw 64-bit integers, keyed by (purpose, seed, shard, epoch).

numpy promises the raw integers of a bit generator to later versions, not the streams of `Generator.random` or
`Generator.permutation`: so what is drawn is made of the raw integers here, by integer operations and one exact product.

The generator is counted (J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC 2011): Philox4x64-10 turns a key of two words and a counter of four words into four integers. Here

    key      seed,  purpose * 2^48 + shard
    counter  1, 2, 3, ... in the three lower words together,  epoch in the highest

so two streams that differ in purpose, seed, shard or epoch never use the same key and counter, and each is 2^194 long.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

WORD = 64  # bits of a raw integer
SHARD_BITS = 48  # of the second word of the key
HALF, HALF_MASK = np.uint64(32), np.uint64(2**32 - 1)
DIGIT_BITS, DIGIT_MASK = np.uint32(16), np.uint32(2**16 - 1)
AT_ONCE = 4  # raw integers that one counter gives


class Purpose(IntEnum):
    """What numbers are drawn for. A purpose keeps its number for good: models depend on it."""

    HOLD_OUT = 1  # which rows of a shard are held out
    SAMPLE = 2  # which rows the preconditioner is fitted to
    PERMUTATION = 3  # the order in which the mini-batches of an epoch take a shard's rows
    CUTS = 4  # which shards give a row more to a mini-batch; the batch's number stands for the shard's
    START_DIRECTION = 5  # where the power method starts


def raw(purpose: Purpose, seed: int, shard: int, epoch: int, n: int) -> NDArray[np.uint64]:
    """Return the first `n` integers of a stream, each from 0 to 2^64 - 1.

    Parameters
    ----------
    seed : int
        0 to 2^64 - 1.
    shard : int
        0 to 2^48 - 1; 0 where a purpose has nothing to do with shards.
    epoch : int
        0 to 2^64 - 1.
    """
    if not (0 <= seed < 2**WORD and 0 <= shard < 2**SHARD_BITS and 0 <= epoch < 2**WORD):
        raise ValueError(f"no stream has seed {seed}, shard {shard} and epoch {epoch}")
    key = np.array([seed, (int(purpose) << SHARD_BITS) + shard], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)  # numpy counts up before it draws: the first is 1
    integers: NDArray[np.uint64] = Philox(key=key, counter=counter).random_raw(n)
    return integers


def uniform(purpose: Purpose, seed: int, shard: int, epoch: int, n: int) -> NDArray[np.float64]:
    """Return `n` numbers from [0, 1): the upper 53 bits of each raw integer, times 2^-53. Both steps are exact."""
    upper = raw(purpose, seed, shard, epoch, n) >> np.uint64(WORD - 53)
    numbers: NDArray[np.float64] = np.ldexp(upper.astype(np.float64), -53)
    return numbers


def permutation(purpose: Purpose, seed: int, shard: int, epoch: int, n: int) -> NDArray[np.intp]:
    """Return 0 ... n - 1 in random order: sorted by keys of 32 bits, equal keys by the numbers themselves.

    Number 2 i has the lower half of raw integer i for its key, number 2 i + 1 the upper half.

    The keys are sorted by their lower 16 bits and then, in a stable way, by their upper ones: of integers that small
    numpy makes a radix sort, which takes a fifth of the time.
    """
    integers = raw(purpose, seed, shard, epoch, -(-n // 2))
    keys = np.empty((integers.size, 2), dtype=np.uint32)
    keys[:, 0] = integers & HALF_MASK
    keys[:, 1] = integers >> HALF
    flat = keys.reshape(-1)[:n]
    by_lower = np.argsort((flat & DIGIT_MASK).astype(np.uint16), kind="stable")
    upper = (flat >> DIGIT_BITS).astype(np.uint16)
    return by_lower[np.argsort(upper[by_lower], kind="stable")]


def below(purpose: Purpose, seed: int, shard: int, epoch: int, bound: int) -> int:
    """Return an integer from 0 to bound - 1, each equally likely.

    It is r mod bound, with r the first raw integer of the stream below the largest multiple of `bound` up to 2^64.
    """
    if not 0 < bound <= 2**WORD:
        raise ValueError(f"no integer of 64 bits is drawn below {bound}")
    limit = 2**WORD // bound * bound
    n = AT_ONCE
    while True:
        for integer in raw(purpose, seed, shard, epoch, n)[n - AT_ONCE :].tolist():
            if integer < limit:
                return int(integer) % bound
        n += AT_ONCE
