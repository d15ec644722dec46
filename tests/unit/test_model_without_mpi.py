"""A trained model on rows in memory: without MPI, and with every bit that `predict` writes for the same rows."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array, csr_matrix, save_npz
from scipy.special import softmax

import distsoftmax
from distsoftmax import load_model
from distsoftmax.arithmetic.library import VERSION
from distsoftmax.cluster.communicator import Alone
from distsoftmax.data import given_rows
from distsoftmax.durable import write_atomically
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding, Model, NumberedNames
from distsoftmax.predict import PredictConfig, command

COLOURS = ("blue", "red", "é")
N_ROWS = 90


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved(n_features=4, n_classes=3, **encoding):
    """A model of drawn numbers, as it is read from its file."""
    generator = np.random.default_rng(0)
    encoding = Encoding(**{"numeric": NumberedNames(n_features), **encoding})
    shape = n_classes, len(encoding.feature_names)
    classes = tuple(f"class {number}" for number in range(n_classes))
    model = Model(generator.standard_normal(shape), generator.standard_normal(n_classes), classes, encoding, VERSION)
    write_atomically(Path("model.safetensors"), *model.file_content())
    return load_model(".")


def of_command(data, **options):
    """The classes and the probabilities that `predict` writes."""
    common = {"model": ".", "data": (data,), **options}
    command(PredictConfig(**common, out="classes.npy"), Alone())
    command(PredictConfig(**common, out="probabilities.npy", probabilities=True), Alone())
    return np.load("classes.npy").tolist(), np.load("probabilities.npy")


def assert_same(model, rows, expected):
    classes, probabilities = expected
    assert np.array_equal(model.predict_proba(rows), probabilities)  # every bit
    assert model.predict(rows).tolist() == classes


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "uint16", "int64", "bool"])
def test_arrays_of_every_type_have_the_bits_of_predict(dtype):
    model = saved()
    rows = (3 * np.random.default_rng(1).standard_normal((N_ROWS, 4))).astype(dtype)
    np.savez("rows.npz", X=rows)
    expected = of_command("rows.npz")
    assert_same(model, rows, expected)
    assert_same(model, np.asfortranarray(rows), expected)
    assert_same(model, rows.astype(rows.dtype.newbyteorder()), expected)
    if dtype == "float64":
        assert_same(model, rows.tolist(), expected)


def test_the_bits_do_not_depend_on_how_many_rows_are_scored_at_once(monkeypatch):
    model, rows = saved(), np.random.default_rng(2).standard_normal((N_ROWS, 4))
    whole = model.predict_proba(rows)
    assert np.array_equal([model.predict_proba(row[None])[0] for row in rows], whole)
    monkeypatch.setattr(given_rows, "LARGEST_SHARD_ROWS", 7)
    assert np.array_equal(model.predict_proba(rows), whole)


@pytest.mark.parametrize("kind", [csr_matrix, csr_array])
def test_sparse_rows_have_the_bits_of_predict_and_stay_as_they_are(kind):
    model = saved(n_features=1000)
    dense = np.random.default_rng(3).standard_normal((N_ROWS, 1000))
    dense[np.abs(dense) < 2] = 0
    rows = kind(dense)
    save_npz("rows.npz", csr_matrix(rows))
    expected = of_command("rows.npz")
    assert_same(model, rows, expected)
    # the same matrix with its entries out of order, and one of them in two parts
    entries = np.concatenate([rows.data[::-1] / 2, rows.data[::-1] / 2])
    row_numbers, columns = (np.concatenate([of[::-1], of[::-1]]) for of in rows.tocoo().coords)
    doubled = csr_array((N_ROWS, 1000))
    order = np.argsort(row_numbers, kind="stable")
    doubled.data, doubled.indices = entries[order], columns[order].astype(np.int32)
    doubled.indptr = np.append(0, np.cumsum(np.bincount(row_numbers, minlength=N_ROWS))).astype(np.int32)
    before = doubled.data.copy(), doubled.indices.copy()
    assert_same(model, doubled, expected)
    assert np.array_equal(doubled.data, before[0])
    assert np.array_equal(doubled.indices, before[1])
    np.testing.assert_allclose(model.decision_function(rows), dense @ model.coef.T + model.intercept, rtol=1e-12)


def test_svmlight_rows_begin_with_the_column_of_their_base():
    model = saved(n_features=3, index_base=1)
    Path("rows.svm").write_text("0 1:0.5 3:2\n0 2:-1\n")
    _, probabilities = of_command("rows.svm")
    assert np.array_equal(model.predict_proba(csr_array([[0.5, 0, 2], [0, -1, 0]])), probabilities)


def raw_columns(dtype="float64"):
    """Columns with missing cells, and texts that the model has not seen."""
    generator = np.random.default_rng(4)
    size, age = generator.standard_normal((2, N_ROWS)).round(4).astype(dtype)
    size[::7] = np.nan
    colour = generator.choice(np.array([*COLOURS, "never seen", None], dtype=object), N_ROWS)
    return {"colour": colour, "age": age, "id": np.arange(N_ROWS), "size": size}


TABLE = {"numeric": ("size", "age"), "categories": (("colour", COLOURS),), "fill": np.array([0.25, -1.5])}


def tables(columns):
    """The same table as several libraries have it."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    import pyarrow

    yield columns
    yield {name: list(column) for name, column in columns.items()}
    frame = pandas.DataFrame(columns)
    yield frame
    yield frame.assign(colour=frame["colour"].astype("category"), size=frame["size"].astype("Float64"))
    yield polars.DataFrame({name: column.tolist() for name, column in columns.items()})
    yield pyarrow.table({name: pyarrow.array(column, from_pandas=True) for name, column in columns.items()})


