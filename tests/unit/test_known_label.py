"""The model remembers its column of labels: evaluate uses it, predict leaves it out, and --label wins."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from distsoftmax.model import load_model

pandas = pytest.importorskip("pandas")

N_ROWS = 60
X = np.random.default_rng(3).standard_normal((N_ROWS, 3)).round(3)
KINDS = np.where(X[:, 0] + X[:, 1] > 0, "cat", "dog")
OTHERS = np.where(X[:, 2] > 0, "cat", "dog")


def headless(path, *columns):
    pandas.DataFrame(dict(enumerate(columns))).to_csv(path, header=False, index=False)


def table(path, **columns):
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], **columns})
    frame.to_csv(path, index=False) if path.endswith("csv") else frame.to_parquet(path)


def archive(path, **columns):
    np.savez(path, X=X, **columns)


# how the samples are written with labels and without, the words that train, and the column that is remembered
SOURCES = {
    "a header": ("d.csv", lambda path, **labels: table(path, **labels), ["--label", "kind"], "kind"),
    "a header, by number": ("d.csv", lambda path, **labels: table(path, **labels), ["--label", 3], "kind"),
    "Parquet": ("d.parquet", lambda path, **labels: table(path, **labels), ["--label", "kind"], "kind"),
    "an archive": ("d.npz", lambda path, **labels: archive(path, **labels), ["--label", "kind"], "kind"),
    "no header": ("d.csv", lambda path, **labels: headless(path, *labels.values(), *X.T), ["--label", 0], "0"),
    "no header, last": ("d.csv", lambda path, **labels: headless(path, *X.T, *labels.values()), ["--label", 3], "3"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_no_label_need_be_named_after_training(job, tmp_path, name):
    path, write, words, column = SOURCES[name]
    write(path, kind=KINDS)
    assert job(2, "train", "--data", path, *words, "--l2", 1e-2, "--max-steps", 5, "--out", "run").status == 0
    assert load_model(tmp_path / "run" / "model.safetensors").label == column
    scores = {job(2, "evaluate", "run", "--data", path, "--json", *more).out for more in (words, [])}
    assert len(scores) == 1
    assert json.loads(scores.pop())["accuracy"] > 0.8
    assert job(2, "predict", "run", "--data", path, "--out", "labelled.csv").status == 0
    write(path)
    assert job(3, "predict", "run", "--data", path, "--out", "bare.csv").status == 0
    assert Path("labelled.csv").read_bytes() == Path("bare.csv").read_bytes()
    ended = job(1, "evaluate", "run", "--data", path)
    assert ended.status == 2
    assert "has no array y" in ended.err if path.endswith("npz") else f"there is no {column}, which tra" in ended.err


@pytest.mark.parametrize("path", ["d.csv", "d.parquet", "d.npz"])
def test_a_label_that_is_named_wins(job, tmp_path, path):
    write = archive if path.endswith("npz") else table
    write(path, kind=KINDS, other=OTHERS)
    choice = [] if path.endswith("npz") else ["--features", "a", "b", "c"]
    words = ["--label", "kind", *choice, "--l2", 1e-2, "--max-steps", 5]
    assert job(1, "train", "--data", path, *words, "--out", "run").status == 0
    by_kind, by_other = (
        json.loads(job(2, "evaluate", "run", "--data", path, "--json", *words).out)
        for words in ([], ["--label", "other"])
    )
    assert by_kind["accuracy"] > 0.8 > by_other["accuracy"]


def test_columns_without_names_keep_the_numbers_they_had_in_training(job, tmp_path):
    """Label first, weights in between: the columns of a file like it are found, of features alone taken in order."""
    weights = np.ones(N_ROWS)
    headless("d.csv", KINDS, X[:, 0], weights, X[:, 1], X[:, 2])
    options = ["--label", 0, "--weight", 2, "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(2, "train", "--data", "d.csv", *options).status == 0
    assert job(1, "predict", "run", "--data", "d.csv", "--out", "p.csv").status == 0
    headless("bare.csv", *X.T)
    assert job(1, "predict", "run", "--data", "bare.csv", "--out", "q.csv").status == 0
    assert Path("p.csv").read_bytes() == Path("q.csv").read_bytes()
    headless("narrow.csv", X[:, 0], weights, X[:, 1], X[:, 2])
    ended = job(1, "predict", "run", "--data", "narrow.csv", "--out", "r.csv")
    assert ended.status == 2
    assert "the model has 3 features, the file 4" in ended.err


@pytest.mark.parametrize("header", [False, True])
def test_text_columns_without_names_are_found_by_their_places(job, header):
    """The model's columns have numbers, or names; the new rows lack the column of labels, and names."""
    colours = np.where(X[:, 2] > 0, "red", "blue")
    frame = pandas.DataFrame({"kind": KINDS, "a": X[:, 0], "colour": colours, "b": X[:, 1]})
    frame.to_csv("d.csv", index=False, header=header)
    words = ["--label", 0, "--one-hot", 2, "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(2, "train", "--data", "d.csv", *words).status == 0
    assert job(1, "predict", "run", "--data", "d.csv", "--out", "p.csv", "--probabilities").status == 0
    headless("bare.csv", X[:, 0], colours, X[:, 1])
    ended = job(3, "predict", "run", "--data", "bare.csv", "--one-hot", 1, "--out", "q.csv", "--probabilities")
    assert ended.status == 0, ended.err
    assert Path("p.csv").read_bytes() == Path("q.csv").read_bytes()


def test_of_columns_named_alike_one_is_left_out_by_its_number(job):
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "kind": KINDS})
    frame.rename(columns={"c": "a"}).to_csv("d.csv", index=False)
    words = ["--label", "kind", "--drop", 2, "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(2, "train", "--data", "d.csv", *words).status == 0
    ended = job(1, "predict", "run", "--data", "d.csv", "--out", "p.csv")
    assert ended.status == 2
    assert "two columns are named 'a'" in ended.err
    assert job(1, "predict", "run", "--data", "d.csv", "--drop", 2, "--out", "p.csv").status == 0
    frame.drop(columns="c").to_csv("bare.csv", index=False)
    assert job(1, "predict", "run", "--data", "bare.csv", "--out", "q.csv").status == 0
    assert Path("p.csv").read_bytes() == Path("q.csv").read_bytes()
    frame[["b", "kind", "a"]].to_csv("other.csv", index=False)  # where column 2 is another one
    assert job(3, "train", "--data", "d.csv", *words[:-1], "again", "--valid", "other.csv").status == 0


def test_names_that_look_like_numbers_of_columns_are_names_where_the_label_has_one(job):
    """The first of the names, x1, is not taken for column 1, which is the second."""
    table = pandas.DataFrame({"x1": X[:, 0], "x2": X[:, 1], "y": np.arange(N_ROWS) % 2})
    table.to_csv("d.csv", index=False)
    words = ["--label", "y", "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(2, "train", "--data", "d.csv", *words).status == 0
    assert job(1, "predict", "run", "--data", "d.csv", "--out", "p.csv").status == 0
    table.to_csv("headless.csv", index=False, header=False)
    ended = job(1, "predict", "run", "--data", "headless.csv", "--out", "q.csv")
    assert ended.status == 2
    assert "the model has 2 features, the file 3" in ended.err
    for words in (["--label", 2], ["--drop", 2]):
        ended = job(1, "predict", "run", "--data", "headless.csv", *words, "--out", "q.csv")
        assert ended.status == 0, ended.err
        assert Path("p.csv").read_bytes() == Path("q.csv").read_bytes()
        Path("q.csv").unlink()


def test_columns_without_names_keep_their_numbers_where_the_label_stands_in_the_folders(job):
    for kind in ("cat", "dog"):
        (folder := Path("d") / f"kind={kind}").mkdir(parents=True)
        headless(folder / "0.csv", *X[kind == KINDS].T)
    words = ["--label", "kind", "--drop", 1, "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(2, "train", "--data", "d", *words).status == 0
    assert job(1, "predict", "run", "--data", "d", "--drop", 1, "--out", "p.csv").status == 0
    assert job(2, "predict", "run", "--data", "d", "--out", "q.csv").status == 0
    assert Path("p.csv").read_bytes() == Path("q.csv").read_bytes()


def test_a_model_of_an_array_does_not_guess_where_a_label_stands(job, tmp_path):
    archive("d.npz", y=KINDS)
    assert job(1, "train", "--data", "d.npz", "--l2", 1e-2, "--max-steps", 2, "--out", "run").status == 0
    headless("d.csv", np.arange(N_ROWS), *X.T)
    ended = job(1, "predict", "run", "--data", "d.csv", "--out", "p.csv")
    assert ended.status == 2
    assert "the model has 3 features, the file 4" in ended.err


def test_a_label_that_is_no_column_of_the_types_at_hand_is_no_feature_of_theirs(job):
    parquet.write_table(pyarrow.table({"a": X[:, 0], "b": X[:, 1], "kind": KINDS}), "d.parquet")
    options = ["--label", "kind", "--l2", 1e-2, "--max-steps", 2, "--out", "run"]
    assert job(1, "train", "--data", "d.parquet", *options).status == 0
    dates = pyarrow.array([18000] * N_ROWS, pyarrow.date32())
    parquet.write_table(pyarrow.table({"a": X[:, 0], "b": X[:, 1], "kind": dates}), "d.parquet")
    assert job(1, "predict", "run", "--data", "d.parquet", "--out", "p.csv").status == 0
