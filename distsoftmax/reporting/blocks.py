"""What a page is made of, without a word on how it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from distsoftmax.reporting.canvas import Picture

Tone: TypeAlias = Literal["good", "warn", "busy", "plain"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    text : str
    part : float or None
        A bar beside it has this part of its full length, from 0 to 1; of a signed table from -1 to 1.
    is_best : bool
        It is the best of its column.
    """

    text: str
    part: float | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes
    ----------
    head : tuple of str
    rows : tuple of (tuple of Cell)
    caption : str
    signed : bool
        Whether its bars go to both sides.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    signed: bool = False


@dataclass(frozen=True)
class Facts:
    """Names with their values, in order."""

    rows: tuple[tuple[str, str], ...]
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """A part of a section, under a heading of its own: sentences, pictures, tables, and a command to be copied."""

    title: str
    sentences: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    grid: tuple[Table, ...] = ()
    facts: tuple[Facts, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Figure:
    """A number that is shown large, what it is, and a word on it."""

    value: str
    label: str
    word: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """All on one run, on one path, or on several together.

    Attributes
    ----------
    name : str
    subtitle : str
    status : str
    tone : str
    sentences : tuple of str
        Why it stopped, what could not be read, and the like.
    figures : tuple of Figure
    blocks : tuple of Block
    """

    name: str
    subtitle: str
    status: str = ""
    tone: Tone = "plain"
    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def pictures(self) -> list[Picture]:
        """All pictures of its blocks."""
        return [picture for block in self.blocks for picture in block.pictures]
