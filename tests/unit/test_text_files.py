import gzip
from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import PARTS, on_ranks

from distsoftmax.cluster.assignment import owned_shards
from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.text import kept_text
from distsoftmax.data.readers.text import records as record_scan
from distsoftmax.data.readers.text.files import TextFiles
from distsoftmax.data.shards import shard_bounds
from distsoftmax.errors import InputError

quick = settings(deadline=None, database=None, max_examples=120)
PLAIN = {False: ["1 1:2", " 3", "\t4 # c", "5", "\r6"], True: ["1,2", " ", "#", '"a"', '""', '"b""c"']}
BLANK = {False: ["", " ", "\r", "#", "# 1 1:2", " \t# c", "\v\f\r"], True: ["", "\r"]}


def lines_of(quoted):
    kinds = [st.sampled_from(PLAIN[quoted]), st.sampled_from(BLANK[quoted])]
    if quoted:
        kinds.append(st.text(st.sampled_from("\n\r1,"), max_size=6).map(lambda text: f'1,"{text}"'))
    return st.lists(st.one_of(kinds), max_size=12)


def records_of(lines, quoted):
    return [line for line in lines if line not in BLANK[quoted]]


@st.composite
def sources(draw):
    quoted = draw(st.booleans())
    parts, contents = draw(st.lists(lines_of(quoted), min_size=1, max_size=4)), []
    for number, lines in enumerate(parts):
        content = "\n".join(lines).encode()
        if not quoted or not lines or lines[-1] != "\r":  # a return alone at the end is no blank line
            content += draw(st.sampled_from([b"", b"\n"]))
        else:
            content += b"\n"
        packed = draw(st.sampled_from([bytes, bytes, gzip.compress, zstd]))
        contents.append((b"\xef\xbb\xbf" if (number + len(lines)) % 3 == 0 else b"") + content)
        contents[-1] = packed(contents[-1])
    return quoted, [records_of(lines, quoted) for lines in parts], contents


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


def write(folder, contents):
    parts = []
    for number, content in enumerate(contents):
        (folder / f"{number}.txt").write_bytes(content)
        parts.append(FileState.of(str(folder / f"{number}.txt")))
    return tuple(parts)


def divided(parts, quoted, n_shards, rank=None, skip=None):
    rank = rank or Alone()
    files = TextFiles(parts, quoted=quoted)
    files.scan(rank, skip)
    owned = [owned_shards(number, rank.size, n_shards) for number in range(rank.size)]
    files.divide(shard_bounds(int(files.n_records.sum()), n_shards), owned, rank)
    return files, owned[rank.rank]


class Piece(NamedTuple):
    part: int
    first_record: int
    n_records: int
    data: bytes


def texts(files, shard, n_shards):
    """Return what a shard has of each part."""
    first, stop = shard_bounds(files.records.n_rows, n_shards)[shard : shard + 2]
    within = files.records.within(int(first), int(stop))
    return [Piece(part, begin, end - begin, files.text(shard, part)) for part, begin, end in within]


def pieces_on_ranks(parts, quoted, n_shards, n_ranks, orders=("forth",)):
    """Return the files as the first rank knows them, and all shards' pieces as they were taken the last time."""

    def work(rank):
        files, owned = divided(parts, quoted, n_shards, rank)
        taken = {}
        for order in orders:
            for shard in owned if order == "forth" else reversed(owned):
                pieces = texts(files, shard, n_shards)
                assert taken.setdefault(shard, pieces) == pieces
        return files, [taken[shard] for shard in owned]

    outcomes = on_ranks(n_ranks, work)
    for error in outcomes:
        if isinstance(error, Exception):
            raise error
    return outcomes[0][0], [pieces for _, own in outcomes for pieces in own]


def split(data, quoted):
    """Return the records in a piece."""
    lines, line = [], ""
    for part in data.decode().split("\n"):
        line += part
        if quoted and line.count('"') % 2:
            line += "\n"
        else:
            lines.append(line)
            line = ""
    return records_of(lines, quoted)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("text")


