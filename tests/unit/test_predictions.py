"""The file of `predict`: its formats, the order of its rows, and what it never overwrites."""

import csv
import errno
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from ranks import on_ranks

from distsoftmax.arithmetic import library
from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import ScoringConfig
from distsoftmax.durable import write_atomically
from distsoftmax.errors import InputError, OutputError
from distsoftmax.evaluate import evaluate
from distsoftmax.model import Encoding, Model
from distsoftmax.predict import PredictConfig, command
from distsoftmax.scoring import prediction_file

CLASSES = ("b", 'a,"c"', "", "d\ne", "é")
N_ROWS = 57
FEATURES = np.random.default_rng(0).standard_normal((N_ROWS, 3))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A model and samples, in the current folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    model = Model(
        generator.standard_normal((5, 3)),
        generator.standard_normal(5),
        CLASSES,
        Encoding(numeric=("x0", "x1", "x2")),
        library.VERSION,
    )
    write_atomically(tmp_path / "model.safetensors", *model.file_content())
    np.savez("d.npz", X=FEATURES)
    return model


def predict(out, ranks=1, data="d.npz", **options):
    config = PredictConfig(model=".", data=(data,), out=str(out), **options)
    if ranks == 1:
        return command(config, Alone())
    for outcome in on_ranks(ranks, lambda cluster: command(config, cluster)):
        if isinstance(outcome, Exception) and not isinstance(outcome, threading.BrokenBarrierError):
            raise outcome
    return 0


def refusal(out, **options):
    with pytest.raises((InputError, OutputError)) as caught:
        predict(out, **options)
    return str(caught.value)


def expected(model):
    scores = FEATURES @ model.coef.T + model.intercept
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return [model.classes[best] for best in scores.argmax(axis=1)], powers / powers.sum(axis=1, keepdims=True)


def rows_of(path):
    """The names of the columns, and the rows, of a file that is no .npy."""
    if path.endswith((".parquet", ".pq")):
        table = parquet.read_table(path)
        return table.column_names, [list(row.values()) for row in table.to_pylist()]
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t" if path.endswith("tsv") else ",")
    return header, [[row[0], *map(float, row[1:])] for row in rows]


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("out", ["p.csv", "p.tsv", "p.parquet", "p.PQ", "predictions"])
def test_a_table_has_the_rows_of_the_data_and_the_classes_of_the_model(saved, out, probabilities, ranks):
    predict(out, ranks, probabilities=probabilities)
    classes, chances = expected(saved)
    if out == "p.PQ":
        os.rename(out, "p.pq")
    names, rows = rows_of("p.pq" if out == "p.PQ" else out)
    assert [row[0] for row in rows] == classes
    assert names == ["prediction", *(f"probability_{name}" for name in CLASSES if probabilities)]
    if probabilities:
        np.testing.assert_allclose([row[1:] for row in rows], chances, rtol=1e-12)


@pytest.mark.parametrize("ranks", [1, 3])
def test_an_array_holds_the_classes_or_the_probabilities(saved, ranks):
    classes, chances = expected(saved)
    predict("p.npy", ranks)
    assert np.load("p.npy").tolist() == classes
    predict("p.npy", ranks, probabilities=True)
    held = np.load("p.npy")
    assert held.dtype == np.float64
    np.testing.assert_allclose(held, chances, rtol=1e-12)


@pytest.mark.parametrize("out", ["p.csv", "p.parquet", "p.npy"])
def test_the_bytes_do_not_depend_on_the_number_of_ranks(saved, out, monkeypatch):
    monkeypatch.setattr(prediction_file, "ROWS_OF_A_GROUP", 10)  # which a file of this size has several of
    contents = set()
    for ranks in (1, 2, 5):
        predict(out, ranks, probabilities=True)
        with open(out, "rb") as file:
            contents.add(file.read())
    assert len(contents) == 1


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_disk_that_fills_up_is_an_error_on_all_ranks_and_leaves_the_older_file(saved, ranks, monkeypatch):
    (before := Path("p.csv")).write_text("old")

    def write(self, file, n_rows, contents):
        file.write(next(iter(contents)))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prediction_file.PredictionTable, "write", write)
    assert "p.csv: could not be written: No space left on device" in refusal("p.csv", ranks=ranks)
    assert (before.read_text(), list(Path().glob(".*"))) == ("old", [])


def test_a_class_that_an_array_cannot_hold_is_refused(saved, tmp_path):
    model = Model(saved.coef[:2], saved.intercept[:2], ("a", "a\0"), saved.encoding, library.VERSION)
    write_atomically(tmp_path / "model.safetensors", *model.file_content())
    assert "a .npy file cannot hold the class 'a\\x00'; write .csv or .parquet" in refusal("p.npy")
    assert not os.path.exists("p.npy")
    assert predict("p.parquet") == predict("p.npy", probabilities=True) == 0


