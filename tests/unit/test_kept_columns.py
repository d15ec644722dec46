"""predict --keep: columns of the data stand as they are before the predictions, on any number of ranks."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

pandas = pytest.importorskip("pandas")

N_ROWS = 50
GENERATOR = np.random.default_rng(2)
X = GENERATOR.standard_normal((N_ROWS, 2)).round(3)
KINDS = np.where(X[:, 0] > 0, "cat", "dog")
# texts that a reader might change: an empty cell, an empty text, quotes, numbers in several spellings, a separator
TEXTS = ["", '""', '"a,""b"""', "007", "1.50", "NA", " x ", "é", '"two\nlines"']
CELLS = [TEXTS[row % len(TEXTS)] for row in range(N_ROWS)]


@pytest.fixture
def model(job):
    rows = zip(CELLS, X[:, 0].tolist(), X[:, 1].tolist(), KINDS, strict=True)
    Path("d.csv").write_text("id,a,b,kind\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    words = ["--label", "kind", "--drop", "id", "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(2, "train", "--data", "d.csv", *words).status == 0
    return "run"


def as_texts(path):
    """A CSV file's cells as they stand: null where nothing does, and a text in quotes where it is empty."""
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(("id", "a", "b", "kind", "prediction"), pyarrow.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=options)


@pytest.mark.parametrize("out", ["p.csv", "p.parquet"])
def test_texts_stand_as_in_the_data_and_in_the_order_asked_for(job, model, out):
    contents = set()
    for ranks in (1, 2, 5):
        words = ["--keep", "kind", "id", "a", "--probabilities", "--out", out]
        assert job(ranks, "predict", model, "--data", "d.csv", *words).status == 0
        contents.add(Path(out).read_bytes())
    assert len(contents) == 1
    found = as_texts(out) if out.endswith("csv") else parquet.read_table(out)
    assert found.column_names == ["kind", "id", "a", "prediction", "probability_cat", "probability_dog"]
    known = as_texts("d.csv")
    for name in ("kind", "id", "a"):
        assert found[name].to_pylist() == known[name].to_pylist()
    job(1, "predict", model, "--data", "d.csv", "--out", "bare.csv")
    assert found["prediction"].to_pylist() == as_texts("bare.csv")["prediction"].to_pylist()


TYPES = {
    "integers": pyarrow.array([None, *range(1, N_ROWS)], pyarrow.int64()),
    "large integers": pyarrow.array([2**63 + row for row in range(N_ROWS)], pyarrow.uint64()),
    "times": pyarrow.array([datetime.datetime(2026, 1, 1) + datetime.timedelta(row) for row in range(N_ROWS)]),
    "decimals": pyarrow.array(range(N_ROWS)).cast(pyarrow.decimal128(22, 3)),
    "views of texts": pyarrow.array([None, *CELLS[1:]], pyarrow.string_view()),
    "views of bytes": pyarrow.array([None, *CELLS[1:]], pyarrow.binary_view()),
    "UUIDs": pyarrow.array([None, *(row.to_bytes(16, "big") for row in range(1, N_ROWS))], pyarrow.uuid()),
    "dictionary": pyarrow.array(CELLS).dictionary_encode(),
    "lists": pyarrow.array([[row, row + 1] for row in range(N_ROWS)]),
    "a label": pyarrow.array(KINDS),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_of_parquet_stay_what_they_are(job, model, name):
    table = pyarrow.table({"a": X[:, 0], "key": TYPES[name], "b": X[:, 1]})
    parquet.write_table(table.slice(0, 13), "0.parquet", row_group_size=5)
    parquet.write_table(table.slice(13), "1.parquet", row_group_size=11)
    assert job(3, "predict", model, "--data", "*.parquet", "--keep", "key", "--out", "out/p.parquet").status == 2
    Path("out").mkdir()
    assert job(3, "predict", model, "--data", "*.parquet", "--keep", "key", "--out", "out/p.parquet").status == 0
    found = parquet.read_table("out/p.parquet")
    assert found["key"].to_pylist() == TYPES[name].to_pylist()
    assert found.schema.field("key").type == TYPES[name].type
    ended = job(3, "predict", model, "--data", "*.parquet", "--keep", "key", "--out", "out/p.csv")
    if name == "lists":
        assert ended.status == 2
        assert "--keep key: a CSV file cannot hold a list<element: int64>; write .parquet" in ended.err
    else:
        assert [str(key) for key in pandas.read_csv("out/p.csv", dtype=str, keep_default_na=False)["key"]]


def test_a_column_without_a_name_is_kept_by_its_number(job, model):
    pandas.read_csv("d.csv", dtype=str).to_csv("bare.csv", header=False, index=False)
    job(1, "train", "--data", "bare.csv", "--label", 3, "--drop", 0, "--l2", 1e-2, "--max-steps", 5, "--out", "other")
    assert job(2, "predict", "other", "--data", "bare.csv", "--keep", 0, "--out", "p.csv").status == 0
    assert pandas.read_csv("p.csv").columns.tolist() == ["x0", "prediction"]


def test_rows_without_prediction_keep_theirs(job, model):
    text = Path("d.csv").read_text().replace(f",{X[7, 1]},", ",?,")
    Path("d.csv").write_text(text)
    words = ["--label", "kind", "--drop", "id", "--missing", "?", "--drop-rows-missing", "--max-steps", 3]
    assert job(1, "train", "--data", "d.csv", *words, "--out", "other").status == 0
    assert job(3, "predict", "other", "--data", "d.csv", "--keep", "b", "--out", "p.csv").status == 0
    found = as_texts("p.csv").to_pydict()
    assert [row for row, cell in enumerate(found["b"]) if cell == "?"] == [7]
    assert [row for row, cell in enumerate(found["prediction"]) if cell is None] == [7]


REFUSED = {
    "an array": (["--keep", "id", "--out", "p.npy"], "d.csv", "a .npy file has no place for --keep"),
    "no such column": (["--keep", "ids", "--out", "p.csv"], "d.csv", "there is no such column ids; did you mean id?"),
    "twice": (["--keep", "id", "id", "--out", "p.csv"], "d.csv", "column id is named twice in --keep"),
    "no table": (["--keep", "x0", "--out", "p.csv"], "d.npz", "--keep does not apply to files in the npz format"),
    "a name of ours": (["--keep", "prediction", "--out", "p.csv"], "e.csv", "the predictions have a column"),
    "of one name": (["--keep", 0, 1, "--out", "p.csv"], "t.csv", "two of the columns are named 'id'; rename one"),
    "parts that differ": (["--keep", "key", "--out", "p.csv"], "parts", "column key is of type string"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused(job, model, name):
    words, data, complaint = REFUSED[name]
    np.savez("d.npz", X=X)
    pandas.read_csv("d.csv").assign(prediction=1).to_csv("e.csv", index=False)
    Path("t.csv").write_text("id,id,a,b,kind\n" + "1,2,0.5,0.5,cat\n" * N_ROWS)
    Path("parts").mkdir()
    for number, key in enumerate((range(N_ROWS), CELLS)):
        table = pyarrow.table({"a": X[:, 0], "b": X[:, 1], "key": key})
        parquet.write_table(table, f"parts/{number}.parquet")
    ended = job(2, "predict", model, "--data", data, *words)
    assert ended.status == 2
    assert complaint in ended.err
    assert not Path("p.csv").exists()
