"""Models in the files of other programs, judged by those programs on raw rows."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from distsoftmax import export
from distsoftmax.cluster.communicator import Alone
from distsoftmax.durable import write_atomically
from distsoftmax.exporting.onnx_graph import IR_VERSION, OPSET
from distsoftmax.model import Encoding, Model, NumberedNames
from distsoftmax.predict import PredictConfig, command

COLOURS = ("blue", "green", "rot", "é,\"'")
TARGETS = ("onnx", "sklearn-json", "csv", "torch-safetensors")


def save(n_classes=3, numeric=("size", "age"), fill=None, categories=(), seed=0, missing=()):
    """Write a model of drawn numbers to model.safetensors in the current folder, and return it."""
    generator = np.random.default_rng(seed)
    fill = None if fill is None else np.array(fill)
    encoding = Encoding(numeric=numeric, fill=fill, categories=categories, missing=missing)
    classes = tuple(f"class {number}" for number in range(n_classes))
    coef = generator.standard_normal((n_classes, len(encoding.feature_names))) / max(len(numeric), 1) ** 0.5
    model = Model(coef, generator.standard_normal(n_classes), classes, encoding, 1)
    write_atomically(Path("model.safetensors"), *model.file_content())
    return model


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def exported(target, *words, out=None):
    """Export the model that was saved, and return the name of the file."""
    out = out or f"exported.{target}"
    assert export.main(["model.safetensors", "--to", target, "--out", out, *words]) == 0
    return out


def predicted(path):
    """The classes and probabilities that `predict` gives for a file of raw rows, from standard formats alone."""
    common = {"model": ".", "data": (str(path),)}
    command(PredictConfig(**common, out="classes.npy"), Alone())
    command(PredictConfig(**common, out="probabilities.npy", probabilities=True), Alone())
    return np.load("classes.npy").tolist(), np.load("probabilities.npy")


def run(path, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["label", "probabilities"]
    label, probabilities = session.run(None, inputs)
    return label.tolist(), probabilities


SHAPES = [(2, 3, 200), (26, 16, 200), (3, 10_000, 20)]


@pytest.mark.parametrize(("n_classes", "n_features", "n_rows"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_onnxruntime_gives_the_classes_and_probabilities_that_predict_gives(n_classes, n_features, n_rows, dtype):
    save(n_classes, NumberedNames(n_features))
    rows = np.random.default_rng(1).standard_normal((n_rows, n_features)).astype(dtype)
    np.savez("rows.npz", X=rows)
    classes, probabilities = predicted("rows.npz")
    label, found = run(exported("onnx", "--dtype", dtype), {"X": rows})
    assert found.dtype == dtype
    np.testing.assert_allclose(found, probabilities, rtol=0, atol=1e-13 if dtype == "float64" else 1e-6)
    assert label == classes


def test_in_float64_features_far_from_0_keep_their_accuracy():
    """As a raw column does whose mean is large beside its deviation; in float32 these probabilities are noise."""
    model = save(3, ("time",))
    far = Model(model.coef, model.intercept - 1e9 * model.coef[:, 0], model.classes, model.encoding)
    write_atomically(Path("model.safetensors"), *far.file_content())
    rows = 1e9 + np.random.default_rng(2).standard_normal((50, 1))
    np.savez("rows.npz", X=rows)
    _, found = run(exported("onnx"), {"X": rows})
    np.testing.assert_allclose(found, predicted("rows.npz")[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("fill", [0.0, [0.5, -1.25]], ids=["zero", "mean"])
@pytest.mark.parametrize("categories", [(), (("colour", COLOURS), ("label", ("n", "y")))], ids=["numbers", "texts"])
def test_missing_numbers_and_texts_are_dealt_with_inside_as_predict_does(fill, categories):
    save(4, ("size", "age"), fill, categories)
    generator = np.random.default_rng(3)
    n_rows = 60
    columns = {name: generator.standard_normal((n_rows, 1)).round(6) for name in ("size", "age")}
    for name in columns:
        columns[name][generator.random(n_rows) < 0.3] = np.nan
    for name, texts in categories:  # a cell is one of them, missing, or was never seen
        columns[name] = generator.choice(np.array([*texts, "", "never seen"], dtype=object), (n_rows, 1))
    with open("rows.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for cells in zip(*(column[:, 0] for column in columns.values()), strict=True):
            table.writerow(["" if isinstance(cell, float) and np.isnan(cell) else cell for cell in cells])
    classes, probabilities = predicted("rows.csv")
    if categories:  # the column named as an output is called otherwise
        inputs = {f"{name}_" if name == "label" else name: column for name, column in columns.items()}
    else:
        inputs = {"X": np.hstack([*columns.values()])}
    label, found = run(exported("onnx"), inputs)
    np.testing.assert_allclose(found, probabilities, rtol=0, atol=1e-13)
    assert label == classes


@pytest.mark.parametrize("fill", [None, [0.5, -1.25]], ids=["none", "mean"])
def test_numbers_that_stand_for_missing_ones_are_missing_inside_as_for_predict(fill):
    save(3, ("size", "age"), fill, missing=("-999.0", "?", "0.1"))
    rows = np.array([[1.0, 2.0], [-999.0, 2.0], [1.0, 0.1], [np.nan, -999.0]])
    _, found = run(exported("onnx"), {"X": rows})
    holes = np.where((rows == -999) | (rows == 0.1), np.nan, rows)
    save(3, ("size", "age"), fill)
    _, expected = run(exported("onnx", out="again.onnx"), {"X": holes})
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(found).any() == (fill is None)
    description = json.loads(Path(exported("sklearn-json")).read_text())["columns"]
    assert (description["missing"], description["drop_rows_missing"]) == ([], False)


def test_texts_alone_make_a_graph_without_numbers():
    save(3, (), None, (("colour", COLOURS),))
    cells = np.array([["rot"], ["never seen"]], dtype=object)
    _, found = run(exported("onnx"), {"colour": cells})
    Path("rows.csv").write_text("colour\nrot\nnever seen\n")
    np.testing.assert_allclose(found, predicted("rows.csv")[1], rtol=0, atol=1e-13)


def test_a_graph_passes_the_checker_keeps_to_old_versions_and_says_what_it_is():
    onnx = pytest.importorskip("onnx")
    model = save(3, ("size",), [1.5], (("colour", COLOURS),))
    proto = onnx.load(exported("onnx"))
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.ir_version, {entry.domain: entry.version for entry in proto.opset_import}) == (
        IR_VERSION,
        {"": OPSET, "ai.onnx.ml": 1},
    )
    assert (IR_VERSION, OPSET) == (7, 13)
    props = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(props["classes"]) == list(model.classes)
    assert json.loads(props["columns"]) == {
        "numeric": ["size"],
        "missing": [],
        "drop_rows_missing": False,
        "fill": [1.5],
        "categories": [["colour", list(COLOURS)]],
        "index_base": None,
    }


def test_a_model_is_exported_to_the_same_bytes_again_by_any_process():
    save(3, ("size", "age"), [0.5, 1.0], (("colour", COLOURS),))
    contents = {target: Path(exported(target)).read_bytes() for target in TARGETS}
    program = f"from distsoftmax import export; [export.main(['.', '--to', t, '--out', t]) for t in {TARGETS}]"
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(export.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)
    assert {target: Path(target).read_bytes() for target in TARGETS} == contents


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("names", [("size", "age"), NumberedNames(2)], ids=["named", "numbered"])
def test_the_documented_lines_make_a_logistic_regression_that_agrees(n_classes, names):
    from sklearn.linear_model import LogisticRegression

    model = save(n_classes, names)
    rows = np.random.default_rng(4).standard_normal((30, 2))
    np.savez("rows.npz", X=rows)
    fitted = json.loads(Path(exported("sklearn-json")).read_text())["fitted"]
    estimator = LogisticRegression()
    for name, value in fitted.items():
        setattr(estimator, name, np.array(value) if isinstance(value, list) else value)
    assert estimator.coef_.shape == (1 if n_classes == 2 else 3, 2)
    assert hasattr(estimator, "feature_names_in_") == (names == ("size", "age"))
    if n_classes == 3:
        assert np.array_equal(estimator.coef_, model.coef)  # every bit
    given = rows
    if names == ("size", "age"):
        given = pytest.importorskip("pandas").DataFrame(rows, columns=list(names))
    classes, probabilities = predicted("rows.npz")
    np.testing.assert_allclose(estimator.predict_proba(given), probabilities, rtol=0, atol=1e-14)
    assert estimator.predict(given).tolist() == classes
    assert (estimator.n_features_in_, estimator.classes_.tolist()) == (2, list(model.classes))


def test_a_table_of_coefficients_holds_every_bit_under_its_names():
    model = save(2, ('a,"b"', "c\nd", "é"))
    with open(exported("csv"), newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", "feature", "coefficient"]
    names = ["(intercept)", *model.feature_names]
    assert [row[:2] for row in rows] == [[name, feature] for name in model.classes for feature in names]
    found = np.array([float(row[2]) for row in rows]).reshape(2, -1)
    assert np.array_equal(found, np.column_stack([model.intercept, model.coef]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tensors_are_those_of_a_linear_layer(dtype):
    model = save(3, ("size", "age"))
    path = exported("torch-safetensors", *(["--dtype", dtype] if dtype == "float64" else []))
    tensors = load_file(path)
    assert sorted(tensors) == ["bias", "weight"]
    assert np.array_equal(tensors["weight"], model.coef.astype(dtype))
    assert np.array_equal(tensors["bias"], model.intercept.astype(dtype))
    assert tensors["weight"].dtype == dtype


def test_torch_loads_them():
    torch = pytest.importorskip("torch", reason="torch is not installed; the test above reads the same bytes")
    from safetensors.torch import load_file as load_tensors

    model = save(3, ("size", "age"))
    linear = torch.nn.Linear(2, 3, dtype=torch.float64)
    linear.load_state_dict(load_tensors(exported("torch-safetensors", "--dtype", "float64")))
    rows = np.random.default_rng(5).standard_normal((10, 2))
    scores = linear(torch.tensor(rows)).detach().numpy()
    np.testing.assert_allclose(scores, rows @ model.coef.T + model.intercept, rtol=1e-12)


@pytest.mark.parametrize(("target", "says_so"), [(target, target in TARGETS[1::2]) for target in TARGETS])
def test_a_target_that_takes_features_says_where_it_describes_them(target, says_so, capsys):
    save(3, ("size",), [0.5], (("colour", COLOURS),))
    exported(target)
    expected = "note: exported.{}: it takes features with texts spread over columns of 0 and 1 and missing numbers"
    assert capsys.readouterr().err.startswith(expected.format(target)) == says_so


@pytest.mark.parametrize("target", ["csv", "sklearn-json"])
def test_standard_output_takes_texts(target, capfdbinary):
    save()
    content = Path(exported(target)).read_bytes()
    capfdbinary.readouterr()
    exported(target, out="-")
    assert capfdbinary.readouterr() == (content, b"")


REFUSED = {
    "its input": (["--to", "csv", "--out", "model.safetensors"], "is model.safetensors, which is read"),
    "its input by a link": (["--to", "csv", "--out", "link"], "is model.safetensors, which is read"),
    "a folder": (["--to", "csv", "--out", "folder"], "is a folder; name a file"),
    "a pipe": (["--to", "csv", "--out", "pipe"], "is no regular file"),
    "no folder": (["--to", "csv", "--out", "none/m.csv"], "cannot be written there: No such file or directory"),
    "no text": (["--to", "onnx", "--out", "-"], "onnx is no text"),
    "no name": (["--to", "csv", "--out", ""], "--out names nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_for_an_export_is_refused_and_left_alone(name, capsys):
    save()
    os.symlink("model.safetensors", "link")
    os.mkdir("folder")
    os.mkfifo("pipe")
    before = Path("model.safetensors").read_bytes(), sorted(os.listdir())
    words, text = REFUSED[name]
    assert export.main(["model.safetensors", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --out")
    assert text in line
    assert (Path("model.safetensors").read_bytes(), sorted(os.listdir())) == before


def test_an_export_that_fails_leaves_the_older_file(capsys):
    model = save()
    Path("old.onnx").write_text("old")
    huge = Model(model.coef * 1e300, model.intercept, model.classes, model.encoding)
    write_atomically(Path("model.safetensors"), *huge.file_content())
    assert export.main([".", "--to", "onnx", "--dtype", "float32", "--out", "old.onnx"]) == 2
    assert "a coefficient is beyond float32; take --dtype float64" in capsys.readouterr().err
    assert Path("old.onnx").read_text() == "old"


def test_a_missing_package_is_one_error_with_the_command_that_brings_it(monkeypatch, capsys):
    save()
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export.main([".", "--to", "onnx", "--out", "m.onnx"]) == 2
    assert "pip install 'distsoftmax[onnx]'" in capsys.readouterr().err
    assert not Path("m.onnx").exists()


def test_a_type_is_refused_where_every_digit_is_written(capsys):
    with pytest.raises(SystemExit) as end:
        export.main([".", "--to", "csv", "--out", "m.csv", "--dtype", "float32"])
    assert end.value.code == 2
    assert "--dtype is for onnx and torch-safetensors" in capsys.readouterr().err
