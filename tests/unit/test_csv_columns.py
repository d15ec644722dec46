import gzip

import numpy as np
import pytest
from ranks import SHARDS, assert_says, read

from distsoftmax.errors import InputError


@pytest.mark.parametrize(
    ("table", "spec", "n_rows"),
    [
        ("1,2,3\n4,5,6\n", {"label": "0"}, 2),
        ("u,2,3\nv,5,6\n", {"label": "0"}, 2),
        ("u,2,3\nv,5,6\n", {"label": "0", "header": "yes"}, 1),
        ("a,b,y\n4,5,6\n", {"label": "2"}, 1),
        ("1,2,y\n4,5,6\n", {"label": "y"}, 1),
        ("1,2,3\n4,5,6\n", {"label": "3"}, 1),
        ("1,2,3\n4,5,6\n", {"label": "1", "header": "yes"}, None),
        ("1,2,3\n4,5,6\n", {"label": "2", "header": "no"}, 2),
        ("1e3,,y\n4,5,6\n", {"label": "2"}, 2),
        ("NA,NaN,y\n4,5,6\n", {"label": "2"}, 2),
        ("8,9\n1,2\n", {"needs_labels": False, "expected_names": ("9", "8")}, 1),
        ("8,9\n1,2\n", {"needs_labels": False, "expected_names": ("x0", "x1")}, 2),
        ("red,2,3\nblue,5,6\n", {"label": "2", "one_hot": ("0",)}, 2),
        ("red,2,3\nblue,5,6\n", {"label": "2", "features": ("1",)}, 2),
        ("kind,b,3\nblue,5,6\n", {"label": "2", "one_hot": ("0",)}, 1),
        ("1,2,3\n4,5,6\n", {"label": "2", "features": ("one",)}, None),
        ("1,2,w\n4,5,6\n", {"label": "0", "weight": "w"}, 1),
        ("red,1,u\nblue,2,v\n", {"label": "2", "one_hot": ("auto",)}, None),
        ("red,1,u\nblue,2,v\n", {"label": "2", "one_hot": ("auto",), "header": "no"}, 2),
    ],
)
def test_the_first_record_is_taken_for_a_header_where_it_is_one(write, table, spec, n_rows):
    if n_rows is None:
        with pytest.raises(InputError):
            read(write(table), **spec)
    else:
        assert len(read(write(table), **spec).features) == n_rows


@pytest.mark.parametrize(
    ("table", "spec", "guess", "names"),
    [
        ("a,y\n1,2\n", {"label": "y"}, False, ("a",)),
        ("1,2\n", {"label": "1"}, True, ("x0",)),
        ("1,2\n", {"label": "0"}, True, ("x1",)),
        ("1,2\n", {"label": "1", "header": "no"}, False, ("x0",)),
    ],
)
def test_a_header_that_was_ruled_out_by_guess_is_told(write, table, spec, guess, names):
    source = read(write(table), **spec).source
    assert (source.headless_by_guess, source.feature_names) == (guess, names)


def test_labels_are_left_out_where_they_are_not_needed(write):
    table = read(write("a,y,b\n1,u,2\n3,,4\n"), label="y", needs_labels=False)
    assert (table.names, table.features.tolist(), table.labels) == (("a", "b"), [[1, 2], [3, 4]], None)


def test_a_cell_without_a_number_is_nan(write):
    cells = ["", '""', "NA", "N/A", "NaN", "nan", "null", "NULL", "#N/A", "-nan", '"NA"']
    table = read(write("a,b,y\n" + "".join(f"{cell},1,u\n" for cell in cells)), label="y", shards=2)
    assert np.isnan(table.features[:, 0]).all()
    assert (table.features[:, 1] == 1).all()


def test_what_is_missing_among_numbers_is_missing_among_texts(write):
    cells = ["", '""', "NA", "N/A", "NaN", "nan", "null", "NULL", "#N/A", "-nan", '"NA"']
    table = "a,b,y\n" + "".join(f"{cell},{cell},u\n" for cell in [*cells, "7"])
    found = read(write(table), label="y", one_hot=("b",), shards=2, ranks=2)
    assert np.isnan(found.features[:, 0]).tolist() == [cell is None for cell in found.categories[0]]
    assert found.categories[0] == [*len(cells) * [None], "7"]


