"""Paths in files of options: where those of a hand-written one are looked for, and that a saved one works anywhere."""

import json
import os
import shutil

import numpy as np
import pytest
import tomli_w

from distsoftmax.command_line import parse
from distsoftmax.config import TrainConfig
from distsoftmax.config.file_paths import lasting
from distsoftmax.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with the folders `project` and `other` in it."""
    for name in ("project", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path, *words):
    return parse(TrainConfig, ["--config", str(path), *words], "train")


def written(path, **options):
    path.write_text(tomli_w.dumps(options))
    return path


def test_relative_paths_count_from_the_folder_of_the_file(here):
    for name in ("a.csv", "b.csv", "weights.json"):
        (here / "project" / name).touch()
        (here / name).touch()
    options = {
        "data": ["a.csv", "*.csv"],
        "class-weight": "weights.json",
        "valid": "b.csv",
        "init": "./",
        "out": "runs/x",
    }
    found = read(written(here / "project" / "run.toml", **options))
    folder = str(here / "project")
    assert found.data.data == (f"{folder}/a.csv", f"{folder}/*.csv")
    assert (found.data.class_weight, found.data.valid) == (f"{folder}/weights.json", (f"{folder}/b.csv",))
    assert (found.solver.init, found.run.out) == (f"{folder}/./", f"{folder}/runs/x")


def test_a_path_out_of_the_folder_of_the_file_holds_when_that_folder_is_moved(here, monkeypatch):
    (here / "a.csv").touch()
    (here / "link").symlink_to(here / "project" / "deep")
    (here / "project" / "deep").mkdir()
    (here / "project" / "a.csv").touch()
    found = read(written(here / "project" / "run.toml", data=["../a.csv", "../*.csv"]))
    assert found.data.data == (f"{here}/a.csv", f"{here}/*.csv")
    found = read(written(here / "project" / "run.toml", data="../link/../a.csv"))
    assert os.path.samefile(found.data.data[0], here / "project" / "a.csv")  # .. of a link is not beside it
    monkeypatch.chdir(here / "project")
    assert lasting("data", "../a.csv") == f"{here}/a.csv"


def test_what_is_no_path_or_holds_anywhere_stays_as_it_is(here):
    data = ["/data/a.csv", "s3://bucket/b.csv", "https://host/c.csv"]
    options = {"data": data, "class-weight": "balanced", "label": "kind", "out": "/runs/x"}
    found = read(written(here / "project" / "run.toml", **options))
    assert found.data.data == tuple(data)
    assert (found.data.class_weight, found.data.label, found.run.out) == ("balanced", "kind", "/runs/x")


def test_what_is_only_in_the_working_directory_is_found_there(here):
    (here / "a.csv").touch()
    assert read(written(here / "project" / "run.toml", data="a.csv")).data.data == ("a.csv",)
    assert read(written(here / "project" / "run.toml", data="*.csv")).data.data == ("*.csv",)


def test_what_is_in_neither_folder_is_refused_with_both_unless_the_command_line_has_another(here):
    path = written(here / "project" / "run.toml", data="none.csv")
    with pytest.raises(InputError) as refusal:
        read(path)
    assert str(refusal.value) == (
        f"{path}: data is none.csv, and that is neither in {here / 'project'} nor in the working directory {here}. "
        "Correct it, or write an absolute path"
    )
    assert read(path, "--data", "other.csv").data.data == ("other.csv",)


def test_the_folder_of_results_that_an_older_version_saved_is_found(here):
    (here / "runs" / "old").mkdir(parents=True)
    assert read(written(here / "runs" / "old" / "config.toml", out="runs/old")).run.out == "runs/old"
    assert read(written(here / "project" / "run.toml", out="runs/old")).run.out == "runs/old"
    (here / "project" / "runs" / "old").mkdir(parents=True)
    assert read(written(here / "project" / "run.toml", out="runs/old")).run.out == f"{here}/project/runs/old"


@pytest.mark.parametrize(
    ("name", "value", "saved"),
    [
        ("data", ("a.csv", "/b.csv", "s3://c/d"), ["{}/a.csv", "/b.csv", "s3://c/d"]),
        ("data", ("[ab].csv",), ["{}/[[]1]/[ab].csv"]),
        ("class-weight", "balanced", "balanced"),
        ("class-weight", "weights.json", "{}/weights.json"),
        ("class-weight", '{"x": 1, "y": 2}', '{{"x": 1, "y": 2}}'),
        ("label", "a.csv", "a.csv"),
    ],
    ids=str,
)
def test_what_is_saved_holds_from_anywhere(name, value, saved, here, monkeypatch):
    folder = here
    if "[" in value[0]:  # a pattern, in a folder whose name looks like one
        (here / "[1]").mkdir()
        monkeypatch.chdir(here / "[1]")
    filled = [text.format(folder) for text in saved] if isinstance(saved, list) else saved.format(folder)
    assert lasting(name, value) == filled


@pytest.mark.parametrize("path", [(), ("--l2-path", "1e-2:1e-3:2")], ids=["a run", "a path"])
def test_a_run_goes_on_from_any_folder_and_where_it_was_moved_to(path, here, job, monkeypatch):
    np.savez("table.npz", X=np.eye(40), y=np.arange(40) % 2)
    started = job(2, "train", "--data", "table.npz", *path, "--max-steps", 3, "--out", "runs/x")
    assert started.status == 0, started.err
    monkeypatch.chdir(here / "other")
    again = job(2, "train", "--config", "../runs/x/config.toml")
    assert "resumed from ../runs/x/" in again.out
    shutil.move(here / "runs" / "x", here / "project" / "moved")
    again = job(3, "train", "--config", here / "project" / "moved" / "config.toml")
    assert f"resumed from {here}/project/moved/" in again.out
    assert again.sha256 == started.sha256
    assert os.listdir(here / "other") == []
    assert json.loads((here / "project" / "moved" / "result.json").read_text())["model_sha256"] == started.sha256
