"""How the description of a source is shown to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distsoftmax.inspection.description import Cells, Description
from distsoftmax.inspection.memory_need import MemoryNeed

CLASSES_SHOWN = 20
CATEGORIES_SHOWN = 20
UNBALANCED = 1.5  # ratio of the largest class to the smallest, from which on it is shown
MIB = 1 << 20


def as_table(description: Description) -> str:
    """Return what is shown of a source: its shape, classes, cells, memory, problems, and how to train on it."""
    sections = (_shape(description), _classes(description), _cells(description), _memory(description))
    problems = [f"{problem.severity}: {problem.text}" for problem in description.problems]
    ending = (problems or ["nothing is wrong with it"], _suggestion(description))
    return "\n\n".join("\n".join(lines) for lines in (*sections, *ending) if lines)


def _suggestion(description: Description) -> list[str]:
    if description.suggestion is None:
        return []
    return [
        "with other options it can be trained on:" if description.stops_training else "to train on it:",
        description.suggestion,
    ]


def _shape(description: Description) -> list[str]:
    rows, features = description.rows, description.features
    files = "1 file" if description.files == 1 else f"{description.files} files"
    kind = "sparse" if description.sparse else "dense"
    base = "" if description.index_base is None else f", indices from {description.index_base}"
    cells, nonzero = rows * description.numeric, description.nonzero
    density = f", {nonzero / rows:.4g} non-zeros a row (density {nonzero / cells:.3g})" if cells else ""
    smallest, largest = description.shard_rows
    of_rows = f"{smallest} rows" if smallest == largest else f"{smallest} to {largest} rows"
    lines = [
        f"{description.path}: {description.format}, {files}, {_size(description.bytes)}",
        f"{rows} rows, {features} features, {kind}{base}{density}",
        f"stored as {description.stored}, computed in {description.computed}",
        f"{description.shards} shards of {of_rows}" if description.shards > 1 else f"1 shard of {of_rows}",
    ]
    columns = description.categories
    if columns:
        lines.append(f"{description.numeric} numeric columns, {len(columns)} of text:")
        for column in columns[:CATEGORIES_SHOWN]:
            texts = f"{'more than ' if column.more else ''}{column.texts} different texts"
            lines.append(f"  {column.column}: {texts}{'' if column.declared else ' (not declared)'}")
        lines += _rest(len(columns) - CATEGORIES_SHOWN)
    return lines


def _classes(description: Description) -> list[str]:
    classes = description.classes
    if classes is None:
        return ["classes: not known, as no labels are named"]
    if not classes:
        return ["classes: none"]
    counts = list(classes.values())
    ratio = counts[0] / counts[-1]
    unbalanced = f"; the largest has {ratio:.3g} times as many samples as the smallest" if ratio >= UNBALANCED else ""
    rows = [(name, str(count), _share(count, description.rows)) for name, count in classes.items()][:CLASSES_SHOWN]
    return [
        f"{len(classes)} {'class' if len(classes) == 1 else 'classes'}{unbalanced}",
        *_columns(("class", "samples", "share"), rows),
        *_rest(len(classes) - CLASSES_SHOWN),
    ]


def _cells(description: Description) -> list[str]:
    lines = []
    for what, cells in (("missing", description.missing), ("infinite", description.infinite)):
        lines += _cells_of_a_kind(what, cells, description.rows)
    if description.constant:
        lines.append(f"constant columns: {description.constant}")
    weights = description.weights
    if weights is not None:
        bad = "".join(
            f", {count} {what}"
            for count, what in ((weights.negative, "negative"), (weights.not_finite, "not finite"))
            if count
        )
        lines.append(f"weights: sum {weights.total:.12g}, {weights.zero} of them 0{bad}")
    return lines


def _cells_of_a_kind(what: str, cells: Cells, n_rows: int) -> list[str]:
    if not cells.cells:
        return [f"{what} values: none"]
    rows = [(name, str(count), _share(count, n_rows)) for name, count in cells.worst]
    columns = "1 column" if cells.columns == 1 else f"{cells.columns} columns"
    return [
        f"{what} values: {cells.cells} in {columns}",
        *_columns(("column", "cells", "share of rows"), rows),
        *_rest(cells.columns - len(cells.worst)),
    ]


def _memory(description: Description) -> list[str]:
    head = ["ranks", "shards", "rows", "features while read", "as kept", "classes", "parameters", "in all"]
    rows = [_memory_row(need) for need in description.memory]
    if description.memory_bound is not None:
        head.append("scratch")
        rows = [
            [*row, "yes" if need.uses_scratch else "no"] for row, need in zip(rows, description.memory, strict=True)
        ]
    bound, least = description.memory_bound, _size(description.least_memory)
    bounded = "" if bound is None else f"; in all with features of {_size(bound)} at most"
    return [
        f"memory of the rank with the most, in MiB, besides Python and its libraries{bounded}",
        *_columns(head, rows, n_names=0),
        f"--memory bounds the features, to {least} at least; those that do not fit lie in scratch",
    ]


def _memory_row(need: MemoryNeed) -> list[str]:
    parameters = "not known" if need.parameters is None else _in_mib(need.parameters)
    sizes = (_in_mib(need.features_read), _in_mib(need.features_kept), _in_mib(need.classes))
    return [str(need.ranks), str(need.shards), str(need.rows), *sizes, parameters, _in_mib(need.total)]


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]], n_names: int = 1) -> Iterator[str]:
    """Yield the lines of a table: its first columns hold names and are flush left, the others numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:n_names], widths, strict=False)]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[n_names:], widths[n_names:], strict=True)]
        yield "  " + "  ".join(cells).rstrip()


def _rest(count: int) -> list[str]:
    return [f"  and {count} more"] if count > 0 else []


def _share(count: int, whole: int) -> str:
    return f"{count / whole:.2%}"


def _in_mib(size: int) -> str:
    return f"{size / MIB:,.0f}" if size >= 100 * MIB else f"{size / MIB:.3g}"


def _size(size: int) -> str:
    """Return a number of bytes for people: 512 bytes, 1.5 MiB, 20 GiB."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