def test_infinities_are_given_as_they_stand(write):
    table = read(write("a,b,y\n1,inf,u\n-Infinity,1e400,u\n"), label="y")
    assert table.features.tolist() == [[1, np.inf], [-np.inf, np.inf]]


COLORS = "w,color,a,y,size,b\n2,red,1,u,,5\n0.5,,2,v,L,6\n,red,3,u,L,7\n1,NA,4,v,S,8\n"


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("ranks", [1, 3])
def test_columns_have_the_roles_and_the_order_they_are_given(write, ranks, shards):
    spec = {"label": "y", "weight": "w", "features": ("b", "a"), "one_hot": ("size", "color")}
    table = read(write(COLORS), ranks=ranks, shards=shards, **spec)
    assert table.names == ("b", "a")
    assert table.source.category_names == ("size", "color")
    assert table.features.tolist() == [[5, 1], [6, 2], [7, 3], [8, 4]]
    assert table.labels == ["u", "v", "u", "v"]
    np.testing.assert_array_equal(table.weights, [2, 0.5, np.nan, 1])
    assert table.categories == [[None, "L", "L", "S"], ["red", None, "red", None]]


@pytest.mark.parametrize("ranks", [1, 3])
def test_columns_go_by_number_where_there_is_no_header(write, ranks):
    table = read(
        write(COLORS.partition("\n")[2]),
        ranks=ranks,
        label="3",
        weight="0",
        features=("5", "2"),
        one_hot=("4", "1"),
    )
    assert (table.names, table.source.category_names) == (("x5", "x2"), ("x4", "x1"))
    assert table.features.tolist() == [[5, 1], [6, 2], [7, 3], [8, 4]]
    assert table.categories == [[None, "L", "L", "S"], ["red", None, "red", None]]


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_columns_in_which_text_stands_are_found(write, ranks):
    paths = [write("", "0.csv"), write("w,color,a,y,size,b\n", "1.csv"), write(COLORS, "2.csv")]
    paths.append(write("w,color,a,y,size,b\n1,7,8,u,9,10\n", "3.csv"))
    table = read(*paths, ranks=ranks, label="y", one_hot=("auto",))
    assert (table.names, table.source.category_names) == (("w", "a", "b"), ("color", "size"))
    assert table.categories == [["red", None, "red", None, "7"], [None, "L", "L", "S", "9"]]


def test_a_cell_without_a_number_makes_no_column_one_of_text(write):
    table = read(write("a,b,y\nNA,1,u\n,inf,v\n3,red,u\n"), label="y", one_hot=("auto",))
    assert (table.names, table.source.category_names) == (("a",), ("b",))


def test_columns_are_judged_by_the_first_thousand_rows(write):
    rows = [f"{row},{row},u" for row in range(1500)]
    table = "\n".join(["a,b,y", *rows[:999], "red,1,u", *rows[1000:1200], "2,blue,u", *rows[1201:]])
    path = write(table)
    with pytest.raises(InputError, match=r"row 1201, column b: 'blue' is not a number"):
        read(path, label="y", one_hot=("auto",), shards=5)
    assert read(path, label="y", one_hot=("auto",), features=("a",)).source.category_names == ("a",)


def test_text_alone_is_enough_to_learn_from(write):
    table = read(write("a,y\nred,u\nblue,v\n"), label="y", one_hot=("a",), shards=2)
    assert (table.features.shape, table.categories) == ((2, 0), [["red", "blue"]])


def test_a_model_gets_its_features_by_name_and_in_its_order(write):
    table = read(
        write("c,a,ignored,b,kind\n3,1,text,2,red\n6,4,text,5,blue\n"),
        needs_labels=False,
        expected_names=("a", "b", "c"),
        expected_categories=("kind",),
        shards=2,
    )
    assert (table.names, table.features.tolist()) == (("a", "b", "c"), [[1, 2, 3], [4, 5, 6]])
    assert table.categories == [["red", "blue"]]


