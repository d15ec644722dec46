import io
import zipfile

import numpy as np
import pytest
from sklearn.datasets import load_digits

from distsoftmax.data.arrays import digits
from distsoftmax.data.shards import shard_bounds
from distsoftmax.data.source import ALONE, SourceSpec, open_source
from distsoftmax.errors import InputError

TYPES = ["float64", "float32", "float16", ">f8", "int64", "int16", "uint8", "bool"]
FORMS = ["npy", "npz", "compressed"]
N_ROWS = 23


def table(dtype="float64", order="C"):
    values = np.random.default_rng(0).integers(0, 200, (N_ROWS, 4)) * (0.25 if np.dtype(dtype).kind == "f" else 1)
    return np.asarray(values, dtype=dtype, order=order)


LABELS = {
    "int64": np.arange(N_ROWS) % 5 - 1,
    "uint8": (np.arange(N_ROWS) % 5).astype(np.uint8),
    "integral floats": (np.arange(N_ROWS) % 5 - 1).astype(np.float32),
    "short floats": (np.arange(N_ROWS) % 5 - 1).astype(np.float16),
    "text": np.array(["dog", "a cat, black", "Ä", "日本", "1"])[np.arange(N_ROWS) % 5],
    "bool": np.arange(N_ROWS) % 2 == 0,
}


@pytest.fixture
def save(tmp_path):
    """Save features and labels in one of the three forms and return how to name them."""

    def save(form, features, labels=LABELS["int64"]):
        if form == "npy":
            np.save(tmp_path / "X.npy", features)
            np.save(tmp_path / "y.npy", labels)
            return SourceSpec(path=str(tmp_path / "X.npy"), labels_path=str(tmp_path / "y.npy"))
        (np.savez_compressed if form == "compressed" else np.savez)(tmp_path / "data.npz", X=features, y=labels)
        return SourceSpec(path=str(tmp_path / "data.npz"))

    return save


def as_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shards(source, count=1, order=None):
    """Return (features, label texts) of each shard, read in the order given."""
    source.count_rows(ALONE)
    source.divide(shard_bounds(source.n_rows, count), ALONE)
    read = {}
    for shard in order if order is not None else range(count):
        features, labels = source.read(shard)
        read[shard] = features, [labels.texts[code] for code in labels.codes] if labels else None
    return [read[shard] for shard in range(count)]


def whole(source, count=1, order=None):
    features, labels = zip(*shards(source, count, order), strict=True)
    return np.concatenate(features), [text for own in labels for text in own or []]


def refusal(spec):
    try:
        found = whole(open_source(spec), 2)
    except InputError as error:
        return str(error)
    return pytest.fail(f"not refused, but read as {found}")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_features_come_back_as_stored(save, form, dtype, order):
    features = table(dtype, order)
    source = open_source(save(form, features))
    found = [rows for rows, _ in shards(source, 3)]
    assert source.n_rows == N_ROWS
    assert source.feature_names == ("x0", "x1", "x2", "x3")
    assert [rows.dtype for rows in found] == [features.dtype] * 3
    np.testing.assert_array_equal(np.concatenate(found), features)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("form", FORMS)
def test_labels_come_back_as_texts(save, form, labels):
    expected = [str(int(label)) if labels.dtype.kind == "f" else str(label) for label in labels.tolist()]
    assert whole(open_source(save(form, table(), labels)), 3)[1] == expected


@pytest.mark.parametrize("order", [range(5), range(4, -1, -1), [2, 0, 4, 3, 1], [0, 0, 2, 2, 4, 1, 3, 1]], ids=str)
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("form", FORMS)
def test_a_shard_is_the_same_in_whatever_order_shards_are_read(save, form, layout, order):
    features, labels = table(order=layout), LABELS["text"]
    bounds = shard_bounds(N_ROWS, 5)
    for shard, (rows, texts) in enumerate(shards(open_source(save(form, features, labels)), 5, order)):
        own = slice(bounds[shard], bounds[shard + 1])
        np.testing.assert_array_equal(rows, features[own])
        assert texts == labels[own].tolist()


@pytest.mark.parametrize("count", [1, N_ROWS, 2 * N_ROWS])
@pytest.mark.parametrize("form", FORMS)
def test_rows_do_not_depend_on_the_number_of_shards(save, form, count):
    features, labels = whole(open_source(save(form, table())), count)
    np.testing.assert_array_equal(features, table())
    assert labels == [str(label) for label in LABELS["int64"]]


