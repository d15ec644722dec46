import gzip
import re
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ranks import on_ranks, read
from scipy.sparse import csr_array
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.bad_cell import BadCell
from distsoftmax.data.open_source import open_source
from distsoftmax.data.readers.svmlight import lines as svmlight_lines
from distsoftmax.data.readers.svmlight import source as svmlight
from distsoftmax.data.readers.svmlight.lines import parse_lines
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.model import NumberedNames

AGNEWS = Path(__file__).resolve().parents[3] / "shared" / "data" / "agnews.train.svm"
RANKS_AND_SHARDS = [(1, None), (1, 1), (2, 3), (3, 5), (5, 2), (3, 50)]  # 50: more than any table here has rows
quick = settings(deadline=None, database=None)
BLANKS = " \t\r\v\f"
REAL = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.ASCII | re.IGNORECASE)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


def by_hand(data, needs_labels=True):
    """The samples of a file, [(label, {index: value})], as the format says, a line at a time. Raises ValueError."""
    samples = []
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = re.sub(
            r"(?:(?<=[ \t\r\v\f])|^)#.*", "", line.decode("utf-8", "surrogateescape"), count=1, flags=re.DOTALL
        )
        if not line.strip(BLANKS):
            continue
        words = [word for word in re.split("[ \t]", line.removesuffix("\r")) if word]
        label = words.pop(0) if ":" not in words[0] else None
        words = [word for word in words if not re.fullmatch(r"qid:\d+", word, re.ASCII)]
        if label is None and (needs_labels or not words):
            raise ValueError("no label")
        if needs_labels and re.search("[\0-\x1f,\udc80-\udcff]", label):
            raise ValueError("no single label")
        pairs = [word.split(":") for word in words]
        if not all(len(pair) == 2 and WHOLE.fullmatch(pair[0]) and REAL.fullmatch(pair[1]) for pair in pairs):
            raise ValueError("no pair")
        indices = [int(index) for index, _ in pairs]
        if indices != sorted(set(indices)) or not all(0 <= index < 2**63 - 1 for index in indices):
            raise ValueError("not ascending")
        samples.append((label, dict(zip(indices, [float(value) for _, value in pairs], strict=True))))
    return samples


def in_rows(matrix, base):
    """The rows of a csr_array as [{index as in the file: value}]."""
    bounds = matrix.indptr.tolist()
    return [
        dict(
            zip(
                (matrix.indices[low:high].astype(np.int64) + base).tolist(), matrix.data[low:high].tolist(), strict=True
            )
        )
        for low, high in pairwise(bounds)
    ]


def same(first, second):
    """Whether two lists of rows are equal, NaN being equal to NaN, and -0.0 not to 0.0."""
    return [[*map(repr, row.items())] for row in first] == [[*map(repr, row.items())] for row in second]


def assert_same_matrix(found, expected):
    assert found.shape == expected.shape
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.data.dtype == np.float64


@pytest.fixture
def write(write):
    return lambda content, name="table.svm": write(content, name)


@pytest.fixture
def complaint(write):
    def complaint(content, **options):
        path = write(content)
        with pytest.raises(InputError, match=r"table\.svm: ") as caught:
            read(path, format="svmlight", **options)
        return str(caught.value)

    return complaint


# --- against scikit-learn ---


@pytest.mark.parametrize(("ranks", "shards"), RANKS_AND_SHARDS)
@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("queries", [False, True])
def test_reads_what_scikit_learn_reads(tmp_path, ranks, shards, zero_based, queries):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((41, 17)) < 0.3, rng.standard_normal((41, 17)) * 10.0 ** rng.integers(-9, 9, 17), 0)
    dense[0, 0], dense[0, -1] = 1 / 3, 7
    dense[5] = 0
    path = tmp_path / "table.svm"
    labels = rng.integers(-2, 3, 41)
    dump_svmlight_file(
        dense,
        labels,
        str(path),
        zero_based=zero_based,
        comment="made",
        query_id=np.arange(41) // 4 if queries else None,
    )
    expected, expected_labels = load_svmlight_file(str(path), zero_based=zero_based)

    table = read(path, ranks=ranks, shards=shards)
    assert_same_matrix(table.features, expected)
    assert table.labels == [str(int(label)) for label in expected_labels]
    assert table.source.index_base == (0 if zero_based else 1)
    assert table.source.feature_names == NumberedNames(17)
    assert (table.source.sparse, table.source.is_text, table.source.category_names) == (True, True, ())


