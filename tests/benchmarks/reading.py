"""The time to read files on 1 and 2 ranks against the libraries' own readers, as ratios in one run.

    pip install -e ".[mpich,benchmark]"      in an environment of its own
    python tests/benchmarks/reading.py

10^6 x 20 numbers as CSV and as Parquet, and 2 * 10^5 x 10^5 sparse rows as svmlight. Ours is the reading of all shards
by all ranks, from opening the source to arrays in memory; each library reads the same file in one thread, as one rank
is one core, up to the same arrays (a matrix of numbers and the labels; scipy's CSR). All take turns; medians count.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from comparison import Table, medians, parser_of
from jobs import output_of, run_ranks

TABLE_ROWS, TABLE_COLUMNS = 1_000_000, 20
SPARSE_ROWS, SPARSE_COLUMNS, SPARSE_ENTRIES = 200_000, 100_000, 40


def write_files(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    generator = np.random.default_rng(0)
    columns = {
        f"f{column}": generator.standard_normal(TABLE_ROWS).round(6).astype(np.float64)
        for column in range(TABLE_COLUMNS)
    }
    table = pa.table({**columns, "label": generator.integers(0, 10, TABLE_ROWS)})
    csv.write_csv(table, folder / "table.csv")
    parquet.write_table(table, folder / "table.parquet", row_group_size=20_000)
    with (folder / "sparse.svm").open("w") as file:
        for _ in range(SPARSE_ROWS):
            numbers = np.unique(generator.integers(1, SPARSE_COLUMNS + 1, SPARSE_ENTRIES))
            values = generator.random(numbers.size).round(5)
            entries = " ".join(
                f"{number}:{value}" for number, value in zip(numbers.tolist(), values.tolist(), strict=True)
            )
            file.write(f"{generator.integers(1, 5)} {entries}\n")


def by_pyarrow_csv(path: str) -> object:
    from pyarrow import csv

    table = csv.read_csv(path, csv.ReadOptions(use_threads=False))
    return np.column_stack([table.column(column).to_numpy() for column in range(TABLE_COLUMNS)])


def by_pandas_csv(path: str) -> object:
    import pandas

    return pandas.read_csv(path).iloc[:, :TABLE_COLUMNS].to_numpy()


def by_pyarrow_parquet(path: str) -> object:
    from pyarrow import parquet

    table = parquet.read_table(path, use_threads=False)
    return np.column_stack([table.column(column).to_numpy() for column in range(TABLE_COLUMNS)])


def by_pandas_parquet(path: str) -> object:
    import pandas

    return pandas.read_parquet(path, use_threads=False).iloc[:, :TABLE_COLUMNS].to_numpy()


def by_scikit_learn(path: str) -> object:
    from sklearn.datasets import load_svmlight_file

    return load_svmlight_file(path)


CASES: dict[str, dict[str, Callable[[str], object]]] = {
    "table.csv": {"pyarrow": by_pyarrow_csv, "pandas": by_pandas_csv},
    "table.parquet": {"pyarrow": by_pyarrow_parquet, "pandas": by_pandas_parquet},
    "sparse.svm": {"scikit-learn": by_scikit_learn},
}


def ours(path: Path, ranks: int) -> list[float]:
    return [run_ranks(__file__, "--rank", str(path), ranks=ranks)]


def rank(path: str) -> None:
    """Be one rank that reads its shards; rank 0 prints the seconds from the common start to the last rank's end."""
    import pandas  # noqa: F401 (where it is installed pyarrow imports it sooner or later; the clock is for the reading)
    from mpi4py import MPI
    from pyarrow import csv, parquet  # noqa: F401 (the libraries' side, too, imports before its clock starts)

    from distsoftmax.cluster.mpi import MpiCommunicator
    from distsoftmax.data.shards import divide_source
    from distsoftmax.data.source import SourceSpec

    cluster = MpiCommunicator(MPI.COMM_WORLD)
    spec = SourceSpec(paths=(path,), label=None if path.endswith(".svm") else "label")
    MPI.COMM_WORLD.Barrier()
    start = time.perf_counter()
    divided = divide_source(spec, None, cluster)
    held = [divided.source.read(number) for number in divided.own]
    MPI.COMM_WORLD.Barrier()
    seconds = time.perf_counter() - start
    assert len(held) == len(divided.own)
    cluster.say(json.dumps(seconds))


def library(path: Path, name: str) -> list[float]:
    return [json.loads(output_of([sys.executable, __file__, "--library", name, str(path)]).splitlines()[-1])]


def read_by(name: str, path: str) -> None:
    """Be a process that reads with a library, and print the seconds it takes, its import left out."""
    case = CASES[Path(path).name][name]
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401
    import sklearn.datasets  # noqa: F401

    if name == "pandas":
        import pandas  # noqa: F401
    start = time.perf_counter()
    case(path)
    print(json.dumps(time.perf_counter() - start))


def compare(turns: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        table = Table("file, reader", "seconds", "ours, 1 rank / it", "ours, 2 ranks / it")
        for file, readers in CASES.items():
            path = folder / file
            path.read_bytes()  # all read it from the page cache
            contenders = {"ours, 1 rank": partial(ours, path, 1), "ours, 2 ranks": partial(ours, path, 2)}
            contenders |= {reader: partial(library, path, reader) for reader in readers}
            seconds = medians(contenders, turns)
            one, two = seconds["ours, 1 rank"], seconds["ours, 2 ranks"]
            for reader, median in seconds.items():
                table.row(f"{file}, {reader}", median, one / median, two / median)


def main() -> None:
    parser = parser_of(__doc__, turns=5, steps=None)
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    parser.add_argument("--library", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        rank(options.rank)
    elif options.library:
        read_by(*options.library)
    else:
        compare(options.turns)


if __name__ == "__main__":
    main()