def test_a_compressed_array_longer_than_its_buffer_is_read_from_the_middle(save):
    features = np.random.default_rng(0).integers(0, 9, (5000, 200)).astype(np.float64)  # 8 MB
    found = shards(open_source(save("compressed", features, np.arange(5000))), 3, [2, 0, 1])
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in found]), features)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_of_the_zip_module_is_read(tmp_path, compression):
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        archive.writestr("other.npy", as_bytes(np.arange(3)))
        archive.writestr("y.npy", as_bytes(LABELS["int64"]))
        archive.writestr("X.npy", as_bytes(table()))
    features, labels = whole(open_source(SourceSpec(path=str(tmp_path / "data.npz"))), 2)
    np.testing.assert_array_equal(features, table())
    assert labels == [str(label) for label in LABELS["int64"]]


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_left_out_where_they_are_not_needed(save, form):
    spec = save(form, table())
    features, labels = whole(open_source(SourceSpec(path=spec.path, needs_labels=False)), 2)
    np.testing.assert_array_equal(features, table())
    assert labels == []


def test_features_alone_do_where_labels_are_not_needed(tmp_path):
    np.savez(tmp_path / "data.npz", X=table())
    source = open_source(SourceSpec(path=str(tmp_path / "data.npz"), needs_labels=False))
    np.testing.assert_array_equal(whole(source)[0], table())


@pytest.mark.parametrize("ending", [".NPZ", ".Npz"])
def test_the_ending_may_be_in_capitals(save, tmp_path, ending):
    renamed = (tmp_path / "data.npz").with_suffix(ending)
    save("npz", table())
    (tmp_path / "data.npz").rename(renamed)
    assert open_source(SourceSpec(path=str(renamed))).n_rows == N_ROWS


def test_digits_are_those_of_scikit_learn():
    features, labels = load_digits(return_X_y=True)
    found, texts = whole(digits(), 7)
    np.testing.assert_array_equal(found, features, strict=True)
    assert texts == [str(label) for label in labels]


@pytest.mark.parametrize("form", FORMS)
def test_arrays_without_rows_hold_none(save, form):
    source = open_source(save(form, table()[:0], LABELS["int64"][:0]))
    source.count_rows(ALONE)
    assert source.n_rows == 0


WRONG_ARRAYS = {
    "features of one dimension": (table()[:, 0], LABELS["int64"], ["features", "(23,)", "(n_samples, n_features)"]),
    "features of three dimensions": (table()[None], LABELS["int64"], ["features", "(1, 23, 4)", "n_samples"]),
    "features of no dimension": (np.array(1.0), LABELS["int64"], ["features", "()", "n_samples"]),
    "no features": (table()[:, :0], LABELS["int64"], ["(23, 0)", "no feature"]),
    "complex features": (table() + 1j, LABELS["int64"], ["features", "complex128", "numbers"]),
    "text for features": (table().astype(str), LABELS["int64"], ["features", "<U", "numbers"]),
    "objects for features": (table().astype(object), LABELS["int64"], ["Python objects", "save it as numbers"]),
    "labels of two dimensions": (table(), LABELS["int64"][:, None], ["labels", "(23, 1)", "(n_samples,)"]),
    "labels of no dimension": (table(), np.array(1), ["labels", "()", "(n_samples,)"]),
    "complex labels": (table(), LABELS["int64"] + 1j, ["labels", "complex128", "integers or text"]),
    "bytes for labels": (table(), LABELS["int64"].astype("S"), ["labels", "|S", "integers or text"]),
    "objects for labels": (table(), LABELS["text"].astype(object), ["Python objects", "fixed-width text"]),
    "too few labels": (table(), LABELS["int64"][1:], ["23 samples but 22 labels"]),
    "too many labels": (table()[1:], LABELS["int64"], ["22 samples but 23 labels"]),
}


