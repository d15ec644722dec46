"""Parts that are URLs: copied to scratch once a node, as local files give them, and gone with the job."""

import functools
import http.server
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ranks import on_ranks, read

from distsoftmax.config import DataConfig
from distsoftmax.data import remote
from distsoftmax.data.dataset import load_dataset
from distsoftmax.data.parts import find_parts
from distsoftmax.data.remote import RemotePart
from distsoftmax.errors import InputError

pandas = pytest.importorskip("pandas")

fsspec = pytest.importorskip("fsspec")
FRAME = pandas.DataFrame({"a": np.arange(40) % 7, "b": np.arange(40) / 8, "kind": ["cat", "dog"] * 20})


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A scratch folder of the test's own, and a store in memory."""
    monkeypatch.setattr(remote, "_folders", {})
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(remote, "atexit", SimpleNamespace(register=lambda function, folder: None))
    (folder := tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(folder))
    yield folder
    fsspec.filesystem("memory").store.clear()


def put(path, content):
    with fsspec.open(f"memory://{path}", "wb") as file:
        file.write(content)


def parts(folder="/b/d"):
    for number in range(4):
        put(f"{folder}/part-{number}.csv", FRAME[number * 10 : number * 10 + 10].to_csv(index=False).encode())
    put(f"{folder}/_SUCCESS", b"")


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(
    "word", ["memory://b/d", "memory://b/d/", "memory://b/d/part-*.csv", "memory://b/d/part-?.csv"]
)
def test_a_folder_and_a_glob_are_read_as_local_ones_are(scratch, word, ranks):
    parts()
    found = read(word, label="kind", ranks=ranks)
    np.testing.assert_array_equal(found.features, FRAME[["a", "b"]])
    assert found.labels == FRAME["kind"].tolist()
    (copies,) = scratch.iterdir()
    assert copies.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in copies.rglob("part-*")) == [f"part-{number}.csv" for number in range(4)]


def test_a_single_part_beside_a_local_one_and_compressed(scratch, tmp_path):
    FRAME.to_csv(tmp_path / "d.csv.gz", index=False)
    put("/b/d.csv.gz", (tmp_path / "d.csv.gz").read_bytes())
    found = read("memory://b/d.csv.gz", tmp_path / "d.csv.gz", label="kind", ranks=2)
    np.testing.assert_array_equal(found.features, np.tile(FRAME[["a", "b"]], (2, 1)))


def test_keys_in_the_names_of_folders_are_columns(scratch):
    for kind in ("cat", "dog"):
        put(f"/b/t/kind={kind}/0.csv", FRAME[FRAME["kind"] == kind][["a", "b"]].to_csv(index=False).encode())
    for word in ("memory://b/t", "memory://b/t/kind=*/*.csv"):
        assert read(word, label="kind", ranks=2).labels == ["cat"] * 20 + ["dog"] * 20


def test_what_has_changed_is_copied_anew_and_what_has_not_is_not(scratch, monkeypatch):
    parts()
    copied = []
    copy = remote._copy
    monkeypatch.setattr(
        remote, "_copy", lambda part, path, cluster: copied.append(part.url) or copy(part, path, cluster)
    )
    for _ in range(2):
        on_ranks(2, lambda rank: find_parts(("memory://b/d",), rank))
    assert sorted(copied) == [f"memory:///b/d/part-{number}.csv" for number in range(4)]
    put("/b/d/part-3.csv", b"a,b,kind\n1,2,cat\n")
    assert read("memory://b/d", label="kind").source.n_rows == 31


def test_training_on_a_url_gives_the_model_of_the_file(job, scratch):
    parts()
    FRAME.to_csv("d.csv", index=False)
    words = ["--label", "kind", "--l2", 1e-2, "--max-steps", 4]
    (known,) = {job(2, "train", "--data", "d.csv", *words, "--out", "local").sha256}
    ended = job(3, "train", "--data", "memory://b/d", *words, "--warm", "--scratch", scratch, "--out", "run")
    assert ended.sha256 == known
    assert 'data = [\n    "memory://b/d",\n]' in Path("run/config.toml").read_text()
    assert job(2, "evaluate", "run", "--data", "memory://b/d").out == job(1, "evaluate", "run", "--data", "d.csv").out


@pytest.mark.parametrize("tells", [True, False], ids=["a version", "no version"])
def test_a_restart_copies_nothing_where_the_parts_tell_that_they_have_not_changed(
    scratch, tmp_path, monkeypatch, tells
):
    parts()
    (warm := tmp_path / "warm").mkdir()
    config, copied, copy, of = DataConfig(data=("memory://b/d",), label="kind"), [], remote._copy, RemotePart.of
    monkeypatch.setattr(remote, "_copy", lambda part, *more: copied.append(part.url) or copy(part, *more))
    if not tells:
        monkeypatch.setattr(RemotePart, "of", lambda url, about: replace(of(url, about), version=""))

    def load():
        copied.clear()
        remote._folders.clear()  # as in another process
        (digests, *_) = [
            dataset.shard_digests.tolist()
            for dataset in on_ranks(2, lambda rank: load_dataset(config, True, rank, warm=warm))
        ]
        return digests, len(copied)

    first = load()
    assert first[1] == 4
    assert load() == (first[0], 0 if tells else 4)
    put("/b/d/part-3.csv", b"a,b,kind\n1,2,cat\n")
    changed = load()
    assert changed[1] == 4
    assert changed[0] != first[0]


