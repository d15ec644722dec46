import csv
import io
import json
import threading
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_source import MemorySource
from ranks import on_ranks
from scipy.sparse import csr_array, save_npz
from tables import CLASSES, FEATURES, FORMATS, N_ROWS, ONE, SEVEN, SPARSE, write

from distsoftmax.command_line import UsageText, parse
from distsoftmax.config import DataConfig
from distsoftmax.data import encoding
from distsoftmax.data.dataset import load_dataset
from distsoftmax.data.shards import divide_source, show_nothing
from distsoftmax.describe import DescribeConfig
from distsoftmax.errors import InputError
from distsoftmax.inspection import census, description, diagnosis
from distsoftmax.inspection.census import take_census
from distsoftmax.inspection.description import as_json, describe
from distsoftmax.inspection.table import as_table
from distsoftmax.model import NumberedNames

RANKS = [1, 2, 3, 5]


def together(size, work):
    """What the ranks return, which must be one and the same; or the error that all of them raise."""
    outcomes = on_ranks(size, work)
    for error in outcomes:
        if isinstance(error, Exception) and not isinstance(error, threading.BrokenBarrierError):
            raise error
    return outcomes


def described(*data, ranks=1, for_ranks=None, **options):
    config = DescribeConfig(data=tuple(str(path) for path in data), **options)
    outcomes = together(ranks, lambda cluster: describe(config, for_ranks, cluster))
    assert len({as_json(outcome) for outcome in outcomes}) == 1
    return outcomes[0]


def refusal(*data, ranks=1, **options):
    """What training says to the same options; None where it takes the data."""
    config = DataConfig(data=tuple(str(path) for path in data), **options)
    try:
        together(ranks, lambda cluster: load_dataset(config, True, cluster))
    except InputError as error:
        return str(error)
    return None


def errors(description):
    return [problem.text for problem in description.problems if problem.severity == "error"]


def notes(description):
    return [problem.text for problem in description.problems if problem.severity == "note"]


def counted(ranks, shards, *arguments):
    def work(cluster):
        source = MemorySource(*arguments)
        source.rows_may_lack_labels = True
        divided = divide_source(source, shards, cluster, or_fewer=True)
        return take_census(divided, (), lambda text: "word", cluster, show_nothing)

    return together(ranks, work)


numbers = st.sampled_from([0.0, 0.0, 1.0, -2.5, 1e200, -1e-3, np.nan, np.inf, -np.inf])
words = st.sampled_from(["cat", "dog", "3", "", None])


@st.composite
def tables(draw):
    n_rows, n_columns = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    cells = draw(st.lists(numbers, min_size=n_rows * n_columns, max_size=n_rows * n_columns))
    columns = [draw(st.lists(words, min_size=n_rows, max_size=n_rows)) for _ in range(2)]
    weights = st.sampled_from([0.0, 1.0, 0.1, -1.0, np.nan, np.inf])
    weights = draw(st.none() | st.lists(weights, min_size=n_rows, max_size=n_rows).map(np.array))
    return np.array(cells).reshape(n_rows, n_columns), *columns, weights


@pytest.mark.parametrize("sparse", [False, True])
@given(tables(), st.sampled_from(RANKS), st.integers(1, 15))
@settings(max_examples=60, deadline=None, database=None)
def test_what_is_counted_is_what_is_there(sparse, table, ranks, shards):
    cells, labels, kinds, weights = table
    features = csr_array(cells) if sparse else cells
    (census, *others) = counted(ranks, shards, features, labels, weights, {"kind": kinds})
    found = census.numbers
    for counted_bad, bad in ((found.missing, np.isnan(cells)), (found.infinite, np.isinf(cells))):
        assert (counted_bad.count, counted_bad.n_columns) == (bad.sum(), bad.any(axis=0).sum())
        assert (counted_bad.by_column is None) == (counted_bad.first is None) == (not bad.any())
        if bad.any():
            row, column = np.argwhere(bad)[0]
            assert counted_bad.by_column.tolist() == bad.sum(axis=0).tolist()
            assert (counted_bad.first.where, counted_bad.first.column) == (f"memory: row {row + 1}", column)
    usable = cells if weights is None else cells[weights > 0]
    usable = np.where(np.isfinite(usable), usable, 0.0 if sparse else np.nan)
    for column, values in enumerate(usable.T):
        values = values[~np.isnan(values)]
        highest, lowest = found.extremes[0, column], -found.extremes[1, column]
        assert (highest, lowest) == ((values.max(), values.min()) if values.size else (-np.inf, np.inf))
    assert found.nonzero == np.count_nonzero(cells)
    assert census.labels.rows == Counter(text for text in labels if text is not None)
    assert (census.labels.missing, census.categories[0].missing) == (labels.count(None), kinds.count(None))
    if weights is not None:
        heavy = Counter(text for text, weight in zip(labels, weights, strict=True) if text is not None and weight > 0)
        assert census.labels.weighted == heavy
        good = weights[np.isfinite(weights) & (weights >= 0)]
        assert census.total_weight == pytest.approx(good.sum(), rel=1e-15)
        assert census.weights.zero == (weights == 0).sum()
        assert census.weights.negative + census.weights.not_finite == weights.size - good.size
    for other in others:
        assert (other.labels, other.weights, other.categories) == (census.labels, census.weights, census.categories)