@pytest.mark.parametrize(("features", "labels", "words"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
@pytest.mark.parametrize("form", FORMS)
def test_arrays_that_are_no_samples_are_refused(save, form, features, labels, words):
    text = refusal(save(form, features, labels))
    for word in words:
        assert word in text


@pytest.mark.parametrize("label", [0.5, np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_label_that_is_no_integer_is_named_by_its_row(save, form, label):
    labels = LABELS["integral floats"].astype(np.float64)
    labels[17] = label
    text = refusal(save(form, table(), labels))
    assert "row 18:" in text
    assert str(label) in text


@pytest.mark.parametrize("label", [2.0**53, 2.0**63, 1e300], ids=str)
def test_a_large_label_is_refused_or_exact(save, label):
    try:
        texts = whole(open_source(save("npz", table(), np.full(N_ROWS, label))))[1]
    except InputError:
        return
    assert set(texts) == {str(int(label))}


@pytest.mark.parametrize(("held", "lacking"), [("X", "y"), ("y", "X"), ("features", "X")])
def test_an_archive_tells_which_array_it_lacks(tmp_path, held, lacking):
    np.savez(tmp_path / "data.npz", **{held: table()})
    text = refusal(SourceSpec(path=str(tmp_path / "data.npz")))
    assert f"data.npz: has no array {lacking}; it holds {held}" in text


def test_an_empty_archive_holds_nothing(tmp_path):
    np.savez(tmp_path / "data.npz")
    assert "it holds nothing" in refusal(SourceSpec(path=str(tmp_path / "data.npz")))


def test_an_array_not_named_npy_within_the_archive_is_refused_or_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("X", as_bytes(table()))
        archive.writestr("y", as_bytes(LABELS["int64"]))
    try:
        features, _ = whole(open_source(SourceSpec(path=str(tmp_path / "data.npz"))))
    except InputError:
        return
    np.testing.assert_array_equal(features, table())


def test_features_in_a_npy_file_need_the_file_of_their_labels(save):
    assert "name the .npy file of its labels with --labels" in refusal(SourceSpec(path=save("npy", table()).path))


NOT_ARRAYS = {
    "a sentence": b"The quick brown fox jumps over the lazy dog.\n",
    "numbers": b"1,2,3\n4,5,6\n",
    "a broken archive": b"PK\x03\x04 and then nothing of the sort",
    "one byte": b"\x93",
}


@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS)
@pytest.mark.parametrize("wrong", ["X.npy", "y.npy"])
def test_a_npy_file_that_is_none_is_called_so(save, tmp_path, wrong, content):
    spec = save("npy", table())
    (tmp_path / wrong).write_bytes(content)
    text = refusal(spec)
    assert f"{wrong}: " in text
    assert "not a .npy file" in text


def test_an_archive_named_npy_is_called_no_npy_file(save, tmp_path):
    spec = save("npy", table())
    np.savez(tmp_path / "data.npz", X=table())
    (tmp_path / "data.npz").rename(tmp_path / "X.npy")
    assert "X.npy: is not a .npy file" in refusal(spec)


@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS)
def test_an_archive_that_is_none_is_called_so(tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    assert "data.npz: is not a .npz archive" in refusal(SourceSpec(path=str(tmp_path / "data.npz")))


@pytest.mark.parametrize("content", NOT_ARRAYS.values(), ids=NOT_ARRAYS)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_is_no_array_is_refused(tmp_path, compression, content):
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        archive.writestr("X.npy", content)
        archive.writestr("y.npy", as_bytes(LABELS["int64"]))
    text = refusal(SourceSpec(path=str(tmp_path / "data.npz")))
    assert "data.npz: array X: is damaged" in text


@pytest.mark.parametrize("kept", [1, 7, 9, 60, 128, 200, -1])
@pytest.mark.parametrize("wrong", ["X.npy", "y.npy"])
def test_a_truncated_npy_file_is_refused(save, tmp_path, wrong, kept):
    spec = save("npy", table())
    content = (tmp_path / wrong).read_bytes()
    (tmp_path / wrong).write_bytes(content[:kept])
    assert f"{wrong}: is" in refusal(spec)


@pytest.mark.parametrize("kept", [1, 40, 0.5, -30, -1])
@pytest.mark.parametrize("form", ["npz", "compressed"])
def test_a_truncated_archive_is_refused(save, tmp_path, form, kept):
    spec = save(form, table())
    content = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(content[: kept if isinstance(kept, int) else int(len(content) * kept)])
    assert "data.npz: is not a .npz archive" in refusal(spec)


@pytest.mark.parametrize("wrong", ["X", "y"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_cut_short_is_refused(tmp_path, compression, order, wrong):
    members = {"X": as_bytes(table(order=order)), "y": as_bytes(LABELS["int64"])}
    members[wrong] = members[wrong][:-8]
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    assert "cut short" in refusal(SourceSpec(path=str(tmp_path / "data.npz")))


@pytest.mark.parametrize("n_rows", [N_ROWS + 1, 2**40])
@pytest.mark.parametrize("form", FORMS)
def test_a_header_that_promises_more_rows_than_there_are_is_refused(tmp_path, form, n_rows):
    header = io.BytesIO()
    layout = {"descr": "<f8", "fortran_order": False, "shape": (n_rows, 4)}
    np.lib.format.write_array_header_1_0(header, layout)
    content = header.getvalue() + table().tobytes()
    if form == "npy":
        (tmp_path / "X.npy").write_bytes(content)
        assert "X.npy: " in refusal(SourceSpec(path=str(tmp_path / "X.npy"), needs_labels=False))
        return
    compression = zipfile.ZIP_DEFLATED if form == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as archive:
        archive.writestr("X.npy", content)
        archive.writestr("y.npy", as_bytes(LABELS["int64"]))
    assert "data.npz: " in refusal(SourceSpec(path=str(tmp_path / "data.npz"), needs_labels=False))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_damaged_compressed_archive_is_refused_or_read_right(save, tmp_path, order):
    spec = save("compressed", table(order=order))
    content = (tmp_path / "data.npz").read_bytes()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        (tmp_path / "data.npz").write_bytes(damaged)
        try:
            features, labels = whole(open_source(spec), 2)
        except InputError:
            continue
        np.testing.assert_array_equal(features, table())
        assert labels == [str(label) for label in LABELS["int64"]]


@pytest.mark.parametrize("flip", [0xFF, 0x01, 0x20])
def test_a_damaged_header_of_a_npy_file_is_refused_or_read(save, tmp_path, flip):
    spec = save("npy", table())
    content = (tmp_path / "X.npy").read_bytes()
    for at in range(len(content) - table().nbytes):
        damaged = bytearray(content)
        damaged[at] ^= flip
        (tmp_path / "X.npy").write_bytes(damaged)
        try:
            whole(open_source(spec), 2)
        except InputError as error:
            assert "X.npy: " in str(error)


def test_a_damaged_stored_archive_is_refused_or_read(save, tmp_path):
    spec = save("npz", table())
    content = (tmp_path / "data.npz").read_bytes()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        (tmp_path / "data.npz").write_bytes(damaged)
        try:
            whole(open_source(spec), 2)
        except InputError:
            continue


WRONG_PATHS = {
    "missing": ("none.npy", ["no such file", ".csv, .npz or .npy"]),
    "folder": (".", ["is a folder", "give a single"]),
    "folder with an ending": ("folder.npz", ["is a folder", "give a single"]),
    "empty": ("empty.npy", ["is empty"]),
    "empty archive": ("empty.npz", ["is empty"]),
    "unknown ending": ("table.parquet", [".parquet", "rename it .csv, .npz or .npy"]),
    "no ending": ("table", ["missing", "rename it .csv, .npz or .npy"]),
}


@pytest.mark.parametrize(("name", "words"), WRONG_PATHS.values(), ids=WRONG_PATHS)
def test_a_path_that_is_no_source_is_refused_with_the_reason(tmp_path, name, words):
    (tmp_path / "folder.npz").mkdir()
    for empty in ("empty.npy", "empty.npz"):
        (tmp_path / empty).touch()
    for unknown in ("table.parquet", "table"):
        (tmp_path / unknown).write_bytes(as_bytes(table()))
    text = refusal(SourceSpec(path=str(tmp_path / name)))
    assert text.startswith(f"{tmp_path / name}: ")
    for word in words:
        assert word in text


@pytest.mark.parametrize(("name", "word"), [("none.npy", "No such file"), (".", "directory"), ("empty.npy", "No data")])
def test_the_file_of_labels_is_named_where_it_cannot_be_read(save, tmp_path, name, word):
    (tmp_path / "empty.npy").touch()
    text = refusal(SourceSpec(path=save("npy", table()).path, labels_path=str(tmp_path / name)))
    assert text.startswith(f"{tmp_path / name}: ")
    assert word in text
