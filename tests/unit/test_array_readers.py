"""Arrays in .npy, .npz and HDF5 files, against what was saved."""

import io
import os
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import read
from sklearn.datasets import load_digits

from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.open_source import open_source
from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.arrays.source import digits
from distsoftmax.data.shards import shard_bounds
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError

TYPES = ["float64", "float32", "float16", ">f8", ">i2", "int64", "int16", "uint8", "bool"]
FORMS = ["npy", "npz", "compressed", "hdf5"]
N_ROWS = 23
# the same examples each time: the HDF5 library itself fails on some damaged files
FEW = settings(deadline=None, database=None, max_examples=80, derandomize=True)


def table(dtype="float64", order="C", n_rows=N_ROWS):
    values = np.random.default_rng(0).integers(0, 200, (n_rows, 4)) * (0.25 if np.dtype(dtype).kind == "f" else 1)
    return np.asarray(values, dtype=dtype, order=order)


LABELS = {
    "int64": np.arange(N_ROWS) % 5 - 1,
    "uint8": (np.arange(N_ROWS) % 5).astype(np.uint8),
    "big-endian": (np.arange(N_ROWS) % 5).astype(">i4"),
    "integral floats": (np.arange(N_ROWS) % 5 - 1).astype(np.float32),
    "short floats": (np.arange(N_ROWS) % 5 - 1).astype(np.float16),
    "text": np.array(["dog", "a cat, black", "Ä", "日本", "1"])[np.arange(N_ROWS) % 5],
    "bool": np.arange(N_ROWS) % 2 == 0,
}


def texts_of(labels):
    return [str(int(label)) if labels.dtype.kind == "f" else str(label) for label in labels.tolist()]


def write(form, folder, name="data", **arrays):
    """Save arrays in one of the forms and return the words that name them."""
    folder.mkdir(exist_ok=True)
    if form == "npy":
        for array, values in arrays.items():
            np.save(folder / f"{name}.{array}.npy", values)
        labels = {"labels_paths": (str(folder / f"{name}.y.npy"),)} if "y" in arrays else {}
        return {"paths": (str(folder / f"{name}.X.npy"),), **labels}
    if form == "hdf5":
        h5py = pytest.importorskip("h5py", reason="HDF5 files are read with h5py, which is not installed")
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for array, values in arrays.items():
                values = np.asarray(values)
                if values.dtype.kind == "U":
                    file.create_dataset(array, data=values.tolist(), dtype=h5py.string_dtype(), shape=values.shape)
                else:
                    file[array] = values
        return {"paths": (str(folder / f"{name}.h5"),)}
    (np.savez_compressed if form == "compressed" else np.savez)(folder / f"{name}.npz", **arrays)
    return {"paths": (str(folder / f"{name}.npz"),)}


@pytest.fixture
def save(tmp_path):
    """Save features and labels in one of the forms and return how to name them."""
    return lambda form, features, labels=LABELS["int64"]: write(form, tmp_path, X=features, y=labels)


def load(named, **options):
    return read(*named["paths"], **{name: value for name, value in named.items() if name != "paths"}, **options)


def opened(named, n_shards=1):
    source = open_source(SourceSpec(**named), Alone())
    source.scan(Alone())
    source.divide(shard_bounds(source.n_rows, n_shards), [range(n_shards)], Alone())
    return source


def refusal(named, **options):
    try:
        found = load(named, **{"ranks": 2, "shards": 2, **options})
    except InputError as error:
        return str(error)
    return pytest.fail(f"not refused, but read as {found.features}, {found.labels}")


def as_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def read_bytes(work):
    """Return how many bytes this process reads from files meanwhile."""

    def count():
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    own = count()
    own = count() - own  # of the counting itself
    before = count()
    work()
    return count() - before - own


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the kernel does not count bytes read")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_features_come_back_as_stored_in_the_order_of_the_machine(save, form, dtype, order):
    features = table(dtype, order)
    found = load(save(form, features), ranks=2, shards=3)
    assert found.features.dtype == features.dtype.newbyteorder("=")
    assert found.features.dtype.isnative
    assert found.names == ("x0", "x1", "x2", "x3")
    np.testing.assert_array_equal(found.features, features)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("form", FORMS)
def test_labels_come_back_as_texts(save, form, labels):
    assert load(save(form, table(), labels), ranks=2, shards=3).labels == texts_of(labels)


