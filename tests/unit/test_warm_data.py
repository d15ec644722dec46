"""Samples that outlive a crash, and those of ranks that are lost: the same bytes as a cold start makes."""

import errno
import gzip
import itertools
import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from objectives import fields_of
from ranks import on_ranks
from scipy.sparse import csr_array, save_npz

from distsoftmax.cluster.assignment import lost_shards
from distsoftmax.config import DataConfig, ObjectiveConfig
from distsoftmax.data import shards as shards_module
from distsoftmax.data.dataset import load_dataset, take_over
from distsoftmax.data.features import Compact, SparseFeatures
from distsoftmax.data.source import Source
from distsoftmax.errors import InputError
from distsoftmax.objective.softmax_objective import SoftmaxObjective

ROWS, SHARDS = 120, 11
KINDS = [
    "digits",
    "parquet",
    "dense",
    "sparse",
    "uint8",
    "float16",
    "svmlight",
    "gzip",
    "table",
    "fraction",
    "valid",
    "sparse-valid",
]


def write_source(folder, kind, seed=0):
    """Write a source of a kind, and return the options that read it."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((ROWS, 5)).round(3) * (generator.random((ROWS, 5)) < 0.6)
    features[:, 3] = 0.0
    labels = np.arange(ROWS) % 3
    if kind == "digits":
        return {}
    folder.mkdir(exist_ok=True)
    if kind == "parquet":
        columns = {f"f{column}": features[:, column].astype(np.float32) for column in range(5)} | {"y": labels}
        pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=50)
        return {"data": (str(folder / "t.parquet"),), "label": "y"}
    if kind in ("sparse", "sparse-valid", "uint8", "float16"):
        stored = csr_array(features) if "sparse" in kind else (np.abs(features) * 50).astype(kind)
        names = ("X", "V") if kind == "sparse-valid" else ("X",)
        for name in names:
            save_npz(folder / f"{name}.npz", stored) if "sparse" in kind else np.save(folder / f"{name}.npy", stored)
        np.save(folder / "y.npy", labels)
        suffix = "npz" if "sparse" in kind else "npy"
        options = {"data": (str(folder / f"X.{suffix}"),), "labels": (str(folder / "y.npy"),), "center": "auto"}
        if kind == "sparse-valid":
            options |= {"valid": (str(folder / "V.npz"),), "valid_labels": options["labels"], "center": "yes"}
        return options
    if kind == "svmlight":
        for part in range(3):
            rows = range(part * 40, part * 40 + 40)
            lines = [f"{labels[row]} " + " ".join(f"{j + 2}:{features[row, j]}" for j in range(5)) for row in rows]
            (folder / f"{part}.svm").write_text("\n".join(lines) + "\n")
        with (folder / "2.svm").open("a") as file:
            file.write("1 0:2.5 9:1\n")  # the smallest and the largest index are in the last part alone
        return {"data": (str(folder / "*.svm"),)}
    cells = np.where(generator.random((ROWS, 5)) < 0.1, "", features.astype(str)) if kind == "table" else features
    colours = generator.choice(["red", "green", "blue", ""], ROWS)
    lines = [
        f"{','.join(map(str, cells[row]))},{colours[row]},{row % 4 / 4},{'abc'[labels[row]]}" for row in range(ROWS)
    ]
    text = "\n".join(["a,b,c,d,e,colour,w,kind", *lines]) + "\n"
    path = folder / ("t.csv.gz" if kind == "gzip" else "t.csv")
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if kind == "gzip" else text.encode())
    options = {"data": (str(path),), "label": "kind", "features": tuple("abcde"), "dtype": "float64"}
    if kind in ("table", "valid"):
        options |= {"impute": "mean", "one_hot": ("colour",), "weight": "w", "class_weight": "balanced"}
        options |= {"features": (), "dtype": "stored"}
    if kind in ("table", "fraction"):
        options["valid_fraction"] = 0.3
    if kind == "valid":
        valid = folder / "valid.csv"
        valid.write_text(text.replace("blue", "pink"))
        options["valid"] = (str(valid),)
    return options


@pytest.fixture
def origin(tmp_path, request):
    kind = getattr(request, "param", "table")
    return DataConfig(**write_source(tmp_path / "source", kind), shards=SHARDS)


@pytest.fixture
def warm(tmp_path):
    folder = tmp_path / "warm"
    folder.mkdir()
    return folder


def together(outcomes):
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, threading.BrokenBarrierError):
            raise outcome
    return outcomes


def load(config, ranks, warm=None, intercept=True):
    """Return the datasets of so many ranks; `warm` is the folder of all of them, or of each."""
    folders = warm if isinstance(warm, list) else [warm] * ranks
    return together(on_ranks(ranks, lambda rank: load_dataset(config, intercept, rank, warm=folders[rank.rank])))


def takes_over(datasets, config, warm=None):
    return together(on_ranks(len(datasets), lambda rank: take_over(datasets[rank.rank], config, rank, warm=warm)))


def arrays_of(samples):
    features = samples.features
    if isinstance(features, SparseFeatures):
        matrix = features.matrix
        assert matrix.shape == (len(samples), features.columns.size)
        arrays = [features.columns, matrix.data, matrix.indices, matrix.indptr]
    elif isinstance(features, Compact):
        arrays = [features.stored, features.mean, features.inverse]
        assert features.dtype in (np.float32, np.float64)
    else:
        arrays = [features]
    arrays += [samples.classes, samples.weights]
    return [None if array is None else (array.dtype.name, array.shape, array.tobytes()) for array in arrays]


def shards_of(datasets, portion):
    """All shards of all ranks, each held once, and in order on each rank."""
    found = {}
    for dataset in datasets:
        own = {samples.shard: arrays_of(samples) for samples in getattr(dataset, portion)}
        assert list(own) == sorted(own)
        assert not found.keys() & own.keys()
        found |= own
    return dict(sorted(found.items()))


def assert_same(found, expected, *, notes=True):
    for portion in ("training", "held_out"):
        assert shards_of(found, portion) == shards_of(expected, portion)
    for dataset in found:
        for name, value in fields_of(expected[0]).items():
            if name.split(".")[0] not in ("stores", *(() if notes else ("notes",))):
                own = fields_of(dataset)[name]
                if isinstance(value, np.ndarray):
                    assert (own.dtype, own.shape, own.tobytes()) == (value.dtype, value.shape, value.tobytes()), name
                else:
                    assert (type(own), own) == (type(value), value), name
    assert sum(dataset.bytes_held for dataset in found) == sum(dataset.bytes_held for dataset in expected)
    assert {dataset.held_out_digest for dataset in found} == {expected[0].held_out_digest}


@pytest.fixture
def readings(monkeypatch):
    """What is opened and read from here on: the number of sources, and the shards of each rank."""
    seen = SimpleNamespace(opened=0, read=[])
    open_source, read = shards_module.open_source, Source.read

    def opened(*arguments):
        seen.opened += 1
        return open_source(*arguments)

    def reads(source, shard):
        seen.read.append(shard)
        return read(source, shard)

    monkeypatch.setattr(shards_module, "open_source", opened)
    monkeypatch.setattr(Source, "read", reads)
    return seen


def shard_files(folder):
    return sorted(folder.glob("*.shard"))


@pytest.mark.parametrize("origin", KINDS, indirect=True)
def test_a_warm_start_opens_no_file_and_gives_what_a_cold_one_does(origin, warm, readings):
    cold = load(origin, 2)
    assert_same(load(origin, 2, warm), cold)
    readings.opened, readings.read = 0, []
    for ranks in (1, 2, 3, 13):
        assert_same(load(origin, ranks, warm), cold)
    assert (readings.opened, readings.read) == (0, [])


@pytest.mark.parametrize("origin", ["sparse-valid"], indirect=True)
def test_samples_without_an_intercept_are_other_ones(origin, warm, readings):
    config = DataConfig(**{**fields_of(origin), "center": "auto"})
    load(config, 2, warm)
    readings.opened = 0
    assert_same(load(config, 2, warm, intercept=False), load(config, 2, intercept=False))
    assert readings.opened > 0


@pytest.mark.parametrize("memory", ["40KiB", "1500"])
@pytest.mark.parametrize("origin", ["table", "valid"], indirect=True)
def test_with_a_memory_bound_the_rest_lies_in_the_same_files(origin, warm, memory, readings):
    config = DataConfig(**{**fields_of(origin), "memory": memory, "shards": 40})
    cold = load(config, 2)
    load(config, 2, warm)
    readings.opened = 0
    found = load(config, 2, warm)
    for portion in ("training", "held_out"):
        assert shards_of(found, portion) == shards_of(cold, portion)
    assert readings.opened == 0
    assert (found[0].bytes_spooled > 0) == (cold[0].bytes_spooled > 0)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "missing": Path.unlink,
    "a link": lambda path: (path.rename(path.with_name("elsewhere")), path.symlink_to(path.with_name("elsewhere"))),
    "a length beyond the file": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
    "of another shard": lambda path: shutil.copy(path.with_name(path.name.replace("-4.shard", "-5.shard")), path),
    "of another raw shard": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("origin", ["valid"], indirect=True)
def test_a_damaged_file_costs_its_own_shard_and_is_made_again(origin, warm, readings, damage, monkeypatch):
    cold = load(origin, 2)  # not mapped from what is damaged
    load(origin, 2, warm)
    for kind in ("training", "held-out"):
        (path,) = warm.glob(f"*-{kind}-4.shard")
        if DAMAGES[damage]:
            DAMAGES[damage](path)
        else:
            path.write_bytes(path.read_bytes().replace(b'"digest": "', b'"digest": "1'))
    readings.read = []
    assert_same(load(origin, 3, warm), cold)
    assert readings.read == [4, 4]
    assert_same(load(origin, 3, warm), cold)
    assert readings.read == [4, 4]


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing", "a link", "a length beyond the file"])
def test_without_the_record_all_is_read(origin, warm, readings, damage):
    cold = load(origin, 2)
    load(origin, 2, warm)
    (record,) = warm.glob("*.record")
    DAMAGES[damage](record)
    readings.read = []
    assert_same(load(origin, 2, warm), cold)
    assert len(readings.read) == SHARDS
    assert_same(load(origin, 2, warm), cold)
    assert len(readings.read) == SHARDS


@pytest.mark.parametrize("origin", ["valid"], indirect=True)
def test_a_crash_while_files_are_written_leaves_nothing_that_is_believed(origin, warm, drawn, monkeypatch):
    cold, replace = load(origin, 1), os.replace
    n_files = 2 * SHARDS + 1

    class Crash(BaseException):
        pass

    for n_written in drawn(range(n_files), 4):
        shutil.rmtree(warm)
        warm.mkdir()
        counter = itertools.count()

        def dies(temporary, path, counter=counter, n_written=n_written):
            if next(counter) == n_written:
                os.truncate(temporary, os.path.getsize(temporary) // 2)
                raise Crash
            replace(temporary, path)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", dies)
            patched.setattr(threading, "excepthook", lambda _: None)
            assert on_ranks(1, lambda rank: load_dataset(origin, True, rank, warm=warm)) == [None]
        assert len(list(warm.glob(".warm-*"))) == 1
        assert len(shard_files(warm)) == min(n_written, 2 * SHARDS)
        assert_same(load(origin, 2, warm), cold)
        assert not list(warm.glob(".warm-*"))
        assert len(shard_files(warm)) == 2 * SHARDS


def test_a_node_without_files_reads_its_own_shards_alone(origin, tmp_path, readings):
    nodes = [tmp_path / f"node{number}" for number in range(3)]
    for folder in nodes:
        folder.mkdir()
    cold = load(origin, 3, nodes)
    assert [len(shard_files(folder)) for folder in nodes] == [3, 4, 4]
    shutil.rmtree(nodes[1])
    nodes[1].mkdir()
    readings.read = []
    assert_same(load(origin, 3, nodes), cold)
    assert sorted(readings.read) == [3, 4, 5, 6]
    assert_same(load(origin, 3, nodes), cold)
    assert len(readings.read) == 4
    assert_same(load(origin, 3, [nodes[0], None, nodes[2]]), cold)
    assert len(readings.read) == 8


@pytest.mark.parametrize("change", ["content", "time", "file", "option", "part"])
def test_another_source_is_read_and_what_was_kept_of_the_old_one_removed(tmp_path, warm, change):
    folder = tmp_path / "source"
    options = {**write_source(folder, "fraction"), "data": (str(folder / "*.csv"),)}
    load(DataConfig(**options, shards=SHARDS), 2, warm)
    before, path = shard_files(warm), folder / "t.csv"
    status = path.stat()
    if change == "content":
        write_source(folder, "fraction", seed=1)
    elif change == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "file":
        shutil.copy2(path, folder / "copy")
        (folder / "copy").rename(path)
    elif change == "option":
        options["seed"] = 5
    else:
        shutil.copy2(path, folder / "u.csv")
    config = DataConfig(**options, shards=SHARDS)
    found = load(config, 2, warm)
    assert_same(found, load(config, 2))
    assert len(shard_files(warm)) == SHARDS
    if change not in ("time", "file"):
        assert not set(before) & set(shard_files(warm))
    assert len(list(warm.glob("*.record"))) == 1


def test_a_source_that_has_changed_in_secret_is_read_anew(tmp_path, warm):
    folder = tmp_path / "source"
    config = DataConfig(**write_source(folder, "dense"), shards=SHARDS)
    load(config, 2, warm)
    path = folder / "t.csv"
    status, text = path.stat(), path.read_text()
    with path.open("r+") as file:
        file.write(text.replace("1", "2"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    shard_files(warm)[3].unlink()
    found = load(config, 2, warm)
    assert_same(found, load(config, 2))


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("origin", ["table", "valid"], indirect=True)
@pytest.mark.parametrize("trouble", ["little room", "full", "full later", "closed", "nowhere"])
def test_scratch_that_cannot_be_written_is_a_note_and_no_error(origin, warm, monkeypatch, trouble):
    cold = load(origin, 2)
    with monkeypatch.context() as patched:
        words = {"little room": r"has 0 MiB free, and 1 MiB are needed", "nowhere": "No such file"}.get(
            trouble, "No space left"
        )
        if trouble == "little room":
            patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
        elif trouble == "full":
            patched.setattr(tempfile, "mkstemp", full)
        elif trouble == "full later":
            counter, replace = itertools.count(), os.replace
            patched.setattr(os, "replace", lambda *names: replace(*names) if next(counter) < 4 else full())
        elif trouble == "closed":
            patched.setattr(os, "replace", full)
        else:
            warm.rmdir()
            patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
        found = load(origin, 2, warm)
    assert_same(found, cold, notes=False)
    (note,) = found[0].notes[len(cold[0].notes) :]
    assert words in note, note
    assert str(warm) in note
    assert not warm.exists() or not list(warm.glob(".warm-*"))


def test_no_room_for_what_memory_has_no_room_for_is_no_worse_with_warm(origin, warm, monkeypatch):
    """What cannot be kept for a restart goes where it goes without --warm."""
    config = DataConfig(**{**fields_of(origin), "memory": "1500", "shards": 40})
    cold = load(config, 2)
    monkeypatch.setattr(tempfile, "mkstemp", full)
    found = load(config, 2, warm)
    assert_same(found, cold, notes=False)
    assert found[0].bytes_spooled == cold[0].bytes_spooled > 0


SURVIVORS = [(3, [0, 2]), (3, [1]), (4, [0, 3]), (5, [1, 2, 4]), (14, [0, 5, 9])]


@pytest.mark.parametrize(("ranks", "survivors"), SURVIVORS, ids=str)
@pytest.mark.parametrize("origin", KINDS, indirect=True)
@pytest.mark.sweep(14)
def test_survivors_take_over_what_is_lost_and_read_nothing_else(origin, ranks, survivors, readings):
    cold = load(origin, ranks)
    left = [cold[rank] for rank in survivors]
    lost = sorted(samples.shard for rank in range(ranks) if rank not in survivors for samples in cold[rank].training)
    before = [shards_of([dataset], "training") for dataset in left]
    readings.read = []
    for _ in range(2):  # the first may be in vain
        taken = takes_over(left, origin)
        assert_same(taken, cold)
        assert before == [shards_of([dataset], "training") for dataset in left]
    per_source = 4 if origin.valid else 2
    assert sorted(readings.read) == sorted(lost * per_source)
    counts = [len(list(dataset.training)) for dataset in taken]
    assert max(counts) - min(counts) <= 1 or max(counts) == max(len(list(dataset.training)) for dataset in left)


@pytest.mark.parametrize("origin", ["valid", "svmlight"], indirect=True)
def test_one_rank_after_the_other_is_lost_down_to_one(origin, warm, readings):
    cold = datasets = load(origin, 5, warm)
    readings.opened, readings.read = 0, []
    while len(datasets) > 1:
        datasets = takes_over(datasets[1:], origin, warm)
        assert_same(datasets, cold)
    assert (readings.opened, readings.read) == (0, [])


def test_what_is_taken_over_is_kept_for_a_restart(origin, tmp_path, readings):
    nodes = [tmp_path / "node0", tmp_path / "node1"]
    for folder in nodes:
        folder.mkdir()
    cold = load(origin, 2, nodes)
    assert_same(takes_over(cold[:1], origin, nodes[0]), cold)
    readings.read = []
    assert_same(load(origin, 1, nodes[0]), cold)
    assert readings.read == []


def test_what_is_taken_over_stays_within_the_memory_bound(origin, tmp_path):
    config = DataConfig(**{**fields_of(origin), "memory": "2500", "shards": 40, "scratch": str(tmp_path)})
    cold = load(config, 4)
    (taken,) = takes_over(cold[:1], config)
    assert taken.bytes_held <= 2500
    assert taken.bytes_spooled > 0
    assert shards_of([taken], "training") == shards_of(cold, "training")


def test_a_source_that_has_changed_since_it_was_read_is_not_taken_over(tmp_path):
    folder = tmp_path / "source"
    config = DataConfig(**write_source(folder, "dense"), shards=SHARDS)
    cold = load(config, 3)
    write_source(folder, "dense", seed=1)
    with pytest.raises(InputError, match=r"t.csv: does not hold any more what this run has read.*put it back"):
        takes_over(cold[:2], config)
    path = folder / "t.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:50]) + "\n")
    with pytest.raises(InputError, match=r"t.csv: does not hold any more"):
        takes_over(cold[:2], config)


def test_the_objective_has_the_same_bits_after_a_take_over(origin):
    penalty, parameters = ObjectiveConfig(l2=1e-3), np.random.default_rng(0).standard_normal((3, 9))

    def evaluated(datasets):
        def work(rank):
            objective = SoftmaxObjective(datasets[rank.rank], penalty, rank)
            evaluation = objective(parameters)
            batch = objective.mini_batches(16).gradient(parameters, 0, 1)
            scores = objective.cross_entropy.scores(parameters, held_out=True)
            return evaluation.value, evaluation.gradient.tobytes(), batch.gradient.tobytes(), scores

        return together(on_ranks(len(datasets), work))

    cold = load(origin, 4)
    taken = takes_over([cold[0], cold[1], cold[3]], origin)
    assert [samples.shard for samples in taken[0].training] == [0, 1, 5, 6]
    assert evaluated(taken)[0] == evaluated(load(origin, 1))[0]


@pytest.mark.parametrize("n_shards", [1, 2, 7, 50])
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5, 60])
def test_lost_shards_are_dealt_out_evenly_each_once(n_shards, n_ranks):
    generator = np.random.default_rng(n_shards * n_ranks)
    for _ in range(50):
        owner = generator.integers(0, 2 * n_ranks, n_shards)  # those from n_ranks on are lost
        held = [np.flatnonzero(owner == rank).tolist() for rank in range(n_ranks)]
        taken = lost_shards(held, n_shards)
        lost = np.flatnonzero(owner >= n_ranks).tolist()
        assert [number for of_rank in taken for number in of_rank] == lost  # so each has consecutive ones of them
        counts = [len(own) + len(more) for own, more in zip(held, taken, strict=True)]
        takers = [count for count, more in zip(counts, taken, strict=True) if more]
        assert not takers or max(takers) - min(counts) <= 1
