"""Parquet files, against pyarrow's own reading of them."""

import base64
import datetime
import decimal
import itertools
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import on_ranks, read

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig
from distsoftmax.data.dataset import load_dataset
from distsoftmax.data.open_source import open_source
from distsoftmax.data.readers.arrow_columns import category_column, numbers
from distsoftmax.data.shards import shard_bounds
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError

N_ROWS = 60
LABELS = [("dog", "a cat, black", "Ä", "日本")[row % 4] for row in range(N_ROWS)]
NUMBERS = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]
DAMAGED = settings(deadline=None, database=None, max_examples=250)


def values(dtype="float64", n_rows=N_ROWS, seed=0):
    draws = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, n_rows)
    return (draws * (0.25 if dtype.startswith("float") else 1)).astype(dtype)


def table(**columns):
    """A table of the given columns, of lists, arrays or Arrow's, with labels y."""
    n_rows = len(next(iter(columns.values()))) if columns else N_ROWS
    return pa.table({"y": LABELS[:n_rows], **columns})


@pytest.fixture
def save(tmp_path):
    """Write a table, in row groups of 7 rows unless told; return its path."""

    def save(table, name="data.parquet", **options):
        pq.write_table(table, tmp_path / name, **{"row_group_size": 7, **options})
        return str(tmp_path / name)

    return save


def opened(*paths, n_shards=1, **spec):
    source = open_source(SourceSpec(paths=paths, **spec), Alone())
    source.scan(Alone())
    source.divide(shard_bounds(source.n_rows, n_shards), [range(n_shards)], Alone())
    return source


def refusal(*paths, **options):
    try:
        found = read(*paths, **{"ranks": 2, "shards": 3, "label": "y", **options})
    except InputError as error:
        return str(error)
    return pytest.fail(f"not refused, but read as {found.features}, {found.labels}")


def as_numbers(column):
    """A column of a table as float64, NaN where it is null; by way of Python's own objects."""
    return np.array([np.nan if value is None else float(value) for value in column.to_pylist()])


@pytest.mark.parametrize("shards", [None, 1, 7, N_ROWS, 2 * N_ROWS])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_rows_depend_neither_on_ranks_nor_on_shards(save, ranks, shards):
    held = table(a=values(), b=values(seed=1))
    found = read(save(held), label="y", ranks=ranks, shards=shards)
    np.testing.assert_array_equal(found.features, np.column_stack([held["a"], held["b"]]), strict=True)
    assert found.features.flags.c_contiguous
    assert found.names == ("a", "b")
    assert found.labels == LABELS
    assert found.weights is None


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_parts_follow_one_another_empty_ones_among_them(save, tmp_path, ranks):
    held = table(a=values(), b=values(seed=1), kind=LABELS[::-1], w=values(seed=2))
    cuts = [0, 9, 9, 10, 31, N_ROWS]
    paths = [save(held[first:stop], f"{first}-{stop}") for first, stop in itertools.pairwise(cuts)]
    (tmp_path / "nothing").touch()
    paths.insert(0, str(tmp_path / "nothing"))
    for shards in (1, 3, 5, 100):
        found = read(*paths, label="y", weight="w", one_hot=("kind",), format="parquet", ranks=ranks, shards=shards)
        np.testing.assert_array_equal(found.features, np.column_stack([held["a"], held["b"]]))
        np.testing.assert_array_equal(found.weights, held["w"])
        assert found.labels == LABELS
        assert found.categories == [LABELS[::-1]]
    assert found.source.path == f"{paths[0]} and 5 more"
    assert [found.source.locate(row) for row in (0, 8, 9, 10, 59)] == [
        (paths[1], 1),
        (paths[1], 9),
        (paths[3], 1),
        (paths[4], 1),
        (paths[5], 29),
    ]


def test_a_part_without_rows_need_not_have_the_types(save):
    held = table(a=values())
    empty = pa.table({"y": pa.array([], pa.null()), "a": pa.array([], pa.string())})
    found = read(save(empty, "0.parquet"), save(held, "1.parquet"), label="y", ranks=3)
    np.testing.assert_array_equal(found.features[:, 0], held["a"])


def test_a_file_without_rows_holds_none(save):
    found = read(save(table(a=values())[:0]), label="y", shards=1)
    assert found.source.n_rows == 0
    assert found.features.shape == (0, 1)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_columns_of_one_type_keep_it(save, dtype):
    held = table(a=values(dtype), b=values(dtype, seed=1))
    found = read(save(held), label="y", ranks=2, shards=3).features
    np.testing.assert_array_equal(found, np.column_stack([values(dtype), values(dtype, seed=1)]), strict=True)