@pytest.mark.parametrize("order", [range(5), range(4, -1, -1), [2, 0, 4, 3, 1], [0, 0, 2, 2, 4, 1, 3, 1]], ids=str)
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("form", FORMS)
def test_a_shard_is_the_same_in_whatever_order_shards_are_read(save, form, layout, order):
    features, labels = table(order=layout), LABELS["text"]
    source, bounds = opened(save(form, features, labels), 5), shard_bounds(N_ROWS, 5)
    for shard in order:
        rows, own = source.read(shard), slice(bounds[shard], bounds[shard + 1])
        assert rows.features.flags.c_contiguous
        np.testing.assert_array_equal(rows.features, features[own])
        assert [rows.labels.texts[code] for code in rows.labels.codes] == labels[own].tolist()


@pytest.mark.parametrize("shards", [None, 1, 7, N_ROWS, 2 * N_ROWS])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("form", FORMS)
def test_rows_depend_neither_on_ranks_nor_on_shards(save, form, ranks, shards):
    found = load(save(form, table()), ranks=ranks, shards=shards)
    np.testing.assert_array_equal(found.features, table())
    assert found.labels == texts_of(LABELS["int64"])


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("form", FORMS)
def test_parts_follow_one_another_empty_ones_among_them(tmp_path, form, order, ranks):
    features, labels = table(order=order), LABELS["text"]
    paths = []
    for number, (first, stop) in enumerate([(0, 9), (9, 9), (9, 10), (10, N_ROWS)]):
        own = np.asarray(features[first:stop], order=order)
        paths += write(form, tmp_path, f"part-{number}", X=own, y=labels[first:stop])["paths"]
    named = {"paths": tuple(paths)}
    if form == "npy":
        for number, (first, stop) in enumerate([(0, 2), (2, 20), (20, N_ROWS)]):  # cut elsewhere
            np.save(tmp_path / f"labels-{number}.npy", labels[first:stop])
        named["labels_paths"] = (str(tmp_path / "labels-*.npy"),)
    for shards in (1, 3, 5, 50):
        found = load(named, ranks=ranks, shards=shards)
        np.testing.assert_array_equal(found.features, features)
        assert found.labels == labels.tolist()
    assert found.source.locate(0) == (paths[0], 1)
    assert found.source.locate(8) == (paths[0], 9)
    assert found.source.locate(9) == (paths[2], 1)
    assert found.source.locate(22) == (paths[3], 13)
    assert found.source.path == f"{paths[0]} and 3 more"


@pytest.mark.parametrize("form", FORMS)
def test_a_file_without_a_byte_among_parts_is_skipped(tmp_path, form):
    ending = {"npy": "X.npy", "hdf5": "h5"}.get(form, "npz")
    named = write(form, tmp_path, "part-1", X=table(), y=LABELS["int64"])
    (tmp_path / f"part-0.{ending}").touch()
    named["paths"] = (str(tmp_path / f"part-0.{ending}"), *named["paths"])
    if form == "npy":
        (tmp_path / "none.npy").touch()
        named["labels_paths"] += (str(tmp_path / "none.npy"),)
    np.testing.assert_array_equal(load(named, ranks=2, shards=3).features, table())


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_different_byte_order_are_alike(tmp_path, form):
    paths = [
        *write(form, tmp_path, "a", X=table(), y=LABELS["int64"])["paths"],
        *write(form, tmp_path, "b", X=table(">f8"), y=LABELS["int64"])["paths"],
    ]
    found = read(*paths, needs_labels=False, ranks=2, shards=3)
    np.testing.assert_array_equal(found.features, np.concatenate([table(), table()]))


DIFFERENT = {
    "features": (table()[:, :3], LABELS["int64"], ["has 3 features, but", "4"]),
    "types": (table("float32"), LABELS["int64"], ["float32", "float64"]),
    "kinds of labels": (table(), LABELS["text"], ["text as labels", "numbers as labels"]),
}


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(("features", "labels", "words"), DIFFERENT.values(), ids=DIFFERENT)
@pytest.mark.parametrize("form", FORMS)
def test_parts_that_differ_are_both_named(tmp_path, form, features, labels, words, ranks):
    named = [write(form, tmp_path, "a", X=table(), y=LABELS["int64"]), write(form, tmp_path, "b", X=features, y=labels)]
    both = {key: tuple(some[key][0] for some in named) for key in named[0]}
    text = refusal(both, ranks=ranks)
    key = "labels_paths" if form == "npy" and "text" in words[0] else "paths"
    for word in [*both[key], *words]:
        assert word in text


