"""What reading shards again each step costs: a source four times the memory bound against the same in memory.

    python tests/benchmarks/streaming.py

Two ranks train on the same samples with and without `--memory`; a step's time is read from metrics.jsonl. The models
must have the same SHA-256. The peak resident memory is the largest of the ranks', as the operating system counts it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROWS, COLUMNS, CLASSES, RANKS, STEPS = 400_000, 256, 10, 2, 6
MEASURE = """
import os, resource, runpy, sys
sys.argv = sys.argv[1:]
out = sys.argv[-1]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    with open(f"{out}.{os.getpid()}.rss", "w") as file:
        file.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""



def write_files(folder: Path) -> dict[str, list[str]]:
    import pyarrow as pa
    from pyarrow import parquet

    generator = np.random.default_rng(0)
    features = generator.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    classes = generator.integers(0, CLASSES, ROWS)
    np.save(folder / "X.npy", features)
    np.save(folder / "y.npy", classes)
    columns = {f"f{place}": features[:, place] for place in range(COLUMNS)}
    parquet.write_table(pa.table({**columns, "label": classes}), folder / "X.parquet", row_group_size=5_000)
    return {
        "npy": ["--data", str(folder / "X.npy"), "--labels", str(folder / "y.npy")],
        "parquet": ["--data", str(folder / "X.parquet"), "--label", "label"],
    }


def train(folder: Path, name: str, options: list[str]) -> tuple[str, float, float]:
    """Return the model's SHA-256, the median seconds of a step, and the peak MiB of a rank."""
    out = folder / name
    command = ["mpirun", "-n", str(RANKS), sys.executable, "-c", MEASURE, "distsoftmax.train", *options]
    command += ["--tolerance", "0", "--max-steps", str(STEPS), "--checkpoint-seconds", "1e9", "--out", str(out)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    (sha256,) = re.findall(r"^model sha256 (\w+)", ended.stdout, re.MULTILINE)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    peak = max(int(path.read_text()) for path in folder.glob(f"{name}.*.rss"))
    return sha256, statistics.median(line["seconds"] for line in lines[2:]), peak / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    share = ROWS * COLUMNS * 4 // RANKS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{ROWS} x {COLUMNS} float32 on {RANKS} ranks: {share >> 20} MiB a rank; bound {share >> 22} MiB")
        print(
            f"{'format':>8}  {'in memory, s':>12}  {'streamed, s':>11}  {'ratio':>6}  {'peak MiB':>9}  {'streamed':>9}"
        )
        for kind, options in write_files(folder).items():
            whole, step, peak = train(folder, f"{kind}-whole", options)
            part, streamed, bounded = train(folder, f"{kind}-part", [*options, "--memory", str(share // 4)])
            if whole != part:
                sys.exit(f"{kind}: the models differ: {whole} {part}")
            print(
                f"{kind:>8}  {step:12.3f}  {streamed:11.3f}  {streamed / step:6.1f}  {peak:9.0f}  {bounded:9.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