@pytest.mark.sweep(48)
@pytest.mark.parametrize("other", NUMBERS)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_columns_of_several_types_come_in_the_one_that_holds_them(save, dtype, other):
    held = table(a=values(dtype), b=values(other, seed=1))
    found = read(save(held), label="y", shards=3).features
    assert found.dtype == np.result_type(dtype, other)
    np.testing.assert_array_equal(found, np.column_stack([values(dtype), values(other, seed=1)]))


@pytest.mark.sweep(36)
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("at", [0, 30, N_ROWS - 1])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_a_missing_value_is_nan_and_the_type_is_the_same_in_all_shards(save, dtype, at, ranks):
    missing = np.arange(N_ROWS) == at
    held = table(a=pa.array(values(dtype), mask=missing), b=values(dtype, seed=1))
    half = N_ROWS // 2
    for paths in ([save(held)], [save(held[:half], "0.parquet"), save(held[half:], "1.parquet")]):
        found = read(*paths, label="y", ranks=ranks, shards=4).features
        assert found.dtype == (dtype if dtype.startswith("float") else "float64")
        np.testing.assert_array_equal(found[:, 0], as_numbers(held["a"]))
        np.testing.assert_array_equal(found[:, 1], values(dtype, seed=1))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_a_shard_has_its_own_type_and_the_survey_finds_the_one_of_all(save, ranks):
    held = table(a=pa.array([None, *range(1, N_ROWS)], pa.int16()), b=values("int8"))
    path = save(held)
    source = opened(path, n_shards=4, label="y")
    assert [source.read(shard).features.dtype for shard in range(4)] == ["float64", "int16", "int16", "int16"]
    config = DataConfig(data=(path,), label="y", impute="mean", shards=4)
    datasets = on_ranks(ranks, lambda cluster: load_dataset(config, True, cluster))
    assert {dataset.dtype for dataset in datasets} == {np.dtype("float64")}


def test_nan_is_delivered_as_it_is(save):
    found = read(save(table(a=np.array([1, np.nan, np.inf], dtype="float32"))), label="y")
    np.testing.assert_array_equal(found.features[:, 0], np.array([1, np.nan, np.inf], dtype="float32"), strict=True)


@pytest.mark.parametrize("is_nullable", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_integers_stay_integers_where_none_is_missing(save, is_nullable, statistics):
    schema = pa.schema([pa.field("a", pa.int16(), nullable=is_nullable)])
    path = save(pa.table([values("int16")], schema=schema), write_statistics=statistics)
    found = read(path, needs_labels=False, ranks=2).features
    np.testing.assert_array_equal(found[:, 0], values("int16"), strict=True)


def test_widths_may_differ_between_parts_where_one_type_holds_both(save):
    paths = [
        save(table(a=values("int8"), b=values("float32")), "0.parquet"),
        save(table(a=values("uint16"), b=values("float32")), "1.parquet"),
    ]
    assert read(*paths, label="y", ranks=2, features=("a",)).features.dtype == np.int32
    assert read(*paths, label="y", ranks=3).features.dtype == np.result_type("int8", "uint16", "float32")


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_codec_and_page_version_is_read(save, compression, version):
    held = table(a=values(), b=values("int32"))
    path = save(held, compression=compression, data_page_version=version)
    np.testing.assert_array_equal(read(path, label="y", ranks=2).features, np.column_stack([held["a"], held["b"]]))


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"])
def test_every_encoding_is_read(save, encoding):
    path = save(table(a=values("int64")), use_dictionary=False, column_encoding={"a": encoding}, compression="none")
    np.testing.assert_array_equal(read(path, label="y", ranks=2).features[:, 0], values("int64"))


KINDS_OF_LABELS = {
    "text": (pa.array(LABELS), LABELS),
    "large text": (pa.array(LABELS, pa.large_string()), LABELS),
    "views of texts": (pa.array(LABELS, pa.string_view()), LABELS),
    "dictionary": (pa.array(LABELS).dictionary_encode(), LABELS),
    "dictionary of integers": (pa.array([3, -1] * 30).dictionary_encode(), ["3", "-1"] * 30),
    "int8": (pa.array([3, -1] * 30, pa.int8()), ["3", "-1"] * 30),
    "uint64": (pa.array([2**64 - 1, 7] * 30, pa.uint64()), [str(2**64 - 1), "7"] * 30),
    "bool": (pa.array([True, False] * 30), ["True", "False"] * 30),
    "floats": (pa.array([3.0, -0.0, 0.0] * 20), ["3", "0", "0"] * 20),
    "fractions": (pa.array([1.5, -0.25, 2.0] * 20, pa.float32()), ["1.5", "-0.25", "2"] * 20),
    "short floats": (pa.array(np.array([3, 2] * 30, dtype="float16")), ["3", "2"] * 30),
}


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(("labels", "texts"), KINDS_OF_LABELS.values(), ids=KINDS_OF_LABELS)
def test_labels_come_as_texts(save, labels, texts, ranks):
    path = save(pa.table({"a": values(), "y": labels}))
    assert read(path, label="y", ranks=ranks, shards=7).labels == texts


def test_texts_are_distinct_and_occur(save):
    unused = pa.DictionaryArray.from_arrays(pa.array([2, 0] * 30, pa.int8()), ["a", "never", "c"])
    source = opened(
        save(table(a=values(), kind=unused, n=pa.array([1.0, -0.0, 0.0] * 20))),
        n_shards=9,
        one_hot=("kind",),
        features=("a",),
        label="n",
    )
    for shard in range(9):
        rows = source.read(shard)
        for column in (rows.labels, *rows.categories):
            assert sorted(set(column.texts)) == sorted(column.texts)
            assert set(column.codes) == set(range(len(column.texts)))


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (pa.array(["a"] * 10 + [None] + ["b"] * 9), "the label is missing"),
        (pa.array(["a"] * 10 + [None] + ["b"] * 9).dictionary_encode(), "the label is missing"),
        (pa.array([1] * 10 + [None] + [2] * 9), "the label is missing"),
        (pa.array([1.0] * 10 + [np.nan] + [2.0] * 9), "the label is missing"),
        (pa.array([1.0] * 10 + [-np.inf] + [2.0] * 9), "the label is -inf"),
    ],
    ids=str,
)
def test_an_odd_label_is_named_by_file_and_row(save, labels, words, ranks):
    first = save(pa.table({"a": values(n_rows=5), "y": labels[:5]}), "0.parquet")
    path = save(pa.table({"a": values(n_rows=20), "y": labels}), "1.parquet")
    assert f"{path}: row 11, column y: {words}" in refusal(first, path, ranks=ranks)