@pytest.mark.parametrize("form", ["npz", "compressed", "hdf5"])
def test_weights_are_numbers_beside_the_features(tmp_path, form):
    weights = np.where(np.arange(N_ROWS) == 4, np.nan, np.arange(N_ROWS) / 2).astype(np.float32)
    named = write(form, tmp_path, X=table(), y=LABELS["int64"], w=weights)
    found = load(named, weight="w", ranks=3, shards=5)
    assert found.weights.dtype == np.float64
    np.testing.assert_array_equal(found.weights, weights)
    assert load(named).weights is None


@pytest.mark.parametrize("form", ["npz", "compressed", "hdf5"])
def test_labels_may_have_another_name(tmp_path, form):
    named = write(form, tmp_path, X=table(), target=LABELS["text"])
    assert load(named, label="target", ranks=2, shards=3).labels == LABELS["text"].tolist()


@pytest.mark.parametrize("form", ["npz", "compressed", "hdf5"])
def test_labels_may_be_in_a_npy_file(tmp_path, form):
    named = write(form, tmp_path, X=table())
    np.save(tmp_path / "labels.npy", LABELS["text"])
    found = load(named, labels_paths=(str(tmp_path / "labels.npy"),), ranks=2, shards=3)
    assert found.labels == LABELS["text"].tolist()
    text = refusal(
        write(form, tmp_path, "more", X=table(), y=LABELS["int64"]), labels_paths=(str(tmp_path / "labels.npy"),)
    )
    assert "holds labels of its own" in text
    assert "--labels" in text


def test_a_compressed_array_longer_than_its_buffer_is_read_from_the_middle(save):
    features = np.random.default_rng(0).integers(0, 9, (5000, 200)).astype(np.float64)  # 8 MB
    source = opened(save("compressed", features, np.arange(5000)), 3)
    bounds = shard_bounds(5000, 3)
    for shard in [2, 0, 1]:
        np.testing.assert_array_equal(source.read(shard).features, features[bounds[shard] : bounds[shard + 1]])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_of_the_zip_module_is_read(tmp_path, compression):
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        archive.writestr("other.npy", as_bytes(np.arange(3)))
        archive.writestr("y.npy", as_bytes(LABELS["int64"]))
        archive.writestr("X.npy", as_bytes(table()))
    found = read(tmp_path / "data.npz", ranks=2, shards=2)
    np.testing.assert_array_equal(found.features, table())
    assert found.labels == texts_of(LABELS["int64"])


def test_a_compressed_archive_that_ranks_share_is_noted(save):
    named = save("compressed", table())
    assert load(named, ranks=1).source.notes == ()
    assert "is compressed" in load(named, ranks=3).source.notes[0]
    assert load(save("npz", table()), ranks=3).source.notes == ()


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_left_out_where_they_are_not_needed(save, form):
    found = load(save(form, table()), needs_labels=False, ranks=2, shards=2)
    np.testing.assert_array_equal(found.features, table())
    assert found.labels is None


@pytest.mark.parametrize("form", FORMS)
def test_features_alone_do_where_labels_are_not_needed(tmp_path, form):
    np.testing.assert_array_equal(load(write(form, tmp_path, X=table()), needs_labels=False).features, table())


def test_digits_are_those_of_scikit_learn():
    features, labels = load_digits(return_X_y=True)
    source = digits()
    source.scan(Alone())
    source.divide(shard_bounds(source.n_rows, 7), [range(7)], Alone())
    rows = [source.read(shard) for shard in range(7)]
    np.testing.assert_array_equal(np.concatenate([some.features for some in rows]), features, strict=True)
    assert [some.labels.texts[code] for some in rows for code in some.labels.codes] == [str(label) for label in labels]
    assert source.locate(3) == ("digits", 4)


@pytest.mark.parametrize("form", FORMS)
def test_arrays_without_rows_hold_none(save, form):
    found = load(save(form, table()[:0], LABELS["int64"][:0]), shards=1)
    assert found.source.n_rows == 0
    assert found.features.shape == (0, 4)


