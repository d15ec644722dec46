import csv
import gzip
import io
import os
import signal
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import PARTS, SHARDS, assert_says, on_ranks, read, texts_of

from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.open_source import open_source
from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.csv.head import NULL_TEXTS
from distsoftmax.data.readers.csv.source import CsvSource
from distsoftmax.data.readers.text import kept_text
from distsoftmax.data.readers.text import records as record_scan
from distsoftmax.data.shards import shard_bounds
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError

NO_NUMBERS = {"", "NA", "NaN", "null", "nan", "N/A"}
quick = settings(deadline=None, database=None)


def by_csv_module(data, label, header=True):
    """Return the table as Python's csv module reads it. Raises ValueError, IndexError or csv.Error where it is none."""
    text = data.decode("utf-8").removeprefix("\ufeff")
    if "\0" in text:
        raise ValueError("no text")
    records = [cells for cells in csv.reader(io.StringIO(text, newline="")) if cells]
    names = [cell.strip() for cell in records.pop(0)] if header else [f"x{i}" for i in range(len(records[0]))]
    column = names.index(label) if isinstance(label, str) else label
    if any(len(cells) != len(names) for cells in records) or len(set(names)) < len(names):
        raise ValueError("no table")
    labels = [cells.pop(column) for cells in records]
    features = [[np.nan if cell in NO_NUMBERS else float(cell) for cell in cells] for cells in records]
    del names[column]
    if not names or NO_NUMBERS & set(labels):
        raise ValueError("no samples")
    return tuple(names), np.array(features, dtype=float).reshape(len(labels), len(names)), labels


def assert_same(found, expected):
    assert found.names == expected[0]
    np.testing.assert_array_equal(found.features, expected[1], strict=True)
    assert found.labels == expected[2]


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
    "labels that hardly look like nothing": "a,b,y\n1,2,Na\n3,4, NA\n5,6,None\n7,8,NUL\n",
    "non-ASCII": "größe,b,y\n1,2,Ä\n3,4,日本語\n5,6,😀\n7,8,e\u0301\n",
    "label first": "y,a,b\nu,1,2\nv,3,4\n",
    "label between": "a,y,b\n1,u,2\n3,v,4\n",
}