@st.composite
def texts_of_tables(draw):
    """A CSV file of which anything may be wrong."""
    n_rows = draw(st.integers(3, 30))
    number = st.sampled_from(["0", "1", "2.5", "-3"] * 5 + draw(st.sampled_from([[], ["", "NA"], ["inf"], ["1e200"]])))
    text = st.sampled_from(["red", "blue"] * 5 + draw(st.sampled_from([[], [""]])))
    weight = st.sampled_from(["1", "0.1"] * 5 + draw(st.sampled_from([[], ["0"], ["-1"]])))
    kind = st.sampled_from(draw(st.sampled_from([["x"], ["x", "y"], ["x", "y", "z"] * 5 + ["w"]])))
    row = st.tuples(number, number, text, weight, kind)
    rows = draw(st.lists(row, min_size=n_rows, max_size=n_rows))
    file = io.StringIO()
    csv.writer(file).writerows([("a", "b", "colour", "w", "kind"), *rows])
    return file.getvalue()


OPTIONS = st.fixed_dictionaries(
    {
        "impute": st.sampled_from(["error", "mean", "zero"]),
        "one_hot": st.sampled_from([(), ("auto",), ("colour",)]),
        "weight": st.sampled_from([None, "w"]),
        "dtype": st.sampled_from(["stored", "float64"]),
        "shards": st.sampled_from([None, 1, 3]),
    }
)


@given(texts_of_tables(), OPTIONS, st.sampled_from(RANKS))
@settings(max_examples=200, deadline=None, database=None)
def test_an_error_is_shown_exactly_where_training_would_stop(tmp_path_factory, text, options, ranks):
    path = tmp_path_factory.mktemp("d") / "d.csv"
    path.write_text(text)
    description = described(path, label="kind", ranks=ranks, **options)
    refused = refusal(path, label="kind", **options)
    assert description.stops_training == (refused is not None), (errors(description), refused)
    if refused is not None:
        # of an undeclared text column training names the first bad cell, which may be an empty one
        same = [
            error
            for error in errors(description)
            if error.startswith(refused) or ("colour" in error and "colour" in refused)
        ]
        assert same, (errors(description), refused)


@given(texts_of_tables(), OPTIONS)
@settings(max_examples=25, deadline=None, database=None)
def test_the_output_does_not_depend_on_the_number_of_ranks(tmp_path_factory, text, options):
    path = tmp_path_factory.mktemp("d") / "d.csv"
    path.write_text(text)
    shown = {
        (as_table(description), as_json(description))
        for description in (described(path, label="kind", ranks=ranks, **options) for ranks in RANKS)
    }
    assert len(shown) == 1


