"""What a file or a folder made by an enemy can do: nothing but be refused."""

import ast
import functools
import io
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import distsoftmax
from distsoftmax import durable
from distsoftmax.coordinator.checkpoint import load_checkpoint
from distsoftmax.coordinator.lock import FolderLock
from distsoftmax.coordinator.metrics import MetricsFile
from distsoftmax.errors import DamagedFile, InputError, OutputError
from distsoftmax.model import load_model
from distsoftmax.tensor_file import read_tensor_file, tensor_file_content

PACKAGE = Path(distsoftmax.__file__).parent
HUGE = 1 << 60
MOST_MEMORY = 48 << 20  # bytes that looking at a small file may take, libraries that are loaded for it included

# --- no pickle from files, and between ranks for small records alone ---

UNSAFE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch", "pandas"}
# Collective calls that pickle, by the module and the function they stand in, and why what they carry is small.
PICKLED = {
    "cluster/communicator.py": "an error of ours, and the name of a node",
    "cluster/cores.py": "the cores that a rank may use",
    "cluster/first_message.py": "what distinguishes a rank: options, versions, its node",
    "cluster/watchdog.py": "where a rank is reached",
    "cluster/startup.py": "the version and the description of the core",
    "cluster/weights.py": "the name of a node; a number for each rank",
    "coordinator/mirror.py": "the name of a node",
    "coordinator/restoration.py": "the step of a checkpoint",
    "coordinator/rank_0.py": "what rank 0 has found: a path, a few lines of text",
    "coordinator/report.py": "descriptions, sizes, names of nodes",
    "data/cold_start.py": "the name of a node",
    "data/dataset.py": "a truth value; the numbers of the shards that a rank holds",
    "data/open_source.py": "the format of each part",
    "data/parts.py": "the name, size and time of each part",
    "data/remote.py": "the URL, size and version of each part; the name of a node",
    "data/readers/arrays/source.py": "the shape and type of each part",
    "data/readers/csv/source.py": "one record, the numbers of columns, a byte position a part",
    "data/readers/parquet/source.py": "the rows of each row group, the columns' types",
    "data/readers/svmlight/source.py": "three integers; a truth value",
    "data/readers/text/files.py": "a few integers for each part, range and shard",
    "data/rows_of_ranks.py": "the type, the shape and a digest of the names of a rank's rows",
    "data/shards_again.py": "two numbers of shards",
    "data/spool.py": "a size; a truth value",
    "data/sightings.py": "a node and a folder; a line for each word that names a file",
    "data/standardization.py": "the kinds of features, of which there are three",
    "data/survey.py": "names of types; numbers of columns, and sums of such as may number the rows",
    "data/warm_files.py": "names of nodes, sizes, truth values, the state of a file, a token",
    "data/encoding.py": "a count for each text column",
    "estimation/given.py": "the parameters of an estimator, as texts",
    "inspection/census.py": "distinct labels with a row each, categories up to their limit",
    "inspection/tally.py": "one cell, counts, names of types",
    "monitoring/allocation.py": "measures of a rank: its node, cores, numbers",
    "monitoring/reporter.py": "where a rank runs: its node, cores, memory, threads",
    "training/balancing.py": "a number of threads",
    "training/clock.py": "a time",
    "training/memory.py": "the number of a step",
}


@functools.cache
def trees():
    """The syntax tree of each module; not at import time, which every worker pays."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text("utf-8")) for path in paths}


def calls(tree):
    """Yield the name and the node of each call; of a method, the method's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            yield name, node


def test_nothing_that_unpickles_is_imported():
    for module, tree in trees().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & UNSAFE, module


def test_numpy_loads_no_array_that_may_hold_objects():
    for module, tree in trees().items():
        for name, node in calls(tree):
            on = ast.unparse(node.func)
            if on in ("np.load", "numpy.load", "np.fromfile") or name in ("read_array", "loads_pickle"):
                pytest.fail(f"{module}, line {node.lineno}: {on} is not used here; see read_header")
            assert not any(word.arg == "allow_pickle" for word in node.keywords), module
            assert name not in ("eval", "exec", "compile_command", "read_pickle"), f"{module}, line {node.lineno}"
    assert "hasobject" in (PACKAGE / "data/readers/arrays/files.py").read_text()


def test_what_is_pickled_between_ranks_is_small_and_listed():
    callers = {
        module
        for module, tree in trees().items()
        for name, node in calls(tree)
        if name in ("allgather", "broadcast", "of_each_part") and module != "cluster/mpi.py"
    }
    assert callers == set(PICKLED)


