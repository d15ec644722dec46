"""One suite for every reader: the same table gives the same bits, whatever the format, the parts and the ranks."""

import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
from ranks import on_ranks, read

from distsoftmax.cluster.assignment import owned_shards
from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig, ObjectiveConfig
from distsoftmax.data.dataset import load_dataset
from distsoftmax.data.open_source import open_source
from distsoftmax.data.parts import FileState, find_parts
from distsoftmax.data.shards import default_n_shards, shard_bounds
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.solvers.accelerated_gradient import AcceleratedGradient

RANKS = [1, 2, 3, 5]
CUTS = {"one file": tables.ONE, "seven parts": tables.SEVEN}


def needs(name):
    if name == "hdf5":
        pytest.importorskip("h5py", reason="h5py is not installed")


def train(paths, options, rank, steps=3):
    """Return the bits of a model after a few steps."""
    dataset = load_dataset(DataConfig(data=paths, dtype="float64", **options), True, rank)
    objective = SoftmaxObjective(dataset, ObjectiveConfig(l2=1e-3), rank)
    solver = AcceleratedGradient()
    state = solver.init(objective, np.zeros(objective.shape))
    for _ in range(steps):
        state = solver.step(objective, state)
    return state.parameters.tobytes(), state.value


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The bits of the model from one file on one rank: of dense features, and of sparse ones."""
    folder = tmp_path_factory.mktemp("expected")
    found = {}
    for kind, name in (("dense", "npz"), ("sparse", "csr npz")):
        paths, options = tables.write(folder / kind, name, tables.ONE)
        (found[kind],) = on_ranks(1, lambda rank, paths=paths, options=options: train(paths, options, rank))
    return found


@pytest.mark.sweep(24)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("name", tables.FORMATS)
def test_the_same_table_gives_the_same_bits_in_every_format(tmp_path, expected, name, cuts, ranks):
    needs(name)
    paths, options = tables.write(tmp_path, name, CUTS[cuts])
    outcomes = on_ranks(ranks, lambda rank: train(paths, options, rank))
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    assert set(outcomes) == {expected["dense" if name in tables.DENSE else "sparse"]}


@pytest.mark.parametrize("memory", [{}, {"memory": "2500"}], ids=["in memory", "streamed"])
@pytest.mark.parametrize("ranks", RANKS)
def test_integers_missing_in_one_row_group_give_the_same_bits_as_floats(tmp_path, ranks, memory):
    """Of Parquet a shard has its own type: here the first is float64, the others are int16."""
    cells = np.random.default_rng(0).integers(-200, 200, (90, 3))
    missing = np.zeros(cells.shape, dtype=bool)
    missing[4, 1] = True
    labels = np.arange(90) % 4
    columns = {f"c{column}": pa.array(cells[:, column], pa.int16(), mask=missing[:, column]) for column in range(3)}
    pq.write_table(pa.table({**columns, "y": labels}), tmp_path / "t.parquet", row_group_size=20)
    np.savez(tmp_path / "t.npz", X=np.where(missing, np.nan, cells), y=labels)
    options = {"impute": "mean", "shards": 30, **memory}
    outcomes = on_ranks(ranks, lambda rank: train((str(tmp_path / "t.npz"),), options, rank))
    outcomes += on_ranks(ranks, lambda rank: train((str(tmp_path / "t.parquet"),), {**options, "label": "y"}, rank))
    assert len(set(outcomes)) == 1, outcomes


@pytest.mark.parametrize("name", tables.FORMATS)
def test_rows_come_in_the_order_of_the_parts(tmp_path, name):
    needs(name)
    paths, options = tables.write_source(tmp_path, name, tables.SEVEN)
    table = read(*paths, ranks=3, **options)
    features = table.features if name in tables.DENSE else table.features.toarray()
    np.testing.assert_array_equal(features, tables.FEATURES)
    assert table.labels == [str(label) for label in tables.CLASSES]
    for row, part, place in ((0, 0, 1), (1, 1, 1), (49, 1, 49), (50, 3, 1), (64, 4, 1), (210, 6, 31)):
        assert table.source.locate(row) == (paths[part], place)


@pytest.mark.parametrize("name", tables.FORMATS)
def test_a_folder_and_a_glob_name_the_same_parts(tmp_path, name):
    needs(name)
    paths, options = tables.write_source(tmp_path, name, tables.SEVEN)
    folder = tmp_path / "parts"
    (folder / "_SUCCESS").write_text("")
    (folder / ".part-0.crc").write_text("x")
    if not options["labels_paths"]:  # a folder within would be a part that is none
        assert read(folder, **options).labels == read(*paths, **options).labels
    assert read(folder / "part-*", **options).labels == read(*paths, **options).labels


@pytest.mark.parametrize("name", tables.FORMATS)
@pytest.mark.parametrize("change", ["grown", "cut short", "gone"])
def test_a_part_that_changes_between_scan_and_read_is_refused(tmp_path, name, change):
    needs(name)
    paths, options = tables.write_source(tmp_path, name, tables.SEVEN)

    def spoil():
        with open(paths[5], "r+b") as file:
            if change == "grown":
                file.seek(0, 2)
                file.write(b"1,2,3\n")
            if change == "cut short":
                file.truncate(20)
        if change == "gone":
            (tmp_path / "parts" / paths[5].rpartition("/")[2]).unlink()

    def work(rank):
        source = open_source(SourceSpec(paths=paths, **options), rank)
        source.scan(rank)
        source.divide(shard_bounds(source.n_rows, 9), [owned_shards(0, 1, 9)], rank)
        for shard in range(9):
            source.read(shard)
        spoil()
        for shard in range(9):
            source.read(shard)

    (outcome,) = on_ranks(1, work)
    if name in ("csv gzip", "csv zstd", "svmlight gzip") and outcome is None:
        return  # the text is kept since it was decompressed: nothing is read again
    assert isinstance(outcome, InputError), outcome
    assert "part-5" in str(outcome)


@pytest.mark.parametrize(("one", "other"), [("csv", "parquet"), ("npz", "csv"), ("svmlight", "csv"), ("npy", "npz")])
def test_parts_of_different_formats_are_refused(tmp_path, one, other):
    first, _ = tables.write(tmp_path / "one", one, tables.ONE)
    second, _ = tables.write(tmp_path / "other", other, tables.ONE)
    with pytest.raises(InputError, match=r"part-0.* is in the \w+ format, but .*part-0"):
        read(*first, *second, ranks=2)


@pytest.mark.parametrize("name", tables.FORMATS)
def test_the_format_is_found_without_the_ending(tmp_path, name):
    needs(name)
    paths, options = tables.write_source(tmp_path, name, tables.ONE)
    bare = tmp_path / "data"
    bare.write_bytes((tmp_path / "parts" / paths[0].rpartition("/")[2]).read_bytes())
    if name == "tsv":
        options["separator"] = "tab"
    assert read(bare, **options).labels == [str(label) for label in tables.CLASSES]


def test_places_without_parts_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "nested" / "deeper").mkdir(parents=True)
    (tmp_path / "zero.csv").write_text("")
    for word, message in {
        "empty": "is a folder with no parts in it",
        "*.parquet": "matches no file",
        "none.csv": "no such file",
        "nested": "is a folder within a folder",
        "zero.csv": "is empty",
    }.items():
        with pytest.raises(InputError, match=message):
            read(tmp_path / word, ranks=3)


@pytest.mark.parametrize("file_format", ["auto", "csv", "svmlight", "parquet", "npy"])
def test_what_is_no_regular_file_is_refused_and_hangs_nobody(tmp_path, file_format):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "part-0.csv")
    for path in (tmp_path / "pipe.csv", tmp_path / "folder", Path("/dev/null")):
        with pytest.raises(InputError, match="is a pipe or a device and no regular file.*; write what it gives to a"):
            read(path, format=file_format, ranks=2)
    ends = os.pipe()
    try:
        with pytest.raises(InputError, match=f"/dev/fd/{ends[0]}: is a pipe"):
            read(f"/dev/fd/{ends[0]}", format=file_format)
    finally:
        os.close(ends[0])
        os.close(ends[1])


@pytest.mark.parametrize("name", tables.FORMATS)
def test_a_file_that_its_reader_cannot_see_is_refused_by_all(tmp_path, name, monkeypatch):
    needs(name)
    paths, options = tables.write(tmp_path, name, tables.SEVEN)
    require_unchanged = FileState.require_unchanged

    def unseen(state):
        if threading.current_thread().name == "rank 1" and "part-6" in state.path:
            raise InputError(f"{state.path}: cannot be read from here")
        require_unchanged(state)

    monkeypatch.setattr(FileState, "require_unchanged", unseen)
    outcomes = on_ranks(2, lambda rank: train(paths, options, rank))
    assert all(isinstance(outcome, InputError) and "part-6" in str(outcome) for outcome in outcomes), outcomes
    assert all(outcome.agreed for outcome in outcomes)


def test_a_file_that_only_some_ranks_can_see_is_refused_by_all(tmp_path, monkeypatch):
    paths, _ = tables.write(tmp_path, "csv", tables.SEVEN)
    state_of = FileState.of

    def of(path):
        if threading.current_thread().name == "rank 2" and "part-5" in path:
            raise InputError(f"{path}: no such file")
        return state_of(path)

    monkeypatch.setattr(FileState, "of", of)
    outcomes = on_ranks(3, lambda rank: find_parts(paths, rank))
    assert all(isinstance(outcome, InputError) and "part-5" in str(outcome) for outcome in outcomes)
    assert all(outcome.agreed for outcome in outcomes)


@pytest.mark.parametrize("name", tables.FORMATS)
def test_every_format_in_scratch_gives_the_same_bits(tmp_path, name):
    needs(name)
    paths, options = tables.write(tmp_path, name, tables.SEVEN)
    whole, spooled = (
        on_ranks(2, lambda rank, bound=bound: train(paths, {**options, "shards": 30, **bound}, rank))
        for bound in ({}, {"memory": "2500", "scratch": str(tmp_path)})
    )
    assert not any(isinstance(outcome, Exception) for outcome in whole + spooled), spooled
    assert set(spooled) == set(whole)


def test_rows_beyond_two_to_the_31_are_read_and_placed(tmp_path):
    """Both files are holes, which take no room on the disk, but for their last bytes."""
    n_rows = 2**31 + 1000
    for name, shape, last in (("X.npy", (n_rows, 1), b"\x07"), ("y.npy", (n_rows,), b"\x01")):
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with (tmp_path / name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.seek(n_rows - 1, 1)
            file.write(last)
    source = open_source(SourceSpec(paths=(str(tmp_path / "X.npy"),), labels_paths=(str(tmp_path / "y.npy"),)), Alone())
    source.scan(Alone())
    assert source.n_rows == n_rows
    n_shards = default_n_shards(n_rows)
    source.divide(shard_bounds(n_rows, n_shards), [range(n_shards)], Alone())
    rows = source.read(n_shards - 1)
    assert rows.features[-1, 0] == 7
    assert rows.features[:-1].max() == 0
    assert rows.labels.texts == ("0", "1")
    assert source.locate(n_rows - 1) == (str(tmp_path / "X.npy"), n_rows)
