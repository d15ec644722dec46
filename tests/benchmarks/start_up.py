"""How long a run takes to its first step, and which heavy modules a run on dense files loads.

    pip install -e ".[mpich]"
    python tests/benchmarks/start_up.py

The clock starts with `mpirun -n 2` on scikit-learn's digits, and is read when the opening lines stand in the output and
when the first step stands in metrics.jsonl; the median of several starts counts. A dense run on .npy files must load
none of the modules in `HEAVY`, which it has no use for; the exit status is 1 where it does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from comparison import parser_of
from jobs import mpirun, output_of
from random_samples import write_dense

# Packages that only other formats, commands and solvers need, and their BLAS.
HEAVY = ("sklearn", "scipy", "pandas", "pyarrow", "h5py", "matplotlib", "threadpoolctl", "joblib", "torch")
POLLING = 0.002  # seconds
# A rank of a training run, which prints what it has loaded.
RANK = """
import json, runpy, sys
heavy, sys.argv = sys.argv[1].split(","), sys.argv[2:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as ended:
    if ended.code:
        raise
libraries = {line.split("/")[-1].strip() for line in open("/proc/self/maps") if "blas" in line or "lapack" in line}
print(json.dumps([[name for name in heavy if name in sys.modules], sorted(libraries)]))
"""


def seconds_to_first_step() -> tuple[float, float]:
    """Return the seconds to the opening lines and to the first step of digits."""
    with tempfile.TemporaryDirectory() as name:
        metrics, output = Path(name, "run", "metrics.jsonl"), Path(name, "output")
        command = mpirun(2, "-m", "distsoftmax.train", "--max-steps", "3", "--out", str(metrics.parent))
        opened = None
        with output.open("w") as file:
            start = time.perf_counter()
            with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
                while not metrics.exists() or metrics.read_bytes().count(b"\n") < 2:
                    if process.poll():
                        sys.exit(output.read_text())
                    if opened is None and output.stat().st_size:
                        opened = time.perf_counter() - start
                    time.sleep(POLLING)
                stepped = time.perf_counter() - start
    return opened or stepped, stepped


def loaded_modules() -> tuple[list[str], list[str]]:
    """Return the heavy modules, and the libraries of linear algebra, that ranks of a run on dense files have loaded."""
    with tempfile.TemporaryDirectory() as name:
        options = [*write_dense(Path(name), (2000, 20, 3)), "--max-steps", "3", "--l2", "1e-3"]
        words = [",".join(HEAVY), "distsoftmax.train", *options, "--out", str(Path(name, "run"))]
        lines = output_of(mpirun(2, "-c", RANK, *words)).splitlines()
    modules, libraries = zip(*(json.loads(line) for line in lines if line.startswith("[[")), strict=True)
    return sorted(set().union(*modules)), sorted(set().union(*libraries))


def main() -> None:
    options = parser_of(__doc__, turns=7, steps=None).parse_args()
    times = [seconds_to_first_step() for _ in range(options.turns)]
    opening, step = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"digits on 2 ranks: {opening:.2f} s to the opening lines, {step:.2f} s to the first step")
    modules, libraries = loaded_modules()
    print(f"heavy modules of a dense run: {', '.join(modules) or 'none'}")
    print(f"libraries of linear algebra: {', '.join(libraries) or 'none'} (numpy's own comes with numpy)")
    if modules:
        sys.exit(1)


if __name__ == "__main__":
    main()