def test_mpi_pickles_in_two_calls_alone():
    """mpi4py's names in small letters pickle what they send; those with a capital send a buffer."""
    pickling = {"send", "recv", "isend", "irecv", "ssend", "bsend", "sendrecv", "bcast", "gather", "allgather"}
    pickling |= {"scatter", "alltoall", "reduce", "allreduce", "scan", "exscan", "neighbor_allgather"}
    found = {name for name, node in calls(trees()["cluster/mpi.py"]) if name in pickling}
    assert found == {"allgather", "bcast"}


# --- sizes that a file claims ---


def npy(shape, dtype="<f8", version=1, length=None):
    """A .npy file that claims a shape, without its array; or a length of its header."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + header


def archive(method, content, file_size=None):
    """A .npz archive of X and y, whose central directory claims sizes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as members:
        for name in ("X.npy", "y.npy"):
            members.writestr(name, content[name])
        for info in members.filelist:
            if file_size is not None:
                info.file_size = file_size[info.filename]
    return file.getvalue()


def claimed_archive(method):
    content = {"X.npy": npy((HUGE >> 3, 1)), "y.npy": npy((HUGE >> 3,))}
    return archive(method, content, {name: len(header) + HUGE for name, header in content.items()})


def bomb():
    """An archive of 64 KB whose header has 64 MB."""
    header = npy((1, 1), version=2, length=64 << 20) + b" " * (64 << 20)
    return archive(zipfile.ZIP_DEFLATED, {"X.npy": header, "y.npy": npy((1,))})


def claimed_parquet():
    """A table of seven million equal rows, each count of which says 2^58."""
    n_rows, file = 7_654_321, io.BytesIO()
    column = pa.array(np.zeros(n_rows, dtype=np.int8))
    parquet.write_table(pa.table({"x": column, "y": column}), file, row_group_size=n_rows)
    content = file.getvalue()
    claimed = content[:-8].replace(varint(n_rows), varint(1 << 58))
    footer = int.from_bytes(content[-8:-4], "little") + len(claimed) - len(content) + 8
    assert len(claimed) > len(content) - 8
    return claimed + struct.pack("<I", footer) + b"PAR1"


def varint(value):
    """An integer as Thrift's compact protocol writes it."""
    value, content = 2 * value, b""
    while value >= 128:
        value, content = value >> 7, content + bytes([value & 127 | 128])
    return content + bytes([value])