@pytest.mark.parametrize("needed", [True, False])
def test_the_label_is_no_feature(save, needed):
    found = read(save(pa.table({"a": values(), "y": values("int8")})), label="y", needs_labels=needed)
    assert found.names == ("a",)
    assert (found.labels is None) == (not needed)


def test_weights_are_float64_and_nan_where_missing(save):
    held = table(a=values(), w=pa.array([None, *range(1, N_ROWS)]))
    found = read(save(held), label="y", weight="w", ranks=2, shards=5)
    np.testing.assert_array_equal(found.weights, as_numbers(held["w"]), strict=True)
    assert found.names == ("a",)


class TestCategories:
    KIND = ["red", None, "blue", "Ä", ""] * 12

    @pytest.mark.parametrize("ranks", [1, 2, 3, 5])
    @pytest.mark.parametrize(
        "make",
        [pa.array, lambda cells: pa.array(cells, pa.string_view()), lambda cells: pa.array(cells).dictionary_encode()],
        ids=["text", "views", "dictionary"],
    )
    def test_text_columns_come_as_texts_and_missing_ones_as_none(self, save, make, ranks):
        path = save(table(a=values(), kind=make(self.KIND)))
        for one_hot in (("kind",), ("auto",)):
            found = read(path, label="y", one_hot=one_hot, ranks=ranks, shards=7)
            assert found.source.category_names == ("kind",)
            assert found.categories == [self.KIND]
            assert found.names == ("a",)

    def test_integers_and_bool_may_be_categories(self, save):
        path = save(table(a=values(), month=[3, None] * 30, b=[True, False] * 30))
        found = read(path, label="y", one_hot=("b", "month"), ranks=2)
        assert found.source.category_names == ("b", "month")
        assert found.categories == [["True", "False"] * 30, ["3", None] * 30]

    def test_auto_takes_text_alone_and_of_chosen_features_only(self, save):
        path = save(table(a=values(), kind=self.KIND, other=self.KIND, n=pa.array([1, 2] * 30).dictionary_encode()))
        assert read(path, label="y", one_hot=("auto",)).source.category_names == ("kind", "other")
        found = read(path, label="y", one_hot=("auto",), features=("n", "other"))
        assert found.source.category_names == ("other",)
        np.testing.assert_array_equal(found.features[:, 0], [1, 2] * 30)

    def test_there_may_be_categories_alone(self, save):
        found = read(save(table(kind=self.KIND)), label="y", one_hot=("kind",), ranks=2)
        assert found.features.shape == (N_ROWS, 0)
        assert found.categories == [self.KIND]

    def test_floats_are_no_categories(self, save):
        assert "column a is of type double, which --one-hot does not take" in refusal(
            save(table(a=values())), one_hot=("a",)
        )


