"""The folder of a run in scratch: whose it is, who may remove it, and what a crash leaves."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from distsoftmax import scratch
from distsoftmax.errors import OutputError
from distsoftmax.scratch import private_folder, remove_abandoned, remove_private_folder

USE = """
import sys
from pathlib import Path
from distsoftmax.scratch import private_folder
print(private_folder(sys.argv[1], Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


def age(folder):
    os.utime(folder, (0, 0))


def left_by_a_crash(root, run="run"):
    done = subprocess.run(
        [sys.executable, "-c", USE, root, run], input="", capture_output=True, text=True, check=True, timeout=60
    )
    return Path(done.stdout.strip())


def test_a_run_has_one_folder_that_nobody_else_can_look_into(tmp_path):
    folder = private_folder(tmp_path, Path("runs/wine"))
    assert folder == private_folder(str(tmp_path), Path("runs/../runs/wine").absolute())
    assert folder != private_folder(tmp_path, Path("runs/other"))
    for made in (folder, folder.parent):
        assert made.stat().st_mode & 0o777 == 0o700
    assert folder.parent == tmp_path / f"distsoftmax-{os.geteuid()}"


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("kind", ["link", "file", "open", "foreign"])
def test_what_somebody_else_has_put_in_its_place_is_refused(tmp_path, level, kind, monkeypatch):
    folder = private_folder(tmp_path, Path("run"))
    remove_private_folder(folder)
    planted = (folder.parent, folder)[level]
    planted.parent.mkdir(mode=0o700, exist_ok=True)
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        planted.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        planted.touch()
    else:
        planted.mkdir(mode=0o700)
        planted.chmod(0o755 if kind == "open" else 0o700)
    if kind == "foreign":
        real = os.lstat

        def of_another_user(path):
            status = list(real(path))
            status[4] += path == planted
            return os.stat_result(status)

        monkeypatch.setattr(os, "lstat", of_another_user)
    with pytest.raises(OutputError, match=rf"{planted}: .*--scratch"):
        private_folder(tmp_path, Path("run"))
    assert list(planted.iterdir() if planted.is_dir() else []) in ([], [folder])


def test_a_root_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"nowhere/distsoftmax-\d+: cannot be used: No such file.*--scratch"):
        private_folder(tmp_path / "nowhere", Path("run"))


def test_only_old_folders_that_no_process_uses_are_abandoned(tmp_path):
    abandoned, fresh = left_by_a_crash(tmp_path, "old"), left_by_a_crash(tmp_path, "fresh")
    (abandoned / "samples").write_text("many")
    with subprocess.Popen(
        [sys.executable, "-c", USE, tmp_path, "used"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        used = Path(user.stdout.readline().strip())
        own = private_folder(tmp_path, Path("own"))
        without_lock = own.parent / "0123"
        without_lock.mkdir()
        for folder in (abandoned, used, own, without_lock):
            age(folder)
        remove_abandoned(tmp_path)
        assert sorted(own.parent.iterdir()) == sorted([fresh, used, own])
        user.communicate("")
    remove_abandoned(tmp_path)
    assert sorted(own.parent.iterdir()) == sorted([fresh, own])
    assert own == private_folder(tmp_path, Path("own"))
    assert time.time() - own.stat().st_mtime < 100


def test_removing_the_last_folder_leaves_nothing(tmp_path):
    folder = private_folder(tmp_path, Path("run"))
    (folder / "samples").write_text("many")
    for _ in range(2):
        remove_private_folder(folder)
    assert list(tmp_path.iterdir()) == []
    remove_abandoned(tmp_path)


def test_a_folder_that_is_removed_while_it_is_asked_for_is_made_again(tmp_path, monkeypatch):
    """Threads make the folder of one run and remove what is abandoned, where every folder is."""
    monkeypatch.setattr(scratch, "ABANDONED_SECONDS", -1.0)
    errors, stop = [], time.monotonic() + 1.0

    def work(number):
        try:
            while time.monotonic() < stop:
                if number % 2:
                    remove_abandoned(tmp_path)
                    continue
                folder = private_folder(tmp_path, Path(f"run{number}"))
                assert (folder / scratch.LOCK).exists()
                remove_abandoned(tmp_path)
                assert (folder / scratch.LOCK).exists(), "removed while it is used"
                remove_private_folder(folder)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
