"""Where the results of training may go."""

import os
import subprocess
import sys

import numpy as np
import pytest

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import RunConfig, TrainConfig, model_file
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
