"""Sparse features in archives as scipy.sparse.save_npz writes them, against scipy's own reading."""

import os
import re
import zipfile

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import read

from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.open_source import open_source
from distsoftmax.data.shards import shard_bounds
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError

N_ROWS, N_COLUMNS = 40, 17
LABELS = np.array(["a", "b", "c"])[np.arange(N_ROWS) % 3]


def matrix(n_rows=N_ROWS, seed=0, dtype="float64"):
    values = scipy.sparse.random_array((n_rows, N_COLUMNS), density=0.2, rng=seed, format="csr")
    values.data = np.ceil(values.data * 100)
    return values.astype(dtype)


@pytest.fixture
def save(tmp_path):
    """Save a matrix and its labels; return the names of both."""

    def save(matrix, compressed=True, labels=None, name="data"):
        scipy.sparse.save_npz(tmp_path / f"{name}.npz", matrix, compressed=compressed)
        labels = np.resize(LABELS, matrix.shape[0]) if labels is None else labels
        np.save(tmp_path / f"{name}.npy", labels)
        return str(tmp_path / f"{name}.npz"), (str(tmp_path / f"{name}.npy"),)

    return save


def refusal(path, **options):
    try:
        read(path, **{"ranks": 2, "shards": 3, **options})
    except InputError as error:
        return str(error)
    return pytest.fail("not refused")


def assert_is_canonical(matrix):
    for row in range(matrix.shape[0]):
        assert (np.diff(matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]) > 0).all()


@pytest.mark.parametrize("shards", [None, 1, 7, N_ROWS, 2 * N_ROWS])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("compressed", [True, False])
def test_rows_are_those_of_scipy_on_any_ranks_and_shards(save, compressed, ranks, shards):
    path, labels = save(matrix(), compressed)
    found = read(path, labels_paths=labels, ranks=ranks, shards=shards)
    assert found.source.sparse
    assert found.features.dtype == np.float64
    assert (found.features != scipy.sparse.load_npz(path)).nnz == 0
    assert_is_canonical(found.features)
    assert found.labels == LABELS.tolist()
    assert found.names == tuple(f"x{column}" for column in range(N_COLUMNS))


@pytest.mark.parametrize("dtype", ["float64", "float32", ">f4", "int64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("compressed", [True, False])
def test_values_keep_their_type(save, compressed, dtype):
    path, _ = save(matrix(dtype=np.dtype(dtype).newbyteorder("=")), compressed)
    if dtype == ">f4":
        held = {name: array.astype(dtype) if name == "data" else array for name, array in np.load(path).items()}
        np.savez(path, **held)
    found = read(path, needs_labels=False, ranks=2, shards=3).features
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert (found != scipy.sparse.load_npz(path)).nnz == 0


def test_short_floats_become_floats_that_scipy_computes_with(tmp_path):
    held = matrix()
    np.savez(tmp_path / "data.npz", **parts_of(held, data=held.data.astype(np.float16)))
    found = read(tmp_path / "data.npz", needs_labels=False, shards=2).features
    assert found.dtype == np.float32
    assert (found != held).nnz == 0


def parts_of(matrix, **others):
    parts = {"format": b"csr", "shape": np.array(matrix.shape), "data": matrix.data, "indices": matrix.indices}
    return {**parts, "indptr": matrix.indptr, **others}


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_parts_follow_one_another_empty_ones_among_them(save, ranks):
    parts = [matrix(9, 1), matrix(0, 2), matrix(1, 3), matrix(30, 4)]
    paths, labels = zip(*[save(part, bool(i % 2), name=f"part-{i}") for i, part in enumerate(parts)], strict=True)
    for shards in (1, 3, 50):
        found = read(*paths, labels_paths=tuple(own[0] for own in labels), ranks=ranks, shards=shards)
        assert (found.features != scipy.sparse.vstack(parts)).nnz == 0
        assert len(found.labels) == N_ROWS
    assert found.source.locate(9) == (paths[2], 1)


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [0, 0, 3, 3, 1, 4, 2]], ids=str)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_shard_is_the_same_in_whatever_order_shards_are_read(save, compressed, order):
    path, _ = save(matrix(), compressed)
    source = open_source(SourceSpec(paths=(path,), needs_labels=False), Alone())
    source.scan(Alone())
    bounds = shard_bounds(N_ROWS, 5)
    source.divide(bounds, [range(5)], Alone())
    for shard in order:
        own = source.read(shard).features
        assert own.indices.dtype == own.indptr.dtype == np.int32
        assert (own != matrix()[bounds[shard] : bounds[shard + 1]]).nnz == 0


