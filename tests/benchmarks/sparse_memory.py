"""The memory and the time of training on very wide sparse data: 10^6 features x 20 classes on 1 and 2 ranks.

python tests/benchmarks/sparse_memory.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measured_run import train
from scipy.sparse import csr_array, save_npz

ROWS, COLUMNS, ENTRIES, CLASSES = 100_000, 1_000_000, 30, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    generator = np.random.default_rng(0)
    places = (generator.random((ROWS, ENTRIES)) ** 3 * COLUMNS).astype(np.int32)  # some columns far more common
    values = generator.random(places.size, dtype=np.float32)
    features = csr_array((values, places.ravel(), np.arange(ROWS + 1, dtype=np.int32) * ENTRIES), shape=(ROWS, COLUMNS))
    features.sum_duplicates()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_npz(folder / "X.npz", features, compressed=False)
        np.save(folder / "y.npy", generator.integers(0, CLASSES, ROWS))
        data = ["--data", str(folder / "X.npz"), "--labels", str(folder / "y.npy")]
        print(f"{ROWS} x {COLUMNS}, {features.nnz} non-zeros, {CLASSES} classes, float32")
        for ranks in (1, 2):
            for l2 in ("0", "1e-4"):
                run = train(folder / f"{ranks}-{l2}", ranks, 6, [*data, "--l2", l2])
                print(
                    f"{ranks} ranks, l2 {l2:>4}: {run.step_seconds:.2f} s a step, peak {run.peak_mib:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
