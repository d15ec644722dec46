"""Where the results of training may go, and that one run at a time uses a folder."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import RunConfig, TrainConfig, model_file
from distsoftmax.coordinator import coordinator, lock
from distsoftmax.coordinator.folder import choose_folder
from distsoftmax.errors import InputError
from distsoftmax.model import load_model


def refusal(out):
    with pytest.raises(InputError) as caught:
        choose_folder(TrainConfig(run=RunConfig(out=str(out))), Alone())
    return str(caught.value)


def test_a_link_to_nowhere_is_called_that(tmp_path):
    os.symlink("nowhere", tmp_path / "link")
    for out in (tmp_path / "link", tmp_path / "link" / "run"):
        assert f"{tmp_path / 'link'} is a link to nowhere, which does not exist; make that folder" in refusal(out)


def test_a_link_to_a_folder_is_that_folder(tmp_path):
    os.mkdir(tmp_path / "folder")
    os.symlink("folder", tmp_path / "link")
    assert choose_folder(TrainConfig(run=RunConfig(out=str(tmp_path / "link"))), Alone()) == tmp_path / "link"


@pytest.mark.parametrize(
    "name", [300 * "n", "run/" + 300 * "n", "/".join(30 * [200 * "n"])], ids=["its name", "a name within", "all of it"]
)
def test_a_name_that_is_too_long_is_refused(tmp_path, name):
    text = refusal(tmp_path / name)
    assert text.startswith(f"--out {tmp_path / name}: cannot be made: File name too long")
    with pytest.raises(InputError, match="no such model"):
        load_model(model_file(name))


def test_the_first_line_tells_where_the_digits_are_taken_for_want_of_data(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.eye(40), y=np.arange(40) % 2)
    first = {}
    for name, data in (("digits", ()), ("own", ("--data", "d.npz"))):
        command = [sys.executable, "-m", "distsoftmax.train", "--max-steps", "0", "--out", name, *data]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        first[name] = ended.stdout.splitlines()[0]
    assert first["digits"] == "no --data is given, so this trains on scikit-learn's digits"
    assert first["own"].startswith("40 training samples")


def test_a_working_directory_that_no_file_of_options_can_name_is_refused_before_data_are_read(
    job, tmp_path, monkeypatch
):
    (tmp_path / "donn\udce9es").mkdir()
    monkeypatch.chdir(tmp_path / "donn\udce9es")
    ended = job(2, "train", "--data", "there-is-no-such-file.csv", "--out", tmp_path / "run")
    assert ended.status == 2
    assert r"donn\udce9es' is not UTF-8; rename it, or name absolute paths" in ended.err
    assert not (tmp_path / "run").exists()
    np.savez(tmp_path / "d.npz", X=np.eye(20), y=np.arange(20) % 2)
    words = ["--data", tmp_path / "d.npz", "--max-steps", 1, "--out", tmp_path / "run"]
    assert job(2, "train", *words).status == 0


# --- one run at a time ---

HOLD = """
import sys, time
from pathlib import Path
from distsoftmax.coordinator.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), print)
lock.take()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A folder that another process holds, and that process."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield tmp_path / "run", process
        process.kill()


@pytest.fixture
def small(tmp_path):
    """The words that name a small table."""
    np.savez(tmp_path / "d.npz", X=np.eye(20), y=np.arange(20) % 2)
    return "--data", "d.npz", "--max-steps", 1


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    monkeypatch.setattr(lock, "PATIENCE_ELSEWHERE", 0.0)


def lock_of(folder, note=pytest.fail, **options):
    return lock.FolderLock(folder, note, **options)


def test_a_folder_that_a_run_holds_is_refused_with_its_holder_and_the_remedy(held, no_patience):
    folder, process = held
    with pytest.raises(InputError) as refusal:
        lock_of(folder).take()
    text = str(refusal.value)
    assert text.startswith(f"--out {folder} is in use by another run, process {process.pid} on {os.uname().nodename}, ")
    assert "Wait until it has ended, or name another folder" in text
    assert f"remove {folder / '.lock'}" in text


def test_a_run_that_was_killed_holds_its_folder_no_more(held, no_patience):
    folder, process = held
    process.kill()
    process.wait()
    assert (folder / ".lock").exists()
    own = lock_of(folder)
    own.take()
    assert json.loads((folder / ".lock").read_text())["process"] == os.getpid()
    own.release()


def test_a_run_that_is_about_to_die_is_waited_for(held):
    folder, process = held
    threading.Timer(0.3, process.kill).start()
    own = lock_of(folder)
    own.take()
    own.release()


def test_one_process_may_not_use_a_folder_twice_at_once_but_one_time_after_the_other(tmp_path, no_patience):
    first, second = lock_of(tmp_path), lock_of(tmp_path)
    first.take()
    first.take()
    with pytest.raises(InputError, match="is in use by another run"):
        second.take()
    first.release()
    second.take()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_of_folders_made_for_a_lock_the_empty_ones_go_with_it(tmp_path):
    own = lock_of(tmp_path / "a" / "b")
    own.take()
    own.release()
    assert not (tmp_path / "a").exists()
    own.take()
    (tmp_path / "a" / "result").touch()
    own.release()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "result"]


def test_a_lock_whose_file_was_removed_does_not_count(tmp_path, no_patience):
    """As where its holder has released it between the opening of the file and its locking."""
    first, second = lock_of(tmp_path), lock_of(tmp_path)
    first.take()
    (tmp_path / ".lock").unlink()
    second.take()
    first.release()
    assert (tmp_path / ".lock").exists()
    second.release()


