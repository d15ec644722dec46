"""What counts as missing (--missing), rows that are left out for it (--drop-rows-missing), and columns (--drop)."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from in_process import trained
from pyarrow import parquet
from ranks import on_ranks, read

from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.data.dataset import load_dataset
from distsoftmax.errors import InputError
from distsoftmax.model import load_model

pandas = pytest.importorskip("pandas")

N_ROWS = 90
MISSING = ("?", "-999")
GENERATOR = np.random.default_rng(5)


def a_table():
    """Numbers, categories, weights and labels, each with cells that say nothing in one way or another."""
    frame = pandas.DataFrame(
        {
            "id": [f"row {row}" for row in range(N_ROWS)],
            "a": GENERATOR.standard_normal(N_ROWS).round(3).astype(str),
            "b": GENERATOR.integers(0, 9, N_ROWS).astype(str),
            "colour": GENERATOR.choice(["red", "blue", "green"], N_ROWS),
            "w": GENERATOR.integers(1, 4, N_ROWS).astype(str),
            "kind": GENERATOR.choice(["cat", "dog"], N_ROWS),
        }
    )
    for row, column, text in (
        (3, "a", "?"),
        (8, "a", "-999"),
        (9, "a", "-999.0"),
        (9, "b", "-9.99e2"),
        (14, "b", ""),
        (15, "colour", "?"),
        (16, "colour", "NA"),
        (31, "kind", "?"),
        (47, "w", "-999"),
        (48, "id", "?"),
        (70, "b", "NaN"),
    ):
        frame.loc[row, column] = text
    return frame


@pytest.fixture
def frame(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = a_table()
    frame.to_csv("d.csv", index=False)
    return frame


def complete(frame, columns=("a", "b", "colour", "w", "kind")):
    """As pandas reads the same file, without the rows with a missing cell."""
    return pandas.read_csv("d.csv", na_values=[*MISSING, "-999.0", "-9.99e2"]).dropna(subset=list(columns))


OPTIONS = {"label": "kind", "weight": "w", "one_hot": ("colour",), "drop": ("id",), "missing": MISSING}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_is_named_is_missing_as_pandas_has_it(frame, kind):
    known = pandas.read_csv("d.csv", na_values=[*MISSING, "-999.0", "-9.99e2"])
    if kind == "parquet":
        numbers = {name: pandas.to_numeric(frame[name], errors="coerce") for name in ("a", "b", "w")}
        frame.assign(**numbers, colour=frame["colour"].replace("NA", None)).to_parquet("d.parquet")
    found = read(f"d.{kind}", rows_may_lack_labels=True, ranks=3, **OPTIONS)
    assert found.names == ("a", "b")
    np.testing.assert_array_equal(found.features, known[["a", "b"]])
    np.testing.assert_array_equal(found.weights, known["w"])
    kinds, colours = (
        known[name].astype(object).where(known[name].notna(), None).tolist() for name in ("kind", "colour")
    )
    assert (found.labels, found.categories) == (kinds, [colours])


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "int16"])
def test_integers_with_a_missing_one_become_floats_in_their_shard_alone(tmp_path, dtype):
    features = np.arange(40).reshape(20, 2).astype(dtype)
    np.savez(tmp_path / "d.npz", X=features, y=np.arange(20) % 2)
    found = read(tmp_path / "d.npz", missing=("25", "-1", "1e30", "x"), shards=5).features
    np.testing.assert_array_equal(found, np.where(features == 25, np.nan, features))
    big = np.array([[2**53], [2**53 + 1]] * 5)
    np.savez(tmp_path / "e.npz", X=big, y=np.arange(10) % 2)
    found = read(tmp_path / "e.npz", missing=(str(2**53),), shards=1).features
    assert np.isnan(found[:, 0]).tolist() == [True, False] * 5


def test_a_blank_may_stand_before_what_is_missing(write):
    path = write("a,b,kind\n1, ?,x\n ?,5,y\n3,4, ?\n5,6,y\n")
    found = read(path, label="kind", missing=("?",), rows_may_lack_labels=True)
    np.testing.assert_array_equal(found.features, [[1, np.nan], [np.nan, 5], [3, 4], [5, 6]])
    assert found.labels == ["x", "y", None, "y"]


def facts(config, ranks):
    """What the ranks know of a dataset; and its training and held-out samples, put together."""

    def work(rank):
        dataset = load_dataset(config, True, rank)
        parts = [
            (samples.shard, np.array(samples.features[:]), samples.classes, samples.weights)
            for samples in (*dataset.training, *dataset.held_out)
        ]
        gathered = rank.allgather(parts)
        return dataset, sorted((part for of_rank in gathered for part in of_rank), key=lambda part: part[0])

    outcomes = on_ranks(ranks, work)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes[0]


def test_rows_with_a_missing_cell_are_left_out_of_everything(frame):
    config = DataConfig(data=("d.csv",), drop_rows_missing=True, standardize=False, dtype="float64", **OPTIONS)
    known = complete(frame)
    for ranks in (1, 3):
        dataset, parts = facts(config, ranks)
        assert (dataset.n_training, dataset.n_rows, dataset.n_shards) == (len(known), N_ROWS, 16)
        assert dataset.total_weight * 4 == known["w"].sum()  # in units of the power of two above the largest
        features = np.concatenate([part[1] for part in parts])
        np.testing.assert_array_equal(features[:, :2], known[["a", "b"]])
        np.testing.assert_array_equal(features[:, 2:], pandas.get_dummies(known["colour"]))
        assert f"d.csv: {N_ROWS - len(known)} of {N_ROWS} rows have a missing cell and are left out" in dataset.notes


def test_a_row_is_held_out_whether_or_not_others_are_left_out(frame):
    """The rule goes by the rows of the source: filled in or left out, the same rows are trained on."""
    common = {"data": ("d.csv",), "standardize": False, "dtype": "float64", "valid_fraction": 0.3, "seed": 4}
    columns = {"label": "kind", "features": ("a", "b"), "missing": MISSING}
    Path("d.csv").write_text(Path("d.csv").read_text().replace(",?\n", ",cat\n"))
    filled, all_parts = facts(DataConfig(impute="zero", **columns, **common), 2)
    left, parts = facts(DataConfig(drop_rows_missing=True, **columns, **common), 3)
    known = complete(frame, ("a", "b"))
    assert left.n_training + left.n_held_out == len(known)
    everything = {tuple(row) for part in all_parts[: filled.n_shards * 2] for row in part[1].tolist()}
    assert {tuple(row) for part in parts for row in part[1].tolist()} <= everything

    def training_rows(dataset, parts):
        return {tuple(row) for number, rows, *_ in parts if len(rows) for row in rows.tolist()}

    assert training_rows(left, parts) == {tuple(row) for row in known[["a", "b"]].to_numpy().tolist()}
    n_training = filled.n_training - left.n_training
    assert 0 < n_training < N_ROWS - len(known) + 1


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_model_is_that_of_a_file_without_these_rows(frame, tmp_path, ranks):
    """One shard, so that the slices are the same."""
    complete(frame).to_csv("whole.csv", index=False)
    digests = set()
    for number, (path, drops) in enumerate((("d.csv", True), ("whole.csv", False))):
        config = TrainConfig(
            data=DataConfig(data=(path,), drop_rows_missing=drops, shards=1, **OPTIONS),
            objective=ObjectiveConfig(l2=1e-2),
            solver=SolverConfig(max_steps=4),
            run=RunConfig(out=f"run-{number}-{ranks}", progress="never"),
        )
        digests.update(on_ranks(ranks, lambda rank, config=config: trained(config, rank)))
    assert len(digests) == 1, digests


WORDS = ["--label", "kind", "--weight", "w", "--one-hot", "colour", "--drop", "id", "--missing", "?", "-999"]


def test_the_model_knows_what_is_missing_and_which_columns_it_needs(job, frame):
    train = ["train", "--data", "d.csv", *WORDS, "--drop-rows-missing", "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    ended = job(2, *train)
    known = complete(frame)
    assert f"{len(known)} training samples" in ended.out
    model = load_model(Path("run/model.safetensors"))
    assert (model.encoding.missing, model.encoding.on_missing) == (MISSING, "drop row")
    assert model.feature_names == ("a", "b", "colour=blue", "colour=green", "colour=red")
    ended = job(3, "evaluate", "run", "--data", "d.csv", "--json")
    unweighted = complete(frame, ("a", "b", "colour", "kind"))
    assert json.loads(ended.out)["n_samples"] == len(unweighted)
    assert f"{N_ROWS - len(unweighted)} of {N_ROWS} rows have a missing cell" in ended.err


@pytest.mark.parametrize("out", ["p.csv", "p.parquet"])
def test_predictions_of_incomplete_rows_are_empty_in_their_places(job, frame, out):
    train = ["train", "--data", "d.csv", *WORDS, "--drop-rows-missing", "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(1, *train).status == 0
    for ranks in (1, 3):
        ended = job(ranks, "predict", "run", "--data", "d.csv", "--out", out, "--probabilities")
        found = pandas.read_csv(out) if out.endswith("csv") else pandas.read_parquet(out)
        known = complete(frame, ("a", "b", "colour"))
        assert len(found) == N_ROWS
        assert found.index[found["prediction"].notna()].tolist() == known.index.tolist()
        assert found["probability_cat"].notna().tolist() == found["prediction"].notna().tolist()
        assert f"{N_ROWS - len(known)} of {N_ROWS} rows" in ended.err
    ended = job(2, "predict", "run", "--data", "d.csv", "--out", "p.npy")
    assert ended.status == 2
    assert "a .npy file of classes has no empty place; write .csv or .parquet" in ended.err


def test_held_out_files_are_treated_alike(job, frame):
    assert (
        job(1, "train", "--data", "d.csv", *WORDS, "--drop-rows-missing", "--valid", "d.csv", "--out", "r").status == 0
    )
    lines = Path("d.csv").read_text().splitlines()
    Path("bad.csv").write_text("\n".join([lines[0], lines[4], lines[9]]) + "\n")
    words = [*WORDS, "--drop-rows-missing", "--valid", "bad.csv", "--out", "s"]
    ended = job(2, "train", "--data", "d.csv", *words)
    assert ended.status == 2
    assert "bad.csv: every row has a missing cell" in ended.err


def test_a_run_that_left_rows_out_resumes_and_starts_warm_with_the_same_bits(job, frame, tmp_path):
    words = [*WORDS, "--drop-rows-missing", "--valid", "d.csv", "--l2", 1e-2, "--tolerance", 0, "--warm"]
    words += ["--scratch", tmp_path]
    whole = job(2, "train", "--data", "d.csv", *words, "--max-steps", 6, "--out", "whole").sha256
    job(3, "train", "--data", "d.csv", *words, "--max-steps", 3, "--out", "part")
    again = job(1, "train", "--data", "d.csv", *words, "--max-steps", 6, "--out", "part")
    assert "resumed from" in again.out
    assert again.sha256 == whole


REFUSED = {
    "both": (["--drop-rows-missing", "--impute", "mean"], "--drop-rows-missing and --impute both say"),
    "no such column": (["--drop", "colours"], "there is no such column colours; did you mean colour?"),
    "the label": (["--drop", "kind"], "column kind is named in both --label and --drop"),
    "a feature": (["--features", "a", "b", "--drop", "a"], "column a is named in both --drop and --features"),
    "a label is missing": (["--missing", "cat"], "d.csv: row 1, column kind: the label is missing"),
    "no row is left": (["--drop-rows-missing", "--missing", "1", "2"], "d.csv: every row has a missing cell"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(job, name):
    Path("d.csv").write_text("a,b,colour,kind\n" + "1,2,red,cat\n2,1,blue,dog\n" * 5)
    words, complaint = REFUSED[name]
    ended = job(2, "train", "--data", "d.csv", "--label", "kind", "--one-hot", "colour", *words, "--out", "run")
    assert ended.status == 2
    assert complaint in ended.err
    assert not Path("run").exists()


def test_a_format_without_names_has_no_columns_to_drop(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.eye(4), y=np.arange(4) % 2)
    with pytest.raises(InputError, match="--drop does not apply to files in the npz format"):
        read(tmp_path / "d.npz", drop=("x1",))


@pytest.mark.parametrize("header", [True, False])
def test_a_dropped_column_may_hold_anything(job, frame, header):
    """Text in a file without header, and a column that a later part has alone."""
    columns = frame[["id", "kind", "b"]].assign(b=range(N_ROWS), c=GENERATOR.random(N_ROWS), kind=["x", "y"] * 45)
    columns.to_csv("t.csv", index=False, header=header)
    words = ["--label", "kind", "--drop", "id"] if header else ["--label", 1, "--drop", 0]
    assert job(2, "train", "--data", "t.csv", *words, "--max-steps", 3, "--out", "run").status == 0
    assert len(load_model(Path("run/model.safetensors")).feature_names) == 2
    assert job(2, "predict", "run", "--data", "t.csv", "--out", "p.csv").status == 0


def test_a_part_of_parquet_may_have_a_dropped_column_more(tmp_path):
    labels = ["x", "y"] * 3
    parquet.write_table(pyarrow.table({"a": range(6), "kind": labels, "t": labels}), tmp_path / "0.parquet")
    table = pyarrow.table({"a": range(6), "kind": labels, "t": range(6), "u": labels})
    parquet.write_table(table, tmp_path / "1.parquet")
    with pytest.raises(InputError, match="there is no such column u"):
        read(tmp_path / "*.parquet", label="kind", drop=("t", "u"))
    parquet.write_table(table.drop_columns(["u"]), tmp_path / "1.parquet")
    assert read(tmp_path / "*.parquet", label="kind", drop=("t",), ranks=2).names == ("a",)


@pytest.mark.parametrize("words", [(), ("--drop-rows-missing",)])
def test_describe_counts_the_rows_that_training_leaves_out(job, frame, words):
    known = complete(frame)
    ended = job(3, "describe", "d.csv", *WORDS, *words, "--json")
    found = json.loads(ended.out)
    if not words:
        assert ended.status == 2
        (complaint,) = (problem["text"] for problem in found["problems"] if "the label is missing" in problem["text"])
        assert complaint.startswith("d.csv: row 32, column kind: the label is missing")
        return
    assert ended.status == 0, found["problems"]
    assert sum(found["classes"].values()) == len(known)
    said = f"d.csv: {N_ROWS - len(known)} of {N_ROWS} rows have a missing cell and are left out"
    assert {"severity": "note", "text": said} in found["problems"]
    assert found["weights"]["total"] == known["w"].sum()
