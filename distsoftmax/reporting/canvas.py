"""Pictures drawn by matplotlib: as SVG that takes its colours and its font from the page, and as PNG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MINUS = "\u2212"  # as long as a plus sign, and never broken from its number
UNKNOWN = "\u2013"  # stands where there is no number
MAKER = "distsoftmax"  # stands in each file, so that it is known again
DOTS_PER_INCH = 220  # of a PNG
WIDTH, HEIGHT = 4.5, 2.75  # inches
# Contrast of ink and muted on white is above 5; the series differ in lightness, too, for readers who see few colours.
LIGHT = {
    "ink": "#1b1f24",
    "muted": "#5b6470",
    "line": "#dfe3e8",
    "surface": "#ffffff",
    "series-1": "#1f5fbf",
    "series-2": "#c2570c",
    "series-3": "#0d8074",
    "series-4": "#8a3fa6",
    "series-5": "#b8860b",
    "series-6": "#c03058",
    "series-7": "#4f7d1e",
    "series-8": "#56707f",
}
N_SERIES = 8
NAMES = {f"#a1b2{number:02x}": name for number, name in enumerate(LIGHT, 1)}  # colours that the page replaces
FONTS = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Arial Unicode MS")

Colours: TypeAlias = "Mapping[str, str]"  # by the names in LIGHT


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Something to draw.

    Attributes
    ----------
    name : str
        For files.
    title : str
    description : str
        What it shows, for those who do not see it, and below it.
    draw : callable
        Takes an empty figure and the colours.
    width, height : float
        Inches.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Figure, Colours], None]
    width: float = WIDTH
    height: float = HEIGHT


def as_svg(picture: Picture) -> str:
    """Return an SVG element to stand in a page; the same picture gives the same bytes."""
    about = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    colours = {name: colour for colour, name in NAMES.items()}
    return _for_a_page(_drawn(picture, colours, format="svg", metadata=about, transparent=True).decode())


def as_png(picture: Picture) -> bytes:
    """Return a PNG file in light colours, with its title."""
    return _drawn(picture, LIGHT, title=picture.title, format="png", dpi=DOTS_PER_INCH, metadata={"Software": MAKER})


def plain_number(value: float, _: object = None) -> str:
    """Return a number for an axis, without mathematical typesetting.

    Examples
    --------
    >>> plain_number(0.25), plain_number(1e-07), plain_number(20000)
    ('0.25', '1e\u22127', '20,000')
    """
    if value and not 1e-3 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", MINUS)
    return f"{value:,.6f}".rstrip("0").rstrip(".").replace("-", MINUS)


def in_digits(value: float, digits: int = 3) -> str:
    """Return a number in so many digits.

    Examples
    --------
    >>> in_digits(0.00012345, 2)
    '1.2e\u22124'
    """
    return plain_number(float(f"{value:.{digits - 1}e}"))


def in_form(value: float | None, form: str) -> str:
    """Return a number in a format of Python's, or in "digits", which are two; a dash for one that is not known."""
    if value is None:
        return UNKNOWN
    return in_digits(value, 2) if form == "digits" else f"{value:{form}}"


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis a logarithmic one whose numbers are plain."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_data_interval()
    is_short = high < 200 * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,), numticks=12 if is_short else 6))
    axis.set_major_formatter(plain_number)
    axis.set_minor_locator(NullLocator())


def linear(axes: Axes, which: Literal["x", "y"], most: int = 5, *, integers: bool = False) -> None:
    """Let an axis have few numbers, and plain ones."""
    from matplotlib.ticker import MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=integers))
    axis.set_major_formatter(plain_number)


def legend_below(figure: Figure, n_columns: int, *, is_reversed: bool = False) -> None:
    """Put the names of all lines and bars below the axes."""
    sizes = {"handlelength": 1.4, "borderaxespad": 0.2, "columnspacing": 1.6}
    figure.legend(loc="outside lower left", ncols=n_columns, reverse=is_reversed, **sizes)


def _drawn(picture: Picture, colours: Colours, title: str = "", **options: Any) -> bytes:
    """Return the file of a picture, as matplotlib's `savefig` makes it with such options."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    content = io.BytesIO()
    with warnings.catch_warnings(), rc_context(_style(colours, picture.name)):
        warnings.simplefilter("ignore")  # of glyphs that its own font lacks: the page's will be used
        figure = Figure(figsize=(picture.width, picture.height), layout="constrained")
        picture.draw(figure, colours)
        if title:
            figure.suptitle(title, x=0.015, ha="left", size=10, weight="bold")
        figure.savefig(content, **options)
    return content.getvalue()


def _style(colours: Colours, salt: str) -> Any:
    """Return how all pictures look: axes have no more lines than are needed, of the frame the one below alone."""
    from matplotlib import font_manager

    present = set(font_manager.get_font_names())
    return {
        "font.family": [font for font in FONTS if font in present] or ["sans-serif"],
        "font.size": 8,
        "axes.axisbelow": True,
        "axes.edgecolor": colours["line"],
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": colours["muted"],
        "axes.labelsize": 8,
        "axes.unicode_minus": False,
        **{f"axes.spines.{side}": False for side in ("top", "right", "left")},
        **{f"{axis}tick.major.size": 0 for axis in "xy"},
        **{f"{axis}tick.color": colours["muted"] for axis in "xy"},
        **{f"{axis}tick.labelsize": 8 for axis in "xy"},
        "grid.color": colours["line"],
        "grid.linewidth": 0.7,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.solid_capstyle": "round",
        "text.parse_math": False,  # a class may be called $x$
        "text.color": colours["ink"],
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "path.simplify": True,
        "figure.constrained_layout.h_pad": 0.02,
        "figure.constrained_layout.w_pad": 0.02,
    }


def _for_a_page(text: str) -> str:
    """Make an SVG file an element of a page: smaller, without names of its own, colours as the page has them."""
    text = re.sub(r"<style[^>]*>.*?</style>", "", text[text.index("<svg") :], count=1, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", _tag_for_a_page, text)  # what stands between tags are the names of classes and the like
    before = ""
    while before != text:  # what holds nothing but what was empty is empty now
        before, text = text, re.sub(r"<g>\s*(<g/>\s*)*</g>|<defs>\s*</defs>", "", text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _tag_for_a_page(found: re.Match[str]) -> str:
    tag = re.sub(r'\s(?:xmlns(?::xlink)?|version)="[^"]*"', "", found[0])
    if tag.startswith("<svg"):
        return re.sub(r'\s(width|height)="[^"]*"', "", tag)
    tag = re.sub(r'<g id="[^"]*"', "<g", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    tag = tag.replace("xlink:href", "href")
    tag = re.sub(r"(font: |font-size: )(?:\w+ )??([\d.]+px)[^;\"]*", r"font-size: \2", tag)
    tag = re.sub(r" font-family: [^;\"]*;", "", tag)
    tag = re.sub(r"(?<![\w#])(-?\d+\.\d{2})\d+", r"\1", tag)
    return re.sub("#a1b2[0-9a-f]{2}", lambda colour: f"var(--{NAMES[colour[0]]})", tag)