class TestVectors:
    def vectors(self, dtype="float32", size=3):
        cells = np.arange(N_ROWS * size).astype(dtype)
        return cells.reshape(N_ROWS, size), pa.FixedSizeListArray.from_arrays(pa.array(cells), size)

    @pytest.mark.parametrize("dtype", [dtype for dtype in NUMBERS if dtype != "bool"])
    def test_lists_of_a_fixed_size_are_vectors(self, save, dtype):
        cells, column = self.vectors(dtype)
        found = read(save(table(a=values(dtype), e=column, b=values(dtype))), label="y", ranks=2, shards=5)
        assert found.names == ("a", "e[0]", "e[1]", "e[2]", "b")
        np.testing.assert_array_equal(
            found.features, np.column_stack([values(dtype), cells, values(dtype)]), strict=True
        )

    @pytest.mark.skipif(int(pa.__version__.split(".")[0]) < 26, reason="this pyarrow does not read missing lists back")
    @pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
    def test_missing_vectors_and_elements_are_nan(self, save, dtype):
        cells = [[1, 2], None, [3, None], [5, 6]] * 15
        held = pa.array(cells, pa.list_(pa.int8(), 2)).cast(pa.list_(pa.from_numpy_dtype(dtype), 2))
        found = read(save(table(e=held)), label="y", ranks=2, shards=5).features
        assert found.dtype == ("float64" if dtype == "int8" else dtype)
        np.testing.assert_array_equal(found, np.array([[1, 2], [np.nan] * 2, [3, np.nan], [5, 6]] * 15))

    def test_a_model_may_take_some_elements_in_any_order(self, save):
        cells, column = self.vectors(size=6)
        expected = ("e[4]", "e[5]", "e[1]", "a", "e[0]", "e[3]", "e[2]")
        found = read(save(table(a=values(), e=column)), label="y", expected_names=expected, ranks=2, shards=5)
        assert found.names == expected
        np.testing.assert_array_equal(
            found.features, np.column_stack([cells[:, [4, 5, 1]], values(), cells[:, [0, 3, 2]]])
        )

    def test_lists_of_any_size_are_refused_with_what_to_do(self, save):
        text = refusal(save(table(e=[[1.0, 2.0]] * N_ROWS)))
        assert "column e is of type list<" in text
        assert "cast it to lists of a fixed size, pyarrow.list_(pyarrow.double(), n)" in text

    def test_parts_with_vectors_of_different_size_are_refused(self, save):
        paths = [save(table(e=self.vectors(size=size)[1]), f"{size}.parquet") for size in (2, 3)]
        text = refusal(*paths)
        assert all(path in text for path in paths)
        assert "column e is of type fixed_size_list" in text

    def test_a_size_of_lists_that_is_damaged_makes_no_billion_of_features(self, save):
        path = save(table(e=self.vectors(size=77)[1]))
        held = pq.read_metadata(path).metadata[b"ARROW:schema"]
        schema = base64.b64decode(held)
        assert schema.count((77).to_bytes(4, "little")) == 1
        damaged = base64.b64encode(schema.replace((77).to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little")))
        with open(path, "rb") as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(content.replace(held, damaged))
        assert "is damaged, or no Parquet file: Expected all lists to be of size=2147483647" in refusal(path)

    def test_a_column_named_like_an_element_is_no_second_one(self, save):
        held = table(**{"e": self.vectors()[1], "e[1]": values()})
        assert "two features are named 'e[1]'" in refusal(save(held))


DAYS = [datetime.date(2020, 1, 1)] * N_ROWS
REFUSED = {
    "text": (LABELS, ["column c holds text", "--one-hot c", "--drop c"]),
    "dictionary of text": (pa.array(LABELS).dictionary_encode(), ["column c holds text", "--one-hot c"]),
    "date": (DAYS, ["column c is of type date32", "no number", "number of it", "--drop"]),
    "timestamp": (pa.array([datetime.datetime(2020, 1, 1)] * N_ROWS), ["column c is of type timestamp", "days since"]),
    "duration": (pa.array([1] * N_ROWS, pa.duration("s")), ["column c is of type duration"]),
    "struct": ([{"p": 1.0}] * N_ROWS, ["column c is of type struct", "columns of numbers"]),
    "map": (pa.array([[("p", 1.0)]] * N_ROWS, pa.map_(pa.string(), pa.float64())), ["column c is of type map"]),
    "binary": ([b"x"] * N_ROWS, ["column c is of type binary"]),
    "null": ([None] * N_ROWS, ["column c is of type null", "leave it out"]),
    "vectors of text": (pa.array([["x"]] * N_ROWS, pa.list_(pa.string(), 1)), ["column c is of type fixed_size_list"]),
    "vectors of vectors": (
        pa.array([[[1.0]]] * N_ROWS, pa.list_(pa.list_(pa.float64(), 1), 1)),
        ["column c is of type fixed_size_list"],
    ),
    "list": ([[1]] * N_ROWS, ["column c is of type list", "fixed size"]),
}


@pytest.mark.parametrize(("column", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_number_is_refused_by_name_type_and_remedy(save, column, words):
    path = save(table(a=values(), c=column))
    text = refusal(path)
    assert text.startswith(f"{path}: ")
    for word in words:
        assert word in text
    assert read(path, label="y", features=("a",)).names == ("a",)


@pytest.mark.parametrize(("option", "what"), [("label", "the label column c"), ("weight", "the weight column c")])
@pytest.mark.parametrize("kind", ["date", "struct", "binary", "null", "list"])
def test_labels_and_weights_of_strange_types_are_refused(save, option, what, kind):
    assert f"{what} is of type" in refusal(save(table(a=values(), c=REFUSED[kind][0])), **{option: "c"})


def test_decimals_are_numbers(save):
    cells = [decimal.Decimal("1.25"), None, decimal.Decimal("-3.50")] * 20
    found = read(save(table(a=pa.array(cells, pa.decimal128(6, 2)), b=values("float32"))), label="y", ranks=2)
    np.testing.assert_array_equal(found.features[:, 0], [1.25, np.nan, -3.5] * 20, strict=True)


@pytest.mark.parametrize("kind", [pa.decimal128(18, 2), pa.decimal128(38, 10), pa.decimal256(60, 3)], ids=str)
def test_decimals_are_the_nearest_numbers_as_in_csv(save, kind):
    generator = np.random.default_rng(4)
    largest = 10 ** min(kind.precision - 1, 18)
    cells = [
        decimal.Decimal(int(number)).scaleb(-kind.scale) for number in generator.integers(-largest, largest, N_ROWS)
    ]
    found = read(save(table(a=pa.array(cells, kind))), label="y", ranks=2)
    np.testing.assert_array_equal(found.features[:, 0], list(map(float, cells)), strict=True)


class TestNames:
    def test_a_column_named_in_vain_is_missed_with_a_near_one(self, save):
        path = save(table(alpha=values(), beta=values()))
        for option, value in (("label", "alpa"), ("weight", "alpa"), ("features", ("alpa",)), ("one_hot", ("alpa",))):
            text = refusal(path, **{option: value})
            assert f"{path}: there is no " in text
            assert "column alpa; did you mean alpha?; the columns are y, alpha, beta" in text

    def test_the_label_must_be_named(self, save):
        assert "say which column holds the label with --label; the columns are y, a" in refusal(
            save(table(a=values())), label=None
        )

    def test_features_come_in_the_order_named(self, save):
        held = table(a=values(), b=values(seed=1), c=values(seed=2))
        found = read(save(held), label="y", features=("c", "a"), ranks=2)
        assert found.names == ("c", "a")
        np.testing.assert_array_equal(found.features, np.column_stack([held["c"], held["a"]]))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"weight": "y"}, "in both --label and --weight"),
            ({"features": ("a", "y")}, "in both --label and --features"),
            ({"features": ("a", "a")}, "twice in --features"),
            ({"features": ("a",), "one_hot": ("a",)}, "in both --features and --one-hot"),
        ],
    )
    def test_a_column_has_one_role(self, save, options, words):
        assert words in refusal(save(table(a=values())), **options)

    def test_two_columns_of_one_name_are_refused(self, save):
        path = save(pa.table([LABELS, values(), values()], names=["y", "a", "a"]))
        assert f"{path}: two columns are named 'a'" in refusal(path)

    def test_the_label_alone_is_nothing_to_learn_from(self, save):
        assert "no feature to learn from" in refusal(save(pa.table({"y": LABELS})))

    def test_names_may_hold_dots_and_brackets(self, save):
        held = table(
            **{
                "a": values(),
                "a.b": values(seed=1),
                "a.b.list.element": values("int8"),
                "p[0]": values(seed=2),
                "": values(),
            }
        )
        found = read(save(held), label="y", ranks=2, shards=3)
        assert found.names == ("a", "a.b", "a.b.list.element", "p[0]", "")
        np.testing.assert_array_equal(found.features, np.column_stack([held[name] for name in found.names]))

    def test_a_model_finds_its_columns_among_others(self, save):
        held = table(c=values(seed=2), when=DAYS, kind=LABELS, a=values(seed=1), b=values(), more=LABELS[::-1])
        options = {"expected_names": ("a", "c"), "expected_categories": ("more", "kind")}
        for extra in ({}, {"one_hot": ("auto",)}, {"features": ("b", "kind")}):
            found = read(save(held), label="y", ranks=2, shards=3, **options, **extra)
            assert found.names == ("a", "c")
            np.testing.assert_array_equal(found.features, np.column_stack([held["a"], held["c"]]))
            assert found.source.category_names == ("more", "kind")
            assert found.categories == [LABELS[::-1], LABELS]

    @pytest.mark.parametrize(
        ("options", "missing"),
        [
            ({"expected_names": ("a", "p", "q[1]")}, "p, q[1]"),
            ({"expected_names": ("a", "y")}, "y"),
            ({"expected_names": ("a",), "expected_categories": ("p",)}, "p"),
        ],
    )
    def test_a_model_misses_its_columns(self, save, options, missing):
        text = refusal(save(table(a=values())), **options)
        assert f"lacks the model's features {missing}; the columns are y, a" in text

    def test_a_model_refuses_text_for_numbers(self, save):
        assert "column kind holds text" in refusal(save(table(kind=LABELS)), expected_names=("kind",))

    def test_the_index_of_pandas_is_no_feature_unless_named(self, save):
        path = save(table(a=values(), __index_level_0__=values("int64")))
        found = read(path, label="y")
        assert found.names == ("a",)
        assert "column __index_level_0__ is the index that pandas wrote" in found.source.notes[0]
        found = read(path, label="y", features=("a", "__index_level_0__"))
        assert found.names == ("a", "__index_level_0__")
        assert found.source.notes == ()