def test_labels_and_weights_may_be_in_the_archive(tmp_path):
    np.savez(tmp_path / "data.npz", **parts_of(matrix(), y=LABELS, w=np.arange(N_ROWS)))
    found = read(tmp_path / "data.npz", weight="w", ranks=3, shards=5)
    assert found.labels == LABELS.tolist()
    np.testing.assert_array_equal(found.weights, np.arange(N_ROWS))


def test_without_labels_anywhere_the_arrays_are_listed(save):
    assert "has no array y; it holds indices, indptr, format, shape, data" in refusal(save(matrix())[0])


def test_columns_beyond_32_bits_keep_their_indices(tmp_path):
    wide = scipy.sparse.csr_array((np.ones(3), np.array([5, 2**40, 7]), np.array([0, 2, 3])), shape=(2, 2**40 + 1))
    scipy.sparse.save_npz(tmp_path / "data.npz", wide)
    source = open_source(SourceSpec(paths=(str(tmp_path / "data.npz"),), needs_labels=False), Alone())
    source.scan(Alone())
    source.divide(shard_bounds(2, 2), [range(2)], Alone())
    assert len(source.feature_names) == 2**40 + 1
    assert source.read(0).features.indices.tolist() == [5, 2**40]
    assert source.read(1).features.indices.tolist() == [7]


def test_indices_are_sorted(tmp_path):
    shuffled = matrix()
    for row in range(N_ROWS):
        own = slice(shuffled.indptr[row], shuffled.indptr[row + 1])
        shuffled.indices[own], shuffled.data[own] = shuffled.indices[own][::-1].copy(), shuffled.data[own][::-1].copy()
    np.savez(tmp_path / "data.npz", **parts_of(shuffled))
    found = read(tmp_path / "data.npz", needs_labels=False, ranks=2, shards=3).features
    assert_is_canonical(found)
    assert (found != matrix()).nnz == 0


def parts_with(row, column):
    """The arrays of a matrix in whose row (from 0) the last index is another one."""
    changed = matrix()
    assert changed.indptr[row + 1] - changed.indptr[row] > 1
    changed.indices[changed.indptr[row + 1] - 1] = column
    return parts_of(changed)


ROW = int(np.flatnonzero(np.diff(matrix().indptr) > 1)[-1])


@pytest.mark.parametrize("column", [N_COLUMNS, -1, 2**31 - 1])
def test_an_index_out_of_range_is_named_by_its_row(tmp_path, column):
    np.savez(tmp_path / "data.npz", **parts_with(ROW, column))
    text = refusal(tmp_path / "data.npz", needs_labels=False)
    assert f"data.npz: row {ROW + 1}: has a value in column {column}, but the matrix has {N_COLUMNS} columns" in text


def test_two_values_in_a_column_are_named_by_their_row(tmp_path):
    first = int(matrix().indices[matrix().indptr[ROW]])
    np.savez(tmp_path / "data.npz", **parts_with(ROW, first))
    text = refusal(tmp_path / "data.npz", needs_labels=False)
    assert f"data.npz: row {ROW + 1}: has two values in column {first}" in text
    assert "sum_duplicates" in text


@pytest.mark.parametrize("kind", ["csc", "coo", "bsr", "dia"])
def test_other_sparse_formats_are_refused_with_what_to_do(save, kind):
    path, labels = save(matrix().asformat(kind))
    text = refusal(path, labels_paths=labels)
    assert f"holds a sparse matrix in {kind} format" in text
    assert "matrix.tocsr()" in text