@pytest.mark.parametrize("cuts", [ONE, SEVEN], ids=["one part", "seven parts"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_sound_source_is_described_alike_in_every_format(tmp_path, name, cuts):
    paths, options = write(tmp_path, name, cuts)
    description = described(*paths, ranks=3, **options)
    assert errors(description) == []
    assert all("compressed" in note for note in notes(description))
    assert (description.rows, description.numeric, description.features) == (N_ROWS, 5, 5)
    assert description.classes == dict(Counter(map(str, CLASSES.tolist())).most_common())
    assert description.nonzero == np.count_nonzero(FEATURES)
    assert description.sparse == (name in SPARSE)
    assert description.format == name.split()[-1 if name == "csr npz" else 0].replace("tsv", "csv").replace(
        "decimal", "csv"
    )
    labels = options.get("labels", ())
    assert description.files == len(paths) + len(labels)
    assert description.bytes == sum(Path(path).stat().st_size for path in (*paths, *labels))
    assert description.shards == 16
    assert as_json(description) == as_json(described(*paths, **options))
    assert description.shard_rows == (N_ROWS // 16, -(-N_ROWS // 16))


ARRAYS = {
    "float64": FEATURES,
    "float32": FEATURES.astype(np.float32),
    "float16": FEATURES.astype(np.float16),
    "int64": FEATURES.astype(np.int64),
    "uint8": np.abs(FEATURES).astype(np.uint8),
    "csr": csr_array(FEATURES),
    "csr float32": csr_array(FEATURES.astype(np.float32)),
}


def bytes_kept(dataset):
    return sum(some.features.nbytes for some in dataset.training)


@pytest.mark.parametrize("dtype", ["stored", "float32", "float64"])
@pytest.mark.parametrize("name", ARRAYS)
def test_type_and_memory_are_those_of_a_run(tmp_path, name, dtype):
    np.save(tmp_path / "y.npy", CLASSES)
    if name.startswith("csr"):
        save_npz(tmp_path / "d.npz", ARRAYS[name])
    else:
        np.savez(tmp_path / "d.npz", X=ARRAYS[name], y=CLASSES)
    options = {"labels": (str(tmp_path / "y.npy"),)} if name.startswith("csr") else {}
    options |= {"dtype": dtype, "shards": 7}
    description = described(tmp_path / "d.npz", **options)
    assert [need.ranks for need in description.memory] == [1, 2, 4]
    for need in description.memory:
        config = DataConfig(data=(str(tmp_path / "d.npz"),), **options)
        datasets = together(need.ranks, lambda rank, config=config: load_dataset(config, True, rank))
        assert description.computed == datasets[0].dtype.name
        assert need.features_kept == max(map(bytes_kept, datasets))
        assert need.rows == max(sum(some.classes.size for some in dataset.training) for dataset in datasets)
        assert need.total >= max(need.features_kept, need.features_read) + 8 * need.rows + need.parameters


def test_memory_of_categories_is_that_of_a_run(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a,colour,kind\n" + "".join(f"{i},{'rgb'[i % 3]}{i % 2},{'xy'[i // 20]}\n" for i in range(40)))
    options = {"label": "kind", "one_hot": ("colour",), "shards": 3}
    (need,) = described(path, for_ranks=3, **options).memory
    config = DataConfig(data=(str(path),), **options)
    datasets = together(3, lambda rank: load_dataset(config, True, rank))
    assert need.features_kept == max(map(bytes_kept, datasets)) == 14 * 7 * 4
    assert need.features_read == 14 * 7 * 8
    assert need.parameters == 12 * 2 * 8 * 8


@pytest.mark.sweep(5)
@pytest.mark.parametrize("bound", [*range(1190, 1210, 3), 1200, 2000, 5000, 10_000])
def test_a_bound_on_memory_is_too_little_where_training_says_so(tmp_path, bound):
    np.savez(tmp_path / "d.npz", X=FEATURES, y=CLASSES)
    refused = refusal(tmp_path / "d.npz", shards=50, memory=str(bound))
    description = described(tmp_path / "d.npz", shards=50, memory=str(bound))
    assert errors(description) == ([] if refused is None else [refused])
    for need in description.memory if refused is None else ():
        config = DataConfig(data=(str(tmp_path / "d.npz"),), shards=50, memory=str(bound))
        datasets = together(need.ranks, lambda rank, config=config: load_dataset(config, True, rank))
        assert need.uses_scratch == any(dataset.bytes_spooled for dataset in datasets)
    assert (bound >= description.least_memory) == (refused is None)
    assert all(need.total <= bound + 8 * need.rows + need.parameters for need in description.memory)


@pytest.mark.parametrize("bound", [6000, 8000, 16_000, 40_000])
def test_features_lie_in_scratch_where_those_of_a_run_do(tmp_path, bound):
    path = tmp_path / "d.csv"
    path.write_text("a,colour,kind\n" + "".join(f"{i},{'rgb'[i % 3]}{i % 30},{'xy'[i % 2]}\n" for i in range(90)))
    options = {"label": "kind", "one_hot": ("colour",), "memory": str(bound), "shards": 30}
    for need in described(path, **options).memory:
        config = DataConfig(data=(str(path),), **options)
        datasets = together(need.ranks, lambda rank, config=config: load_dataset(config, True, rank))
        assert need.uses_scratch == any(dataset.bytes_spooled for dataset in datasets)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("bound", ["500", "4KiB", "9KiB", "1MiB"])
def test_compressed_text_is_bounded_as_any_other(tmp_path, bound, ranks):
    paths, options = write(tmp_path, "csv gzip", ONE)
    options |= {"memory": bound, "shards": 50}
    refused = refusal(*paths, ranks=ranks, **options)
    description = described(*paths, for_ranks=ranks, **options)
    assert errors(description) == ([] if refused is None else [refused])
    assert (bound == "500") == (refused is not None)


GOOD = "a,b,kind\n" + "".join(f"{i}.5,{i * i % 7},{'xy'[i % 2]}\n" for i in range(40))


def test_more_shards_than_rows_are_refused_but_by_held_out_samples(tmp_path):
    (tmp_path / "d.csv").write_text(GOOD)
    (tmp_path / "few.csv").write_text("a,b,kind\n1,2,x\n3,4,y\n")
    expected = f"--shards is 1000000, but {tmp_path / 'd.csv'} holds 40 samples; ask for as many at most"
    assert refusal(tmp_path / "d.csv", label="kind", shards=1_000_000, ranks=2) == expected
    with pytest.raises(InputError, match="--shards is 1000000"):
        described(tmp_path / "d.csv", label="kind", shards=1_000_000)
    assert refusal(tmp_path / "d.csv", label="kind", shards=40, valid=(str(tmp_path / "few.csv"),)) is None


UNLABELLED = {
    "csv": "say which column holds the label with --label; the columns are a, b, kind, c, d, e",
    "parquet": "say which column holds the label with --label; the columns are a, b, c, d, e, kind",
    "npy": "name the .npy file of its labels with --labels FILE",
    "npz": "has no array y; it holds X",
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_without_labels_the_rest_is_described(tmp_path, name):
    paths, _ = write(tmp_path, name, ONE)
    if name == "npz":
        np.savez(paths[0], X=FEATURES)
    description = described(*paths, ranks=2)
    assert errors(description) == []
    assert any(UNLABELLED[name] in note for note in notes(description))
    assert description.classes is None
    assert description.rows == N_ROWS
    assert description.nonzero >= np.count_nonzero(FEATURES)
    assert all(need.parameters is None for need in description.memory)
    assert "not known" in as_table(description)


def test_a_label_that_is_named_but_not_there_is_an_error(tmp_path):
    paths, _ = write(tmp_path, "csv", ONE)
    with pytest.raises(InputError, match="there is no label column sort"):
        described(*paths, label="sort", ranks=2)


WRONG = {
    "missing numbers": (GOOD + "NA,2,x\n,,x\n", {}, ["row 41, column a: there is no number", "(the first of 3 such"]),
    "infinite": (GOOD + "1,inf,x\n", {}, ["row 41, column b: the value is inf"]),
    "text": (GOOD.replace("4,", "four,"), {}, ["row 3, column b: 'four' is not a number (the first of"]),
    "text column": (
        "c," + GOOD.replace("\n", "\nu,")[:-2],
        {},
        ["row 1, column c: it holds text ('u'); declare it with"],
    ),
    "decimal comma": (
        GOOD.replace(",", ";").replace(".", ","),
        {},
        ["row 1, column a: it holds text ('0,5'); declare it with", "--decimal , for a comma before decimals"],
    ),
    "thousands": (GOOD + '"1,000",2,x\n', {}, ["row 41, column a: '1,000' is not a number; if it is a number, say"]),
    "one class": (GOOD.replace("y", "x"), {}, ["all samples are of one class, 'x'; two are needed"]),
    "header": ("9,1,2\nx,1,2\ny,3,4\nx,4,5\n", {"label": "0"}, ["its label '9' stands in no other row; say --header"]),
    "weights": ("w," + GOOD.replace("\n", "\n-1,")[:-3], {"weight": "w"}, ["row 1: the weight is -1.0", "of 40 such"]),
    "weight 0": ("w," + GOOD.replace("\n", "\n0,")[:-2], {"weight": "w"}, ["all samples of class 'x' have weight 0"]),
    "too large": (GOOD + "1e200,1,x\n", {}, ["column a holds 1e+200; values beyond 1e+140"]),
    "no text": (
        "c," + GOOD.replace("\n", "\nu,")[:-2] + ",1,1,x\n",
        {"one_hot": ("c",)},
        ["row 41, column c: there is no text"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_stops_training_is_said_in_its_words(tmp_path, name):
    text, options, found = WRONG[name]
    (tmp_path / "d.csv").write_text(text)
    options = {"label": "kind"} | options
    refused = refusal(tmp_path / "d.csv", **options)
    description = described(tmp_path / "d.csv", ranks=3, **options)
    (said,) = errors(description)
    assert said.startswith(refused)
    assert all(word in said for word in found), said
    assert f"error: {said}" in as_table(description)


REMARKS = {
    "one sample": (GOOD + "1,2,lone\n", {}, "1 class (lone) with one sample"),
    "unbalanced": (GOOD + "1,2,x\n" * 4000, {}, "the largest class has 201 times as many samples as the smallest"),
    "a number to be measured": ("a,kind\n" + "".join(f"{i},{i * 0.1}\n" for i in range(50)), {}, "a number to be mea"),
    "constant": ("c," + GOOD.replace("\n", "\n7,")[:-2], {}, "1 column (c) with one value throughout"),
    "scales": (GOOD + "1e9,2,x\n", {}, "up to 4 in b, up to 1e+09 in a"),
    "no header": (GOOD.partition("\n")[2], {"label": "2"}, "the first line was taken for a row"),
    "weights of 0": (
        "w," + GOOD.replace("\n", "\n1,")[:-2] + "0,1,1,x\n",
        {"weight": "w"},
        "1 row of weight 0 will not count",
    ),
    "imputed": (GOOD + "NA,2,x\n", {"impute": "mean"}, "1 cell in 1 column without a number; the mean"),
    "names": (
        "\n".join(["kind,id,a"] + [f"{'xy'[i % 2]},n{i},{i}" for i in range(40)]),
        {"one_hot": ("id",)},
        "column id holds 40 different texts in 40 rows; what is met once teaches nothing",
    ),
    "few values": (
        "\n".join(["kind,a,b"] + [f"{'xy'[i % 2]},0,{i // 39}" for i in range(40)]),
        {},
        "98.8% of the values are 0; as svmlight",
    ),
}


@pytest.mark.parametrize("name", REMARKS)
def test_what_is_worth_a_look_does_not_stop_training(tmp_path, name):
    text, options, found = REMARKS[name]
    (tmp_path / "d.csv").write_text(text)
    options = {"label": "kind"} | options
    description = described(tmp_path / "d.csv", ranks=2, **options)
    assert refusal(tmp_path / "d.csv", **options) is None
    assert not description.stops_training
    assert any(found in note for note in notes(description)), notes(description)


def test_one_text_column_may_be_the_label(tmp_path):
    (tmp_path / "d.csv").write_text(GOOD)
    description = described(tmp_path / "d.csv")
    assert errors(description) == []
    assert any("holds text ('x'); say --label kind if it is the label" in note for note in notes(description))


@pytest.mark.parametrize("one_hot", [(), ("auto",)])
def test_a_table_without_numeric_columns_is_described(tmp_path, one_hot):
    (tmp_path / "d.csv").write_text("colour,kind\n" + "".join(f"{'rgb'[i % 3]},{'xy'[i % 2]}\n" for i in range(40)))
    description = described(tmp_path / "d.csv", label="kind", one_hot=one_hot, ranks=2)
    assert (description.numeric, description.features, description.nonzero) == (0, 3, 0)
    assert "40 rows, 3 features, dense\n" in as_table(description)


def test_only_the_worst_columns_and_the_largest_classes_are_shown(tmp_path):
    features = np.ones((60, 30))
    for column in range(25):
        features[: column + 1, column] = np.nan
    np.savez(tmp_path / "d.npz", X=features, y=np.arange(60) % 45)
    description = described(tmp_path / "d.npz", ranks=3)
    assert (description.missing.cells, description.missing.columns) == (sum(range(26)), 25)
    assert description.missing.worst == tuple((f"x{column}", column + 1) for column in range(24, 14, -1))
    assert list(description.classes.values()) == [2] * 15 + [1] * 30
    text = as_table(description)
    assert "and 15 more" in text
    assert "and 25 more" in text


def test_too_many_categories_are_neither_kept_nor_taken(tmp_path, monkeypatch):
    for module in (encoding, census, description, diagnosis):
        monkeypatch.setattr(module, "LARGEST_NUMBER_OF_CATEGORIES", 1000)
    lines = "".join(f"{i},name {i},{'xy'[i % 2]}\n" for i in range(2100))
    (tmp_path / "d.csv").write_text("a,id,kind\n" + lines)
    for options in ({"one_hot": ("id",)}, {}):
        shown = [described(tmp_path / "d.csv", label="kind", ranks=ranks, **options) for ranks in RANKS]
        assert len(set(map(as_json, shown))) == 1
        (said,) = errors(shown[0])
        assert "column id holds more than 1000 different texts, too many for categories" in said
        (column,) = shown[0].categories
        assert (column.texts, column.more) == (1000, True)
    rows = np.zeros((2100, 1)), ["a"] * 2100, None, {"id": [f"name {i}" for i in range(2100)]}
    assert len(counted(1, 10, *rows)[0].categories[0].rows) == 1001


@pytest.mark.parametrize(("impute", "constant"), [("mean", 2), ("zero", 1)])
def test_a_constant_column_may_vary_once_it_is_filled(tmp_path, impute, constant):
    (tmp_path / "d.csv").write_text("a,b,c,kind\n1,0,1,x\n,,2,y\n1,0,3,x\n")
    assert described(tmp_path / "d.csv", label="kind", impute=impute).constant == constant


def test_columns_by_the_million_take_a_few_numbers_each_and_no_names(tmp_path, monkeypatch):
    monkeypatch.setattr(NumberedNames, "__iter__", None, raising=False)
    n_features = 2_000_000
    (tmp_path / "d.svm").write_text("x 6:1 1999999:2\ny 6:nan\nx 8:3\ny 6:4\n")
    tracemalloc.start()
    description = described(tmp_path / "d.svm", n_features=n_features)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert description.missing.worst == (("x5", 1),)
    assert description.constant == n_features - 3
    assert peak < 90 * n_features


def test_the_json_object_holds_what_is_known(tmp_path):
    paths, options = write(tmp_path, "csv", ONE)
    description = described(*paths, **options)
    told = json.loads(as_json(description))
    assert told["classes"] == description.classes
    assert told["memory"][0]["ranks"] == 1
    assert told["problems"] == [{"severity": "note", "text": note} for note in notes(description)]
    assert told["missing"] == {"cells": 0, "columns": 0, "worst": []}


def test_for_more_ranks_than_shards_it_says_how_many_to_ask_for(tmp_path):
    np.savez(tmp_path / "d.npz", X=FEATURES, y=CLASSES)
    description = described(tmp_path / "d.npz", for_ranks=100)
    assert [(need.ranks, need.shards) for need in description.memory] == [(100, 1)]
    assert any(
        "84 of 100 ranks would have no shard; --shards 211 gives every rank at least one" in note
        for note in notes(description)
    )


def test_its_options_are_those_that_say_how_files_are_read():
    config = parse(
        DescribeConfig, ["a.csv", "b.csv", "--label", "kind", "--impute", "mean", "--ranks", "4"], "describe"
    )
    assert (config.data, config.label, config.impute, config.ranks) == (("a.csv", "b.csv"), "kind", "mean", 4)
    for option in ("--valid-fraction=0.5", "--class-weight=balanced", "--seed=1", "--data=c.csv"):
        with pytest.raises(UsageText) as refused:
            parse(DescribeConfig, ["a.csv", option], "describe")
        assert refused.value.status == 2
    for arguments in ([], ["a.csv", "--ranks", "0"]):
        with pytest.raises(InputError):
            parse(DescribeConfig, arguments, "describe")