@pytest.mark.sweep(60)
@pytest.mark.parametrize("ranks", PARTS)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_do_not_depend_on_the_number_of_ranks(write, table, ranks):
    assert_same(read(write(table), label="y", ranks=ranks), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("table", ["a,y\n1,u", 'a,y\n1,"\n"\n', "\na,y\r\n\r\n1,u\n"])
def test_more_ranks_than_bytes_find_the_same_rows(write, table):
    assert_same(read(write(table), label="y", ranks=2 * len(table)), by_csv_module(table.encode(), "y"))


@pytest.mark.sweep(60)
@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_do_not_depend_on_the_number_of_shards(write, table, shards):
    assert_same(read(write(table), label="y", ranks=2, shards=shards), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("scan_bytes", [1, 2, 3, 7])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_do_not_depend_on_the_chunks_of_the_scan(write, monkeypatch, table, scan_bytes):
    monkeypatch.setattr(record_scan, "SCAN_BYTES", scan_bytes)
    assert_same(read(write(table), label="y", ranks=2), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("kept_bytes", [0, 5, 17])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_do_not_depend_on_how_much_of_the_scan_is_kept(write, monkeypatch, table, kept_bytes):
    monkeypatch.setattr(record_scan, "SCAN_BYTES", 4)
    monkeypatch.setattr(kept_text, "KEPT_BYTES", kept_bytes)
    assert_same(read(write(table), label="y", ranks=2, shards=2), by_csv_module(table.encode(), "y"))


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_file_without_header_is_read_from_its_first_row(write, label, end):
    table = "1,2,3\n4.5,5,6\n7,8,9" + end
    assert_same(read(write(table), label=str(label), ranks=2), by_csv_module(table.encode(), label, header=False))


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
    "no label": ("5,6,", "row 3", "column y", "missing"),
    "no label in quotes": ('5,6,""', "row 3", "column y", "missing"),
    "NA as label": ("5,6,NA", "row 3", "column y", "missing", "another name"),
    "null in quotes as label": ('5,6,"null"', "row 3", "column y", "missing"),
    "a return within": ("5,6,v\r7,8,v", "carriage return (CR) stands alone"),
    "label not UTF-8": (b"5,6,\xff", "row 3", "UTF-8", "convert"),
    "number not UTF-8": (b"5,\xff6,v", "row 3", "UTF-8", "convert"),
    "NUL": (b"5,6,\0", "row 3", "a NUL byte", "UTF-8", "convert"),
    "NUL at the start": (b"\x005,6,v", "row 3", "a NUL byte", "UTF-8", "convert"),
    "stray quotes": ('5,6,v"w"', "row 3", "quote", "unquoted field"),
}


@pytest.mark.parametrize(("ranks", "shards"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("before", ["1,2,u\n3,4,v\n", '1,2,u\n\n\r\n3,4,"u\n\nv"\n'], ids=["plain", "blank lines"])
@pytest.mark.parametrize("wrong", WRONG_CELLS.values(), ids=WRONG_CELLS)
def test_a_wrong_cell_is_named_by_its_row_and_column(complaint, wrong, before, ranks, shards):
    row, *words = wrong
    table = f"a,b,y\n{before}".encode() + (row if isinstance(row, bytes) else row.encode()) + b"\n7,8,w\n"
    assert_says(complaint(table, label="y", ranks=ranks, shards=shards), "table.csv", *words)
    assert_says(complaint("a,b,y\n9,9,u\n", table, label="y", ranks=ranks, shards=shards), "b.csv", *words)


@pytest.mark.parametrize("header", ["a,b,y\n", ""], ids=["header", "no header"])
def test_rows_are_counted_from_one_with_the_header_left_out(complaint, header):
    text = complaint(f"{header}1e,2,3\n4,5,6\n", label="2", header="yes" if header else "no")
    assert "row 1," in text


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("width", [20_000, 120_000])
def test_the_first_record_may_be_long_and_stand_far_below(write, width, ranks):
    names = [f"column{number}" for number in range(width)]
    table = "\n" * 70_000 + ",".join([*names, "y"]) + "\n" + "1," * width + "u\n"
    found = read(write(table), label="y", features=names[:3], ranks=ranks)
    assert (found.features.tolist(), found.labels) == ([[1, 1, 1]], ["u"])


def test_a_field_may_be_large(write):
    field = "u" * 200_000
    assert read(write(f'a,y\n1,"{field}\n"\n2,v\n'), label="y", ranks=3).labels == [field + "\n", "v"]


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


@pytest.mark.parametrize("table", ['a,b,y\n1,2,"u\n3,4,v\n', "", "a,b\n1,2\n", "y,y\n", 'a,"b,y\n'])
def test_what_is_wrong_with_the_whole_is_known_to_every_rank(write, table):
    path = write(table)
    errors = on_ranks(
        3, lambda rank: CsvSource(SourceSpec(paths=(str(path),), label="y"), (FileState.of(str(path)),)).scan(rank)
    )
    assert [(type(error), getattr(error, "agreed", False)) for error in errors] == [(InputError, True)] * 3
    assert len({str(error) for error in errors}) == 1


# Parts


@pytest.mark.parametrize("ranks", PARTS)
@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("header", ["a,b,y\n", ""], ids=["header", "no header"])
def test_parts_are_read_one_after_the_other(write, header, ranks, shards):
    contents = [
        "1,2,u\n3,4,v\n",
        "",
        '5,6,"w\n,\n"',
        None,
        "\r\n7,8,u\r\n\r\n9,10,w",
        "\n\n",
        "\ufeff" + header + "11,12,u\n",
    ]
    paths = []
    for number, content in enumerate(contents):
        whole = b"" if content is None else (content if content.startswith("\ufeff") else header + content).encode()
        paths.append(write(whole, f"{number}.csv"))
    found = read(*paths, ranks=ranks, shards=shards, **({"label": "y"} if header else {"label": "2", "header": "no"}))
    assert found.features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]
    assert found.labels == ["u", "v", "w\n,\n", "u", "w", "u"]
    assert [found.source.locate(row) for row in range(6)] == [
        (str(paths[part]), row) for part, row in [(0, 1), (0, 2), (2, 1), (4, 1), (4, 2), (6, 1)]
    ]


# Reading again, files that change, compressed files, bytes read


def opened(paths, n_shards, **spec):
    source = open_source(SourceSpec(paths=tuple(str(path) for path in paths), **spec), Alone())
    source.scan(Alone())
    source.divide(shard_bounds(source.n_rows, n_shards), [range(n_shards)], Alone())
    return source


@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_shards_can_be_read_again_in_any_order(write, monkeypatch, compress):
    monkeypatch.setattr(record_scan, "SCAN_BYTES", 16)
    table = "a,y\n" + "".join(f"{row},{'uvw'[row % 3]}\n" for row in range(100))
    source = opened([write(compress(table.encode()) if compress else table)], 7, label="y")
    first = {shard: source.read(shard) for shard in (3, 3, 0, 6, 1, 5, 2, 4)}
    for shard in (6, 0, 0, 5, 4, 3, 2, 1):
        again = source.read(shard)
        np.testing.assert_array_equal(again.features, first[shard].features)
        assert texts_of([again.labels]) == texts_of([first[shard].labels])
    assert np.concatenate([first[shard].features for shard in range(7)])[:, 0].tolist() == list(range(100))


@pytest.mark.parametrize("change", ["grown", "rewritten", "cut", "gone"])
@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_a_file_that_changes_after_the_scan_is_refused(write, change, compress):
    content = b"a,y\n" + b"1,u\n" * 100
    content = compress(content) if compress else content
    path = write(content)
    source = opened([path], 2, label="y")
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes({"grown": content + b"1,u\n", "rewritten": content, "cut": content[:-8]}[change])
        os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match=r"table\.csv: (has changed|cannot be read any more)"):
        source.read(0)


def test_a_file_that_changes_before_the_scan_is_refused(write):
    path = write("a,y\n1,u\n")
    source = open_source(SourceSpec(paths=(str(path),), label="y"), Alone())
    path.write_text("a,y\n")
    with pytest.raises(InputError, match=r"table\.csv: has changed"):
        source.scan(Alone())


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


def two_members(data):
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


@pytest.mark.sweep(100)
@pytest.mark.parametrize("ranks", PARTS)
@pytest.mark.parametrize("compress", [gzip.compress, zstd, two_members])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_compressed_file_holds_the_same_rows(write, table, compress, ranks):
    path = write(compress(table.encode()), "table.csv.gz")
    found = read(path, label="y", ranks=ranks, shards=3)
    assert_same(found, by_csv_module(table.encode(), "y"))
    assert found.source.notes == (f"{path} is compressed and cannot be divided: one rank reads it whole",)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_compressed_and_plain_parts_stand_side_by_side(write, ranks):
    paths = []
    for number in range(7):
        rows = b"a,y\n" + b"".join(b"%d,u%d\n" % (number * 100 + row, row) for row in range(30))
        paths.append(write([bytes, gzip.compress, zstd][number % 3](rows), f"{number}.csv"))
    found = read(*paths, label="y", ranks=ranks, shards=9)
    assert found.features[:, 0].tolist() == [number * 100 + row for number in range(7) for row in range(30)]
    (note,) = found.source.notes
    assert note.startswith(f"{paths[1]} and 3 more are compressed")


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("left", [5, 15, 60, -8, -1])
@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_compressed_file_that_is_cut_short_is_refused(write, compress, left, ranks):
    content = compress(b"a,y\n" + b"".join(b"%d,u\n" % row for row in range(5000)))
    path = write(content[:left], "table.csv.gz")
    with pytest.raises(InputError, match=r"table\.csv\.gz: is cut short or damaged: .*ends too early"):
        read(path, format="csv", label="y", ranks=ranks)


def test_a_damaged_compressed_file_is_refused(write):
    content = bytearray(gzip.compress(b"a,y\n" + b"".join(b"%d,u\n" % row for row in range(5000))))
    content[len(content) // 2] ^= 1
    with pytest.raises(InputError, match=r"table\.csv: is cut short or damaged"):
        read(write(bytes(content)), format="csv", label="y")


@pytest.mark.parametrize("n_files", [1, 3])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_rank_reads_its_share_of_the_bytes_once(write, monkeypatch, ranks, n_files):
    counts = {}

    def counting(descriptor, n_bytes, offset, really=os.pread):
        data = really(descriptor, n_bytes, offset)
        counts[threading.get_ident()] = counts.get(threading.get_ident(), 0) + len(data)
        return data

    table = b"a,b,y\n" + b"".join(b"%09d,%09d,u\n" % (row, row) for row in range(90_000))
    paths = [write(table, f"{number}.csv") for number in range(n_files)]
    monkeypatch.setattr(record_scan.os, "pread", counting)
    monkeypatch.setattr(record_scan, "SCAN_BYTES", 1 << 18)
    read(*paths, label="y", ranks=ranks)
    share = n_files * len(table) / ranks
    assert len(counts) == ranks
    assert max(counts.values()) <= 1.15 * share
    assert sum(counts.values()) >= n_files * len(table)


def test_a_signal_while_text_is_parsed_is_left_to_the_handler(write):
    """pyarrow takes signals over and raises ArrowCancelled, unless it is told not to."""
    path = write("a,b,c,y\n" + "1.25,2.5,3.75,u\n" * 400_000)
    source = opened([path], 1, label="y")
    received, done = [], threading.Event()

    def send():
        while not done.wait(0.002):
            os.kill(os.getpid(), signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert source.read(0).features.shape == (400_000, 3)
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGTERM, previous)
    assert received


# Random tables


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("csv")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
awkward = st.text(st.sampled_from(',"\n\r é1'), min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70) | st.just("")


@st.composite
def tables(draw):
    """Return the bytes of a table's parts, its features, its labels and its categories."""
    width = draw(st.integers(1, 3))
    words = texts | awkward | st.sampled_from(sorted(NULL_TEXTS))
    labels = words.filter(lambda text: text not in NULL_TEXTS)
    row = st.tuples(st.lists(numbers, min_size=width, max_size=width), labels, words)
    parts = draw(st.lists(st.lists(row, max_size=5), min_size=1, max_size=4))
    separator = draw(st.sampled_from(",;\t|"))
    contents = []
    for rows in parts:
        end = draw(st.sampled_from(["\n", "\r\n"]))
        quoting = draw(st.sampled_from([csv.QUOTE_NONNUMERIC, csv.QUOTE_ALL]))
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
        writer.writerow([*(f"f{column}" for column in range(width)), "the label", "kind"])
        for features, label, kind in rows:
            text.write(end * draw(st.integers(0, 2)))
            writer.writerow([*features, label, kind])
        content = text.getvalue()
        if draw(st.booleans()):
            content = content.removesuffix(end)
        content = content.encode()
        if draw(st.booleans()):
            content = b"\xef\xbb\xbf" + content
        contents.append(draw(st.sampled_from([bytes, bytes, gzip.compress, zstd]))(content))
        if draw(st.booleans()):
            contents.append(b"")
    rows = [row for part in parts for row in part]
    features = np.array([[np.nan if cell == "" else cell for cell in row[0]] for row in rows], dtype=float)
    kinds = [None if row[2] in NULL_TEXTS else row[2] for row in rows]
    return contents, features.reshape(len(rows), width), [row[1] for row in rows], kinds


@settings(quick, max_examples=120)
@given(tables(), st.sampled_from(PARTS), st.sampled_from([None, 1, 2, 3, 7, 20]), st.sampled_from([3, 16, 1 << 24]))
def test_what_the_csv_module_writes_comes_back(scratch, table, ranks, shards, scan_bytes):
    contents, features, labels, kinds = table
    paths = [scratch / f"{number}.csv" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_scan, "SCAN_BYTES", scan_bytes)
        found = read(*paths, format="csv", label="the label", one_hot=("kind",), ranks=ranks, shards=shards)
    assert_same(found, (tuple(f"f{column}" for column in range(features.shape[1])), features, labels))
    assert found.categories == [kinds]


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


def assert_refused_or_right(path, content, ranks, shards):
    path.write_bytes(content)
    try:
        found = read(path, format="csv", label="y", header="yes", separator="comma", ranks=ranks, shards=shards)
    except InputError:
        return
    try:
        expected = by_csv_module(content, "y")
    except (ValueError, IndexError, csv.Error) as error:
        pytest.fail(f"{content!r} was read as {vars(found)}, but is no table: {error}")
    assert_same(found, expected)


@settings(quick, max_examples=150)
@given(damaged(), st.sampled_from([1, 2, 3, 5]), st.sampled_from([None, 1, 2]))
def test_a_damaged_table_is_refused_or_read_right(scratch, content, ranks, shards):
    assert_refused_or_right(scratch / "damaged.csv", content, ranks, shards)


@settings(quick, max_examples=150)
@given(
    st.sampled_from([b"", b"a,y\n", b"\xef\xbb\xbfa,y\r\n"]),
    st.binary(max_size=24) | rubble,
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from([None, 1, 2]),
)
def test_any_bytes_are_refused_or_read_right(scratch, header, content, ranks, shards):
    assert_refused_or_right(scratch / "any.csv", header + content, ranks, shards)


@settings(quick, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 7), st.sampled_from([1, 3]))
def test_a_flipped_bit_in_a_gzip_file_is_refused_or_harmless(scratch, place, bit, ranks):
    table = TABLES["doubled quotes"].encode()
    content = bytearray(gzip.compress(table))
    content[place % len(content)] ^= 1 << bit
    (scratch / "flipped.csv").write_bytes(content)
    try:
        found = read(scratch / "flipped.csv", format="csv", label="y", ranks=ranks)
    except InputError:
        return
    assert_same(found, by_csv_module(table, "y"))
