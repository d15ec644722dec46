"""What scratch costs: a step on a source four times the memory bound against the same in memory.

    python tests/benchmarks/streaming.py

Two ranks train on the same samples with and without `--memory`. The models must have the same SHA-256.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from jobs import train

ROWS, COLUMNS, CLASSES, RANKS, STEPS = 400_000, 256, 10, 2, 6


def write_files(folder: Path) -> dict[str, list[str]]:
    """Write the samples, and return the options that read them, by format."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    generator = np.random.default_rng(0)
    features = generator.standard_normal((ROWS, COLUMNS), dtype=np.float32).round(4)
    classes = generator.integers(0, CLASSES, ROWS)
    np.save(folder / "X.npy", features)
    np.save(folder / "y.npy", classes)
    table = pa.table({**{f"f{column}": features[:, column] for column in range(COLUMNS)}, "label": classes})
    parquet.write_table(table, folder / "X.parquet", row_group_size=5_000)
    csv.write_csv(table, folder / "X.csv")
    return {
        "npy": ["--data", str(folder / "X.npy"), "--labels", str(folder / "y.npy")],
        "parquet": ["--data", str(folder / "X.parquet"), "--label", "label"],
        "csv": ["--data", str(folder / "X.csv"), "--label", "label", "--shards", "256"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    of_rank = ROWS * COLUMNS * 4 // RANKS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{ROWS} x {COLUMNS} float32 on {RANKS} ranks: {of_rank >> 20} MiB a rank, bound to {of_rank >> 22} MiB")
        print(
            f"{'':>8}  {'step in memory, s':>18}  {'scratch, s':>13}  {'ratio':>6}  {'peak, MiB':>10}  {'scratch':>9}"
        )
        steps = ["--max-steps", str(STEPS)]
        for kind, options in write_files(folder).items():
            whole = train([*options, *steps], RANKS)
            part = train([*options, *steps, "--memory", str(of_rank // 4)], RANKS)
            if whole.sha256 != part.sha256:
                sys.exit(f"{kind}: the models differ: {whole.sha256} {part.sha256}")
            ratio = part.step_seconds / whole.step_seconds
            print(
                f"{kind:>8}  {whole.step_seconds:18.3f}  {part.step_seconds:13.3f}  {ratio:6.1f}  "
                f"{whole.peak_mib:10.0f}  {part.peak_mib:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