@quick
@given(
    sources(),
    st.sampled_from(PARTS),
    st.integers(1, 9),
    st.sampled_from([1, 2, 5, 1 << 20]),
    st.sampled_from([0, 9, 99]),
)
def test_pieces_hold_each_record_once_and_in_order(scratch, source, n_ranks, n_shards, scan_bytes, kept_bytes):
    quoted, expected, contents = source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_scan, "SCAN_BYTES", scan_bytes)
        patch.setattr(record_scan, "READ_BYTES", scan_bytes)
        patch.setattr(kept_text, "KEPT_BYTES", kept_bytes)
        orders = ("forth", "back", "forth")
        files, shards = pieces_on_ranks(write(scratch, contents), quoted, n_shards, n_ranks, orders)
    assert files.n_records.tolist() == [len(records) for records in expected]
    found = [[] for _ in contents]
    for pieces in shards:
        assert [piece.part for piece in pieces] == sorted({piece.part for piece in pieces})
        for piece in pieces:
            data = piece.data.removeprefix(b"\xef\xbb\xbf")
            assert data == piece.data, "the byte order mark is no part of a record"
            records = split(data, quoted)
            assert (piece.first_record, piece.n_records) == (len(found[piece.part]), len(records))
            found[piece.part] += records
    assert found == expected
    sizes = [sum(piece.n_records for piece in pieces) for pieces in shards]
    total = sum(len(records) for records in expected)
    assert sizes == [(shard + 1) * total // n_shards - shard * total // n_shards for shard in range(n_shards)]
    places = [
        (f"{scratch}/{part}.txt", row + 1) for part, records in enumerate(expected) for row in range(len(records))
    ]
    found = [files.records.place(record) for record in range(total)]
    assert [(files.parts[part].path, row + 1) for part, row in found] == places


@pytest.mark.parametrize("n_ranks", PARTS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_what_is_skipped_is_no_record(tmp_path, n_ranks, compress):
    parts = write(tmp_path, [compress(b"head\nfoot\na\nb\n"), compress(b"head"), compress(b"xyzc\nd")])

    def work(rank):
        files, owned = divided(parts, False, 4, rank, skip=[10, 4, 3])
        return [piece.data.strip() for shard in owned for piece in texts(files, shard, 4)]

    assert [record for own in on_ranks(n_ranks, work) for record in own] == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_a_line_may_begin_with_more_blanks_than_are_read_at_once(tmp_path, monkeypatch, n_ranks):
    monkeypatch.setattr(record_scan, "SCAN_BYTES", 16)
    monkeypatch.setattr(record_scan, "READ_BYTES", 8)
    parts = write(tmp_path, [b" " * 100 + b"1\n" + b" " * 99 + b"# 2\n" + b" " * 50 + b"\n3\n" + b"\t" * 77])
    files, shards = pieces_on_ranks(parts, False, 2, n_ranks)
    assert files.n_records.tolist() == [2]
    assert [split(piece.data, False)[0].strip() for (piece,) in shards] == ["1", "3"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd])
def test_the_head_of_a_part_is_its_first_bytes(tmp_path, compress):
    files = TextFiles(write(tmp_path, [b"", compress(b"0123456789")]), quoted=True)
    assert [files.head(1, n_bytes) for n_bytes in (0, 3, 10, 99)] == [b"", b"012", b"0123456789", b"0123456789"]
    assert files.head(0, 99) == b""


@pytest.mark.parametrize("n_ranks", [1, 2, 5])
def test_a_quote_left_open_names_its_part_on_every_rank(tmp_path, n_ranks):
    parts = write(tmp_path, [b'"a"\n', b'"b\nc\n"', b'"d\ne\nf\n', b'"g"\n"'])
    errors = on_ranks(n_ranks, lambda rank: TextFiles(parts, quoted=True).scan(rank))
    assert all(isinstance(error, InputError) and error.agreed for error in errors)
    assert {str(error).partition(": ")[0] for error in errors} == {parts[2].path}
    assert not any(on_ranks(n_ranks, lambda rank: TextFiles(parts, quoted=False).scan(rank)))


@pytest.mark.parametrize("n_ranks", [1, 4])
@pytest.mark.parametrize("content", [gzip.compress(b"abc\n" * 99)[:-9], zstd(b"abc\n" * 99)[:-3]], ids=["gzip", "zstd"])
def test_a_compressed_part_that_ends_too_early_is_refused_on_every_rank(tmp_path, content, n_ranks):
    parts = write(tmp_path, [b"a\n", content, b"b\n"])
    errors = on_ranks(n_ranks, lambda rank: TextFiles(parts, quoted=False).scan(rank))
    assert all(isinstance(error, InputError) and error.agreed for error in errors)
    (message,) = {str(error) for error in errors}
    assert message.startswith(f"{parts[1].path}: is cut short or damaged: ")
    assert message.endswith("the compressed file ends too early")


def test_a_part_that_is_cut_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (part,) = write(tmp_path, [b"abc\n" * 10])
    (tmp_path / "0.txt").write_bytes(b"abc\n" * 5)
    monkeypatch.setattr(FileState, "require_unchanged", lambda state: None)
    with pytest.raises(InputError, match=r"0\.txt: is cut short: it had 40 bytes when it was found"):
        TextFiles((part,), quoted=True).scan(Alone())


def test_a_part_that_cannot_be_opened_is_refused(tmp_path, monkeypatch):
    (part,) = write(tmp_path, [b"abc\n"])
    (tmp_path / "0.txt").unlink()
    monkeypatch.setattr(FileState, "require_unchanged", lambda state: None)
    with pytest.raises(InputError, match=r"0\.txt: cannot be read: No such file"):
        TextFiles((part,), quoted=True).scan(Alone())


def test_the_bytes_of_the_scan_are_let_go_once_every_shard_had_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(record_scan, "SCAN_BYTES", 64)
    files, owned = divided(write(tmp_path, [b"%d\n" % row * 50 for row in range(3)]), False, 10)
    reads = []
    monkeypatch.setattr(TextFiles, "_read_again", lambda self, part, start, stop: reads.append(stop - start) or b"")
    for shard in owned:
        texts(files, shard, 10)
    assert not reads
    assert not any(files._kept._chunks.values())
    texts(files, 4, 10)
    assert sum(reads) == 30


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_compressed_parts_are_told_once(tmp_path, n_ranks):
    parts = write(tmp_path, [b"a\n", gzip.compress(b"b\n"), zstd(b"c\n"), gzip.compress(b"d\n")])
    notes = on_ranks(n_ranks, lambda rank: divided(parts, False, 2, rank)[0].notes)
    expected = f"{parts[1].path} and 2 more are compressed and cannot be divided: one rank reads each whole"
    assert notes == [(expected,)] * n_ranks
    assert divided(parts[:1], False, 1)[0].notes == ()