def refusal(*words, ranks=2):
    outcomes = on_ranks(ranks, lambda rank: find_parts(words, rank))
    assert all(isinstance(outcome, InputError) and outcome.agreed for outcome in outcomes), outcomes
    (text,) = set(map(str, outcomes))
    return text


REFUSED = {
    "memory://b/none.csv": "memory://b/none.csv: cannot be listed: there is no such file",
    "memory://b/none*.csv": "memory://b/none*.csv: matches no file, or is a folder with no parts in it",
    "nosuch://b/d.csv": "nosuch://b/d.csv: fsspec knows no nosuch://",
    "https://me:secret@example.org/d.csv": "https://example.org/d.csv: the URL holds a password or a signature",
    "https://example.org/d.csv?X-Amz-Signature=secret": "https://example.org/d.csv: the URL holds a password or a",
    "https://example.org/d.csv?sp=r&sig=secret": "https://example.org/d.csv: the URL holds a password or a signature",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_cannot_be_read_is_refused_on_all_ranks_without_its_secrets(scratch, word):
    text = refusal(word)
    assert REFUSED[word] in text
    assert "secret" not in text
    assert "me:" not in text


def test_a_missing_package_is_named(scratch, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert "pip install 'distsoftmax[remote]'" in refusal("memory://b/d.csv")
    monkeypatch.undo()


def test_a_missing_package_of_a_store_is_named(scratch):
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401
    except ImportError:
        assert "s3://b/d.csv: s3:// needs another package: pip install 's3fs'" in refusal("s3://b/d.csv")


def test_a_scratch_without_room_is_refused_before_anything_is_copied(scratch, monkeypatch):
    parts()
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    assert "has 0 MiB free, and 1 MiB are needed for copies of the parts" in refusal("memory://b/d")
    assert not [*scratch.rglob("part-*")]


@pytest.mark.parametrize("failures", [2, 99])
def test_a_read_that_fails_is_tried_again_and_not_for_ever(scratch, monkeypatch, failures):
    parts()
    memory = type(fsspec.filesystem("memory"))
    opened, lock = [], threading.Lock()
    open_file = memory.open

    def open_badly(self, path, *arguments, **options):
        with lock:
            opened.append(path)
        if sum(path == before for before in opened) <= failures:
            raise OSError("the line went dead at https://me:secret@store/x?sig=secret")
        return open_file(self, path, *arguments, **options)

    monkeypatch.setattr(memory, "open", open_badly)
    if failures == 2:
        assert len(on_ranks(2, lambda rank: find_parts(("memory://b/d",), rank))[0]) == 4
    else:
        text = refusal("memory://b/d")
        assert "cannot be read, after 4 attempts: OSError: the line went dead at https://store/x" in text
        assert "secret" not in text


def test_a_part_that_comes_short_is_no_part(scratch, monkeypatch):
    parts()
    monkeypatch.setattr(remote, "RemotePart", functools.partial(remote.RemotePart))
    of = remote.RemotePart.func.of

    class Longer(remote.RemotePart.func):
        @classmethod
        def of(cls, url, about):
            return of(url, {**about, "size": about["size"] + 1})

    monkeypatch.setattr(remote, "RemotePart", Longer)
    assert "bytes came" in refusal("memory://b/d")
    assert not [path for path in scratch.rglob("*") if path.is_file() and path.name != "in-use"]


def test_the_copies_are_gone_with_the_process(tmp_path):
    (tmp_path / "scratch").mkdir()
    program = (
        "import fsspec\nfrom distsoftmax.cluster.communicator import Alone\n"
        "from distsoftmax.data.parts import find_parts\n"
        "with fsspec.open('memory://b/d.csv', 'wb') as file: file.write(b'a')\n"
        f"print(find_parts(('memory://b/d.csv',), Alone(), {str(tmp_path / 'scratch')!r})[0].path)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip().endswith("memory/b/d.csv")
    assert not Path(ended.stdout.strip()).exists()
    assert [*(tmp_path / "scratch").iterdir()] == []


def test_a_file_on_the_web_is_read(scratch, tmp_path):
    pytest.importorskip("aiohttp")
    FRAME.to_csv(tmp_path / "d.csv", index=False)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/d.csv"
            np.testing.assert_array_equal(read(url, label="kind", ranks=2).features, FRAME[["a", "b"]])
            assert "there is no such file" in refusal(url.replace("d.csv", "none.csv"))
        finally:
            server.shutdown()
            thread.join()
