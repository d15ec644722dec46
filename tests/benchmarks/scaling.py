"""What a second rank and a second thread gain: the time of a full-batch step on the same samples, in one run.

    pip install -e ".[mpich]"
    python tests/benchmarks/scaling.py

One rank, two ranks, and one rank with --threads 2 take turns; the median over the steps of all turns counts (from
metrics.jsonl, control message and all). The efficiency is the time on one, over twice the time on two: 100 % where two
take half as long.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from comparison import Table, medians, parser_of
from jobs import train_steps
from random_samples import SHAPES, Shape, parse_shape, text_of, write_dense


def compare(shape: Shape, turns: int, steps: int, table: Table) -> None:
    with tempfile.TemporaryDirectory() as name:
        stored = [*write_dense(Path(name), shape), "--no-standardize"]
        contenders = {
            "1 rank": partial(train_steps, stored, steps, ranks=1),
            "2 ranks": partial(train_steps, stored, steps, ranks=2),
            "2 threads": partial(train_steps, stored, steps, ranks=1, threads=2),
        }
        alone, ranks, threads = medians(contenders, turns).values()
    efficiencies = (f"{50 * alone / together:.1f} %" for together in (ranks, threads))
    table.row(text_of(shape), 1e3 * alone, 1e3 * ranks, 1e3 * threads, *efficiencies)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=SHAPES, help="such as 60000x784x10")
    options = parser.parse_args()
    table = Table(
        "rows x features x classes", "1 rank, ms", "2 ranks, ms", "2 threads, ms", "of ranks", "of threads"
    )  # fmt: skip
    for shape in options.shapes:
        compare(shape, options.turns, options.steps, table)


if __name__ == "__main__":
    main()