FIRST_PART = table(a=values("int64"), b=values())
OTHER_PARTS = {
    "lacks a column": (table(a=values("int64")), "lacks the column b, which {first} has"),
    "lacks the label": (FIRST_PART.drop_columns(["y"]), "lacks the column y"),
    "has one more": (table(a=values("int64"), b=values(), c=values()), "has a column c, which {first} lacks"),
    "text for numbers": (table(a=LABELS, b=values()), "column a is of type string, but in {first} of type int64"),
    "floats for integers": (
        table(a=values(), b=values()),
        "column a is of type double, but in {first} of type int64",
    ),
    "bool for integers": (table(a=values("bool"), b=values()), "column a is of type bool, but in {first}"),
    "no common type": (table(a=values("uint64"), b=values()), "column a is of type uint64, but in {first}"),
    "numbers for labels": (FIRST_PART.set_column(0, "y", [values("int8")]), "column y is of type int8, but in {first}"),
}


class TestPartsThatDiffer:
    @pytest.mark.parametrize("ranks", [1, 2, 3, 5])
    @pytest.mark.parametrize(("other", "words"), OTHER_PARTS.values(), ids=OTHER_PARTS)
    def test_both_are_named_and_the_column(self, save, other, words, ranks):
        paths = [save(FIRST_PART, "0.parquet"), save(FIRST_PART, "1.parquet"), save(other, "2.parquet")]
        assert f"{paths[2]}: {words.format(first=paths[0])}" in refusal(*paths, ranks=ranks)

    def test_columns_go_by_name(self, save):
        paths = [save(FIRST_PART, "0.parquet"), save(FIRST_PART.select(["b", "y", "a"]), "1.parquet")]
        found = read(*paths, label="y", ranks=2, shards=5)
        own = np.column_stack([FIRST_PART["a"], FIRST_PART["b"]])
        np.testing.assert_array_equal(found.features, np.concatenate([own, own]))

    def test_other_columns_do_not_matter_where_columns_are_chosen(self, save):
        paths = [save(table(a=values(), b=values()), "0.parquet"), save(table(a=values(), c=LABELS), "1.parquet")]
        for options in ({"features": ("a",)}, {"expected_names": ("a",)}):
            assert read(*paths, label="y", ranks=2, **options).features.shape == (2 * N_ROWS, 1)

    def test_labels_may_be_integers_in_one_and_floats_in_another(self, save):
        paths = [save(pa.table({"a": values(), "y": values(dtype)}), f"{dtype}.parquet") for dtype in ("int8", "int64")]
        paths.append(save(pa.table({"a": values(), "y": values("int8").astype("float64")}), "floats.parquet"))
        assert read(*paths, label="y", ranks=2).labels == [str(label) for label in values("int8")] * 3


