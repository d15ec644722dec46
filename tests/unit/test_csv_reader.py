import contextlib
import csv
import io
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsoftmax.data import csv as csv_reader
from distsoftmax.data.shards import divide_source
from distsoftmax.data.source import SourceSpec, open_source
from distsoftmax.errors import InputError

PARTS = [1, 2, 3, 5, 16]
SHARDS = [None, 1, 2, 3, 50]  # 50: more than any table here has rows
quick = settings(deadline=None, database=None)


class Rank:
    """One of several threads that stand for the ranks of a cluster."""

    def __init__(self, rank, size, barrier, board):
        self.rank, self.size = rank, size
        self._barrier, self._board = barrier, board

    def allgather(self, value):
        self._board[self.rank] = value
        self._barrier.wait()
        values = list(self._board)
        self._barrier.wait()
        return values

    def agreement(self):
        return contextlib.nullcontext()


def on_ranks(size, work):
    """Return what `work(rank)` returns or raises on each of `size` threads."""
    barrier, board, outcomes = threading.Barrier(size, timeout=20), [None] * size, [None] * size

    def run(number):
        try:
            outcomes[number] = work(Rank(number, size, barrier, board))
        except Exception as error:
            outcomes[number] = error
            if not getattr(error, "agreed", False):
                barrier.abort()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "a rank hangs"
    return outcomes


def read(path, *, parts=1, shards=None, **spec):
    """Return (feature names, features, labels) as the ranks together read them, or raise what a rank raises."""

    def work(rank):
        divided = divide_source(SourceSpec(path=str(path), **spec), shards, rank)
        own = list(divided.read(rank))
        labels = [shard.labels.texts[code] for shard in own if shard.labels for code in shard.labels.codes]
        return divided.source, [shard.features for shard in own], labels

    outcomes = on_ranks(parts, work)
    for error in outcomes:
        if isinstance(error, Exception) and not isinstance(error, threading.BrokenBarrierError):
            raise error
    sources, features, labels = zip(*outcomes, strict=True)
    assert len({source.n_rows for source in sources}) == 1
    rows = np.concatenate([shard for own in features for shard in own])
    assert len(rows) == sources[0].n_rows
    return sources[0].feature_names, rows, [label for own in labels for label in own]


def by_csv_module(data, label, header=True):
    """Return the same table as Python's csv module reads it. Raises ValueError or csv.Error where it is none."""
    text = data.decode("utf-8").removeprefix("\ufeff")
    records = [cells for cells in csv.reader(io.StringIO(text, newline="")) if cells]
    names = [cell.strip() for cell in records.pop(0)] if header else [f"x{i}" for i in range(len(records[0]))]
    column = names.index(label) if isinstance(label, str) else label
    if not records or any(len(cells) != len(names) for cells in records) or len(set(names)) < len(names):
        raise ValueError("no table")
    labels = [cells.pop(column) for cells in records]
    features = np.array([[float(cell) for cell in cells] for cells in records])
    del names[column]
    if not names or "" in labels or not np.isfinite(features).all():
        raise ValueError("no samples")
    return tuple(names), features, labels


def assert_same(found, expected):
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1], strict=True)
    assert found[2] == expected[2]


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def complaint(write):
    def complaint(content, **options):
        path = write(content)
        with pytest.raises(InputError, match=r"table\.csv: ") as caught:
            read(path, **options)
        return str(caught.value)

    return complaint


