"""What an option's value may be: texts, sizes, paths of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Optional

from tyro.constructors import PrimitiveConstructorSpec

from distsoftmax.errors import InputError

MOST_VALUES = 1000  # of a path
TIMEOUT = 300.0  # seconds without progress of any rank, after which a job is ended
POWERS_OF_TWO = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
Text = Annotated[
    Optional[str],
    PrimitiveConstructorSpec(  # else tyro would take the word None for no text
        nargs=1,
        metavar="STR",
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: value is None or isinstance(value, str),
        str_from_instance=lambda value: [str(value)],
    ),
]
if TYPE_CHECKING:
    Words = tuple[str, ...]
else:  # a plain type, which tyro knows by itself
    Words = Annotated[
        tuple,
        PrimitiveConstructorSpec(
            nargs="*",
            metavar="[STR [STR ...]]",
            instance_from_str=tuple,
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=list,
        ),
    ]


def require(holds: bool, option: str, value: object, expected: str) -> None:
    """Refuse an option's value.

    Raises
    ------
    InputError
        `holds` is false.
    """
    if not holds:
        raise InputError(f"--{option.replace('_', '-')} is {value}; {expected}")


def require_timeout(timeout: float) -> None:
    """Refuse a --timeout that is none.

    Raises
    ------
    InputError
        It is negative, infinite or NaN.
    """
    require(0 <= timeout < math.inf, "timeout", timeout, "it must be a finite number, 0 or more; 0: wait for ever")


def parse_memory(text: str) -> int:
    """Return the bytes that a text such as 2GiB, 500MB or 1e9 means; MB and MiB are both 2^20 bytes.

    Raises
    ------
    InputError
        It means none.

    Examples
    --------
    >>> parse_memory("2GiB") == 2 * 2**30
    True
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if match is None:
        raise InputError(f"--memory is {text}; give bytes, or a number with MiB or GiB, as in 2GiB")
    size = float(match[1]) * 2 ** POWERS_OF_TWO[match[2]]
    require(size < 2**63, "memory", text, "it must be less than 2^63 bytes")
    return int(size)


def parse_deadline(text: str) -> float:
    """Return the time that a text means, in seconds since the epoch: these themselves, or ISO 8601.

    Without a time zone it is this machine's local time.

    Raises
    ------
    InputError
        It means none.

    Examples
    --------
    >>> parse_deadline("2026-03-01T06:00+01:00") == parse_deadline("2026-03-01T05:00Z") == parse_deadline("1772341200")
    True
    """
    try:
        moment = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip())).timestamp()
        except (ValueError, OverflowError):
            moment = math.nan
    require(math.isfinite(moment), "deadline", text, "give a time, as in 2026-03-01T06:00, or seconds since the epoch")
    return moment


def parse_l2_path(text: str) -> tuple[float, ...]:
    """Return the values that a text such as 1e-1:1e-6:20 means: FROM, down to TO, COUNT of them, in equal ratios.

    They are rounded to 12 digits, so that 1e-1:1e-3:3 holds 0.01 itself.

    Raises
    ------
    InputError
        It means no such values.

    Examples
    --------
    >>> parse_l2_path("1e-1:1e-3:3")
    (0.1, 0.01, 0.001)
    """
    form = "give FROM:TO:COUNT, as in 1e-1:1e-6:20"
    try:
        first, last, count = (kind(word) for kind, word in zip((float, float, int), text.split(":"), strict=True))
    except ValueError:
        raise InputError(f"--l2-path is {text}; {form}") from None
    require(0 < first < math.inf and 0 < last < math.inf, "l2_path", text, f"its values must be above 0: {form}")
    require(2 <= count <= MOST_VALUES, "l2_path", text, f"COUNT must be from 2 to {MOST_VALUES}: {form}")
    values = (first, *_between(first, last, count - 1), last)
    falls = all(value > following for value, following in pairwise(values))
    require(falls, "l2_path", text, f"it must descend, for each run starts where the one before ended: {form}")
    return values


def _between(first: float, last: float, n_steps: int) -> Iterator[float]:
    """Yield the values between two in equal ratios, by decimal arithmetic: its functions are rounded correctly."""
    with localcontext() as context:
        context.prec = 30
        step = (Decimal(last) / Decimal(first)).ln() / n_steps
        values = [Decimal(first) * (step * number).exp() for number in range(1, n_steps)]
    yield from (float(f"{value:.12g}") for value in values)