@pytest.mark.parametrize(
    ("table", "spec", "features", "categories"),
    [
        ("5,red,7\n", {"expected_names": ("x1", "x4"), "expected_categories": ("x3",)}, [[5, 7]], [["red"]]),
        ("5,red,7\n", {"expected_names": ("x4", "x1"), "expected_categories": ("x3",)}, [[7, 5]], [["red"]]),
        (
            "5,red,7\n",
            {"expected_names": ("p", "q"), "expected_categories": ("k",), "one_hot": ("1",)},
            [[5, 7]],
            [["red"]],
        ),
        ("5,6,7\n", {"expected_names": ("p", "q", "r")}, [[5, 6, 7]], []),
        ("5,6,7\n", {"expected_names": ("p", "q"), "features": ("2", "0")}, [[7, 5]], []),
        ("u,5,red\n", {"label": "0", "expected_names": ("x0",), "expected_categories": ("x1",)}, [[5]], [["red"]]),
    ],
)
def test_a_model_gets_its_columns_by_place_where_there_is_no_header(write, table, spec, features, categories):
    table = read(write(table), header="no", needs_labels=False, **spec)
    assert (table.features.tolist(), table.categories) == (features, categories)


def test_a_model_s_text_columns_are_not_guessed_by_place(complaint):
    spec = {"expected_names": ("p", "q"), "expected_categories": ("k",), "needs_labels": False, "header": "no"}
    assert_says(complaint("5,red,7\n", **spec), "no header", "text columns", "--one-hot")


def test_a_lacking_column_of_the_model_is_named(complaint):
    assert "missing: c" in complaint("a,b\n1,2\n", needs_labels=False, expected_names=("a", "b", "c"))
    spec = {"expected_names": ("a", "b"), "expected_categories": ("kind",), "needs_labels": False}
    assert "kind" in complaint("a,b,sort\n1,2,red\n", **spec)


@pytest.mark.parametrize(
    ("table", "spec"),
    [
        ("a\tb\ty\n1.5\t-2\tu,v\n", {}),
        ("a;b;y\n1.5;-2;u,v\n", {}),
        ('"a,,,";b;y\n1.5;-2;"u,v"\n', {"features": ("a,,,", "b")}),
        ("a|b|y\n1.5|-2|u,v\n", {}),
        ("a b y\n1.5 -2 u,v\n", {"separator": "space"}),
        ('a,,b,y\n1.5,,-2,"u,v"\n', {"separator": "comma", "features": ("a", "b")}),
        ("a;b;y\n1.5;-2;u,v\n", {"separator": ";"}),
        ("a:b:y\n1.5:-2:u,v\n", {"separator": ":"}),
        ("a|b|y\n1.5|-2|u,v\n", {"separator": "pipe"}),
        ("a\tb\ty\n1.5\t-2\tu,v\n", {"separator": "tab"}),
        ("a;b;y\n1,5;-2;u,v\n", {"decimal": ","}),
        ("a;b;y\n1,5;-2;u,v\n", {"decimal": ",", "separator": "semicolon"}),
        ("a\tb\ty\n1,5\t-2,0\tu,v\n", {"decimal": ","}),
        ('a,b,y\n1.5,-2,"u,v"\n', {}),
    ],
)
def test_the_separator_is_found_or_told(write, table, spec):
    found = read(write(table), label="y", **spec)
    assert found.features.tolist() == [[1.5, -2]]
    assert found.labels == ["u,v"]


@pytest.mark.parametrize("name", ["t.tsv", "t.TSV", "t.tab", "t.tsv.gz"])
def test_files_named_so_are_separated_by_tabs(write, name):
    table = "a,b,c,d\ty\n1\tu\n"
    path = write(gzip.compress(table.encode()) if name.endswith("gz") else table, name)
    assert read(path, label="y").names == ("a,b,c,d",)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"separator": ",", "decimal": ","}, ["comma", "--separator", "--decimal"]),
        ({"separator": ";;"}, ["--separator", "one character"]),
        ({"separator": '"'}, ["--separator", "one character"]),
        ({"separator": "\n"}, ["--separator", "one character"]),
        ({"separator": "5"}, ["--separator", "one character"]),
        ({"separator": "é"}, ["--separator", "one character"]),
        ({"decimal": "'"}, ["--decimal"]),
    ],
)
def test_an_unusable_separator_is_refused(complaint, spec, words):
    assert_says(complaint("a,y\n1,u\n", label="y", ranks=2, **spec), *words)