def test_tables_of_raw_columns_have_the_bits_of_predict_in_any_library_and_order():
    model, columns = saved(**TABLE), raw_columns()
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(columns).to_csv("rows.csv", index=False)
    expected = of_command("rows.csv")
    for table in tables(columns):
        assert_same(model, table, expected)


def test_float32_columns_are_filled_as_those_of_a_parquet_file():
    import pyarrow
    from pyarrow import parquet

    model, columns = saved(**TABLE | {"fill": np.array([0.1, 0.3])}), raw_columns("float32")
    parquet.write_table(
        pyarrow.table({name: pyarrow.array(column, from_pandas=True) for name, column in columns.items()}), "r.parquet"
    )
    assert_same(model, columns, of_command("r.parquet"))


def test_the_scores_are_those_of_the_probabilities_and_of_the_classes():
    model, rows = saved(n_classes=5), np.random.default_rng(5).standard_normal((600, 4))
    scores = model.decision_function(rows)
    np.testing.assert_allclose(scores, rows @ model.coef.T + model.intercept, rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(rows), softmax(scores, axis=1), rtol=1e-12)
    assert model.predict(rows).tolist() == [model.classes[code] for code in scores.argmax(axis=1)]
    assert saved(n_classes=2).decision_function(rows).shape == (600, 2)


def test_what_stands_for_a_missing_cell_is_missing_here_as_in_files():
    columns = {"size": [1.0, -999.0, 0.5], "age": [-999.0, 3.0, 0.25], "colour": ["red", "?", "blue"]}
    Path("rows.csv").write_text("size,age,colour\n1,-999.0,red\n-999,3,?\n0.5,0.25,blue\n")
    model = saved(**TABLE, missing=("-999", "?"))
    assert_same(model, columns, of_command("rows.csv"))
    by_number = saved(n_features=2, fill=np.array([0.25, -1.5]), missing=("-999",))
    np.savez("rows.npz", X=np.array([[1, -999], [-999, 3]]))
    assert_same(by_number, np.array([[1, -999], [-999, 3]]), of_command("rows.npz"))
    drops = saved(n_features=2, missing=("-999",), drop_rows_missing=True)
    with pytest.raises(InputError, match="row 2, column x0: there is no number"):
        drops.predict([[1.0, 2.0], [-999.0, 3.0]])


@pytest.mark.parametrize("categories", [("1", "2", "x"), ("1.0", "2.0", "x"), ("1", "1.0", "2")], ids=str)
def test_a_category_that_is_a_number_is_known_in_any_spelling(categories):
    """pandas reads integers as floats where a cell is empty; where two categories are equal, the spelling decides."""
    model = saved(numeric=("size",), categories=(("zone", categories),))
    spelled = {text: [1.0 if text == known else 0.0 for known in categories] for text in categories}
    nothing = [0.0, 0.0, 0.0]
    cells = ["1", "1.0", "2.00", "02", "3", "x"]
    by_value = {float(text): row for text, row in spelled.items() if text != "x"}
    expected = [
        spelled.get("1", by_value[1.0]),
        spelled.get("1.0", by_value[1.0]),
        by_value[2.0],
        nothing,
        nothing,
        spelled.get("x", nothing),
    ]
    features = np.column_stack([np.ones(len(cells)), expected])
    Path("rows.csv").write_text("size,zone\n" + "".join(f"1,{cell}\n" for cell in cells))
    assert_same(model, features, of_command("rows.csv"))
    assert_same(model, {"size": np.ones(len(cells)), "zone": cells}, of_command("rows.csv"))
    floats = {"size": np.ones(2), "zone": np.array([2.0, 3.0])}
    assert np.array_equal(model.predict_proba(floats), model.predict_proba(features[[2, 4]]))