@needs_proc
@pytest.mark.parametrize(("form", "order"), [("npy", "C"), ("npy", "F"), ("npz", "C"), ("npz", "F"), ("hdf5", "C")])
def test_only_the_rows_asked_for_are_read(save, form, order):
    features = np.asarray(np.random.default_rng(0).random((40_000, 5)), order=order)
    source = opened(save(form, features, np.arange(40_000)), 8)
    for shard in (3, 0):
        assert read_bytes(lambda: source.read(shard)) < 1.01 * (features.nbytes + 40_000 * 8) / 8 + 40_000  # noqa: B023


@needs_proc
def test_a_rank_opens_only_parts_that_it_scans_or_reads(tmp_path):
    paths = []
    for number in range(40):
        paths += write("npz", tmp_path, f"part-{number:02}", X=table(), y=LABELS["int64"])["paths"]
    source = opened({"paths": tuple(paths)}, 40)
    os.remove(paths[39])
    np.testing.assert_array_equal(source.read(3).features, table())
    before = len(os.listdir("/proc/self/fd"))
    for shard in range(39):
        source.read(shard)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    with pytest.raises(InputError, match=r"part-39.npz: cannot be read any more, or not from this node"):
        source.read(39)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_replaced_or_cut_since_the_scan_is_refused(save, form):
    named = save(form, table())
    for changed in [path for paths in named.values() for path in paths]:
        source = opened(named, 2)
        source.read(0)
        with open(changed, "rb") as file:
            content = file.read()
        for now in (content[:-1], content):
            with open(changed, "wb") as file:
                file.write(now)
            os.utime(changed, ns=(0, 0))
            with pytest.raises(InputError, match="has changed since it was scanned"):
                source.read(1)


