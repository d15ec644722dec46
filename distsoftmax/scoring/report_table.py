"""A classification report for people, no wider than their terminal: the classes, and what is taken for what."""

from __future__ import annotations

from textwrap import wrap

import numpy as np
from rich.cells import cell_len, set_cell_size

from distsoftmax.objective.classification_report import ClassificationReport

LEAST_WIDTH = 48  # characters, below which nothing is made narrower
MOST_CLASSES = 40  # up to which all are shown
WORST, PAIRS = 20, 20  # classes and pairs of them that are shown of more
LONGEST_COLUMN_NAME, LONGEST_ROW_NAME = 8, 24  # characters, in the confusion matrix
HEAD = "precision  recall      f1  samples"
SHORTENED = ".."  # stands for the middle of a long name


def as_table(report: ClassificationReport, width: int) -> str:
    """Return a report in lines of at most so many characters, 48 or more.

    Of more than 40 classes the worst are shown, and the pairs that are confused most.
    """
    width = max(width, LEAST_WIDTH)
    facts = (
        f"accuracy {report.accuracy:.4f}, log loss {report.log_loss:.6f}",
        f"calibration error {report.calibration_error:.4f} on {report.n_samples} samples",
    )
    summary = ", ".join(facts)
    lines = [summary] if len(summary) <= width else [f"{facts[0]},", facts[1]]
    is_whole = len(report.classes) <= MOST_CLASSES
    lines += ["", *_class_lines(report, width), ""]
    lines += _matrix_lines(report, width) if is_whole else _pair_lines(report, width)
    if not is_whole:
        matrix = "" if report.confusion is None else " and the whole confusion matrix"
        lines += ["", *wrap(f"--json has all {len(report.classes)} classes{matrix}", width)]
    return "\n".join(lines)


def shortened(name: str, width: int) -> str:
    """Return a name in at most so many columns of a terminal, 4 or more: of a longer one beginning and end.

    Examples
    --------
    >>> shortened("a name that is far too long", 12)
    'a nam.. long'
    """
    if cell_len(name) <= width:
        return name
    end = (width - len(SHORTENED)) // 2
    return set_cell_size(name, width - len(SHORTENED) - end) + SHORTENED + set_cell_size(name[::-1], end)[::-1]


def _padded(name: str, width: int) -> str:
    return name + " " * (width - cell_len(name))


def _class_lines(report: ClassificationReport, width: int) -> list[str]:
    rows = list(report.rows())
    title = []
    if len(rows) > MOST_CLASSES:
        rows = [rows[number] for number in np.argsort(report.f1, kind="stable")[:WORST]]
        title = [f"the {WORST} classes of lowest F1, of {len(report.classes)}"]
    most = max(width - len(HEAD) - 2, 4)
    names = [shortened(row[0], most) for row in rows]
    size = max(5, *map(cell_len, names))
    lines = [
        f"{_padded(name, size)}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {support:7d}"
        for name, (_, precision, recall, f1, support) in zip(names, rows, strict=True)
    ]
    return [*title, f"{'class':<{size}}  {HEAD}", *lines]


def _matrix_lines(report: ClassificationReport, width: int) -> list[str]:
    """Return the confusion matrix, in groups of columns where they do not stand beside each other.

    Columns of classes with long names are headed by their numbers, which then stand before the rows' names, too.
    """
    confusion, names = report.confusion, report.classes
    assert confusion is not None
    heads, rows = list(names), list(names)
    note = ""
    longest = max(map(cell_len, names))
    if longest > LONGEST_COLUMN_NAME and longest + 1 + len(names) * (longest + 1) > width:
        heads = [str(number) for number in range(1, len(names) + 1)]
        rows = [f"{number:>{len(heads[-1])}} {name}" for number, name in zip(heads, names, strict=True)]
        note = ", by their numbers"
    rows = [shortened(name, min(LONGEST_ROW_NAME, width // 3)) for name in rows]
    label = max(map(cell_len, rows))
    cell = max(len(str(confusion.max())), *map(cell_len, heads))
    in_a_line = max((width - label - 1) // (cell + 1), 1)
    lines = wrap(f"confusion matrix, rows true, columns predicted{note}", width)
    for first in range(0, len(names), in_a_line):
        group = slice(first, first + in_a_line)
        lines += [""] if first else []
        lines.append(" " * (label + 1) + "".join(" " * (cell + 1 - cell_len(head)) + head for head in heads[group]))
        for name, counts in zip(rows, confusion, strict=True):
            lines.append(f"{_padded(name, label)} " + "".join(f" {count:>{cell}d}" for count in counts[group]))
    return lines


def _pair_lines(report: ClassificationReport, width: int) -> list[str]:
    """Return the pairs of classes that are confused most, those of most samples first."""
    if report.confusion is None:
        return wrap(f"with {len(report.classes)} classes it is not counted which are confused with which", width)
    errors = report.confusion.copy()
    np.fill_diagonal(errors, 0)
    cells = [int(cell) for cell in np.argsort(-errors, axis=None, kind="stable")[:PAIRS]]
    pairs = [(*divmod(cell, len(errors)), int(errors.flat[cell])) for cell in cells if errors.flat[cell]]
    if not pairs:
        return ["no class is confused with another"]
    size = max((width - 20) // 2, 4)
    true, predicted = ([shortened(report.classes[pair[side]], size) for pair in pairs] for side in (0, 1))
    sizes = max(len("true"), *map(cell_len, true)), max(len("predicted"), *map(cell_len, predicted))
    lines = [
        f"{_padded(row, sizes[0])}  {_padded(column, sizes[1])}  {count:7d} ({100 * count / report.true[of]:.0f} %)"
        for row, column, (of, _, count) in zip(true, predicted, pairs, strict=True)
    ]
    head = f"{_padded('true', sizes[0])}  {_padded('predicted', sizes[1])}  samples"
    return [*wrap("the classes that are confused most, with the share of the true ones", width), head, *lines]
