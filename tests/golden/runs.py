"""Small runs of every sort; the sha256 of each model stands in digests.txt, and must be the same on every machine.

    mpirun -n 3 python tests/golden/runs.py --threads 2     prints NAME SHA256 for every run, all in one job
    python tests/golden/runs.py --only lbfgs-l2 sgd         some of them
    python tests/golden/runs.py --write                     writes digests.txt anew

The digests change with the arithmetic version, and with a change of an algorithm, and with nothing else.
"""

import argparse
import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

DIGESTS = Path(__file__).with_name("digests.txt")
ALL_RUNS = "--out {name} --progress never --checkpoint-seconds 1000 --metrics-every 1000"
WEIGHED = "--weight w --class-weight balanced"
TABLE = "--data table.csv --label kind --weight w --one-hot colour"
BYTES = "--data bytes.npy --labels bytes-labels.npy"
DESCENT, SGD = "--solver gradient-descent --max-steps 8", "--solver sgd --epochs 2 --batch 64"
PROXIMAL_NEWTON = "--solver lbfgs --max-steps 35 --tolerance 1e-12"  # from step 32 on
LBFGS, NEWTON = "--solver lbfgs --max-steps 8", "--solver trust-region --max-steps 4"

RUNS = {
    # gradient descent
    "descent": f"--data plain.npz {DESCENT} --learning-rate 0.7",
    "descent-momentum-uint8": f"{BYTES} {DESCENT} --learning-rate 0.3 --momentum 0.8 --l2 1e-2",
    "descent-nesterov-weights": f"--data floats.npz {WEIGHED} {DESCENT} --learning-rate 0.4 --momentum 0.9 --nesterov",
    "descent-l1-sparse": f"--data text.svm {DESCENT} --learning-rate 1.5 --l1 3e-3",
    "accelerated": f"--data blocks.npz --shards 2 {DESCENT}",
    "accelerated-elastic-net": f"--data blocks64.npz --shards 1 {DESCENT} --l1 2e-3 --l2 3e-3",
    "accelerated-group-bool": f"--data truth.npz --dtype float64 {DESCENT} --group 2e-2",
    # L-BFGS, preconditioned by the sampled hessian, by its Kronecker approximation, or by nothing
    "lbfgs-l2": f"--data floats.npz {LBFGS} --l2 1e-3",
    "lbfgs-l2-float64": f"--data nine.npz {WEIGHED} {LBFGS} --l2 1e-4",
    "lbfgs-int16-raw": f"--data short.npz --no-standardize {LBFGS} --l2 1e-2 --dtype float64",
    "lbfgs-kronecker-float64": f"--data kronecker.npz --weight w {LBFGS} --l2 1e-3",
    "lbfgs-kronecker-panels": f"--data panels.npz {LBFGS} --l2 1e-3 --max-steps 5",
    "lbfgs-many-features": f"--data long.npz {LBFGS} --l2 1e-2 --max-steps 5",
    "lbfgs-sparse-class-weights": f"--data text.svm --class-weight class-weights.json {LBFGS} --l2 1e-3",
    "lbfgs-sparse-centred": f"--data sparse64.npz --center yes {LBFGS} --l2 1e-3",
    "lbfgs-no-intercept-half": f"--data half.npz --no-intercept {LBFGS} --l2 1e-3",
    # proximal L-BFGS
    "proximal-l1": f"--data plain.npz --weight w --dtype float32 {LBFGS} --l1 5e-3",
    "proximal-group-uint8": f"{BYTES} {LBFGS} --group 2e-2",
    "proximal-elastic-net-sparse": f"--data sparse.npz {WEIGHED} {LBFGS} --l1 5e-3 --l2 1e-3",
    "proximal-all-penalties": f"--data nine.npz --no-standardize {LBFGS} --l1 5e-3 --group 5e-3 --l2 1e-3",
    "proximal-newton-l1": f"--data floats.npz --weight w {PROXIMAL_NEWTON} --l1 1e-3",
    "proximal-newton-raw": f"--data nine.npz --no-standardize {PROXIMAL_NEWTON} --l1 2e-3 --group 2e-3 --l2 1e-3",
    # trust region
    "trust-region": f"--data blocks.npz --shards 2 {NEWTON} --l2 1e-4",
    "trust-region-float64": f"--data nine.npz {WEIGHED} {NEWTON} --l2 1e-3",
    "trust-region-int16": f"--data short.npz --weight w {NEWTON} --l2 1e-3",
    "trust-region-sparse": f"--data sparse.npz --dtype float64 {NEWTON} --l2 1e-2",
    "trust-region-two-classes": f"--data two.npz {NEWTON} --l2 1e-3",
    # mini-batches; 300 and 321 rows leave a short last one
    "sgd": f"--data plain.npz --dtype float32 {SGD}",
    "sgd-momentum-cosine": f"--data plain.npz {WEIGHED} {SGD} --learning-rate 0.5 --momentum 0.9 --schedule cosine",
    "sgd-nesterov-step-uint8": f"{BYTES} {SGD} --learning-rate 0.05 --momentum 0.9 --nesterov --schedule step",
    "sgd-average-inverse-sparse": f"--data text.svm {SGD} --average --schedule inverse --seed 3",
    "sgd-warm-up-l1-half": f"--data half.npz {SGD} --learning-rate 0.1 --linear-scaling 32 --warm-up 0.5 --l1 2e-2",
    "sgd-auto-batch-group-sparse": "--data sparse64.npz --weight w --center yes --solver sgd --epochs 1 --group 2e-2",
    # data, held-out samples, and where a run starts and ends
    "held-out-imputed-one-hot": f"{TABLE} --impute mean --valid-fraction 0.25 --seed 5 {LBFGS} --l2 1e-3",
    "valid-imputed-zero": f"{TABLE} --impute zero --valid valid.csv {DESCENT}",
    "patience": f"--data text.svm --valid-fraction 0.3 --patience 2 --evaluate-every 1 {LBFGS} --max-steps 15",
    "l2-path": "--data floats.npz --valid-fraction 0.2 --l2-path 1e-1:1e-3:3 --max-steps 6 --tolerance 1e-3",
    "start-from-a-model": f"--data floats.npz --init lbfgs-l2 {LBFGS} --l2 3e-4",
    "read-again-each-step": f"--data blocks64.npz --memory 30k {LBFGS} --l2 1e-3 --max-steps 4",
    "automatic": "--data two.npz --dtype float64 --max-steps 12",
}