def test_features_of_categories_may_be_given_as_an_array():
    model = saved(**TABLE)
    by_name = model.predict_proba({"size": [1.0, 2.0], "age": [0.5, 0.0], "colour": ["red", "pink"]})
    assert np.array_equal(model.predict_proba([[1.0, 0.5, 0, 1, 0], [2.0, 0.0, 0, 0, 0]]), by_name)


def test_no_rows_have_no_probabilities():
    model = saved(**TABLE)
    for rows in (np.zeros((0, 5)), csr_array((0, 5)), {"size": [], "age": [], "colour": []}):
        assert model.predict_proba(rows).shape == model.decision_function(rows).shape == (0, 3)
        assert model.predict(rows).shape == (0,)


NUMBERS = {"numeric": ("size", "age")}
BAD = [
    (NUMBERS, [[1.0, 2.0, 3.0]], r"X is of shape \(1, 3\); the model takes \(rows, 2\)"),
    (NUMBERS, [1.0, 2.0], r"X is of shape \(2,\); the model takes \(rows, 2\)"),
    (NUMBERS, [["1", "many"]], "X: row 1, column 1: 'many' is not a number"),
    (NUMBERS, [[1.0, 2.0], [np.inf, 0.0]], "X: row 2, column size: the value is inf"),
    (NUMBERS, [[1.0, np.nan]], "X: row 1, column age: there is no number .* or train with --impute mean or zero"),
    (NUMBERS, {"size": [1.0]}, "X lacks the columns 'age', which the model takes; it has 'size'"),
    (NUMBERS, {"size": [1.0], "age": [1.0, 2.0]}, "its columns must have one dimension and one length"),
    (NUMBERS, {"size": [1.0, 2.0], "age": [3, "four"]}, "X: row 2, column age: 'four' is not a number"),
    (TABLE, {"size": [1.0], "age": [1.0]}, "X lacks the columns 'colour'"),
    (TABLE | {"fill": None}, {"size": [1.0], "age": [1.0], "colour": [None]}, "X: row 1, column colour: there is no"),
]


@pytest.mark.parametrize(("encoding", "rows", "message"), BAD, ids=[message for _, _, message in BAD])
def test_what_cannot_be_used_is_named_with_its_place(encoding, rows, message):
    with pytest.raises(InputError, match=message):
        saved(**encoding).predict_proba(rows)


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        ({"arithmetic": 1}, "was made by arithmetic 1, this program computes by arithmetic"),
        ({"interim": True}, "is an interim model: its run was stopped early"),
    ],
)
def test_a_model_of_other_bits_than_a_run_of_today_would_end_with_is_loaded_with_a_warning(changed, warning):
    write_atomically(Path("model.safetensors"), *replace(Model(**vars(saved())), **changed).file_content())
    with pytest.warns(UserWarning, match=warning) as warned:
        model = load_model("model.safetensors")
    assert warned[0].filename == __file__
    assert model.predict([[0.0] * 4]).shape == (1,)


def test_a_model_is_loaded_and_used_where_there_is_no_mpi4py():
    saved()
    program = (
        "import sys; sys.modules['mpi4py'] = None\n"
        "from distsoftmax.scoring.predictor import load_model\n"
        "print(load_model('.').predict([[0.0] * 4]).tolist(), load_model('model.safetensors').classes)\n"
        "assert not {'tensorboard', 'mlflow', 'onnx', 'pandas'} & set(sys.modules)\n"
    )
    environment = {"PYTHONPATH": str(Path(distsoftmax.__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    assert ended.stdout.startswith("['class ")


@pytest.mark.parametrize("name", ["none", "none/model.safetensors"])
def test_a_model_that_is_not_there_is_named(name):
    with pytest.raises(InputError, match="no such model; give the model.safetensors of a run, or the run's folder"):
        load_model(name)