def test_a_shard_is_the_same_in_whatever_order_shards_are_read(save):
    held = table(a=values())
    source = opened(save(held[:35], "0.parquet"), save(held[35:], "1.parquet"), n_shards=5, label="y")
    for shard in (4, 0, 0, 3, 1, 2, 4):
        np.testing.assert_array_equal(source.read(shard).features[:, 0], values()[shard * 12 : shard * 12 + 12])


def test_what_one_reads_may_be_changed_without_changing_what_the_next_reads(save):
    source = opened(save(table(a=values()), row_group_size=N_ROWS), n_shards=2, label="y")
    source.read(0).features[:] = -1
    np.testing.assert_array_equal(source.read(0).features[:, 0], values()[:30])


def test_a_row_group_that_several_ranks_share_is_noted(save):
    large, small = save(table(a=values()), "large.parquet", row_group_size=N_ROWS), save(table(a=values()))
    assert read(large, label="y", ranks=1).source.notes == ()
    assert read(small, label="y", ranks=3).source.notes == ()
    (note,) = read(large, label="y", ranks=3).source.notes
    assert "large.parquet: has a row group of 60 rows" in note
    assert "write row groups of at most 20 rows" in note
    (note,) = read(small, large, label="y", ranks=3).source.notes
    assert "row groups of at most 40 rows" in note