@pytest.mark.skipif(not AGNEWS.exists(), reason=f"needs {AGNEWS}")
def test_reads_real_data_as_scikit_learn_does():
    expected, labels = load_svmlight_file(str(AGNEWS))
    table = read(AGNEWS, ranks=3, shards=7)
    assert_same_matrix(table.features, expected)
    assert table.labels == [str(int(label)) for label in labels]
    assert table.source.index_base == 1


# --- against the table that was written ---

finite = st.floats(allow_nan=False, allow_infinity=False)
spellings = st.sampled_from([repr, "{:.17g}".format, "{:.20e}".format, "{:+}".format, "{:E}".format])
values = st.builds(lambda value, spell: spell(value), st.floats(), spellings)
pairs = st.builds("{}:{}".format, st.integers(0, 40), values)
rows = st.lists(pairs, max_size=6, unique_by=lambda pair: int(pair.partition(":")[0])).map(
    lambda row: sorted(row, key=lambda pair: int(pair.partition(":")[0]))
)
blanks = st.sampled_from([" ", " ", " ", "  ", "\t", " \t "])
labels = st.sampled_from(["1", "+1", "-1", "1.0", "2", "spam", "größe", "c#", "0x1"])
between = st.sampled_from(["", "", "", "\n", "# 1 3:4\n", "  \r\n", " \t# x\n", "\n\n\n"])


@st.composite
def files(draw, labels=labels):
    """The text of some lines, as untidy as the format allows."""
    text = draw(between)
    for row in draw(st.lists(rows, max_size=12)):
        words = [draw(labels)]
        if row and draw(st.integers(0, 9)) == 0:
            words.append(f"qid:{draw(st.integers(0, 99))}")
        words += row
        line = words[0]
        for word in words[1:]:
            line += draw(blanks) + word
        line = line or "5:5"
        text += (
            draw(st.sampled_from(["", "", "", " "])) + line + draw(st.sampled_from(["", "", "", " ", "\t", " # a 1:2"]))
        )
        text += draw(st.sampled_from(["\n", "\n", "\n", "\r\n"])) + draw(between)
    return text


@quick
@given(files(), st.integers(1, 60), st.booleans())
def test_the_parser_reads_what_was_written_however_it_cuts(text, chunk_bytes, newline_at_end):
    data = text.encode() if newline_at_end else text.encode().removesuffix(b"\n")
    expected = by_hand(data)
    with mock.patch.object(svmlight_lines, "CHUNK_BYTES", chunk_bytes):
        lines = parse_lines(data)
    assert lines.indptr.tolist() == [0, *np.cumsum([len(row) for _, row in expected], dtype=int).tolist()]
    assert same(in_rows(lines_to_matrix(lines), 0), [row for _, row in expected])
    assert [lines.labels.texts[code] for code in lines.labels.codes] == [word for word, _ in expected]
    assert len(set(lines.labels.texts)) == len(lines.labels.texts)


def lines_to_matrix(lines):
    return csr_array((lines.values, lines.indices, lines.indptr), shape=(lines.indptr.size - 1, 2**40))


@quick
@given(files(st.sampled_from(["", "1", "a,b", "\x80"])), st.integers(1, 60))
def test_without_labels_a_leading_label_is_passed_over(text, chunk_bytes):
    data = text.encode()
    expected = by_hand(data, needs_labels=False)
    with mock.patch.object(svmlight_lines, "CHUNK_BYTES", chunk_bytes):
        lines = parse_lines(data, needs_labels=False)
    assert lines.labels is None
    assert same(in_rows(lines_to_matrix(lines), 0), [row for _, row in expected])


