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
    figure = _drawn(picture, {name: colour for colour, name in NAMES.items()}, salt=picture.name)
    text = io.StringIO()
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context(_style(LIGHT, picture.name)):
        warnings.simplefilter("ignore")  # of glyphs that its own font lacks: the page's will be used
        about = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=about, transparent=True)
    return _for_a_page(text.getvalue())


def as_png(picture: Picture) -> bytes:
    """Return a PNG file in light colours, with its title."""
    from matplotlib import rc_context

    figure = _drawn(picture, LIGHT, salt=picture.name)
    content = io.BytesIO()
    with warnings.catch_warnings(), rc_context(_style(LIGHT, picture.name)):
        warnings.simplefilter("ignore")
        figure.suptitle(picture.title, x=0.015, ha="left", size=10, color=LIGHT["ink"], weight="bold")
        figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": MAKER})
    return content.getvalue()


def plain_axes(figure: Figure, colours: Colours, *, grid: str = "y") -> Axes:
    """Return axes with no more lines than are needed."""
    axes = figure.add_subplot()
    quieten(axes, colours, grid)
    return axes


def quieten(axes: Axes, colours: Colours, grid: str = "y") -> None:
    """Take away what is not needed from axes: of the frame all but the line below."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(colours["line"])
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=colours["line"], linewidth=0.7)  # type: ignore[arg-type]
    axes.tick_params(which="both", length=0, colors=colours["muted"], labelsize=8)
    axes.xaxis.label.set_color(colours["muted"])
    axes.yaxis.label.set_color(colours["muted"])


def plain_number(value: float, _: object = None) -> str:
    """Return a number for an axis, without mathematical typesetting.

    Examples
    --------
    >>> plain_number(0.25), plain_number(1e-07), plain_number(20000)
    ('0.25', '1e\u22127', '20,000')
    """
    if value and not 1e-3 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    text = f"{value:,.6f}".rstrip("0").rstrip(".")
    return text.replace("-", MINUS)


def in_digits(value: float, digits: int = 3) -> str:
    """Return a number in so many digits.

    Examples
    --------
    >>> in_digits(0.00012345, 2)
    '1.2e\u22124'
    """
    return plain_number(float(f"{value:.{digits - 1}e}"))


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis a logarithmic one whose numbers are plain."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_data_interval()
    is_short = high < 200 * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,), numticks=12 if is_short else 6))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def linear(axes: Axes, which: Literal["x", "y"], most: int = 5, *, integers: bool = False) -> None:
    """Let an axis have few numbers, and plain ones."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=integers))
    axis.set_major_formatter(FuncFormatter(plain_number))


def legend_below(figure: Figure, colours: Colours, n_columns: int, *, is_reversed: bool = False) -> None:
    """Put the names of all lines and bars below the axes."""
    entries = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes]
    handles, labels = zip(*[entry for of_axes in entries for entry in of_axes], strict=True)
    order = slice(None, None, -1 if is_reversed else 1)
    figure.legend(
        handles[order],
        labels[order],
        loc="outside lower left",
        labelcolor=colours["ink"],
        ncols=n_columns,
        handlelength=1.4,
        borderaxespad=0.2,
        columnspacing=1.6,
    )


def _drawn(picture: Picture, colours: Colours, salt: str) -> Figure:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with warnings.catch_warnings(), rc_context(_style(colours, salt)):
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(picture.width, picture.height), layout="constrained")
        picture.draw(figure, colours)
    return figure


def _style(colours: Colours, salt: str) -> Any:
    from matplotlib import font_manager

    present = set(font_manager.get_font_names())
    return {
        "font.family": [font for font in FONTS if font in present] or ["sans-serif"],
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.unicode_minus": False,
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
    text = re.sub(r"\s*\n\s*", "\n", text)
    without = re.sub(r"<g>\s*(<g/>\s*)*</g>|<defs>\s*</defs>", "", text)
    while without != text:
        text, without = without, re.sub(r"<g>\s*(<g/>\s*)*</g>", "", without)
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