def test_standard_output_takes_the_csv_file(saved, capfdbinary):
    predict("p.csv", probabilities=True)
    capfdbinary.readouterr()
    predict("-", probabilities=True)
    out, err = capfdbinary.readouterr()
    with open("p.csv", "rb") as file:
        assert (out, err) == (file.read(), b"")


def everything(folder):
    """All there is in a folder: kinds, contents, and where links lead."""
    return {
        path.name: (
            path.lstat().st_mode,
            os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes(),
        )
        for path in folder.iterdir()
    }


def make_device(path):
    """A device of our own: a test that fails must not replace one of the machine's."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root makes devices")


PLACES = {
    "its input": "d.npz.csv",
    "its input by a hard link": "hard",
    "its input by a symbolic link": "soft",
    "one of several inputs": "parts/1.csv",
    "the model": "model.safetensors",
    "a pipe": "pipe",
    "a device": "device",
    "a folder": "parts",
    "nothing there": "none/p.csv",
    "a file as a folder": "model.safetensors/p.csv",
    "a link in a circle": "circle",
    "a long name": 300 * "n",
    "a name with no room for the temporary one": 250 * "n",
    "a format that is not written": "p.npz",
    "a compressed format": "p.csv.gz",
    "a workbook": "p.xlsx",
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_not_for_predictions_is_refused_and_left_alone(saved, tmp_path, name):
    rows = "".join(f"{a!r},{b!r},{c!r}\n" for a, b, c in FEATURES.tolist())
    (tmp_path / "d.npz.csv").write_text("x0,x1,x2\n" + rows)
    os.mkdir("parts")
    for number in range(3):
        (tmp_path / "parts" / f"{number}.csv").write_text("x0,x1,x2\n" + rows)
    os.link("d.npz.csv", "hard")
    os.symlink("d.npz.csv", "soft")
    os.symlink("circle", "circle")
    os.mkfifo("pipe")
    if name == "a device":
        make_device("device")
    before = everything(tmp_path), everything(tmp_path / "parts")
    text = refusal(PLACES[name], data="parts" if name.startswith("one of") else "d.npz.csv", ranks=2)
    assert text.startswith(f"--out {PLACES[name]}: ")
    assert (everything(tmp_path), everything(tmp_path / "parts")) == before


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_stays_a_link_and_its_file_is_written(saved, tmp_path, exists):
    os.mkdir("elsewhere")
    if exists:
        (tmp_path / "elsewhere" / "p.csv").write_text("old")
    os.symlink("elsewhere/p.csv", "link.csv")
    predict("link.csv")
    assert os.readlink("link.csv") == "elsewhere/p.csv"
    assert rows_of("elsewhere/p.csv")[0] == ["prediction"]
    assert os.listdir("elsewhere") == ["p.csv"]


def test_an_older_file_is_replaced(saved, tmp_path):
    (tmp_path / "p.csv").write_text("old")
    predict("p.csv")
    assert len(rows_of("p.csv")[1]) == N_ROWS


def test_an_empty_name_is_refused():
    with pytest.raises(InputError, match="--out names nothing"):
        PredictConfig(model=".", data=("d",), out="")


def test_a_missing_number_is_answered_with_what_predict_takes(saved):
    np.savez("d.npz", X=np.where(np.arange(3) == 1, np.nan, FEATURES))
    text = refusal("p.csv")
    assert "row 1, column x1: there is no number" in text
    assert "train with --impute mean or zero" in text
    assert not os.path.exists("p.csv")


def test_of_probabilities_that_are_equal_the_larger_score_decides_as_it_does_for_evaluate(tmp_path):
    model = Model(np.array([[0.0], [2.0**-60]]), np.zeros(2), ("a", "b"), Encoding(numeric=("x0",)))
    write_atomically(tmp_path / "model.safetensors", *model.file_content())
    np.savez(tmp_path / "d.npz", X=[[1.0], [-1.0]], y=["b", "a"])
    scoring = {"model": str(tmp_path), "data": (str(tmp_path / "d.npz"),)}
    command(PredictConfig(**scoring, out=str(tmp_path / "p.csv"), probabilities=True), Alone())
    lines = (tmp_path / "p.csv").read_text().splitlines()[1:]
    assert lines == ['"b",0.5,0.5', '"a",0.5,0.5']
    assert evaluate(ScoringConfig(**scoring), Alone()).accuracy == 1.0