TABLES = {
    "plain": "a,b,y\n1,2,u\n3,4,v\n5,6,w\n",
    "no newline at the end": "a,b,y\n1,2,u\n3,4,v",
    "CRLF": "a,b,y\r\n1,2,u\r\n3,4,v\r\n",
    "CRLF, none at the end": "a,b,y\r\n1,2,u\r\n3,4,v",
    "CRLF and LF": "a,b,y\r\n1,2,u\n3,4,v\r\n5,6,w\n",
    "byte order mark": "\ufeffa,b,y\n1,2,u\n3,4,v\n",
    "byte order mark and quote": '\ufeff"a",b,y\n1,2,u\n3,4,v\n',
    "blank lines": "\n\na,b,y\n\n1,2,u\n\n\n\n3,4,v\n\n\n",
    "blank CRLF lines": "\r\na,b,y\r\n\r\n\r\n1,2,u\r\n\r\n3,4,v\r\n\r\n",
    "byte order mark and blank lines": "\ufeff\r\n\na,b,y\n1,2,u\n",
    "one row": "a,b,y\n1,2,u\n",
    "quoted": '"a","b","y"\n"1","2","u"\n"3",4,"v"\n',
    "quoted commas": 'a,b,y\n1,2,"u,v"\n3,4,",,,"\n5,6,","\n',
    "quoted newlines": 'a,b,y\n1,2,"u\nv"\n3,4,"\n\n\n"\n5,6,"w\r\n\r\nx\n"\n',
    "quoted newlines that look like rows": 'a,b,y\n1,2,"u\n7,8,v\n9,10,w"\n3,4,"\n1,2,u\n"\n5,6,x\n',
    "quoted newline in the header": '"a\nb",b,y\n1,2,u\n3,4,v\n',
    "doubled quotes": 'a,b,y\n1,2,""""\n3,4,"""u"""\n5,6,"u""v"\n7,8,"""\n"""\n9,10,""","""\n',
    "spaces": "a , b, y\n1, 2, u \n 3,4 ,v\n",
    "label of spaces": "a,b,y\n1,2, \n3,4,  \n",
    "integers": "a,b,y\n1,-2,u\n+3,007,v\n9007199254740993,123456789012345678901234567890,w\n",
    "decimals": "a,b,y\n1.5,-.5,u\n5.,0.1,v\n0.30000000000000004,-0.0,w\n",
    "exponents": "a,b,y\n1e5,1E-5,u\n-1.5e+300,2.2250738585072014e-308,v\n5e-324,1e-400,w\n",
    "labels that look like numbers": "a,b,y\n1,2,1\n3,4,1.0\n5,6,01\n7,8,1e0\n",
    "labels that look like nothing": "a,b,y\n1,2,NA\n3,4,null\n5,6,NaN\n7,8,None\n",
    "non-ASCII": "größe,b,y\n1,2,Ä\n3,4,日本語\n5,6,😀\n7,8,e\u0301\n",
    "label first": "y,a,b\nu,1,2\nv,3,4\n",
    "label between": "a,y,b\n1,u,2\n3,v,4\n",
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_do_not_depend_on_the_number_of_parts(write, table, parts):
    assert_same(read(write(table), label="y", parts=parts), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("table", ["a,y\n1,u", 'a,y\n1,"\n"\n', "\na,y\r\n\r\n1,u\n"])
def test_more_parts_than_bytes_find_the_same_rows(write, table):
    assert_same(read(write(table), label="y", parts=2 * len(table)), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_do_not_depend_on_the_number_of_shards(write, table, shards):
    assert_same(read(write(table), label="y", parts=2, shards=shards), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("scan_bytes", [1, 2, 3, 7])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_do_not_depend_on_the_pieces_of_the_scan(write, monkeypatch, table, scan_bytes):
    monkeypatch.setattr(csv_reader, "SCAN_BYTES", scan_bytes)
    assert_same(read(write(table), label="y", parts=2), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_file_without_header_is_read_from_its_first_row(write, label, end):
    table = "1,2,3\n4.5,5,6\n7,8,9" + end
    assert_same(read(write(table), label=str(label), parts=2), by_csv_module(table.encode(), label, header=False))


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
        ("1e3,,y\n4,5,6\n", {"label": "2"}, None),
        ("8,9\n1,2\n", {"needs_labels": False, "expected_names": ("9", "8")}, 1),
        ("8,9\n1,2\n", {"needs_labels": False, "expected_names": ("x0", "x1")}, 2),
    ],
)
def test_the_first_record_is_taken_for_a_header_where_it_is_one(write, table, spec, n_rows):
    if n_rows is None:
        with pytest.raises(InputError):
            read(write(table), **spec)
    else:
        assert len(read(write(table), **spec)[1]) == n_rows


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
    source = open_source(SourceSpec(path=str(write(table)), **spec))
    assert (source.headless_by_guess, source.feature_names) == (guess, names)


def test_labels_are_left_out_where_they_are_not_needed(write):
    names, features, labels = read(write("a,y,b\n1,u,2\n3,,4\n"), label="y", needs_labels=False)
    assert (names, features.tolist(), labels) == (("a", "b"), [[1, 2], [3, 4]], [])


def test_a_model_gets_its_features_by_name_and_in_its_order(write):
    table = "c,a,ignored,b\n3,1,text,2\n6,4,text,5\n"
    names, features, _ = read(write(table), needs_labels=False, expected_names=("a", "b", "c"), shards=2)
    assert (names, features.tolist()) == (("a", "b", "c"), [[1, 2, 3], [4, 5, 6]])


def test_a_lacking_feature_of_the_model_is_named(complaint):
    assert "missing: c" in complaint("a,b\n1,2\n", needs_labels=False, expected_names=("a", "b", "c"))


WRONG_CELLS = {
    "too many cells": ("5,6,v,w", "row 3", "4 columns", "expected 3"),
    "too few cells": ("5,v", "row 3", "2 columns", "expected 3"),
    "spaces alone": ("  ", "row 3", "1 columns", "expected 3"),
    "decimal comma": ("5,5,6,v", "row 3", "4 columns", "expected 3"),
    "no number": ("5,six,v", "row 3", "column b", "'six' is not a number"),
    "hexadecimal": ("0x10,6,v", "row 3", "column a", "'0x10' is not a number"),
    "separated digits": ("5,6_000,v", "row 3", "column b", "'6_000' is not a number"),
    "fullwidth digit": ("5,６,v", "row 3", "column b", "'６' is not a number"),
    "non-breaking space": ("\u00a05,6,v", "row 3", "column a", "is not a number"),
    "empty": ("5,,v", "row 3", "column b", "no number", "fill it in or leave the row out"),
    "empty in quotes": ('"",6,v', "row 3", "column a", "no number", "fill it in or leave the row out"),
    "NaN": ("5,NaN,v", "row 3", "column b", "no number", "fill it in or leave the row out"),
    "NA": ("NA,6,v", "row 3", "column a", "no number", "fill it in or leave the row out"),
    "infinite": ("5,inf,v", "row 3", "column b", "inf", "finite"),
    "negative infinite": ("-Infinity,6,v", "row 3", "column a", "-inf", "finite"),
    "overflowing": ("5,1e400,v", "row 3", "column b", "inf", "finite"),
    "no label": ("5,6,", "row 3", "column y", "missing"),
    "no label in quotes": ('5,6,""', "row 3", "column y", "missing"),
    "label not UTF-8": (b"5,6,\xff", "row 3", "UTF-8", "convert"),
    "number not UTF-8": (b"5,\xff6,v", "row 3", "UTF-8", "convert"),
}


@pytest.mark.parametrize(("parts", "shards"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("before", ["1,2,u\n3,4,v\n", '1,2,u\n\n\r\n3,4,"u\n\nv"\n'], ids=["plain", "blank lines"])
@pytest.mark.parametrize("wrong", WRONG_CELLS.values(), ids=WRONG_CELLS)
def test_a_wrong_cell_is_named_by_its_row_and_column(complaint, wrong, before, parts, shards):
    row, *words = wrong
    table = f"a,b,y\n{before}".encode() + (row if isinstance(row, bytes) else row.encode()) + b"\n7,8,w\n"
    text = complaint(table, label="y", parts=parts, shards=shards)
    for word in words:
        assert word in text


@pytest.mark.parametrize("header", ["a,b,y\n", ""], ids=["header", "no header"])
def test_rows_are_counted_from_one_with_the_header_left_out(complaint, header):
    assert "row 1," in complaint(f"{header}1e,2,3\n4,5,6\n", label="2", header="yes" if header else "no")


UNUSABLE = {
    "empty": (b"", {"label": "y"}, "is empty"),
    "byte order mark alone": ("\ufeff", {"label": "y"}, "blank"),
    "blank lines alone": ("\n\r\n\n", {"label": "y"}, "blank"),
    "header alone": ("a,b,y\n", {"label": "y"}, "no samples, only a header"),
    "header and blank lines": ("a,b,y\n\n\n", {"label": "y"}, "no samples, only a header"),
    "unclosed quote": ('a,b,y\n1,2,"u\n3,4,v\n', {"label": "y"}, "quote is opened and never closed", "twice"),
    "unclosed quote in the header": ('a,"b,y\n1,2,u\n', {"label": "y"}, "quote"),
    "header not UTF-8": (b"gr\xf6\xdfe,y\n1,u\n", {"label": "y"}, "UTF-8", "convert"),
    "UTF-16": ("a,y\n1,u\n".encode("utf-16"), {"label": "y"}, "UTF-8", "convert"),
    "label not named": ("a,b,y\n1,2,u\n", {}, "--label", "a, b, y"),
    "label not there": ("a,b,y\n1,2,u\n", {"label": "z"}, "no label column z", "a, b, y"),
    "label not there by number": ("1,2,3\n", {"label": "3", "header": "no"}, "no label column 3", "3 columns"),
    "label neither name nor number": ("a,b,y\n1,2,u\n", {"label": "-1"}, "no label column -1", "a, b, y"),
    "label named in a file without names": ("1,2\n", {"label": "y", "header": "no"}, "no label column y", "no header"),
    "label by name or number": ("a,0,y\n1,2,u\n", {"label": "0"}, "ambiguous", "is a", "number 1", "rename"),
    "label named twice": ("y,a,y\nu,1,v\n", {"label": "y"}, "2 columns are named y", "y, a, y"),
    "features named alike": ("a,b,a,y\n1,2,3,u\n", {"label": "y"}, "two columns are named 'a'", "name of its own"),
    "features named alike but for spaces": ("a, a,y\n1,2,u\n", {"label": "y"}, "two columns are named 'a'"),
    "label alone": ("y\nu\nv\n", {"label": "y"}, "no feature"),
    "label alone, no header": ("1\n2\n", {"label": "0"}, "no feature"),
    "lines end in CR alone": ("a,y\r1,u\r2,v\r", {"label": "y"}, "line"),
}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_file_is_refused_with_the_reason(complaint, unusable, parts):
    table, spec, *words = unusable
    text = complaint(table, parts=parts, **spec)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "table",
    [
        'a,y\n1,u"v"w\n2,v""\n',
        'a"b,y\n1,u"v\n2,w\n',
        'a,y\n1,p"q\n2,"c\nq\n3,d"\n4,"e\nz\n',
        'y,a\n"u"v"\n",1\nw,2\n',
        'a,y\n1,u"\n2,v"\n3,w\n',
        'y,a\na"b,1\n"c,2\nq\nd",3\ne"f,4\n',
        "a,y\r1,u\n2,v\n",
        "a,y\n1,u\r2,v\n",
        "a,y\n1,u\n\r",
        "a,y\n1,u\n\r\r\n2,v\n",
    ],
)
@pytest.mark.parametrize("shards", SHARDS)
def test_stray_quotes_and_returns_never_hide_a_row(write, table, shards):
    try:
        found = read(write(table), label="y", header="yes", shards=shards)
    except InputError:
        return
    assert_same(found, by_csv_module(table.encode(), "y"))


def test_a_quote_left_open_is_known_to_every_rank(write):
    path = write('a,b,y\n1,2,"u\n3,4,v\n')
    errors = on_ranks(3, lambda rank: divide_source(SourceSpec(path=str(path), label="y"), None, rank))
    assert [(type(error), getattr(error, "agreed", False)) for error in errors] == [(InputError, True)] * 3


def test_a_header_alone_is_known_to_every_rank(write):
    path = write("a,b,y\n")
    errors = on_ranks(3, lambda rank: divide_source(SourceSpec(path=str(path), label="y"), None, rank))
    assert [(type(error), getattr(error, "agreed", False)) for error in errors] == [(InputError, True)] * 3


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("csv") / "table.csv"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
awkward = st.text(st.sampled_from(',"\n\r é1'), min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)


@st.composite
def tables(draw):
    """Return the bytes of a table, its features and its labels."""
    width = draw(st.integers(1, 3))
    rows = draw(
        st.lists(st.tuples(st.lists(numbers, min_size=width, max_size=width), texts | awkward), min_size=1, max_size=8)
    )
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_NONNUMERIC, csv.QUOTE_ALL]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=quoting)
    writer.writerow([*(f"f{column}" for column in range(width)), "the label"])
    for features, label in rows:
        text.write(end * draw(st.integers(0, 2)))
        writer.writerow([*features, label])
    content = text.getvalue()
    if draw(st.booleans()):
        content = content.removesuffix(end)
    mark = b"\xef\xbb\xbf" if draw(st.booleans()) else b""
    return mark + content.encode(), np.array([row[0] for row in rows], dtype=float), [row[1] for row in rows]


@settings(quick, max_examples=80)
@given(tables(), st.sampled_from([1, 2, 3, 5, 16]), st.sampled_from([None, 1, 2, 3, 7, 20]))
def test_what_the_csv_module_writes_comes_back(scratch, table, parts, shards):
    content, features, labels = table
    scratch.write_bytes(content)
    names = tuple(f"f{column}" for column in range(features.shape[1]))
    assert_same(read(scratch, label="the label", parts=parts, shards=shards), (names, features, labels))


crumbs = st.sampled_from(
    [b",", b'"', b'""', b"\n", b"\r\n", b"\r", b" ", b"1", b"-2.5", b"u", b"\xc3\xa9", b"\xff", b"\0"]
)
pieces = st.sampled_from(
    [b"1,", b"1,u", b",u\n", b"1,u\n", b'"1",', b',"u\n', b'"\n', b'2,"v"\r\n', b'"x""', b"y,a\n", b"\n"]
)
rubble = st.lists(crumbs | pieces | pieces, max_size=6).map(b"".join)


@st.composite
def damaged(draw):
    """Return the bytes of a table some of which are replaced, lost or too many."""
    content = draw(st.sampled_from([table.encode() for table in TABLES.values()]))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(crumbs | st.just(b"")) + content[at + draw(st.integers(0, 2)) :]
    return content


def assert_refused_or_right(path, content, parts, shards):
    path.write_bytes(content)
    try:
        found = read(path, label="y", header="yes", parts=parts, shards=shards)
    except InputError:
        return
    try:
        expected = by_csv_module(content, "y")
    except (ValueError, IndexError, csv.Error) as error:
        pytest.fail(f"{content!r} was read as {found}, but is no table: {error}")
    assert_same(found, expected)


@settings(quick, max_examples=150)
@given(damaged(), st.sampled_from([1, 2, 3, 5]), st.sampled_from([None, 1, 2]))
def test_a_damaged_table_is_refused_or_read_right(scratch, content, parts, shards):
    assert_refused_or_right(scratch, content, parts, shards)


@settings(quick, max_examples=150)
@given(
    st.sampled_from([b"", b"a,y\n", b"\xef\xbb\xbfa,y\r\n"]),
    st.binary(max_size=24) | rubble,
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from([None, 1, 2]),
)
def test_any_bytes_are_refused_or_read_right(scratch, header, content, parts, shards):
    assert_refused_or_right(scratch, header + content, parts, shards)
