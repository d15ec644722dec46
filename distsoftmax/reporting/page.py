"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distsoftmax import __version__
from distsoftmax.reporting.blocks import Section
from distsoftmax.reporting.canvas import LIGHT, MAKER, Picture, as_svg


def page(sections: Sequence[Section], together: Section | None) -> str:
    """Return the HTML of a report.

    Parameters
    ----------
    sections : sequence of Section
        One for each run or path.
    together : Section or None
        What stands above them, where there are several.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def drawn(picture: Picture) -> Markup:
        return Markup(as_svg(picture))  # matplotlib has escaped its texts

    environment = Environment(
        loader=PackageLoader("distsoftmax", "reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["drawn"] = drawn
    return environment.get_template("report.html").render(
        title=together.name if together else sections[0].name,
        maker=f"{MAKER} {__version__}",
        light=LIGHT,
        sections=sections,
        together=together,
    )


def pictures_of(section: Section) -> Iterator[Picture]:
    """Yield all pictures of a section."""
    for block in section.blocks:
        yield from block.pictures