def test_a_decimal_point_is_refused_where_a_comma_was_told(complaint):
    text = complaint("a;y\n1,5;u\n2.5;u\n", label="y", decimal=",")
    assert_says(text, "row 2", "column a", "'2.5' is not a number")


def test_a_weight_that_is_no_number_is_named(complaint):
    assert_says(complaint("w,a,y\nheavy,2,u\n", label="y", weight="w"), "row 1, column w: 'heavy' is not a number")


@pytest.mark.parametrize("shards", [1, 3])
def test_a_column_of_text_is_named_with_what_to_do(complaint, shards):
    table = "a,kind,y\n1,NA,u\n2,red,v\n3,red,v\n"
    ending = "column kind: it holds text ('red'); declare it with --one-hot kind, or leave it out with --drop kind"
    assert complaint(table, label="y", shards=shards).endswith(ending)
    assert "--one-hot 1," in complaint(table.partition("\n")[2], label="2", header="no")


@pytest.mark.parametrize("cell", ["0,5", "-1,25e3", "125,730.25", "1,234,567"])
@pytest.mark.parametrize("first", ["7", "NA"])
def test_a_number_with_commas_is_named_with_what_to_do(complaint, cell, first):
    said = complaint(f"a;y\n{first};u\n{cell};v\n", label="y")
    assert_says(said, "row 2, column a", repr(cell), "--decimal , for a comma before decimals, or take out commas")
    assert "--decimal" not in complaint(f"a;y\n{first};u\nx,{cell};v\n", label="y")


RETURNS = "carriage return (CR) stands alone"
UNUSABLE = {
    "CR alone": ("a,b,y\r1,2,u\r3,4,v\r", {"label": "y"}, "the first line", RETURNS, r"tr '\r' '\n' < old.csv"),
    "CR alone, no header": ("1,2,3\r3,4,5\r", {"label": "2"}, "the first line", RETURNS),
    "CR alone, very long": ("a,b,y\r" + "1,2,u\r" * 3_000_000, {"label": "y"}, "the first line", RETURNS),
    "UTF-16": ("a,b,y\n1,2,u\n".encode("utf-16"), {"label": "y"}, "the first line", "NUL byte", "UTF-16", "convert"),
    "nothing": (b"", {"label": "y"}, "holds nothing"),
    "byte order mark alone": ("\ufeff", {"label": "y"}, "blank"),
    "blank lines alone": ("\n\r\n\n", {"label": "y"}, "blank"),
    "unclosed quote": ('a,b,y\n1,2,"u\n3,4,v\n', {"label": "y"}, "quote is opened and never closed", "twice"),
    "unclosed quote in the header": ('a,"b,y\n1,2,u\n', {"label": "y"}, "quote"),
    "header not UTF-8": (b"gr\xf6\xdfe,y\n1,u\n", {"label": "y"}, "UTF-8", "convert"),
    "header with NUL": (b"a\0,y\n1,u\n", {"label": "y"}, "NUL byte", "UTF-8", "convert"),
    "label not named": ("a,b,y\n1,2,u\n", {}, "--label", "a, b, y"),
    "label not there": ("a,b,y\n1,2,u\n", {"label": "z"}, "no label column z", "a, b, y"),
    "label misspelt": ("a,kind,y\n1,2,u\n", {"label": "Kind"}, "no label column Kind", "did you mean kind?"),
    "label not there by number": ("1,2,3\n", {"label": "3", "header": "no"}, "no label column 3", "3 columns"),
    "label neither name nor number": ("a,b,y\n1,2,u\n", {"label": "-1"}, "no label column -1", "a, b, y"),
    "label named in a file without names": ("1,2\n", {"label": "y", "header": "no"}, "no label column y", "no header"),
    "label named where the first line is numbers": ("1,2\n3,4\n", {"label": "y"}, "no header", "numbers, 0 to 1"),
    "kept by a made-up name": ("1,2\n3,4\n", {"label": "1", "keep": ("x0",)}, "no such column x0; there is no header"),
    "label not in a mixed first line": ("1,u\n3,v\n", {"label": "kind"}, "none of which is kind", "--header no"),
    "columns separated by blanks": ("a b y\n1 2 u\n", {"label": "y"}, "the only column is a b y", "--separator"),
    "label by name or number": ("a,0,y\n1,2,u\n", {"label": "0"}, "ambiguous", "is a", "number 1", "rename"),
    "label named twice": ("y,a,y\nu,1,v\n", {"label": "y"}, "2 columns are named y", "number, 0 or 2", "y, a, y"),
    "weight not there": ("a,b,y\n1,2,u\n", {"label": "y", "weight": "c"}, "no weight column c", "a, b, y"),
    "feature not there": ("a,b,y\n1,2,u\n", {"label": "y", "features": ("a", "c")}, "no feature column c"),
    "text not there": ("a,kind,y\n1,2,u\n", {"label": "y", "one_hot": ("knd",)}, "one-hot column knd", "did you mean"),
    "text and feature": (
        "a,b,y\n1,2,u\n",
        {"label": "y", "features": ("a", "b"), "one_hot": ("b",)},
        "column b is named in both --features and --one-hot",
    ),
    "label and feature": ("a,y\n1,u\n", {"label": "y", "features": ("a", "1")}, "in both --label and --features"),
    "label and weight": ("a,y\n1,u\n", {"label": "y", "weight": "y"}, "in both --label and --weight"),
    "feature twice": ("a,b,y\n1,2,u\n", {"label": "y", "features": ("a", "a")}, "twice in --features"),
    "features named alike": ("a,b,a,y\n1,2,3,u\n", {"label": "y"}, "two columns are named 'a'", "name of its own"),
    "features named alike but for spaces": ("a, a,y\n1,2,u\n", {"label": "y"}, "two columns are named 'a'"),
    "features without names": (",,y\n1,2,u\n", {"label": "y", "drop": ("a",)}, "the columns are '', '', y"),
    "label alone": ("y\nu\nv\n", {"label": "y"}, "no feature"),
    "label alone, no header": ("1\n2\n", {"label": "0"}, "no feature"),
    "lines end in CR alone": ("a,y\r1,u\r2,v\r", {"label": "y"}, "line"),
    "field larger than any": ("a,y\n1," + "u" * 200_000 + "\n1e,v\n", {"label": "y"}, "row"),
    "name larger than any": ("a" * 200_000 + ",y\n1,u\n", {"label": "y"}, "first record"),
}


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_file_is_refused_with_the_reason(complaint, unusable, ranks):
    table, spec, *words = unusable
    assert_says(complaint(table, ranks=ranks, **spec), *words)