def test_one_file_is_open_at_a_time(save, tmp_path):
    paths = [save(table(a=values()), f"{number:02}.parquet") for number in range(30)]
    before = len(os.listdir("/proc/self/fd"))
    source = opened(*paths, n_shards=30, label="y")
    for shard in range(30):
        source.read(shard)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def bytes_read():
    with open("/proc/self/io") as file:
        return int(re.findall(r"rchar: (\d+)", file.read())[0])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the kernel does not count bytes read")
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("n_parts", [1, 3])
def test_a_rank_reads_little_more_than_its_share(save, ranks, n_parts):
    n_rows = 60_000
    draws = np.random.default_rng(0).random((n_rows, 10))
    held = pa.table({f"c{column}": draws[:, column] for column in range(10)})
    cuts = [part * n_rows // n_parts for part in range(n_parts + 1)]
    paths = [
        save(held[first:stop], f"{first}.parquet", row_group_size=1500, use_dictionary=False)
        for first, stop in itertools.pairwise(cuts)
    ]
    share = sum(os.path.getsize(path) for path in paths) / ranks
    for rank in range(ranks):
        source = opened(*paths, n_shards=37, needs_labels=False)
        before = bytes_read()
        first, stop = rank * 37 // ranks, (rank + 1) * 37 // ranks
        rows = [source.read(shard).features for shard in range(first, stop)]
        bounds = shard_bounds(n_rows, 37)
        assert bytes_read() - before < 1.3 * share
        np.testing.assert_array_equal(np.concatenate(rows), draws[bounds[first] : bounds[stop]])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the kernel does not count bytes read")
def test_only_the_columns_asked_for_are_read(save):
    draws = np.random.default_rng(0).random((20_000, 20))
    held = pa.table({f"c{column}": draws[:, column] for column in range(20)})
    path = save(held, row_group_size=2000, use_dictionary=False)
    source = opened(path, n_shards=3, features=("c3",), needs_labels=False)
    before = bytes_read()
    for shard in range(3):
        source.read(shard)
    assert bytes_read() - before < 1.3 * os.path.getsize(path) / 20 + 70_000  # the footer


def test_a_file_that_was_replaced_or_cut_since_the_scan_is_refused(save):
    path = save(table(a=values()))
    source = opened(path, n_shards=2, label="y")
    source.read(0)
    save(table(a=values(seed=1)), "other.parquet")
    os.replace(path.replace("data", "other"), path)
    with pytest.raises(InputError, match="has changed since it was scanned"):
        source.read(1)
    source = opened(path, n_shards=2, label="y")
    os.truncate(path, os.path.getsize(path) - 1)
    with pytest.raises(InputError, match="has changed since it was scanned"):
        source.read(0)
    os.remove(path)
    with pytest.raises(InputError, match="cannot be read any more, or not from this node"):
        source.read(0)


def test_a_number_of_rows_that_the_row_groups_do_not_make_is_refused(save):
    path = save(table(a=values()))
    with open(path, "rb") as file:
        content = file.read()
    place = content.rindex(b"\x16\x78\x19")  # 60 rows and then a list, in the footer's own writing
    with open(path, "wb") as file:
        file.write(content[: place + 1] + b"\x7a" + content[place + 2 :])
    assert pq.read_metadata(path).num_rows == 61
    assert "row groups of 60 rows together in a file of 61" in refusal(path)


def test_a_column_may_come_in_chunks():
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(range(8), pa.int16()), 2)
    column = pa.chunked_array([vectors.slice(1, 2), vectors])
    np.testing.assert_array_equal(numbers(column), [[2, 3], [4, 5], [0, 1], [2, 3], [4, 5], [6, 7]])
    bools = pa.chunked_array([pa.array([True, False]), pa.array([None, True])])
    np.testing.assert_array_equal(numbers(bools), np.array([[1], [0], [np.nan], [1]]), strict=True)
    for chunks in ([["b", "a"], ["a", None, "c"]], [[3, 2], [2, None, 1]]):
        for make in (pa.array, lambda cells: pa.array(cells).dictionary_encode()):
            found = category_column(pa.chunked_array([make(cells) for cells in chunks]))
            texts = [found.texts[code] if code >= 0 else None for code in found.codes]
            assert texts == [None if cell is None else str(cell) for cells in chunks for cell in cells]


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1PAR1", b"PAR1" + b"\0" * 100, b"a,b\n1,2\n", b"PAR1\0\0\0\0PAR1"])
def test_what_is_no_parquet_file_is_called_so(tmp_path, content):
    (tmp_path / "data.parquet").write_bytes(content)
    assert "data.parquet: is damaged, or no Parquet file: " in refusal(tmp_path / "data.parquet", format="parquet")


def test_files_without_a_byte_are_empty(tmp_path):
    (tmp_path / "data.parquet").touch()
    assert "data.parquet: is empty" in refusal(tmp_path / "data.parquet", format="parquet", ranks=3)