@settings(quick, max_examples=60)
@given(st.lists(files(), min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_parts_ranks_and_shards_do_not_matter(tmp_path_factory, texts, ranks, shards, keep):
    folder = tmp_path_factory.mktemp("parts")
    expected = []
    for number, text in enumerate(texts):
        data = b"\xef\xbb\xbf" * (number % 2) + text.encode()
        (folder / f"{number}.svm").write_bytes(data)
        expected += by_hand(data)
    paths = sorted(folder.iterdir())
    indices = {index for _, row in expected for index in row}
    base = 0 if 0 in indices else 1
    options = {"ranks": ranks, "shards": shards, "format": "svmlight"}
    with mock.patch.object(svmlight, "KEPT_BYTES", 2**31 if keep else 0):
        if not indices or max(indices) < base:
            with pytest.raises(InputError, match="no feature to learn from"):
                read(*paths, **options)
            return
        table = read(*paths, **options)
    assert table.source.index_base == base
    assert table.features.shape == (len(expected), max(indices) + 1 - base)
    assert same(in_rows(table.features, base), [row for _, row in expected])
    assert table.labels == [label for label, _ in expected]


@quick
@given(st.one_of(st.floats(), st.decimals(allow_nan=False, allow_infinity=False)), spellings)
def test_values_are_what_python_reads(value, spell):
    text = str(value) if not isinstance(value, float) else spell(value)
    lines = parse_lines(f"1 3:{text} 4:1\n".encode())
    assert repr(lines.values[0].item()) == repr(float(text))


NUMBERS = ["1", "1.", ".5", "-.5", "+1.5", "007", "1e5", "1E-5", "-0", "0e0", "1e400", "-1e400", "1e-400"]
NO_FINITE_NUMBERS = ["nan", "NaN", "-nan", "+nan", "inf", "-INF", "Infinity", "+infinity"]


@pytest.mark.parametrize("text", [*NUMBERS, *NO_FINITE_NUMBERS, "9007199254740993", "0." + 800 * "1", 400 * "9"])
def test_every_spelling_of_a_number_is_read(text):
    (value,) = parse_lines(f"1 3:{text}".encode()).values
    assert repr(value.item()) == repr(float(text))


@pytest.mark.parametrize(
    "text", ["", "NA", "null", "None", "1_0", "0x10", "nan(1)", "1,5", "1e", ".", "-", "+-1", "1d5", "٣"]
)
def test_what_is_no_number_is_refused(complaint, text):
    assert f"row 2: the value {text!r} of index 3 is not a number" in complaint(f"1 3:1\n1 3:{text} 5:1\n")
    assert f"row 2: the value {text!r} of index 3 is not a number" in complaint(f"1 3:1\n1 2:1 3:{text}\n")


TIDY = "1 4:1.5\n2 1:-1e-5 3:2\n1\n+1 1:7 2:1 3:0\nspam 2:1\n"


@pytest.mark.parametrize(
    "text",
    [
        TIDY,
        TIDY.replace("\n", " \n"),
        TIDY.replace("\n", "\r\n"),
        TIDY.replace(" ", "\t"),
        TIDY.replace(" ", "  "),
        TIDY.replace("\n", " # x 3:1\n"),
        "\n# x\n" + TIDY.replace("\n", "\n\n \n"),
        re.sub(r"^(\S+)", r"\1 qid:3", TIDY, flags=re.MULTILINE),
    ],
    ids=["tidy", "blanks at ends", "CRLF", "tabs", "two blanks", "comments", "blank lines", "query ids"],
)
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_usual_files_need_no_loop_over_lines(text, chunk_bytes):
    slowly = mock.patch.object(svmlight_lines, "_parse_slowly", side_effect=AssertionError)
    with slowly, mock.patch.object(svmlight_lines, "CHUNK_BYTES", chunk_bytes):
        lines = parse_lines(text.encode())
    assert (lines.indptr.tolist(), lines.indices.tolist()) == ([0, 1, 3, 3, 6, 7], [4, 1, 3, 1, 2, 3, 2])
    assert lines.values.tolist() == [1.5, -1e-5, 2, 7, 1, 0, 1]
    assert [lines.labels.texts[code] for code in lines.labels.codes] == ["1", "2", "1", "+1", "spam"]


@pytest.mark.parametrize("line", ["1 3:", "1 :3", "1 3:4:5 6", "1 3 4:5:6", "1 3:4 5:6:7 8", "a:b 3", "1 3", "1 3:4 5"])
def test_words_that_are_no_pairs_are_never_taken_for_numbers(line):
    with mock.patch.object(svmlight_lines, "_numbers", side_effect=AssertionError), pytest.raises(BadCell):
        parse_lines(line.encode())


def test_explicit_zeros_are_kept(write):
    table = read(write("1 1:0 3:-0.0\n2 2:0\n"))
    assert table.features.nnz == 3
    assert same(in_rows(table.features, 1), [{1: 0.0, 3: -0.0}, {2: 0.0}])


# --- labels ---


@pytest.mark.parametrize("label", ["1", "+1", "1.0", "01", "-0.0", "5" * 5000, "spam", "NA", "größe", "٣", "c#", "-"])
def test_labels_stay_as_they_stand(write, label):
    assert read(write(f"7 3:1\n{label} 3:1\n"), format="svmlight").labels == ["7", label]


@pytest.mark.parametrize("label", ["nan", "NaN", "-nan", "+NAN"])
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_a_label_that_is_nan_is_missing(complaint, write, label, chunk_bytes):
    content = f"7 3:1\n{label} 3:1\n8 3:2\n{label}\n"
    with mock.patch.object(svmlight_lines, "CHUNK_BYTES", chunk_bytes):
        assert "table.svm: row 2: the label is missing" in complaint(content, shards=1)
        table = read(write(content), rows_may_lack_labels=True, shards=2, format="svmlight")
    assert table.labels == ["7", None, "8", None]


def test_labels_are_not_read_where_none_are_needed(write):
    path = write("1 1:5\n2:6\n1,2 1:7 3:4\n")
    table = read(path, needs_labels=False, shards=1)
    assert table.labels is None
    assert same(in_rows(table.features, 1), [{1: 5.0}, {2: 6.0}, {1: 7.0, 3: 4.0}])


# --- bad input ---

BAD = {
    "1 3": r"row 2: '3' stands where index:value is expected",
    "1 3:1 4": r"row 2: '4' stands where index:value is expected",
    "1 3:": r"row 2: the value '' of index 3 is not a number",
    "1 3: 4:5": r"row 2: the value '' of index 3 is not a number",
    "1 :5": r"row 2: the index '' in ':5' is not an integer",
    "1 3::4": r"row 2: the value ':4' of index 3 is not a number",
    "1 3:4:5": r"row 2: the value '4:5' of index 3 is not a number",
    "1 3 :4": r"row 2: '3' stands where index:value is expected",
    "1 3:4:5 6": r"row 2: the value '4:5' of index 3 is not a number",
    "1 3 4:5:6": r"row 2: '3' stands where index:value is expected",
    "1 3:4 5:6:7 8": r"row 2: the value '6:7' of index 5 is not a number",
    "a:b 3": r"row 2: the label is missing: the line starts with 'a:b'",
    "1 3:a": r"row 2: the value 'a' of index 3 is not a number",
    "1 3:1#2": r"row 2: the value '1#2' of index 3 is not a number",
    "1 3:1\r 4:1": r"row 2: the value '1\\r' of index 3 is not a number",
    "1 3:1\r2 4:1\r": r"row 2: the value '1\\r2' of index 3 is not a number; end lines in LF, not in CR alone",
    "1 3:1\x00": r"row 2: the value '1\\x00' of index 3 is not a number",
    "1 3:1\v4:1": r"row 2: the value '1\\x0b4:1' of index 3 is not a number",
    "1 a:3": r"row 2: the index 'a' in 'a:3' is not an integer",
    "1 3.0:3": r"row 2: the index '3.0' in '3.0:3' is not an integer",
    "1 1e2:3": r"row 2: the index '1e2' in '1e2:3' is not an integer",
    "1 0x3:3": r"row 2: the index '0x3' in '0x3:3' is not an integer",
    "1 nan:3": r"row 2: the index 'nan' in 'nan:3' is not an integer",
    "1 qid:x 3:3": r"row 2: the index 'qid' in 'qid:x' is not an integer",
    "1 -3:3": r"row 2: the index in '-3:3' is negative",
    "1 9223372036854775807:1": r"row 2: the index in '9223372036854775807:1' is too large",
    "1 " + 5000 * "9" + ":1": r"row 2: the index in '9{40}\.\.\.' is too large",
    "1 5:1 3:1": r"row 2: index 3 stands after index 5; indices must ascend",
    "1 5:1 5:1": r"row 2: index 5 stands after index 5; indices must ascend",
    "3:1": r"row 2: the label is missing: the line starts with '3:1'",
    " 3:1 4:1": r"row 2: the label is missing: the line starts with '3:1'",
    "qid:3 4:1": r"row 2: the label is missing: the line starts with '4:1'",
    "aqid:3 4:1": r"row 2: the label is missing: the line starts with 'aqid:3'",
    "qid:3a 4:1": r"row 2: the label is missing: the line starts with 'qid:3a'",
    "1,3 4:1": r"row 2: the label is '1,3'; one label a sample",
    "1, 3 4:1": r"row 2: the label is '1,'; one label a sample",
    "a\x00 3:1": r"row 2: the label 'a\\x00' holds a control character",
    "a\r 3:1": r"row 2: the label 'a\\r' holds a control character",
    b"\xff 3:1": r"row 2: the label is not UTF-8 text",
}


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize(("line", "message"), BAD.items())
def test_a_bad_line_is_named(complaint, line, message, chunk_bytes):
    line = line if isinstance(line, bytes) else line.encode()
    with mock.patch.object(svmlight_lines, "CHUNK_BYTES", chunk_bytes):
        for data in (b"1 3:1\n" + line, b"# x\n\n1 3:1 # y\n \r\n" + line + b"\n1 2:3\n"):
            assert re.search(rf"table\.svm: {message}", complaint(data, shards=1))
            assert re.search(
                rf"table\.svm: {message}", complaint(data, ranks=3, shards=3, index_base="1", n_features=9)
            )


def test_a_line_with_a_query_id_alone_is_refused(complaint):
    assert "row 1: 2 lines from here on should be samples, but 1 are" in complaint("qid:1\n1 3:4\n", shards=1)


def test_index_zero_in_a_file_said_to_count_from_one_is_named(complaint):
    content = "1 3:1\n1 1:4\n1 0:3 7:1\n"
    assert "row 3: index 0 stands where indices count from 1, as --index-base 1 says" in complaint(
        content, index_base="1"
    )
    message = complaint(content, expected_base=1, expected_names=NumberedNames(9), ranks=3, shards=3)
    assert "row 3: index 0 stands where indices count from 1, as they did in training; if" in message
    assert message.endswith("if they count from 0, train with --index-base 0")


@pytest.mark.parametrize("base", ["0", "1", "auto"])
def test_an_index_beyond_what_is_said_is_named(complaint, write, base):
    number = 0 if base == "0" else 1
    content = f"1 1:1\n1 2:4\n1 1:3 {4 + number}:1\n"
    assert read(write(content), index_base=base, n_features=5).features.shape == (3, 5)
    for ranks in (1, 3):
        message = complaint(content, index_base=base, n_features=4, ranks=ranks, shards=3)
        assert f"row 3: index {4 + number} is too large: --n-features is 4, with indices from {number} to" in message
        training = {"index_base": base, "expected_base": number, "expected_names": "abcd"}
        message = complaint(content, **training, ranks=ranks, shards=3)
        assert f"row 3: index {4 + number} is too large: training had 4 features, with indices from {number}" in message


def test_the_width_that_an_index_beyond_those_of_training_needs_is_told(complaint):
    content = "1 1:1\n1 5:3 9:1\n"
    message = complaint(content, expected_base=1, expected_names="abcd")
    assert "row 2: index 5 is too large" in message
    assert message.endswith("from 1 to 4; train with --n-features 9 or more, or take such indices out")
    message = complaint(content, expected_names="abcd", index_base="1")  # training had columns without indices
    assert message.endswith("from 1 to 4; take the index out")


def test_the_row_counts_in_its_own_part(write):
    paths = [write("1 3:1\n1 2:1\n", "a.svm"), write("# x\n1 3:1\n1 5:x\n", "b.svm")]
    for shards in (1, 2, 3, 4):
        with pytest.raises(InputError, match=r"b\.svm: row 2: the value 'x' of index 5"):
            read(*paths, shards=shards)


def test_files_without_one_feature_are_refused(complaint):
    assert "has not one index:value pair" in complaint("1\n2\n")
    assert "has not one index:value pair" in complaint("# nothing\n\n")


@pytest.mark.parametrize("options", [{}, {"index_base": "1", "n_features": 9}])
def test_an_error_of_one_rank_is_raised_on_all(write, options):
    path = write("".join(f"1 3:{'x' if row == 7 else 1}\n" for row in range(9)))

    def work(rank):
        source = open_source(SourceSpec(paths=(str(path),), **options), rank)
        source.scan(rank)
        source.divide(np.arange(10), [range(3), range(3, 6), range(6, 9)], rank)
        with rank.agreement():
            for shard in range(3 * rank.rank, 3 * rank.rank + 3):
                source.read(shard)

    outcomes = on_ranks(3, work)
    assert {str(error) for error in outcomes} == {f"{path}: row 8: the value 'x' of index 3 is not a number"}


# --- the base of the indices, and the number of columns ---


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_one_zero_anywhere_means_that_indices_count_from_zero(write, ranks):
    paths = [write("1 3:1\n1 2:1\n1 4:1\n", "a.svm"), write("1 3:1\n1 0:5\n", "b.svm")]
    table = read(*paths, ranks=ranks, shards=5)
    assert (table.source.index_base, len(table.names)) == (0, 5)
    table = read(paths[0], ranks=ranks, shards=3)
    assert (table.source.index_base, len(table.names)) == (1, 4)


def test_what_is_said_of_the_indices_is_believed(write):
    path = write("1 3:1\n1 2:1\n")
    table = read(path, index_base="0", ranks=2)
    assert (table.source.index_base, table.features.shape) == (0, (2, 4))
    table = read(path, index_base="1", n_features=10, ranks=2)
    assert (table.source.index_base, table.features.shape) == (1, (2, 10))
    assert table.names == tuple(f"x{column}" for column in range(10))
    table = read(path, index_base="0", expected_names=("a", "b", "c", "d"))
    assert (table.names, table.features.toarray()[0].tolist()) == (("a", "b", "c", "d"), [0, 0, 0, 1])


@pytest.mark.parametrize("content", ["1 3:1\n1 2:1\n", "1 0:1\n1 3:1\n"])
def test_the_base_is_never_guessed_for_a_model_of_other_formats(complaint, write, content):
    for ranks in (1, 3):
        message = complaint(content, expected_names=NumberedNames(4), ranks=ranks)
        assert "table.svm: say whether its indices count from 0 or from 1, with --index-base: training" in message
    for options in ({"index_base": "0"}, {"expected_base": 0}, {"index_base": "0", "expected_base": 1}):
        table = read(write(content), expected_names=NumberedNames(4), ranks=2, **options)
        assert table.source.index_base == 0
        assert table.features.toarray()[:, 3].any()


def test_lines_for_a_model_of_an_array_are_read_by_the_base_that_is_said(job):
    features = np.array([[1.0, 0, 2], [0, 3, 0], [0, 1, 1], [2, 0, 0]] * 10)
    labels = np.arange(40) % 2
    np.savez("d.npz", X=features, y=labels)
    train = ["--data", "d.npz", "--l2", 1e-2, "--max-steps", 5]
    assert job(2, "train", *train, "--out", "run").status == 0
    assert job(1, "predict", "run", "--data", "d.npz", "--out", "p.csv", "--probabilities").status == 0
    Path("rows.svm").write_text("".join("1" + " 1:3" * (row % 2) + "\n" for row in range(40)))  # no index 0
    ended = job(2, "predict", "run", "--data", "rows.svm", "--out", "q.csv", "--probabilities")
    assert (ended.status, "with --index-base" in ended.err) == (2, True)
    words = ["--index-base", 0, "--out", "q.csv", "--probabilities"]
    assert job(2, "predict", "run", "--data", "rows.svm", *words).status == 0
    assert Path("p.csv").read_text().splitlines()[2] == Path("q.csv").read_text().splitlines()[2]


def read_alone(path, bounds, **spec):
    """A source read by one rank, and its shards; unlike `read` without making a list of the names."""
    source = open_source(SourceSpec(paths=(str(path),), **spec), Alone())
    source.scan(Alone())
    source.divide(np.array(bounds), [range(len(bounds) - 1)], Alone())
    return source, [source.read(shard) for shard in range(len(bounds) - 1)]


@pytest.mark.parametrize("index", [2**31 - 1, 2**31, 3_000_000_000, 2**32 + 1, 2**53 + 1, 2**63 - 2])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("bounds", [[0, 3], [0, 1, 3], [0, 1, 2, 3]])
def test_very_large_indices_are_exact(write, monkeypatch, index, first, bounds):
    monkeypatch.setattr(svmlight, "memory_bytes", lambda: 2**70)
    path = write(f"1 {first}:1 7:2 {index}:0.5\n2 {index - 1}:3\n1 3:1\n")
    source, shards = read_alone(path, bounds)
    n_features = index + 1 - first
    assert source.feature_names == NumberedNames(n_features)
    assert all(shard.features.shape[1] == n_features for shard in shards)
    found = [row for shard in shards for row in in_rows(shard.features, first)]
    assert same(found, [{first: 1.0, 7: 2.0, index: 0.5}, {index - 1: 3.0}, {3: 1.0}])
    kind = np.int32 if n_features < 2**31 else np.int64
    assert {shard.features.indices.dtype for shard in shards} == {np.dtype(kind)}


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_mistyped_index_is_named_with_what_its_width_would_need(write, monkeypatch, ranks):
    monkeypatch.setattr(svmlight, "memory_bytes", lambda: 8 << 30)
    paths = [write("1 3:1\n2 1:1\n", "a.svm"), write("1 5:1\n0 4000000000:1\n2 1:1\n0 4000000000:1\n", "b.svm")]
    for shards in (1, 2, 6):
        with pytest.raises(InputError) as caught:
            read(*paths, ranks=ranks, shards=shards)
        assert str(caught.value) == (
            f"{paths[1]}: row 2: index 4000000000 makes 4000000000 features, for which a rank needs 119 GiB or more, "
            "but this node has 8 GiB; correct the index"
        )
    with pytest.raises(InputError, match="--n-features 4000000000 makes 4000000000 features"):
        read(paths[0], n_features=4_000_000_000, ranks=ranks)


# --- files ---


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("options", [{}, {"index_base": "1", "n_features": 9}])
def test_a_shard_can_be_read_again(write, keep, options):
    path = write("1 3:1\n2 2:1 5:1\n3 1:1\n4 4:1\n")
    with mock.patch.object(svmlight, "KEPT_BYTES", 2**31 if keep else 0):
        source, (first, last) = read_alone(path, [0, 2, 4], **options)
    for shards in ([last, first], [source.read(shard) for shard in (1, 0)]):
        assert [shard.features.sum(axis=0).tolist()[:5] for shard in shards] == [
            [1, 0, 0, 1, 0],
            [0, 1, 1, 0, 1],
        ]
        assert [[shard.labels.texts[code] for code in shard.labels.codes] for shard in shards] == [
            ["3", "4"],
            ["1", "2"],
        ]
        assert all(shard.features.has_canonical_format for shard in shards)


@pytest.mark.parametrize(
    ("options", "kept_bytes", "n_parsed"),
    [({}, 2**31, 3), ({}, 40, 5), ({"n_features": 9}, 0, 6), ({"scratch": "/tmp"}, 2**31, 6)],
)
def test_a_shard_is_parsed_once_where_there_is_room_for_it(write, options, kept_bytes, n_parsed):
    path = write("1 3:1 4:1\n2 2:1 5:1\n3 1:1 2:1\n")
    parsed = mock.patch.object(svmlight, "parse_lines", side_effect=parse_lines)
    with parsed as calls, mock.patch.object(svmlight, "KEPT_BYTES", kept_bytes):
        read_alone(path, [0, 1, 2, 3], **options)
    assert calls.call_count == n_parsed  # a row's indices and values have 24 bytes
    with parsed as calls:
        read_alone(path, [0, 1, 2, 3], index_base="1", n_features=9)
    assert calls.call_count == 3


def test_a_file_that_changes_is_noticed(write):
    path = write("1 3:1\n2 2:1 5:1\n")
    source = read(path, shards=1).source
    path.write_text("1 3:1\n2 2:1 6:1\n3 1:1\n")
    with pytest.raises(InputError, match="has changed"):
        source.read(0)


@pytest.mark.parametrize(
    "compress", [gzip.compress, lambda data: pa.compress(data, codec="zstd", asbytes=True)], ids=["gzip", "zstd"]
)
@pytest.mark.parametrize(("ranks", "shards"), RANKS_AND_SHARDS)
def test_compressed_files_are_read_as_plain_ones(write, compress, ranks, shards):
    data = b"\xef\xbb\xbf# x\n1 0:3 5:1\r\n\n2 1:1\n"
    paths = [write(data, "a.svm"), write(compress(data), "b.svm.z"), write(compress(data), "c.svm.z")]
    expected = read(paths[0], paths[0], paths[0])
    table = read(*paths, ranks=ranks, shards=shards)
    assert_same_matrix(table.features, expected.features)
    assert table.labels == expected.labels == 3 * ["1", "2"]


def test_a_compressed_file_cut_short_is_refused(write):
    rng = np.random.default_rng(0)
    data = b"".join(b"1 %d:%.16g\n" % (row + 1, rng.random()) for row in range(2000))
    whole = gzip.compress(data)
    for keep in (len(whole) // 3, len(whole) - 9, len(whole) - 1):
        with pytest.raises(InputError, match=r"t\.svm\.gz: is cut short or damaged"):
            read(write(whole[:keep], "t.svm.gz"), format="svmlight", ranks=2, shards=3)


def test_query_ids_are_ignored_and_said_once(write):
    path = write("1 qid:7 3:1\n2\tqid:8\t2:1\n3 qid:8\n")
    for ranks in (1, 3):
        table = read(path, path, ranks=ranks)
        assert same(in_rows(table.features, 1), 2 * [{3: 1.0}, {2: 1.0}, {}])
        assert [note for note in table.source.notes if "qid" in note] == list(table.source.notes)
        assert len(table.source.notes) == 1
    assert read(write("# qid:3\n1 3:1 # 1 qid:7 3:1\n")).source.notes == ()


# --- damage ---

ALPHABET = b"0123 3:1\t\r\n#qid:.e+-nax,\x00\x0b\xc3\xa4 :\n"


def assert_right_or_refused(path, data, **options):
    path.write_bytes(data)
    try:
        expected = by_hand(data)
    except ValueError:
        expected = None
    try:
        table = read(path, format="svmlight", **options)
    except InputError as error:
        assert str(error).startswith(str(path))
        assert expected is None or not any(row for _, row in expected)
        return
    assert expected is not None
    assert same(in_rows(table.features, table.source.index_base), [row for _, row in expected])
    assert table.labels == [label for label, _ in expected]


@settings(quick, max_examples=150)
@given(
    st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(list(ALPHABET)), max_size=60).map(bytes)),
    st.integers(1, 3),
    st.integers(1, 4),
)
@example(b"qid:3\n1 3:4", 1, 1)
@example(b"1 3:1\n\x0b# 1\n", 1, 1)
@example(b"1 3:1\x0b\n", 1, 1)
def test_any_bytes_are_read_right_or_refused(tmp_path_factory, data, ranks, shards):
    path = tmp_path_factory.mktemp("bytes") / "table.svm"
    assert_right_or_refused(path, data, ranks=ranks, shards=shards)


@settings(quick, max_examples=150)
@given(
    files(),
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 2), st.sampled_from(list(ALPHABET))), min_size=1, max_size=3
    ),
    st.integers(1, 3),
)
def test_a_damaged_file_is_read_right_or_refused(tmp_path_factory, text, damage, ranks):
    data = bytearray(text.encode())
    for place, kind, byte in damage:
        place %= len(data) + 1
        data[place : place + (kind > 0)] = bytes([byte]) if kind < 2 else b""
    path = tmp_path_factory.mktemp("damaged") / "table.svm"
    assert_right_or_refused(path, bytes(data), ranks=ranks, shards=3)


@settings(quick, max_examples=150)
@given(st.binary(max_size=80), st.booleans(), st.integers(1, 9))
def test_the_parser_raises_nothing_else(data, needs_labels, chunk_bytes):
    with mock.patch.object(svmlight_lines, "CHUNK_BYTES", chunk_bytes):
        try:
            expected = by_hand(data, needs_labels)
        except ValueError:
            expected = None
        try:
            lines = parse_lines(data.removeprefix(b"\xef\xbb\xbf"), needs_labels=needs_labels)
        except BadCell:
            assert expected is None
        else:
            assert expected is None or lines.indptr.size - 1 == len(expected)
