"""What a report writes: a page, one HTML file that needs nothing else, and pictures. It replaces only its own."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from distsoftmax import __version__
from distsoftmax.durable import make_folder, require_writable, write_atomically
from distsoftmax.errors import InputError, OutputError
from distsoftmax.reporting.blocks import Section
from distsoftmax.reporting.canvas import LIGHT, MAKER, Picture, as_png, as_svg

HEAD_BYTES = 1000  # of a file, in which its maker is named
PAGE_MARK = b'<meta name="generator" content="' + MAKER.encode()
PICTURE_MARK = b"Software\0" + MAKER.encode()


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
    return environment.get_template("report.html").render(
        title=together.name if together else sections[0].name,
        maker=f"{MAKER} {__version__}",
        light=LIGHT,
        drawn=drawn,
        sections=sections,
        together=together,
    )


def require_page(out: str) -> Path:
    """Return where a page is to be written, behind links; refuse, before anything is read, what must not be replaced.

    Raises
    ------
    InputError
        It is a folder, a device or a file that no report has written, or its folder cannot be written to.
    """
    if not out:
        raise InputError("--out names nothing, as where a variable of the shell is not set; name a file")
    if os.path.splitext(out)[1].lower() not in (".html", ".htm"):
        raise InputError(f"--out {out}: a report is one HTML file; name one in .html")
    path = Path(os.path.realpath(out))
    _require_ours("--out", path, out, PAGE_MARK)
    return path


def require_folder(png: str) -> Path:
    """Return the folder for pictures; refuse it, before anything is read, where it cannot be one.

    Raises
    ------
    InputError
        It is a file, or cannot be made.
    """
    if not png:
        raise InputError("--png names nothing, as where a variable of the shell is not set; name a folder")
    folder = Path(png)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--png {png}: is a file; name a folder")
    return folder


def write_pictures(folder: Path, sections: Sequence[Section]) -> int:
    """Write each picture as a PNG file, and return their number.

    The files bear the names of the section, where there are several, and of the picture.

    Raises
    ------
    InputError
        A file of such a name is there that no report has written.
    OutputError
        The folder or a file could not be written.
    """
    named = Counter[str]()
    files = []
    for section in sections:
        prefix = re.sub(r"[^\w.-]+", "-", section.name).strip("-.")[:80] if len(sections) > 1 else ""
        for picture in section.pictures:
            name = f"{prefix}-{picture.name}" if prefix else picture.name
            named[name] += 1
            files.append((folder / f"{name}{f'-{named[name]}' if named[name] > 1 else ''}.png", picture))
    try:
        make_folder(folder)
    except OSError as error:
        raise OutputError(f"--png {folder}: cannot be made: {error.strerror}") from None
    for path, _ in files:
        _require_ours("--png", path, str(path), PICTURE_MARK)
    for path, picture in files:
        write_atomically(path, as_png(picture))
    return len(files)


def _require_ours(option: str, path: Path, name: str, mark: bytes) -> None:
    try:
        if path.exists():
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
                raise InputError(f"{option} {name}: is {kind}; name a file")
            with path.open("rb") as file:
                if mark not in file.read(HEAD_BYTES):
                    raise InputError(
                        f"{option} {name}: is there, and no report has written it; remove it, or name another file"
                    )
        require_writable(path)
    except OSError as error:
        raise InputError(
            f"{option} {name}: cannot be written there: {error.strerror}; name a file in a folder that can be"
            " written to"
        ) from None