def test_a_file_cut_anywhere_is_refused(save):
    path = save(table(a=values(), kind=LABELS))
    with open(path, "rb") as file:
        content = file.read()
    for kept in {*range(1, len(content), 1 + len(content) // 150), 1, 4, 8, len(content) - 1}:
        with open(path, "wb") as file:
            file.write(content[:kept])
        assert refusal(path, ranks=1, format="parquet").startswith(f"{path}: ")


@DAMAGED
@given(st.data())
def test_a_damaged_file_is_refused_or_read_in_its_shape(tmp_path_factory, data):
    path = str(tmp_path_factory.mktemp("damaged") / "data.parquet")
    held = table(
        a=values(), b=values("int16"), kind=LABELS, e=pa.array([[1.0, 2.0]] * N_ROWS, pa.list_(pa.float32(), 2))
    )
    compression = data.draw(st.sampled_from(["none", "snappy", "zstd"]))
    pq.write_table(held, path, row_group_size=25, compression=compression, write_page_checksum=data.draw(st.booleans()))
    with open(path, "rb") as file:
        content = bytearray(file.read())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(1, 1500).map(lambda back: -back)))
        content[place] = data.draw(st.integers(0, 255))
    with open(path, "wb") as file:
        file.write(content)
    try:
        source = opened(path, label="y", one_hot=("auto",), n_shards=1)
        if source.n_rows > 10**6:
            source.divide(np.array([0, 10]), [range(1)], Alone())
        rows = source.read(0)
    except InputError as error:
        assert path in str(error)
        return
    assert rows.features.shape[0] == len(rows.labels.codes)


def test_a_flipped_byte_of_data_is_found_where_pages_have_checksums(save):
    path = save(table(a=values()), compression="none", write_page_checksum=True, use_dictionary=False)
    with open(path, "rb") as file:
        content = file.read()
    place = content.index(values()[:7].tobytes())
    with open(path, "wb") as file:
        file.write(content[: place + 3] + bytes([content[place + 3] ^ 1]) + content[place + 4 :])
    assert "rows 1 to 7 cannot be read" in refusal(path)


def test_an_encrypted_file_is_refused(tmp_path):
    encryption = pytest.importorskip("pyarrow.parquet.encryption", reason="pyarrow was built without encryption")

    class Kms(encryption.KmsClient):
        def wrap_key(self, key_bytes, master_key_identifier):
            return key_bytes.hex()

        def unwrap_key(self, wrapped_key, master_key_identifier):
            return bytes.fromhex(wrapped_key)

    for is_plain in (True, False):
        config = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": ["a"]}, plaintext_footer=is_plain)
        properties = encryption.CryptoFactory(lambda _: Kms()).file_encryption_properties(
            encryption.KmsConnectionConfig(), config
        )
        with pq.ParquetWriter(
            tmp_path / "data.parquet", table(a=values()).schema, encryption_properties=properties
        ) as writer:
            writer.write_table(table(a=values()))
        text = refusal(tmp_path / "data.parquet", format="parquet")
        assert text.startswith(f"{tmp_path / 'data.parquet'}: ")


CELLS = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.decimal128(6, 2): st.integers(-9999, 9999).map(lambda number: decimal.Decimal(number) / 4),
}


@settings(deadline=None, database=None, max_examples=120)
@given(st.data())
def test_random_tables_are_read_as_pyarrow_reads_them(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("random")
    n_rows = data.draw(st.integers(1, 40))
    columns = {}
    for number in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(sorted(CELLS, key=str)))
        cell = CELLS[kind]
        cells = data.draw(
            st.lists(cell | st.none() if data.draw(st.booleans()) else cell, min_size=n_rows, max_size=n_rows)
        )
        columns[f"c{number}"] = pa.array(cells, kind)
    labels = data.draw(st.lists(st.text(max_size=3), min_size=n_rows, max_size=n_rows))
    held = pa.table({**columns, "y": labels})
    cuts = sorted({0, n_rows, *data.draw(st.lists(st.integers(0, n_rows), max_size=3))})
    paths = []
    for first, stop in itertools.pairwise(cuts):
        paths.append(folder / f"{first:03}.parquet")
        pq.write_table(
            held[first:stop],
            paths[-1],
            row_group_size=data.draw(st.integers(1, 12)),
            use_dictionary=data.draw(st.booleans()),
            write_statistics=data.draw(st.booleans()),
        )
    ranks, shards = data.draw(st.sampled_from([1, 2, 3, 5])), data.draw(st.integers(1, 50))
    found = read(*paths, label="y", ranks=ranks, shards=shards)
    whole = pa.concat_tables([pq.read_table(path) for path in paths])
    expected = np.column_stack([as_numbers(whole[name]) for name in columns])
    np.testing.assert_array_equal(found.features.astype(np.float64), expected.astype(found.features.dtype))
    assert found.labels == whole["y"].to_pylist()