def claimed_hdf5():
    """A dataset that lies in one piece, and claims 2^55 rows."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as members:
        members["X"], members["y"] = np.zeros((7919, 13)), np.zeros(7919)
    content = file.getvalue()
    for width in (13 * 8, 8, 1):
        content = content.replace(struct.pack("<Q", 7919 * width), struct.pack("<Q", (1 << 55) * width))
    return content


CRAFTED = {
    "npy, rows": ("X.npy", lambda: npy((HUGE, 1)), ("--labels", "y.npy")),
    "npy, overflow": ("X.npy", lambda: npy((HUGE, HUGE)), ("--labels", "y.npy")),
    "npy, no rows of many columns": ("X.npy", lambda: npy((0, HUGE)), ("--labels", "y.npy")),
    "npy, header": ("X.npy", lambda: npy((1, 1), version=2, length=(1 << 32) - 1), ("--labels", "y.npy")),
    "npz, stored": ("d.npz", lambda: claimed_archive(zipfile.ZIP_STORED), ()),
    "npz, deflated": ("d.npz", lambda: claimed_archive(zipfile.ZIP_DEFLATED), ()),
    "npz, lzma": ("d.npz", lambda: claimed_archive(zipfile.ZIP_LZMA), ()),
    "npz, header": ("d.npz", bomb, ()),
    "parquet": ("d.parquet", claimed_parquet, ("--label", "y")),
    "parquet, footer": ("d.parquet", lambda: b"PAR1" + b"\xff" * 8 + b"PAR1", ("--label", "y")),
    "hdf5": ("d.h5", claimed_hdf5, ()),
    "svmlight": ("d.svm", lambda: b"1 1152921504606846976:1\n0 1:1\n", ()),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_file_that_claims_more_than_it_holds_is_refused_before_memory_is_taken(job, tmp_path, name):
    file, content, words = CRAFTED[name]
    np.save(tmp_path / "y.npy", np.zeros(3))
    (tmp_path / file).write_bytes(content())
    job(1, "train", "--data", "none", "--out", "out")  # loads what is imported late
    tracemalloc.start()
    try:
        ended = job(1, "train", "--data", file, *words, "--out", "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ended.status == 2, ended
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: {file}")
    assert "Unable to allocate" not in line
    assert peak < MOST_MEMORY
    assert not (tmp_path / "out").exists()


def tensors_with(**changes):
    """A header of a tensor file with a right checksum, and with changes to what it claims of its tensor."""
    _, header, *content = tensor_file_content("model", {"coef": np.zeros((2, 2))}, {})
    table = json.loads(header)
    table["coef"] |= changes
    header = json.dumps(table).encode()
    return b"".join([struct.pack("<Q", len(header)), header, *content])


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", HUGE) + b"{}",
        struct.pack("<Q", 99_000_000) + b"{}",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        tensors_with(shape=[HUGE, 2]),
        tensors_with(shape=[HUGE, HUGE]),
        tensors_with(data_offsets=[0, HUGE]),
        tensors_with(shape=[HUGE, 0]),
    ],
    ids=["header", "header below its limit", "depth", "shape", "overflow", "offsets", "no rows"],
)
def test_a_tensor_file_that_claims_more_than_it_holds_is_damaged(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFile):
            read_tensor_file("model", path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY


def model_file(path, classes=("a", "b"), numeric=2, categories=()):
    columns = {"numeric": {"numbered": numeric}, "categories": categories, "index_base": None}
    about = {"format_version": "2", "classes": json.dumps(classes), "columns": json.dumps(columns)}
    tensors = {"coef": np.zeros((2, 2)), "intercept": np.zeros(2)}
    durable.write_atomically(path, *tensor_file_content("model", tensors, about))
    return path


@pytest.mark.parametrize("numeric", [HUGE, 1 << 64, -1, 1 << 40], ids=str)
@pytest.mark.parametrize("categories", [(), (("colour", ("red",)),)], ids=["numbers", "categories"])
def test_a_model_that_claims_more_features_than_it_has_is_damaged(tmp_path, numeric, categories):
    path = tmp_path / "model.safetensors"
    assert load_model(model_file(path)).coef.shape == (2, 2)
    with pytest.raises(DamagedFile):
        load_model(model_file(path, numeric=numeric, categories=categories))


@pytest.mark.parametrize("about", ["[" * 100_000, "3", "{}", "", '{"format_version": 4}'], ids=lambda text: text[:3])
def test_a_checkpoint_that_says_nonsense_of_itself_is_damaged(tmp_path, about):
    path = tmp_path / "step-0000000001.safetensors"
    durable.write_atomically(path, *tensor_file_content("checkpoint", {}, {"about": about}))
    with pytest.raises(DamagedFile, match="does not say what it is about"):
        load_checkpoint(path)


# --- names that were there before ---


@pytest.fixture
def umask():
    """Files for the owner and the group alone."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_files_have_the_permissions_that_the_umask_leaves(job, tmp_path, umask):
    assert job(1, "train", "--max-steps", 1, "--out", "run").status == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert len(modes) == 5
    assert set(modes.values()) == {0o640}


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def test_a_link_in_the_place_of_a_temporary_file_is_removed_and_not_followed(tmp_path, victim):
    path = tmp_path / "model.safetensors"
    planted = tmp_path / f".{path.name}.{os.getpid()}.tmp"
    for write in (lambda: durable.write_atomically(path, b"model"), lambda: durable.require_writable(path)):
        planted.symlink_to(victim)
        write()
        assert victim.read_text() == "precious"
        assert not planted.is_symlink()
    assert path.read_bytes() == b"model"


def test_a_link_in_the_place_of_a_result_is_replaced_and_not_followed(tmp_path, victim):
    path = tmp_path / "model.safetensors"
    path.symlink_to(victim)
    durable.write_atomically(path, b"model")
    assert (victim.read_text(), path.read_bytes(), path.is_symlink()) == ("precious", b"model", False)


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_a_link_in_the_place_of_the_metrics_or_of_the_lock_is_refused(tmp_path, victim, target):
    for name in ("metrics.jsonl", ".lock"):
        (tmp_path / name).symlink_to(tmp_path / target)
    with pytest.raises(OutputError, match="metrics.jsonl: .*a symbolic link is not followed there; remove it"):
        MetricsFile(tmp_path / "metrics.jsonl", 0)
    with pytest.raises(InputError, match="its lock .*a symbolic link is not followed there; remove it"):
        FolderLock(tmp_path, pytest.fail).take()
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_link_planted_while_the_run_goes_on_is_not_followed_either(tmp_path, victim):
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    (tmp_path / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(OutputError, match="a symbolic link is not followed there"):
        metrics.write({"step": 0})
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_what_is_no_file_in_the_place_of_the_metrics_or_of_the_lock_is_refused_and_not_waited_for(tmp_path, make):
    for name in ("metrics.jsonl", ".lock"):
        make(tmp_path / name)
    with pytest.raises(OutputError, match="metrics.jsonl: "):
        MetricsFile(tmp_path / "metrics.jsonl", 0).write({"step": 0})
    with pytest.raises(InputError, match="its lock .* cannot be opened: "):
        FolderLock(tmp_path, pytest.fail).take()
