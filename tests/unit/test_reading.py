"""Commands on samples of several sorts: real sparse text, weights, categories."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array, save_npz
from sklearn.datasets import load_svmlight_file

AGNEWS = Path(__file__).parents[3] / "shared" / "data" / "agnews.train.svm"
QUICK = ["--tolerance", 0, "--max-steps", 4]


@pytest.fixture
def agnews(tmp_path):
    """The first lines of a real sparse text."""
    if not AGNEWS.exists():
        pytest.skip("the shared data set agnews is not here")
    path = tmp_path / AGNEWS.name
    path.write_text("".join(AGNEWS.read_text().splitlines(keepends=True)[:1200]))
    return path


def test_sparse_text_gives_the_same_bits_on_any_ranks_and_in_any_sparse_format(job, agnews, tmp_path):
    features, labels = load_svmlight_file(str(agnews))
    save_npz(tmp_path / "X.npz", csr_array(features))
    np.save(tmp_path / "y.npy", labels)
    lines = agnews.read_text().splitlines(keepends=True)
    (tmp_path / "parts").mkdir()
    for number, (start, stop) in enumerate(((0, 10), (10, 800), (800, 800), (800, 1200))):
        (tmp_path / "parts" / f"part-{number}.svm").write_text("".join(lines[start:stop]))
    found = set()
    for ranks, data in ((1, [agnews]), (3, [agnews]), (5, ["parts"]), (2, ["X.npz", "--labels", "y.npy"])):
        options = ["--data", *data, "--l2", 1e-4, "--dtype", "float64", *QUICK, "--out", f"run-{ranks}"]
        found.add(job(ranks, "train", *options).sha256)
    assert len(found) == 1


def test_a_sparse_run_resumes_on_other_ranks_with_the_same_bits(job, agnews):
    options = ["--data", agnews, "--l2", 1e-4, "--center", "yes", "--tolerance", 0]
    whole = job(2, "train", *options, "--max-steps", 8, "--out", "whole").sha256
    job(3, "train", *options, "--max-steps", 3, "--out", "part")
    again = job(1, "train", *options, "--max-steps", 8, "--out", "part")
    assert "resumed from part/checkpoints/" in again.out
    assert again.sha256 == whole


@pytest.fixture
def columns(tmp_path):
    """A table with a text column, missing numbers and weights."""
    generator = np.random.default_rng(0)
    numbers = generator.standard_normal((240, 2)).round(4)
    colours = generator.choice(["red", "green", "blue"], 240)
    kinds = np.where(numbers[:, 0] + (colours == "red") + generator.gumbel(size=240) > 0.8, "yes", "no")
    lines = ["size,colour,length,w,kind"]
    for row, ((size, length), colour, kind) in enumerate(zip(numbers.tolist(), colours, kinds, strict=True)):
        lines.append(f"{'' if row % 9 == 0 else size},{colour},{length},{row % 3},{kind}")
    path = tmp_path / "columns.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


OPTIONS = ["--label", "kind", "--weight", "w", "--one-hot", "colour", "--impute", "mean", "--l2", 1e-3]


def test_the_model_takes_raw_rows_and_reports_unseen_categories(job, columns, tmp_path):
    ended = job(2, "train", "--data", columns, *OPTIONS, "--class-weight", "balanced", "--out", "run")
    assert ended.status == 0, ended.err
    (tmp_path / "new.csv").write_text("colour,length,size\nred,0.5,\nmauve,0.5,1\nblue,,\n")
    found = [job(ranks, "predict", "run", "--data", "new.csv", "--out", f"p{ranks}.csv") for ranks in (1, 3)]
    for ended in found:
        assert ended.status == 0, ended.err
        assert "1 cell holds a category that training never saw" in ended.err
    assert (tmp_path / "p1.csv").read_text() == (tmp_path / "p3.csv").read_text()
    assert (tmp_path / "p1.csv").read_text().count("\n") == 4
    scored = job(2, "evaluate", "run", "--data", columns, "--label", "kind", "--json")
    assert json.loads(scored.out)["accuracy"] > 0.6


def test_rows_without_the_models_text_columns_are_refused(job, columns, tmp_path):
    assert job(1, "train", "--data", columns, *OPTIONS, *QUICK, "--out", "run").status == 0
    np.savez(tmp_path / "bare.npz", X=np.ones((3, 2)))
    (tmp_path / "bare.csv").write_text("size,length\n1,2\n")
    for data, words in (("bare.npz", "lacks text columns that the model has: colour"), ("bare.csv", "colour")):
        ended = job(2, "predict", "run", "--data", data, "--out", "p.csv")
        assert ended.status == 2
        assert words in ended.err


def test_other_columns_belong_to_another_run(job, columns):
    assert job(2, "train", "--data", columns, *OPTIONS, *QUICK, "--out", "run").status == 0
    for changes, words in (
        (["--impute", "zero"], "--impute was mean, now it is zero"),
        (["--class-weight", "balanced"], "class weights"),
        (["--features", "length"], "columns were"),
    ):
        ended = job(2, "train", "--data", columns, *OPTIONS, *QUICK, *changes, "--out", "run")
        assert ended.status == 2
        assert words in ended.err
