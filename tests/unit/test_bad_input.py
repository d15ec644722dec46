"""Each bad input ends with its own message, exit status 2, on one line of rank 0, and leaves no folder behind.

The ranks are threads; tests/jobs/test_bad_input_of_jobs.py has some of this by mpirun.
"""

import bz2
import errno
import gzip
import lzma
import os
import zipfile

import numpy as np
import pyarrow.feather
import pytest

GOOD = "a,b,kind\n" + "".join(f"{i}.5,{i * i % 7},{'xy'[i % 2]}\n" for i in range(40))


def csv(text):
    return lambda path: path.write_text(text)


def npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def parts(**texts):
    def write(folder):
        folder.mkdir()
        for name, text in texts.items():
            (folder / f"{name}.csv").write_text(text)

    return write


def compressed(by):
    return lambda path: path.write_bytes(by(GOOD.encode()))


def workbook(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")


def feather(path):
    pyarrow.feather.write_feather(pyarrow.table({"a": [1.0, 2.0], "kind": ["x", "y"]}), str(path))


X = np.arange(80.0).reshape(40, 2)
Y = np.arange(40) % 2
LABEL = ["--label", "kind"]

FILES = {
    "missing file": ("none.csv", None, LABEL, ["none.csv: no such file"]),
    "a folder": ("folder.csv", lambda path: path.mkdir(), LABEL, ["is a folder with no parts"]),
    "empty file": ("d.csv", csv(""), LABEL, ["d.csv: is empty"]),
    "header only": ("d.csv", csv("a,b,kind\n"), LABEL, ["d.csv: holds no samples"]),
    "ragged row": ("d.csv", csv(GOOD + "1,2,3,x\n"), LABEL, ["d.csv: row 41: 4 columns, expected 3"]),
    "no number": ("d.csv", csv(GOOD + "1,two,x\n"), LABEL, ["row 41, column b: 'two' is not a number"]),
    "nan": ("d.csv", csv(GOOD + "nan,2,x\n"), LABEL, ["row 41, column a: there is no number"]),
    "inf": ("d.csv", csv(GOOD + "1,inf,x\n"), LABEL, ["row 41, column b: the value is inf"]),
    "label missing in a row": ("d.csv", csv(GOOD + "1,2,\n"), LABEL, ["row 41, column kind: the label is missing"]),
    "label not said": ("d.csv", csv(GOOD), [], ["--label", "a, b, kind"]),
    "label column missing": ("d.csv", csv(GOOD), ["--label", "sort"], ["no label column sort", "a, b, kind"]),
    "label column twice": ("d.csv", csv("kind,b,kind\n1,2,x\n"), LABEL, ["2 columns are named kind"]),
    "label column ambiguous": ("d.csv", csv("1,0,kind\n1,2,x\n"), ["--label", "1"], ["--label 1 is ambiguous"]),
    "one class": ("d.csv", csv("a,b,kind\n1,2,x\n3,4,x\n"), LABEL, ["all samples are of one class, 'x'"]),
    "a header taken for a row": ("d.csv", csv("9,1,2\nx,1,2\ny,3,4\nx,4,5\n"), ["--label", "0"], ["--header"]),
    "a header or a row": ("d.csv", csv("1,two,x\n4,5,y\n"), ["--label", "2"], ["mixes names and numbers", "--header"]),
    "X and y of different length": ("d.npz", npz(X=X, y=Y[:-1]), [], ["40 samples but 39 labels"]),
    "objects": ("d.npz", npz(X=X, y=np.array([None] * 40)), [], ["holds Python objects"]),
    "no y": ("d.npz", npz(X=X), [], ["has no array y; it holds X"]),
    "not a zip": ("d.npz", csv("text"), [], ["d.npz: the content is not that of a npz file"]),
    "nan in npz": ("d.npz", npz(X=np.where(X == 7, np.nan, X), y=Y), [], ["row 4, column x1: there is no number"]),
    "labels for npz": ("d.npz", npz(X=X, y=Y), ["--labels", "y.npy"], ["y.npy: no such file"]),
    "a label column for npz": ("d.npz", npz(X=X, y=Y), LABEL, ["has no array kind; it holds X, y"]),
    "npy without labels": ("d.npy", lambda path: np.save(path, X), [], ["--labels"]),
    "no Parquet": ("d.parquet", csv("x"), LABEL, ["d.parquet: the content is not that of a parquet file"]),
    "text not declared": ("d.csv", csv("a,b,kind\n1,red,x\n2,blue,y\n"), LABEL, ["column b", "--one-hot b"]),
    "negative weight": ("d.csv", csv(GOOD + "1,-2,x\n"), [*LABEL, "--weight", "b"], ["row 41: the weight is -2"]),
    "no weight": ("d.csv", csv(GOOD + "1,,x\n"), [*LABEL, "--weight", "b"], ["row 41: the weight is missing; fill"]),
    "parts that differ": ("d", parts(one=GOOD, two=GOOD.replace("b,", "c,")), LABEL, ["one.csv", "two.csv", "c"]),
    "mixed formats": ("d", parts(one=GOOD, two="1 1:2 3:4\n"), LABEL, ["svmlight format", "one.csv"]),
    "no parts": ("d", lambda path: path.mkdir(), LABEL, ["d: is a folder with no parts in it"]),
    "index 0 one-based": ("d.svm", csv("1 0:2 3:4\n2 1:1\n"), ["--index-base", "1"], ["d.svm: row 1", "index 0"]),
    "falling indices": ("d.svm", csv("1 1:2 3:4\n2 4:1 2:1\n"), [], ["d.svm: row 2", "ascend"]),
    "cut gzip": ("d.csv.gz", lambda path: path.write_bytes(gzip.compress(GOOD.encode())[:-20]), LABEL, ["d.csv.gz"]),
    "bzip2": ("d.csv", compressed(bz2.compress), LABEL, ["d.csv: is compressed by bzip2; decompress it"]),
    "xz": ("d.csv.xz", compressed(lzma.compress), LABEL, ["d.csv.xz: is compressed by xz; decompress it"]),
    "a workbook": ("d.xlsx", workbook, LABEL, ["it is a zip archive without a numpy array", "as CSV"]),
    "JSON": ("d.json", csv('{"a": 1, "kind": "x"}\n'), LABEL, ["d.json: is JSON; write its table as CSV or Parquet"]),
    "a list in JSON": ("d", csv('[\n {"a": 1, "kind": "x"}\n]\n'), LABEL, ["d: is JSON"]),
    "Feather": ("d.feather", feather, LABEL, ["d.feather: is an Arrow (Feather) file; write it as Parquet"]),
    "memory": ("d.csv", csv(GOOD), [*LABEL, "--memory", "much"], ["--memory is much; give bytes"]),
    "class weights of one class": (
        "d.csv", csv(GOOD), [*LABEL, "--class-weight", '{"x": 1, "y": 2, "x": 3}'], ["'x' stands there more than once"]
    ),
    "class weights": ("d.csv", csv(GOOD), [*LABEL, "--class-weight", "w.json"], ["w.json: cannot be read"]),
    "held-out none": ("d.csv", csv(GOOD), [*LABEL, "--valid-fraction", 0.01], ["holds none of them out"]),
}  # fmt: skip


def check(ended, words, tmp_path):
    assert ended.status == 2, (ended.status, ended.err)
    complaints = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(complaints) == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in complaints[0]
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", FILES)
def test_bad_data_are_refused_by_name(job, tmp_path, name):
    file, write, options, words = FILES[name]
    if write is not None:
        write(tmp_path / file)
    ended = job(3, "train", "--data", file, *options, "--out", "run")
    check(ended, words, tmp_path)


OPTIONS = {
    "negative l2": (["--l2=-1"], "--l2 is -1.0; it must be a finite number, 0 or more"),
    "negative learning rate": (["--learning-rate=-0.1"], "--learning-rate is -0.1"),
    "no shards": (["--shards", "0"], "--shards is 0; it must be at least 1"),
    "negative tolerance": (["--tolerance=-1"], "--tolerance"),
    "out of a file": (["--out", "table.csv/run"], "table.csv is a file"),
    "out where nothing can be made": (["--out", "/proc/here"], "--out /proc/here: cannot be made"),
    "no start": (["--init", "before"], "--init before: no such model; give the model.safetensors of a run, or"),
    "a start that is no model": (["--init", "table.csv"], "--init table.csv: is damaged or unreadable"),
    "patience with nothing held out": (["--patience", "3"], "--patience needs held-out samples: give --valid FILE"),
    "patience without evaluations": (
        ["--patience", "3", "--valid-fraction", "0.1", "--evaluate-every", "0"],
        "--patience counts the evaluations that --evaluate-every 0 leaves out",
    ),
    "no patience": (["--patience", "0"], "--patience is 0; it must be at least 1"),
    "no time": (["--max-seconds", "0"], "--max-seconds is 0.0; it must be a finite number above 0"),
    "a path that ascends": (["--l2-path", "1e-6:1e-1:20"], "--l2-path is 1e-6:1e-1:20; it must descend"),
    "a path of one value": (["--l2-path", "1e-1:1e-6:1"], "--l2-path is 1e-1:1e-6:1; COUNT must be from 2"),
    "a path to 0": (["--l2-path", "1e-1:0:5"], "--l2-path is 1e-1:0:5; its values must be above 0"),
    "no path": (["--l2-path", "1e-1,1e-6"], "--l2-path is 1e-1,1e-6; give FROM:TO:COUNT, as in 1e-1:1e-6:20"),
    "a path and a value": (["--l2-path", "1e-1:1e-6:5", "--l2", "1"], "--l2 and --l2-path both set the L2 penalty"),
    "a path into a file": (["--l2-path", "1e-1:1e-6:5", "--out", "table.csv"], "table.csv is a file; name a folder"),
    "no such config": (["--config", "none.toml"], "none.toml: cannot be read"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options_are_refused_by_name(job, table, tmp_path, name):
    options, words = OPTIONS[name]
    ended = job(2, "train", "--data", table, "--label", "kind", "--out", "run", *options)
    check(ended, [words], tmp_path)


def test_an_unknown_option_suggests_the_nearest_and_is_reported_once(job):
    ended = job(3, "train", "--lerning-rate", 0.1)
    assert ended.status == 2
    assert ended.err.count("--learning-rate") == 1
    assert ended.err.count("Unrecognized") <= 2


def test_a_bad_value_in_the_toml_file_is_placed_there(job, tmp_path):
    (tmp_path / "run.toml").write_text("l2 = 'much'\n")
    ended = job(2, "train", "--config", "run.toml")
    assert ended.status == 2
    assert "'much' is not a number" in ended.err
    assert ended.err.rstrip().endswith("--l2 stands in run.toml")
    assert "stands in" not in job(2, "train", "--l2", "much").err


def test_a_file_without_its_option_is_told_the_option(job):
    ended = job(2, "train", "table.csv", "--l2", 0.1)
    assert ended.status == 2
    assert ended.err.rstrip().endswith("to read table.csv, say --data table.csv")


def test_an_unknown_key_in_the_toml_file_suggests_the_nearest(job, tmp_path):
    (tmp_path / "run.toml").write_text("[solver]\nlerning-rate = 0.1\n")
    ended = job(2, "train", "--config", "run.toml")
    check(ended, ["run.toml: unknown key lerning-rate; did you mean learning-rate?"], tmp_path)


def test_help_is_printed_once(job):
    ended = job(3, "train", "--help")
    assert ended.status == 0
    assert ended.out.count("--checkpoint-seconds") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and read everywhere")
def test_what_may_not_be_read_or_written_is_refused(job, table, tmp_path):
    table.chmod(0)
    check(job(2, "train", "--data", table, "--label", "kind", "--out", "run"), ["cannot be read"], tmp_path)
    table.chmod(0o600)
    (tmp_path / "locked").mkdir(0o500)
    ended = job(2, "train", "--data", table, "--label", "kind", "--out", "locked/run")
    check(ended, ["is not writable"], tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--l2", 0.1], "--l2 was 0.0, now it is 0.1"),
        (["--seed", 1], "--seed was 0, now it is 1"),
        (["--solver", "sgd", "--learning-rate", 0.1], "--learning-rate was auto, now it is 0.1"),
        (["--shards", 7], "there were 16 shards, now there are 7"),
        (["--valid-fraction", 0.5], "held out fraction were 0.0, now they are 0.5"),
        (["--dtype", "float64"], "dtype were float32, now they are float64"),
        (["--resume", "never"], "holds a run already"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_the_difference(job, table, tmp_path, changes, words):
    options = ["--data", table, "--label", "kind", "--max-steps", 3, "--out", "first"]
    assert job(2, "train", *options).status == 0
    before = {path: path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()}
    ended = job(2, "train", *options, *changes)
    check(ended, [words], tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()} == before


def test_changed_data_are_refused_by_the_rows(job, table, tmp_path):
    options = ["--data", table, "--label", "kind", "--max-steps", 3, "--out", "first"]
    assert job(2, "train", *options).status == 0
    lines = table.read_text().splitlines()
    lines[200] = "0.25" + lines[200][lines[200].index(",") :]
    table.write_text("\n".join(lines) + "\n")
    check(job(3, "train", *options), ["belongs to another run", "content changed in 1 shards"], tmp_path)
    table.write_text("\n".join(lines[:-1]) + "\n")
    check(job(3, "train", *options), ["n rows were 300, now they are 299"], tmp_path)


def test_a_checkpoint_of_a_run_from_another_start_is_refused(job, model, table, tmp_path):
    options = ["--data", table, "--label", "kind", "--l2", 0.1, "--max-steps", 5]
    assert job(2, "train", *options, "--max-steps", 3, "--init", model, "--out", "warm").status == 0
    assert job(2, "train", *options, "--max-steps", 3, "--out", "cold").status == 0
    ended = job(3, "train", *options, "--out", "warm")
    check(ended, ["belongs to another run: --init was a model with sha256 ", "now it is None"], tmp_path)
    ended = job(3, "train", *options, "--init", "warm", "--out", "cold")
    check(ended, ["--init was None, now it is a model with sha256 "], tmp_path)
    ended = job(2, "train", *options, "--init", "cold", "--out", "warm")
    check(ended, ["--init was a model with sha256 "], tmp_path)
    (tmp_path / model / "model.safetensors").unlink()  # a resume does not need it
    assert job(2, "train", *options, "--init", model, "--out", "warm").status == 0


def test_a_start_that_does_not_fit_the_data_is_refused_by_its_differences(job, model, table, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("a,b,kind,c,d", "a,b,kind,c,e").replace("cat", "cow"))
    ended = job(3, "train", "--data", other, "--label", "kind", "--init", model, "--out", "run")
    words = ["--init model: the model does not fit the data", "lack its classes cat", "lacks the data's classes cow"]
    check(ended, [*words, "lack its features d", "lacks the data's features e"], tmp_path)


@pytest.mark.parametrize("command", ["train", "describe"])
def test_a_folder_that_may_not_be_listed_is_named(job, tmp_path, monkeypatch, command):
    """As one of another user, whose files may be read by name."""
    parts(a=GOOD)(tmp_path / "closed")

    def listdir(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", listdir)
    words = ["closed", *LABEL] if command == "describe" else ["--data", "closed", *LABEL]
    ended = job(2, command, *words)
    assert ended.status == 2
    assert ended.err == "error: closed: cannot be listed: Permission denied; name the files in it one by one\n"


def test_a_folder_holds_one_path_or_one_run(job, table, tmp_path):
    options = ["--data", table, "--label", "kind", "--max-steps", 2]
    assert job(2, "train", *options, "--out", "single").status == 0
    assert job(2, "train", *options, "--l2-path", "1e-1:1e-2:2", "--out", "several").status == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    path = ["--l2-path", "1e-1:1e-2:2"]
    for changes, words in (
        (["--out", "several"], "holds the runs of an --l2-path; name another folder"),
        (["--out", "single", *path], "holds a single run, not an --l2-path"),
        (["--out", "several", "--l2-path", "1e-1:1e-3:3"], "--l2-path was 1e-1:1e-2:2, now it is 1e-1:1e-3:3"),
        (["--out", "several", *path, "--max-steps", 3], "holds another path: --max-steps was 2, now it is 3. Give"),
        (["--out", "several", *path, "--resume", "never"], "holds a path already"),
        (["--out", "several", *path, "--dtype", "float64"], "01-l2-1e-01/checkpoints/step-0000000002.safetensors"),
    ):
        check(job(2, "train", *options, *changes), [words], tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.fixture
def model(job, table):
    assert job(2, "train", "--data", table, "--label", "kind", "--max-steps", 3, "--out", "model").status == 0
    return "model"


def test_data_that_do_not_fit_the_model_are_refused(job, model, table, tmp_path):
    lines = table.read_text().splitlines()
    (tmp_path / "narrow.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines) + "\n")
    ended = job(2, "evaluate", model, "--data", "narrow.csv", "--label", "kind")
    check(ended, ["narrow.csv: the model has 4 features, the file 3; missing: d"], tmp_path)
    np.savez(tmp_path / "wide.npz", X=np.ones((5, 9)))
    ended = job(2, "predict", model, "--data", "wide.npz", "--out", "p.csv")
    check(ended, ["has 9 features, the model 4"], tmp_path)
    ended = job(2, "predict", model, "--data", table, "--out", "nowhere/p.csv")
    check(ended, ["--out nowhere/p.csv: cannot be written there"], tmp_path)
    (tmp_path / "renamed.csv").write_text("xa,b,kind,c,d\n" + "1,2,cat,3,4\n")
    ended = job(2, "predict", model, "--data", "renamed.csv", "--label", "kind", "--out", "p.csv")
    check(ended, ["lacks the model's features a"], tmp_path)
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize("how", ["evaluate", "valid"])
def test_a_class_that_training_never_saw_is_refused_by_row(job, model, table, tmp_path, how):
    strange = tmp_path / "strange.csv"
    strange.write_text(table.read_text() + "1,2,yak,3,4\n")
    if how == "evaluate":
        ended = job(2, "evaluate", model, "--data", strange, "--label", "kind")
    else:
        ended = job(2, "train", "--data", table, "--label", "kind", "--valid", strange, "--out", "run")
    check(ended, ["strange.csv: row 301: the class 'yak' was never seen in training", "cat, dog, eel"], tmp_path)


def test_no_model_is_refused(job, table, tmp_path):
    check(job(2, "evaluate", "nowhere", "--data", table, "--label", "kind"), ["nowhere: no such model"], tmp_path)


def test_a_learning_rate_that_diverges_is_explained(job, tmp_path):
    np.savez(tmp_path / "large.npz", X=X * 1e100, y=Y)
    options = ["--no-standardize", "--solver", "gradient-descent", "--learning-rate", 1e200]
    ended = job(2, "train", "--data", "large.npz", *options, "--out", "run")
    assert ended.status == 1
    assert "error: the objective is not finite after step" in ended.err
    assert "--learning-rate 1e+200 is too large" in ended.err
