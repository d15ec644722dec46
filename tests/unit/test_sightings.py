"""Files that are not the same on all nodes, with ranks as threads that each have a root folder of their own."""

import os
import re
import threading

import numpy as np
import pytest
from ranks import on_ranks

from distsoftmax.cluster.first_message import resolved_options
from distsoftmax.config import DataConfig, ObjectiveConfig, ScoringConfig, SolverConfig, TrainConfig
from distsoftmax.data import parts, sightings
from distsoftmax.data.parts import FileState, find_parts
from distsoftmax.errors import InputError


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    """Three working directories, one of the first two ranks, and what the four ranks say of the files of a config."""
    folders = [tmp_path / name for name in ("red", "red", "blue", "green")]
    own, sighting, n_looks = threading.local(), sightings.sighting, []
    for folder in folders:
        folder.mkdir(exist_ok=True)

    def from_here(path):
        n_looks.append(path)
        return sighting(os.path.join(own.folder, path))

    monkeypatch.setattr(sightings, "sighting", from_here)
    monkeypatch.setattr(os, "getcwd", lambda: str(getattr(own, "folder", tmp_path)))

    def require(config):
        def work(cluster):
            own.folder = folders[cluster.rank]
            sightings.require_same_files(resolved_options(config), cluster)

        outcomes = on_ranks(4, work)
        assert len(set(map(str, outcomes))) == 1, outcomes
        assert isinstance(outcomes[0], InputError | None)
        return "" if outcomes[0] is None else str(outcomes[0])

    require.folders, require.n_looks = folders[1:], n_looks
    return require


def train_on(*paths, **options):
    return TrainConfig(data=DataConfig(data=paths, **options))


def rows(text):
    table = [re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith("  ")]
    return [(ranks, os.path.basename(folder), sees) for ranks, _, folder, sees in table[1:]]


def test_a_file_that_only_some_ranks_see_is_named_with_who_does(nodes):
    for folder in nodes.folders[:2]:
        (folder / "d.csv").write_bytes(b"x" * 1234)
    text = nodes(train_on("d.csv"))
    assert text.startswith("--data d.csv: not all ranks see the same; put it on a file system that all nodes share, or")
    assert rows(text) == [
        ("0-1", "red", "a file of 1,234 bytes"),
        ("2", "blue", "a file of 1,234 bytes"),
        ("3", "green", "no such file"),
    ]


def test_one_rank_looks_for_all_that_share_a_node_and_a_folder(nodes):
    assert nodes(train_on("d.csv")) == ""
    assert len(nodes.n_looks) == 3


def test_files_of_other_sizes_or_beginnings_are_told_apart(nodes):
    for number, folder in enumerate(nodes.folders):
        (folder / "size.csv").write_text("1,2\n" * (1 + number // 2))
        (folder / "head.csv").write_text(f"1,{number // 2}\n")
    assert [sees for *_, sees in rows(nodes(train_on("size.csv")))] == [
        "a file of 4 bytes", "a file of 4 bytes", "a file of 8 bytes"
    ]  # fmt: skip
    seen = [sees for *_, sees in rows(nodes(train_on("head.csv")))]
    assert seen[0] == seen[1] != seen[2]
    assert all(re.fullmatch("a file of 4 bytes, CRC-32 [0-9a-f]{8}", text) for text in seen)


def test_copies_of_another_time_are_the_same(nodes):
    for number, folder in enumerate(nodes.folders):
        (folder / "d.csv").write_text("1,2\n")
        os.utime(folder / "d.csv", (number, number))
    assert nodes(train_on("d.csv")) == ""


@pytest.mark.parametrize("word", ["text", "text/*.svm"])
def test_a_folder_or_a_glob_with_fewer_or_other_parts_on_a_node_is_refused(nodes, word):
    for folder in nodes.folders:
        (folder / "text").mkdir()
        for number in range(3):
            (folder / "text" / f"{number}.svm").write_text(f"1 {number + 1}:1\n")
        (folder / "text" / "_SUCCESS").write_text(str(folder))  # counts for nothing
    assert nodes(train_on(word)) == ""
    last = nodes.folders[-1] / "text"
    (last / "2.svm").write_text("1 3:2\n")
    assert "CRC-32" in nodes(train_on(word))
    (last / "2.svm").rename(last / "3.svm")
    assert "CRC-32" in nodes(train_on(word))
    (last / "3.svm").unlink()
    assert [re.search(r"\d+", sees)[0] for *_, sees in rows(nodes(train_on(word)))] == ["3", "3", "2"]
    for path in last.iterdir():
        path.unlink()
    assert rows(nodes(train_on(word)))[-1][2].startswith("nothing: ")


OTHERS = {
    "labels": lambda name: train_on("X.npy", labels=(name,)),
    "valid": lambda name: train_on("d.csv", valid=(name,)),
    "valid-labels": lambda name: train_on("X.npy", valid=("X.npy",), labels=("y.npy",), valid_labels=(name,)),
    "class-weight": lambda name: train_on("d.csv", class_weight=name),
    "init": lambda name: TrainConfig(solver=SolverConfig(init=name)),
    "model": lambda name: ScoringConfig(model=name, data=("d.csv",)),
}


@pytest.mark.parametrize("option", OTHERS)
def test_every_option_that_names_files_is_looked_at(nodes, option):
    (nodes.folders[1] / "file").write_text("here alone")
    assert nodes(OTHERS[option]("file")).startswith(f"--{option} file: not all ranks see the same")


def test_what_no_rank_sees_and_words_that_are_no_files_are_left_to_others(nodes):
    (nodes.folders[0] / "balanced").write_text("")
    assert nodes(train_on("none.csv", class_weight="balanced")) == ""
    assert nodes(TrainConfig(objective=ObjectiveConfig(l2=1.0))) == ""
    assert nodes(train_on("/dev/fd/0")) == ""
    assert "/dev/fd/0" not in nodes.n_looks


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert sightings.sighting(str(tmp_path / "pipe")) == ("no regular file", 0)


def test_of_ten_thousand_words_some_are_looked_at(nodes):
    nodes(train_on(*(f"part-{number}" for number in range(10_000))))
    assert len(nodes.n_looks) <= 3 * sightings.MOST_PARTS


def test_each_rank_compares_a_copy_with_its_own_time_and_a_shared_file_with_the_scans(tmp_path, monkeypatch):
    """A copy that changes is noticed where it lies; times of other nodes' copies are no change."""
    path = tmp_path / "X.npy"
    np.save(path, np.ones(3))
    node, own_time = threading.local(), parts._own_time
    monkeypatch.setattr(parts, "_own_time", lambda state: FileState(**{**vars(own_time(state)), "modified": node.time}))
    for times, shared in ([7, 7, 7], False), ([path.stat().st_mtime_ns] * 3, True), ([7, 8, 9], False):

        def work(cluster, times=times):
            node.time = times[cluster.rank]
            return find_parts((str(path),), cluster)[0]

        states = on_ranks(3, work)
        assert [state.modified for state in states] == times
        if shared:
            states[1].require_unchanged()
        else:
            with pytest.raises(InputError, match="has changed since it was scanned, or is another file on this node"):
                states[1].require_unchanged()