@pytest.mark.parametrize("ranks", [1, 4])
def test_parts_may_hold_a_header_alone(write, ranks):
    paths = [write(f"a,y\n{rows}", f"{n}.csv") for n, rows in enumerate(["", "1,u\n", "\n\n", "2,v"])]
    assert read(*paths, label="y", ranks=ranks).labels == ["u", "v"]
    alone = read(paths[0], paths[2], label="y", ranks=ranks)
    assert (alone.source.n_rows, alone.names) == (0, ("a",))


OTHER_COLUMNS = {
    "another order": ("b,a,y\n1,2,u\n", {"label": "y"}, "order", "'b'", "'a'"),
    "another name": ("a,c,y\n1,2,u\n", {"label": "y"}, "column number 1", "'c'", "'b'"),
    "a column more": ("a,b,c,y\n1,2,3,u\n", {"label": "y"}, "4 columns", "3", "'c'"),
    "a column less": ("a,y\n1,u\n", {"label": "y"}, "2 columns", "3", "'y'"),
    "no header": ("1,2,u\n", {"label": "y"}, "begins with a row", "header"),
    "no header, by number": ("1,2,3\n", {"label": "2"}, "begins with a row", "header"),
}


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("other", OTHER_COLUMNS.values(), ids=OTHER_COLUMNS)
def test_a_part_with_other_columns_is_refused_with_both_names(complaint, other, ranks):
    table, spec, *words = other
    text = complaint("", "a,b,y\n1,2,u\n", "a,b,y\n", table, ranks=ranks, **spec)
    assert_says(text, "b.csv", "d.csv: ", *words)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("table", "words"), [("a,b,y\n1,2,3\n", ["begins with the columns' names"]), ("1,2\n", ["2 columns", "3"])]
)
def test_a_part_unlike_the_others_without_header_is_refused(complaint, table, words, ranks):
    assert_says(complaint("1,2,3\n", table, label="2", ranks=ranks), "a.csv", "b.csv: ", *words)