def test_sparse_and_dense_parts_do_not_mix(save, tmp_path):
    path, _ = save(matrix())
    np.savez(tmp_path / "dense.npz", X=matrix().toarray())
    with pytest.raises(InputError, match=r"dense.npz: holds dense features .*, but .*data.npz sparse features"):
        read(path, tmp_path / "dense.npz", needs_labels=False, ranks=2)


DAMAGED = {
    "indptr that falls": {"indptr": np.array([0, 3, 2, *range(3, N_ROWS + 1)])},
    "indptr too short": {"indptr": matrix().indptr[:-1]},
    "indptr that ends early": {"indptr": np.minimum(matrix().indptr, matrix().indptr[-1] - 1)},
    "indptr that starts late": {"indptr": np.maximum(matrix().indptr, 1)},
    "indptr beyond the values": {"indptr": matrix().indptr * 2},
    "negative indptr": {"indptr": matrix().indptr - 1},
    "fractions for indices": {"indices": matrix().indices * 0.5},
    "fewer values than indices": {"data": matrix().data[:-1]},
    "three dimensions": {"shape": np.array([1, N_ROWS, N_COLUMNS])},
    "a negative shape": {"shape": np.array([-N_ROWS, N_COLUMNS])},
    "another number of rows": {"shape": np.array([N_ROWS + 1, N_COLUMNS])},
    "objects for values": {"data": matrix().data.astype(object)},
    "complex values": {"data": matrix().data * 1j},
    "no shape to speak of": {"shape": np.arange(1000)},
    "no format to speak of": {"format": np.array(3.5)},
}


@pytest.mark.parametrize("others", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_that_are_no_matrix_are_refused(tmp_path, save, others):
    save(tmp_path / "data.npz", **parts_of(matrix(), **others))
    assert f"{tmp_path / 'data.npz'}: " in refusal(tmp_path / "data.npz", needs_labels=False)


@pytest.mark.parametrize("lacking", ["indices", "indptr"])
def test_a_missing_array_is_named(tmp_path, lacking):
    parts = parts_of(matrix())
    del parts[lacking]
    np.savez(tmp_path / "data.npz", **parts)
    assert f"without its array {lacking}" in refusal(tmp_path / "data.npz", needs_labels=False)


@pytest.mark.filterwarnings("ignore")  # numpy warns of headers as Python 2 wrote them, and Python of odd literals
@settings(deadline=None, database=None, max_examples=150)
@given(st.data())
def test_a_damaged_archive_is_refused_or_read_in_its_shape(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "data.npz"
    scipy.sparse.save_npz(path, matrix(), compressed=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    try:
        found = read(path, format="npz", needs_labels=False, shards=2)
    except InputError as error:
        assert str(path) in str(error)
        return
    assert found.features.shape[0] == N_ROWS
    assert_is_canonical(found.features)


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the kernel does not count bytes read")
def test_only_the_values_of_the_rows_asked_for_are_read(tmp_path):
    large = scipy.sparse.random_array((40_000, 1000), density=0.02, rng=0, format="csr")
    scipy.sparse.save_npz(tmp_path / "data.npz", large, compressed=False)
    source = open_source(SourceSpec(paths=(str(tmp_path / "data.npz"),), needs_labels=False), Alone())
    source.scan(Alone())
    source.divide(shard_bounds(40_000, 8), [range(8)], Alone())

    def count():
        with open("/proc/self/io") as file:
            return int(re.findall(r"rchar: (\d+)", file.read())[0])

    before = count()
    found = source.read(3).features
    assert (found != large[15_000:20_000]).nnz == 0
    assert count() - before < 1.05 * (large.data.nbytes + large.indices.nbytes + large.indptr.nbytes) / 8 + 50_000


def test_an_archive_member_of_another_compression_is_read(tmp_path):
    path = tmp_path / "data.npz"
    scipy.sparse.save_npz(path, matrix(), compressed=False)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, content) in enumerate(members.items()):
            archive.writestr(name, content, compress_type=[zipfile.ZIP_STORED, zipfile.ZIP_LZMA][number % 2])
    found = read(path, needs_labels=False, ranks=3, shards=7)
    assert (found.features != matrix()).nnz == 0
