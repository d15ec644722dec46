"""Folders named KEY=VALUE, as Hive, Spark, pandas and pyarrow write them: their names are columns of the table."""

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import dataset, parquet
from ranks import read

from distsoftmax.errors import InputError

pandas = pytest.importorskip("pandas")

N_ROWS = 80
GENERATOR = np.random.default_rng(8)
FRAME = pandas.DataFrame(
    {
        "a": GENERATOR.standard_normal(N_ROWS).round(3),
        "b": GENERATOR.integers(0, 9, N_ROWS).astype(np.float64),
        "year": GENERATOR.choice([2024, 2025, 2026], N_ROWS),
        "kind": GENERATOR.choice(["cat", "a dog/é=1", "eel"], N_ROWS),
    }
)
LABEL = {"label": "kind"}


def write(folder, kind, keys, frame=FRAME, header=True):
    """Write a partitioned table; each part has some rows of one value of the keys."""
    if kind == "parquet":
        frame.to_parquet(folder, partition_cols=keys)
    else:
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        partitioning = dataset.partitioning(pyarrow.schema([table.schema.field(key) for key in keys]), flavor="hive")
        options = dataset.CsvFileFormat().make_write_options(include_header=header)
        dataset.write_dataset(table, folder, format="csv", partitioning=partitioning, file_options=options)
    (Path(folder) / "_SUCCESS").write_text("")
    (Path(folder) / "_metadata").write_text("x")
    (Path(folder) / ".hidden").mkdir()
    return str(folder)