def digests(folder, cluster, names, threads):
    """Yield (name, sha256) of each model that the runs make, on rank 0 alone. Collective."""
    from distsoftmax.model import load_model

    for name in names:
        train(f"{RUNS[name]} {ALL_RUNS.format(name=name)} --threads {threads}", cluster)
        if cluster.rank != 0:
            continue
        models = sorted(folder.glob(f"{name}/path/*/model.safetensors")) or [folder / name / "model.safetensors"]
        for number, path in enumerate(models, start=1):
            yield name if len(models) == 1 else f"{name}-{number}", load_model(path).sha256


def train(options, cluster):
    """Train as the command line does, without its words. Collective."""
    from distsoftmax.command_line import parse
    from distsoftmax.config import TrainConfig
    from distsoftmax.train import command

    config = parse(TrainConfig, options.split(), prog="runs") if cluster.rank == 0 else None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = command(cluster.broadcast(config), cluster)
    if status:
        raise RuntimeError(f"{options}: exit status {status}\n{said.getvalue()}")


@contextlib.contextmanager
def files(cluster):
    """Work in a folder that holds the files of the runs, the same for all ranks. Collective."""
    from samples import write_files

    folder = Path(cluster.broadcast(tempfile.mkdtemp() if cluster.rank == 0 else None))
    try:
        if cluster.rank == 0:
            write_files(folder)
        cluster.broadcast(None)
        os.chdir(folder)
        yield folder
    finally:
        if cluster.rank == 0:
            shutil.rmtree(folder)


def chosen(only):
    """Return the runs to make for some of them: what their models start from, too."""
    words = [*only, *" ".join(RUNS[name] for name in only).split()]
    starts = {words[number + 1] for number, word in enumerate(words) if word == "--init"}
    return [name for name in RUNS if name in only or name in starts]


def main():
    parser = argparse.ArgumentParser(description="Make the golden runs and print the sha256 of their models.")
    parser.add_argument("--threads", default="1", help="of each rank")
    parser.add_argument("--only", choices=RUNS, nargs="+", default=list(RUNS), metavar="NAME", help="some runs")
    parser.add_argument("--write", action="store_true", help="write digests.txt")
    options = parser.parse_args()

    from distsoftmax.cluster.startup import join_job, load_core

    cluster = join_job()
    load_core(cluster)
    lines = []
    with files(cluster) as folder:
        for name, sha256 in digests(folder, cluster, chosen(options.only), options.threads):
            lines.append(f"{name} {sha256}\n")
            cluster.say(lines[-1].rstrip())
    if options.write and cluster.rank == 0:
        DIGESTS.write_text("".join(lines))
    cluster.leave(0)


if __name__ == "__main__":
    main()
