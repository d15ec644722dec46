"""How a summary is shown: a table of 80 columns, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.inference.estimates import Summary

WIDTH = 80
SHORTEST_NAME = 12
COVARIANCES = {
    "classical": "inverse hessian",
    "ridge": "H^-1 I H^-1 of the L2-penalised estimates",
    "sandwich": "sandwich (HC0)",
    "cluster": "sandwich by cluster",
}
COLUMNS = ("coefficient", "std_error", "z", "p", "low", "high", "odds_ratio", "odds_ratio_low", "odds_ratio_high")


def as_table(summary: Summary, *, odds_ratios: bool = False) -> str:
    """Return a table for people: how the model fits, then the coefficients or odds ratios of each class."""
    omitted = [f"omitted: {text}" for text in summary.omitted]
    notes = [f"note: {text}" for text in summary.notes]
    sections = [_head(summary), *_classes(summary, odds_ratios=odds_ratios), _wrapped(omitted), _wrapped(notes)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def as_json(summary: Summary) -> str:
    """Return one JSON object; what is not finite is null."""
    content = {
        "model": summary.model,
        "data": summary.data,
        "n_samples": summary.n_samples,
        "weight": summary.weight,
        "n_parameters": summary.n_parameters,
        "effective_parameters": summary.effective_parameters,
        "reference": summary.reference,
        "covariance": summary.covariance,
        "n_clusters": summary.n_clusters or None,
        "l2": summary.l2,
        "confidence": summary.confidence,
        "log_likelihood": summary.log_likelihood,
        "null_log_likelihood": summary.null_log_likelihood,
        "aic": summary.aic,
        "bic": summary.bic,
        "mcfadden_r2": summary.mcfadden_r2,
        "likelihood_ratio": None if summary.l2 else _test(summary),
        "newton_steps": summary.n_steps,
        "newton_decrement_of_model": summary.decrement,
        "largest_change": summary.largest_change,
        "omitted": summary.omitted,
        "notes": summary.notes,
        "coefficients": [
            {"class": name, "feature": feature, **dict(zip(COLUMNS, numbers, strict=True))}
            for name, feature, *numbers in _rows(summary)
        ],
    }
    return json.dumps(_finite(content), allow_nan=False)


def as_csv(summary: Summary) -> bytes:
    """Return a CSV file with a row for each class and feature."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "feature", *COLUMNS])
    writer.writerows([name, feature, *map(repr, numbers)] for name, feature, *numbers in _rows(summary))
    return text.getvalue().encode()


def as_npy(matrix: Doubles) -> tuple[bytes, memoryview]:
    """Return the header and the content of a .npy file."""
    matrix, header = np.ascontiguousarray(matrix, dtype="<f8"), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(matrix))
    return header.getvalue(), matrix.data.cast("B")


def _test(summary: Summary) -> dict[str, float]:
    return {
        "statistic": summary.likelihood_ratio,
        "degrees_of_freedom": summary.degrees,
        "p": summary.likelihood_ratio_p,
    }


def _rows(summary: Summary) -> Iterator[tuple[object, ...]]:
    """Yield class, feature and numbers of each row."""
    arrays = (summary.coef, summary.errors, summary.z, summary.p, *summary.interval, *summary.odds_ratios)
    for number, name in enumerate(summary.classes):
        for column, feature in enumerate(summary.features):
            yield (name, feature, *(float(array[number, column]) for array in arrays))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _head(summary: Summary) -> list[str]:
    by_weight = "" if summary.weight == summary.n_samples else f", sum of weights {summary.weight:.10g}"
    effective = f" (effective: {summary.effective_parameters:.4g})" if summary.l2 else ""
    what = "penalised maximum likelihood" if summary.l2 else "maximum likelihood"
    steps = f"{summary.n_steps} Newton {'step' if summary.n_steps == 1 else 'steps'} from the model"
    moved = f", which moved coefficients by up to {summary.largest_change:.2g} standard errors"
    how = f"{what}, {steps}{moved}" if summary.polished else "as in the model (--no-polish)"
    clusters = f", {summary.n_clusters} clusters" if summary.n_clusters else ""
    lines = [
        f"{summary.model} on {summary.data}",
        f"{summary.n_samples} samples{by_weight}, {summary.n_parameters} parameters{effective}",
        f"coefficients: {how}",
        f"standard errors: {COVARIANCES[summary.covariance]}{clusters}",
        f"log-likelihood {summary.log_likelihood:.10g}, null {summary.null_log_likelihood:.10g}, McFadden's R2 "
        f"{summary.mcfadden_r2:.4f}",
        f"AIC {summary.aic:.10g}, BIC {summary.bic:.10g}",
    ]
    if not summary.l2 and summary.degrees:
        lines[-1] += (
            f", likelihood ratio {summary.likelihood_ratio:.6g} on {summary.degrees} degrees of freedom, "
            f"p {_probability(summary.likelihood_ratio_p)}"
        )
    return _wrapped(lines)


def _classes(summary: Summary, *, odds_ratios: bool) -> list[list[str]]:
    """Return the lines of each class."""
    level = f"{100 * summary.confidence:.6g}%"
    head = ["odds ratio" if odds_ratios else "coef", "std. err.", "z", "p", f"{level} from", "to", "odds ratio"]
    cells = [_cells(row, odds_ratios=odds_ratios) for row in _rows(summary)]
    head = head[:-1] if odds_ratios else head
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    titles = " ".join(f"{title:>{width}}" for title, width in zip(head, widths, strict=True))
    room = max(WIDTH - len(titles) - 1, SHORTEST_NAME)
    longest = max(len(name) for name in summary.features)
    room = min(room, max(longest, SHORTEST_NAME))
    sections, n_features = [], len(summary.features)
    for number, name in enumerate(summary.classes):
        lines = [_shortened(f"class {name} against {summary.reference}", WIDTH), " " * room + " " + titles]
        for column, feature in enumerate(summary.features):
            row = cells[number * n_features + column]
            text = " ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            lines.append(f"{_shortened(feature, room):<{room}} {text}")
        sections.append(lines)
    return sections


def _cells(row: Sequence[object], *, odds_ratios: bool) -> list[str]:
    coef, error, z, p, low, high, ratio, ratio_low, ratio_high = (float(str(number)) for number in row[2:])
    tests = [f"{z:.2f}" if abs(z) < 1000 else f"{z:.3g}", _probability(p)]
    if odds_ratios:  # the standard error by the delta method
        return [_number(ratio), _number(ratio * error), *tests, _number(ratio_low), _number(ratio_high)]
    return [_number(coef), _number(error), *tests, _number(low), _number(high), _number(ratio)]


def _number(value: float) -> str:
    return f"{value:.4g}" if not 0.0001 <= abs(value) < 10_000 else f"{value:#.5g}"


def _probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _shortened(text: str, width: int) -> str:
    """Return a text of at most so many characters, its middle left out."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    if len(text) <= width:
        return text
    end = (width - 3) // 2
    return f"{text[: width - 3 - end]}...{text[len(text) - end :]}"


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [
        part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    ]