def known(folder, kind, keys):
    """The same as pyarrow reads it, its parts in the order of their paths."""
    schema = pyarrow.Table.from_pandas(FRAME, preserve_index=False).schema
    partitioning = dataset.partitioning(pyarrow.schema([schema.field(key) for key in keys]), flavor="hive")
    paths = sorted(str(path) for path in Path(folder).rglob(f"*.{kind}"))
    return dataset.dataset(paths, partitioning=partitioning, format=kind).to_table().to_pandas()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("keys", [["kind"], ["year", "kind"], ["kind", "year"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_table_is_the_one_that_pyarrow_reads(tmp_path, kind, keys, ranks):
    folder = write(tmp_path / "d", kind, keys)
    found, frame = read(folder, ranks=ranks, **LABEL), known(folder, kind, keys)
    assert found.labels == frame["kind"].tolist()
    assert set(found.names) == {"a", "b", "year"}
    np.testing.assert_array_equal(found.features, frame[list(found.names)])
    by_glob = read(f"{folder}/{keys[0]}=*", ranks=2, **LABEL)
    assert by_glob.labels == found.labels
    np.testing.assert_array_equal(by_glob.features, found.features)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_of_the_folders_may_be_anything(tmp_path, kind):
    folder = write(tmp_path / "d", kind, ["kind", "year"])
    frame = known(folder, kind, ["kind", "year"])
    found = read(folder, label="year", one_hot=("kind",), drop=("b",), ranks=2)
    assert (found.names, found.categories) == (("a",), [frame["kind"].tolist()])
    assert found.labels == frame["year"].astype(str).tolist()
    found = read(folder, label="b", weight="year", one_hot=("auto",), ranks=3)
    np.testing.assert_array_equal(found.weights, frame["year"])
    assert found.categories == [frame["kind"].tolist()]
    found = read(folder, label="b", features=("year",), missing=("2025",), keep=("kind",), ranks=3)
    np.testing.assert_array_equal(found.features[:, 0], frame["year"].where(frame["year"] != 2025))
    with pytest.raises(InputError, match="the column kind, in the names of the folders, holds text.*--one-hot kind"):
        read(folder, label="year")


def test_a_file_without_header_has_the_columns_of_its_folders_by_name(tmp_path):
    folder = write(tmp_path / "d", "csv", ["kind"], header=False)
    found = read(folder, ranks=2, **LABEL)
    assert found.names == ("x0", "x1", "x2")
    assert sorted(set(found.labels)) == sorted(set(FRAME["kind"]))
    assert read(folder, ranks=2, label="2", drop=("kind",)).names == ("x0", "x1")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_hives_mark_and_an_empty_value_are_missing(tmp_path, kind):
    for value, rows in (("__HIVE_DEFAULT_PARTITION__", 3), ("7", 2), ("", 1), ("08", 2)):
        (folder := tmp_path / "d" / f"n={value}").mkdir(parents=True)
        frame = pandas.DataFrame({"a": range(rows), "y": ["u", "v", "u"][:rows]})
        frame.to_csv(folder / "0.csv", index=False) if kind == "csv" else frame.to_parquet(folder / "0.parquet")
    found = read(tmp_path / "d", label="y", shards=3, ranks=2)
    np.testing.assert_array_equal(found.features[:, 1], [np.nan, 8, 8, 7, 7, np.nan, np.nan, np.nan])
    with pytest.raises(InputError, match=r"n=/0\.\w+: row 1, column n: the label is missing"):
        read(tmp_path / "d", label="n", drop=("y",))


def write_values(folder, kind, name, values, n_rows=8):
    """Write a part for each value of a column in the folders' names."""
    generator = np.random.default_rng(1)
    for value in values:
        (path := Path(folder) / f"{name}={value}").mkdir(parents=True)
        frame = pandas.DataFrame({"a": generator.standard_normal(n_rows).round(3), "y": ["u", "v"] * (n_rows // 2)})
        frame.to_csv(path / "0.csv", index=False) if kind == "csv" else frame.to_parquet(path / "0.parquet")


LONG = ["1234567890123456789012", "1234567890123456789013"]  # equal in float64


@pytest.mark.parametrize("values", [["007", "7"], ["01", "1"], LONG, ["1.50", "1e2"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_categories_and_kept_columns_say_what_the_folders_say(tmp_path, kind, values):
    write_values(tmp_path / "d", kind, "k", values, n_rows=2)
    expected = [value for value in values for _ in range(2)]
    assert read(tmp_path / "d", label="k", drop=("y",)).labels == expected
    found = read(tmp_path / "d", label="y", one_hot=("k",), keep=("k",))
    assert found.categories == [expected]
    assert found.source.read(0).kept["k"].to_pylist() == values[:1]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_categories_do_not_depend_on_which_folders_are_read(job, kind):
    write_values("d", kind, "store", ["007", "012", "A12"])
    words = ["--label", "y", "--one-hot", "store", "--l2", 1e-2, "--max-steps", 5, "--out", "run"]
    assert job(2, "train", "--data", "d", *words).status == 0
    assert job(1, "predict", "run", "--data", "d", "--keep", "store", "--out", "all.csv").status == 0
    ended = job(2, "predict", "run", "--data", "d/store=0*", "--keep", "store", "--out", "some.csv")
    assert (ended.status, "never saw" in ended.err) == (0, False)
    assert Path("all.csv").read_text().startswith(Path("some.csv").read_text())


def test_training_and_predictions_do_not_depend_on_the_layout(job, tmp_path):
    write("hive", "parquet", ["kind"])
    known("hive", "parquet", ["kind"]).to_parquet("flat.parquet")
    words = ["--label", "kind", "--l2", 1e-2, "--max-steps", 5, "--dtype", "float64"]
    shas = {job(2, "train", "--data", data, *words, "--out", f"run-{data}").sha256 for data in ("hive", "flat.parquet")}
    assert len(shas) == 1
    contents = set()
    for ranks, data in ((1, "hive"), (3, "hive"), (2, "flat.parquet")):
        assert job(ranks, "evaluate", "run-hive", "--data", data).status == 0
        words = ["--keep", "kind", "--out", "p.csv"]
        assert job(ranks, "predict", "run-hive", "--data", data, *words).status == 0
        contents.add(Path("p.csv").read_text())
    assert len(contents) == 1
    assert job(2, "describe", "hive", "--label", "kind").status == 0


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_texts_of_the_folders_are_no_weights(tmp_path, kind):
    folder = write(tmp_path / "d", kind, ["kind"])
    with pytest.raises(InputError, match="the weight column kind, in the names of the folders, holds text.*--weight"):
        read(folder, label="b", weight="kind", ranks=2)


def spoil_with_a_plain_part(folder):
    (folder / "part-0.csv").write_text("a,b\n1,2\n")


def spoil_with_another_key(folder):
    (folder / "kind=cat" / "month=1").mkdir(parents=True)
    (folder / "kind=cat" / "month=1" / "0.csv").write_text("a,b\n1,2\n")
    for path in (folder / "kind=cat").glob("*.csv"):
        path.unlink()


def spoil_with_the_key_twice(folder):
    for path in folder.glob("kind=*"):
        (path / "kind=x").mkdir()
        for part in path.glob("*.csv"):
            part.rename(path / "kind=x" / part.name)


def spoil_with_a_column_of_that_name(folder):
    for path in folder.rglob("*.csv"):
        path.write_text("a,b,kind\n1,2,x\n")


SPOILED = {
    "a plain part": (spoil_with_a_plain_part, r"d: holds both kind=.*, a folder of a partitioned .* and part-0.csv"),
    "another key": (spoil_with_another_key, r"lies in folders for kind, month, but .* in folders for kind; give parts"),
    "a key twice": (spoil_with_the_key_twice, "two of its folders have one key"),
    "a column twice": (spoil_with_a_column_of_that_name, "the column kind is both in the file and in the name of its"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_parts_that_are_not_of_one_table_are_refused(tmp_path, name):
    spoil, complaint = SPOILED[name]
    write(tmp_path / "d", "csv", ["kind"])
    spoil(tmp_path / "d")
    with pytest.raises(InputError, match=complaint):
        read(tmp_path / "d", ranks=2, **LABEL)


def test_a_parquet_file_with_a_column_of_its_folders_name_is_refused(tmp_path):
    (tmp_path / "d" / "a=1").mkdir(parents=True)
    parquet.write_table(pyarrow.table({"a": [1, 2], "y": ["u", "v"]}), tmp_path / "d" / "a=1" / "0.parquet")
    with pytest.raises(InputError, match="the column a is both in the file and in the name of its folder"):
        read(tmp_path / "d", label="y", ranks=2)


def test_arrays_have_no_columns_in_the_names_of_folders(tmp_path):
    for kind in (0, 1):
        (tmp_path / "d" / f"kind={kind}").mkdir(parents=True)
        np.savez(tmp_path / "d" / f"kind={kind}" / "0.npz", X=np.eye(4), y=np.arange(4) % 2)
    with pytest.raises(InputError, match="a column, kind, which npz files cannot have; name the folders themselves"):
        read(tmp_path / "d", ranks=2)
    assert read(tmp_path / "d" / "kind=0", tmp_path / "d" / "kind=1", ranks=2).features.shape == (8, 4)