@pytest.mark.parametrize("form", ["npy", "compressed"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_cut_while_it_is_read_is_refused(save, monkeypatch, form, order):
    named = save(form, table(order=order))
    source = opened(named, 2)
    monkeypatch.setattr(FileState, "require_unchanged", lambda part: None)
    os.truncate(named["paths"][0], 300)
    with pytest.raises(InputError, match="cut short|is not a zip file"):
        source.read(1)


WRONG_ARRAYS = {
    "features of one dimension": (table()[:, 0], LABELS["int64"], ["features", "(23,)", "(n_samples, n_features)"]),
    "features of three dimensions": (table()[None], LABELS["int64"], ["features", "(1, 23, 4)", "n_samples"]),
    "features of no dimension": (np.array(1.0), LABELS["int64"], ["features", "()", "n_samples"]),
    "no features": (table()[:, :0], LABELS["int64"], ["(23, 0)", "no feature"]),
    "complex features": (table() + 1j, LABELS["int64"], ["features", "complex128", "numbers"]),
    "long double features": (table().astype("g"), LABELS["int64"], ["features", "float", "numbers"]),
    "text for features": (table().astype(str), LABELS["int64"], ["features", "<U", "numbers"]),
    "labels of two dimensions": (table(), LABELS["int64"][:, None], ["labels", "(23, 1)", "(n_samples,)"]),
    "labels of no dimension": (table(), np.array(1), ["labels", "()", "(n_samples,)"]),
    "complex labels": (table(), LABELS["int64"] + 1j, ["labels", "complex128", "numbers or text"]),
    "too few labels": (table(), LABELS["int64"][1:], ["23 samples but 22 labels"]),
    "too many labels": (table()[1:], LABELS["int64"], ["22 samples but 23 labels"]),
}


@pytest.mark.parametrize(("features", "labels", "words"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
@pytest.mark.parametrize("form", FORMS)
def test_arrays_that_are_no_samples_are_refused(save, form, features, labels, words):
    text = refusal(save(form, features, labels))
    for word in words:
        assert word in text


NEVER_IN_HDF5 = {
    "objects for features": (table().astype(object), LABELS["int64"], ["Python objects", "save it as numbers"]),
    "objects for labels": (table(), LABELS["text"].astype(object), ["Python objects", "fixed-width text"]),
    "bytes for labels": (table(), LABELS["int64"].astype("S"), ["labels", "|S", "numbers or text"]),
    "dates for labels": (table(), LABELS["int64"].astype("M8[D]"), ["labels", "datetime64", "numbers or text"]),
}


@pytest.mark.parametrize(("features", "labels", "words"), NEVER_IN_HDF5.values(), ids=NEVER_IN_HDF5)
@pytest.mark.parametrize("form", ["npy", "npz", "compressed"])
def test_objects_and_other_types_are_refused(save, form, features, labels, words):
    text = refusal(save(form, features, labels))
    for word in words:
        assert word in text


@pytest.mark.parametrize("form", ["npz", "compressed", "hdf5"])
def test_weights_that_are_none_are_refused(tmp_path, form):
    arrays = {
        "X": table(),
        "y": LABELS["int64"],
        "short": np.ones(5),
        "wide": np.ones((N_ROWS, 2)),
        "t": LABELS["text"],
    }
    named = write(form, tmp_path, **arrays)
    assert "23 samples but 5 weights" in refusal(named, weight="short")
    assert "the weights have shape (23, 2)" in refusal(named, weight="wide")
    assert "the weights are of type" in refusal(named, weight="t")
    text = refusal(named, weight="none")
    assert "none; it holds" in text
    assert "wide" in text


@pytest.mark.parametrize("label", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_label_that_is_no_number_is_named_by_its_row(save, form, label):
    labels = LABELS["integral floats"].astype(np.float64)
    labels[17] = label
    text = refusal(save(form, table(), labels))
    assert "row 18: the label is" in text
    assert str(label) in text
    assert ("missing" in text) == np.isnan(label)


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_label_is_named_by_its_row_in_its_own_file(tmp_path, form):
    paths, labels_paths = [], []
    for number in range(3):
        labels = LABELS["integral floats"].astype(np.float64)
        labels[5] = np.nan if number == 2 else 1
        named = write(form, tmp_path, f"part-{number}", X=table(), y=labels)
        paths += named["paths"]
        labels_paths += named.get("labels_paths", ())
    text = refusal({"paths": tuple(paths), "labels_paths": tuple(labels_paths)}, ranks=3, shards=7)
    assert f"{(labels_paths or paths)[2]}: row 6: the label is missing" in text


@pytest.mark.parametrize("label", [2.0**53, 2.0**63, 1e300], ids=str)
def test_a_large_label_is_refused_or_exact(save, label):
    try:
        texts = load(save("npz", table(), np.full(N_ROWS, label))).labels
    except InputError:
        return
    assert set(texts) == {str(int(label))}


@pytest.mark.parametrize(("held", "lacking"), [("X", "y"), ("y", "X"), ("features", "X")])
@pytest.mark.parametrize("form", ["npz", "compressed", "hdf5"])
def test_a_file_tells_which_array_it_lacks(tmp_path, form, held, lacking):
    named = write(form, tmp_path, **{held: table()})
    kind = "dataset" if form == "hdf5" else "array"
    assert f"{named['paths'][0]}: has no {kind} {lacking}; it holds {held}" in refusal(named)


@pytest.mark.parametrize("form", ["npz", "hdf5"])
def test_a_label_named_in_vain_is_missed(save, form):
    assert "labels; it holds X, y" in refusal(save(form, table()), label="labels")


def test_an_empty_archive_holds_nothing(tmp_path):
    np.savez(tmp_path / "data.npz")
    assert "it holds nothing" in refusal({"paths": (str(tmp_path / "data.npz"),), "format": "npz"})


def test_an_array_not_named_npy_within_the_archive_is_not_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("X", as_bytes(table()))
        archive.writestr("y", as_bytes(LABELS["int64"]))
    assert "has no array X" in refusal({"paths": (str(tmp_path / "data.npz"),)})


def test_features_in_a_npy_file_need_the_file_of_their_labels(save):
    paths = save("npy", table())["paths"]
    assert "name the .npy file of its labels with --labels" in refusal({"paths": paths})


@pytest.mark.parametrize(("option", "value"), [("weight", "w"), ("label", "y")])
def test_a_npy_file_has_no_arrays_with_names(save, option, value):
    assert f"--{option} does not apply" in refusal(save("npy", table()), **{option: value})


NOT_ARRAYS = {
    "a sentence": b"The quick brown fox jumps over the lazy dog.\n",
    "numbers": b"1,2,3\n4,5,6\n",
    "a broken archive": b"PK\x03\x04 and then nothing of the sort",
    "one byte": b"\x93",
}


@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS)
@pytest.mark.parametrize("wrong", ["data.X.npy", "data.y.npy"])
def test_a_npy_file_that_is_none_is_called_so(save, tmp_path, wrong, content):
    named = save("npy", table())
    (tmp_path / wrong).write_bytes(content)
    assert f"{wrong}: is not a .npy file" in refusal(named, format="npy")


@pytest.mark.parametrize(("form", "words"), [("npz", "is not a .npz archive"), ("hdf5", "is damaged, or no HDF5 file")])
@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS)
def test_a_file_that_is_no_archive_is_called_so(save, form, words, content):
    named = save(form, table())
    with open(named["paths"][0], "wb") as file:
        file.write(content)
    assert f"{named['paths'][0]}: {words}" in refusal(named, format=form)


@pytest.mark.parametrize("wrong", ["data.y.npy", "none.npy", ""])
def test_the_file_of_labels_is_named_where_it_cannot_be_read(save, tmp_path, wrong):
    named = save("npy", table())
    (tmp_path / "data.y.npy").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    text = refusal({**named, "labels_paths": (str(tmp_path / (wrong or "folder")),)})
    assert text.startswith(f"{tmp_path / (wrong or 'folder')}: ")


@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_is_no_array_is_refused(tmp_path, compression, content):
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        archive.writestr("X.npy", content)
        archive.writestr("y.npy", as_bytes(LABELS["int64"]))
    assert "data.npz: array X: is damaged" in refusal({"paths": (str(tmp_path / "data.npz"),)})


@pytest.mark.parametrize("wrong", ["X", "y"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_cut_short_is_refused(tmp_path, compression, order, wrong):
    members = {"X": as_bytes(table(order=order)), "y": as_bytes(LABELS["int64"])}
    members[wrong] = members[wrong][:-8]
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    assert "cut short" in refusal({"paths": (str(tmp_path / "data.npz"),)})


@pytest.mark.parametrize("shape", [(N_ROWS + 1, 4), (N_ROWS - 1, 4), (2**40, 4), (2**62, 4), (-N_ROWS, -4)], ids=str)
@pytest.mark.parametrize("form", ["npy", "npz", "compressed"])
def test_a_header_that_promises_another_number_of_rows_is_refused(tmp_path, form, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    content = header.getvalue() + table().tobytes()
    if form == "npy":
        (tmp_path / "data.npy").write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / "data.npz", "w", 8 if form == "compressed" else 0) as archive:
            archive.writestr("X.npy", content)
    path = tmp_path / ("data.npy" if form == "npy" else "data.npz")
    text = refusal({"paths": (str(path),)}, needs_labels=False)
    assert text.startswith(f"{path}: ")
    assert "damaged or cut short" in text


@pytest.mark.filterwarnings("ignore:Reading `.npy`", "ignore:invalid escape", "ignore:.*invalid decimal literal")
@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_anywhere_is_refused(save, form):
    named = save(form, table())
    for path in [path for paths in named.values() for path in paths]:
        with open(path, "rb") as file:
            content = file.read()
        for kept in {*range(0, len(content), 1 + len(content) // 100), 1, 7, 9, len(content) - 1}:
            with open(path, "wb") as file:
                file.write(content[:kept])
            assert f"{path}: " in refusal(named, format=form.replace("compressed", "npz"), ranks=1)
        with open(path, "wb") as file:
            file.write(content)


@pytest.mark.filterwarnings("ignore")  # numpy warns of headers as Python 2 wrote them, and Python of odd literals
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_refused_or_read_in_its_shape(tmp_path_factory, form, order):
    @FEW
    @given(st.data())
    def check(data):
        named = write(form, tmp_path_factory.mktemp("damaged"), X=table(order=order), y=LABELS["int64"])
        path = data.draw(st.sampled_from([path for paths in named.values() for path in paths]))
        with open(path, "rb") as file:
            content = bytearray(file.read())
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.one_of(st.integers(0, 150), st.integers(0, len(content) - 1)))
            content[place] = data.draw(st.integers(0, 255))
        with open(path, "wb") as file:
            file.write(content)
        try:
            found = load(named, ranks=1, shards=2, format=form.replace("compressed", "npz"))
        except InputError as error:
            assert path in str(error)
            return
        assert found.source.n_rows == len(found.features) == len(found.labels)
        if form == "compressed":  # each member has a checksum
            np.testing.assert_array_equal(found.features, table())
            assert found.labels == texts_of(LABELS["int64"])

    check()


def test_hdf5_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "data.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    text = refusal({"paths": (str(tmp_path / "data.h5"),)})
    assert "reading HDF5 needs h5py: pip install 'distsoftmax[hdf5]'" in text


class TestHdf5:
    """What only HDF5 files hold."""

    @pytest.fixture
    def h5py(self):
        return pytest.importorskip("h5py", reason="HDF5 files are read with h5py, which is not installed")

    @pytest.mark.parametrize("layout", [{}, {"chunks": (5, 3)}, {"chunks": (5, 3), "compression": "gzip"}], ids=str)
    def test_every_layout_is_read(self, h5py, tmp_path, layout):
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file.create_dataset("X", data=table(), **layout)
            file["y"] = LABELS["int64"]
        np.testing.assert_array_equal(read(tmp_path / "data.h5", ranks=3, shards=4).features, table())

    @pytest.mark.parametrize("kind", ["variable", "fixed", "ascii"])
    def test_text_is_read_of_variable_and_of_fixed_width(self, h5py, tmp_path, kind):
        labels = ["a", "b", "long", ""] if kind == "ascii" else ["Ä", "b", "日本", ""]
        dtype = {
            "variable": h5py.string_dtype(),
            "fixed": h5py.string_dtype(length=8),
            "ascii": "S4",
        }[kind]
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["X"] = table(n_rows=4)
            file.create_dataset("y", data=[label.encode() for label in labels], dtype=dtype)
        assert read(tmp_path / "data.h5", ranks=2, shards=2).labels == labels

    def test_text_that_is_not_utf_8_is_refused(self, h5py, tmp_path):
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["X"] = table(n_rows=2)
            file.create_dataset("y", data=[b"a", b"\xff"], dtype=h5py.string_dtype())
        assert "dataset y: rows 2 to 2 cannot be read: " in refusal({"paths": (str(tmp_path / "data.h5"),)})

    def test_values_that_lie_in_other_files_are_refused(self, h5py, tmp_path):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["X"] = table()
        layout = h5py.VirtualLayout(shape=(N_ROWS, 4), dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "X", shape=(N_ROWS, 4))
        for kind in ("link", "virtual", "external"):
            with h5py.File(tmp_path / f"{kind}.h5", "w") as file:
                if kind == "link":
                    file["X"] = h5py.ExternalLink("other.h5", "/X")
                elif kind == "virtual":
                    file.create_virtual_dataset("X", layout)
                else:
                    file.create_dataset("X", (2, 2), "f8", external=[(str(tmp_path / "raw"), 0, 32)])
            text = refusal({"paths": (str(tmp_path / f"{kind}.h5"),)}, needs_labels=False)
            assert "dataset X: its values lie in other files" in text

    @pytest.mark.parametrize("chunks", [None, (5, 3)], ids=str)
    def test_values_that_were_never_written_are_missed(self, h5py, tmp_path, chunks):
        with h5py.File(tmp_path / "data.h5", "w") as file:
            features = file.create_dataset("X", shape=(N_ROWS, 4), dtype="f8", chunks=chunks)
            if chunks:
                features[:20] = 1.0
        text = refusal({"paths": (str(tmp_path / "data.h5"),)}, needs_labels=False)
        assert "dataset X: is damaged or was never written whole" in text

    def test_what_is_no_array_of_numbers_is_refused(self, h5py, tmp_path):
        kinds = {
            "group": lambda file: file.create_group("X"),
            "empty": lambda file: file.create_dataset("X", data=h5py.Empty("f8")),
            "records": lambda file: file.create_dataset("X", data=np.zeros((2, 2), dtype=[("a", "f8")])),
            "lists": lambda file: file.create_dataset("X", (2, 2), dtype=h5py.vlen_dtype("f8")),
        }
        for kind, make in kinds.items():
            with h5py.File(tmp_path / f"{kind}.h5", "w") as file:
                make(file)
            text = refusal({"paths": (str(tmp_path / f"{kind}.h5"),)}, needs_labels=False)
            assert text.startswith(str(tmp_path / f"{kind}.h5"))