@pytest.mark.parametrize(("timeout", "seconds"), [(0.0, 100), (4.0, 100), (300.0, 330)])
def test_a_holder_on_another_node_is_waited_for_longer_and_the_user_is_told(timeout, seconds, held, monkeypatch):
    folder, process = held
    (folder / ".lock").write_text('{"host": "node7", "process": 9, "started": "today"}\n')
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    threading.Timer(0.5, process.kill).start()
    notes = []
    own = lock_of(folder, notes.append, timeout=timeout)
    own.take()
    own.release()
    (note,) = notes
    waits = f"waiting up to {seconds} s"  # a run whose network is lost ends after its --timeout
    assert note.startswith(f"note: --out {folder} is in use, process 9 on node7, since today; {waits}")


@pytest.mark.parametrize("content", ["", "[" * 900, "[]", '{"host": 3}'])
def test_whatever_stands_in_the_lock_the_refusal_is_one(held, no_patience, content):
    (held[0] / ".lock").write_text(content)
    with pytest.raises(InputError, match="is in use by another run, process"):
        lock_of(held[0]).take()


def unsupported(number):
    def call(descriptor, operation):
        raise OSError(number, os.strerror(number))

    return call


def test_where_flock_is_not_supported_lockf_is_used(tmp_path, monkeypatch):
    operations, real = [], fcntl.lockf

    def lockf(descriptor, operation):
        operations.append(operation)
        real(descriptor, operation)

    monkeypatch.setattr(lock.fcntl, "flock", unsupported(errno.ENOSYS))
    monkeypatch.setattr(lock.fcntl, "lockf", lockf)
    own = lock_of(tmp_path)
    own.take()
    assert operations == [fcntl.LOCK_EX | fcntl.LOCK_NB]
    own.release()


def test_where_there_are_no_locks_a_note_says_so_and_the_run_goes_on(tmp_path, monkeypatch):
    for name in ("flock", "lockf"):
        monkeypatch.setattr(lock.fcntl, name, unsupported(errno.ENOLCK))
    notes = []
    own = lock_of(tmp_path, notes.append)
    own.take()
    own.release()
    assert notes == [
        f"note: {tmp_path} lies on a file system without locks; see to it that no other run has this --out"
    ]


@pytest.mark.parametrize("words", [(), ("--l2-path", "1e-2:1e-3:2")], ids=["a run", "a path"])
def test_a_second_run_is_refused_before_its_data_are_read(job, held, no_patience, words):
    ended = job(2, "train", "--data", "there-is-no-such-file.csv", "--out", held[0], *words)
    assert ended.status == 2
    assert ended.err.startswith(f"error: --out {held[0]} is in use by another run")


@pytest.mark.parametrize("words", [(), ("--l2-path", "1e-2:1e-3:2")], ids=["a run", "a path"])
def test_bad_input_leaves_no_folder_and_a_run_no_lock(job, tmp_path, small, words):
    assert job(2, "train", "--data", "there-is-no-such-file.csv", "--out", "new/run", *words).status == 2
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]
    for _ in range(2):
        assert job(2, "train", *small, "--out", "new/run", *words).status == 0
    assert not list(tmp_path.rglob(".*"))


def test_a_path_holds_its_folder_while_its_runs_go_on(job, tmp_path, small, monkeypatch):
    holders, save = [], coordinator.save_checkpoint

    def look(folder, *arguments, **options):
        holders.append(json.loads((tmp_path / "run" / ".lock").read_text())["process"])
        save(folder, *arguments, **options)

    monkeypatch.setattr(coordinator, "save_checkpoint", look)
    ended = job(2, "train", *small, "--out", "run", "--l2-path", "1e-2:1e-3:2")
    assert ended.status == 0
    assert set(holders) == {os.getpid()}


@pytest.mark.parametrize("inside", [False, True], ids=["from elsewhere", "from its folder"])
def test_a_run_of_a_path_is_left_alone_while_the_path_goes_on(job, held, small, no_patience, inside, monkeypatch):
    folder, process = held
    leg = folder / "path" / "02-l2-1e-03"
    leg.mkdir(parents=True)
    (leg / "config.toml").write_text('[run]\nout = "."\n')
    assert job(1, "train", *small, "--config", leg / "config.toml").status == 0  # no path, only a folder of this name
    (folder / "path.json").touch()
    (leg / "model.safetensors").unlink()
    words = [*small[:1], folder.parent / small[1], *small[2:]]
    if inside:
        monkeypatch.chdir(leg)
    ended = job(1, "train", *words, "--config", "config.toml" if inside else leg / "config.toml")
    assert ended.status == 2
    assert f"is in use by another run, process {process.pid}" in ended.err
    assert not (leg / "model.safetensors").exists()


def test_a_path_is_left_alone_while_one_of_its_runs_goes_on_by_itself(job, tmp_path, small, no_patience):
    words = [*small, "--out", "run", "--l2-path", "1e-2:1e-3:2"]
    assert job(1, "train", *words).status == 0
    (leg, _) = sorted((tmp_path / "run" / "path").iterdir())
    own = lock_of(leg)
    own.take()
    assert "is in use by another run" in job(1, "train", *words).err
    own.release()
    assert job(1, "train", *words).status == 0


def test_a_rank_that_becomes_rank_0_takes_the_folder_over(job, held, small):
    """By opening it again: the process that held it is waited for, what it left is cleared, its metrics go on."""
    folder, process = held
    (folder / ".config.toml.7.tmp").touch()
    threading.Timer(0.3, process.kill).start()
    assert job(1, "train", *small, "--out", folder).status == 0
    assert not list(folder.glob(".*"))
