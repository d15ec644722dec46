"""The memory and the time of training on very wide sparse data: 10^6 features x 20 classes on 1 and 2 ranks.

python tests/benchmarks/sparse_memory.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from jobs import train
from random_samples import Shape, text_of, write_sparse

SHAPE: Shape = (100_000, 1_000_000, 20)
ENTRIES = 30  # a row
SKEW = 3.0  # columns as common as words
STEPS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        stored = write_sparse(Path(name), SHAPE, ENTRIES, SKEW)
        print(f"{text_of(SHAPE)}, {ENTRIES} non-zeros a row, float32")
        for ranks in (1, 2):
            for l2 in ("0", "1e-4"):
                run = train([*stored, "--l2", l2, "--max-steps", str(STEPS)], ranks)
                print(
                    f"{ranks} ranks, l2 {l2:>4}: {run.step_seconds:.2f} s a step, peak {run.peak_mib:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
