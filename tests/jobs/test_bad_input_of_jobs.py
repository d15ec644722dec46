"""Bad input ends every rank of a job, with status 2 and one line; tests/unit/test_bad_input.py has the whole table."""

import numpy as np
import pytest

pytestmark = pytest.mark.launcher


def check(ended, words, tmp_path):
    assert ended.status == 2, (ended.status, ended.err)
    (complaint,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert words in complaint
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "runs").exists()


def test_what_one_rank_finds_in_the_data_ends_all(mpirun, tmp_path):
    rows = "".join(f"{i}.5,{i * i % 7},{'xy'[i % 2]}\n" for i in range(40))
    (tmp_path / "d.csv").write_text(f"a,b,kind\n{rows}1,two,x\n")
    ended = mpirun(3, "train", "--data", "d.csv", "--label", "kind", "--out", "run", deadline=60)
    check(ended, "d.csv: row 41, column b: 'two' is not a number", tmp_path)


def test_what_rank_0_finds_in_the_folder_ends_all(mpirun, table, tmp_path):
    ended = mpirun(2, "train", "--data", table, "--label", "kind", "--out", "table.csv/run", deadline=60)
    check(ended, "table.csv is a file", tmp_path)


def test_a_bad_option_and_a_bad_key_of_the_toml_file_are_reported_once(mpirun, tmp_path):
    check(mpirun(2, "train", "--l2=-1", deadline=60), "--l2 is -1.0; it must be a finite number, 0 or more", tmp_path)
    (tmp_path / "run.toml").write_text("[solver]\nlerning-rate = 0.1\n")
    ended = mpirun(2, "train", "--config", "run.toml", deadline=60)
    check(ended, "run.toml: unknown key lerning-rate; did you mean learning-rate?", tmp_path)


def test_an_unknown_option_suggests_the_nearest_and_is_reported_once(mpirun):
    ended = mpirun(2, "train", "--lerning-rate", 0.1, deadline=60)
    assert ended.status == 2
    assert ended.err.count("--learning-rate") == 1
    assert ended.err.count("Unrecognized") <= 2


def test_help_is_printed_once(mpirun):
    ended = mpirun(2, "train", "--help", deadline=60)
    assert ended.status == 0
    assert ended.out.count("--checkpoint-seconds") == 1


def test_data_and_a_checkpoint_that_do_not_fit_end_all(mpirun, table, tmp_path):
    options = ["--data", table, "--label", "kind", "--max-steps", 3, "--out", "first"]
    assert mpirun(2, "train", *options).status == 0
    check(mpirun(3, "train", *options, "--seed", 1, deadline=60), "--seed was 0, now it is 1", tmp_path)
    np.savez(tmp_path / "wide.npz", X=np.ones((5, 9)))
    ended = mpirun(2, "predict", "first", "--data", "wide.npz", "--out", "p.csv", deadline=60)
    check(ended, "has 9 features, the model 4", tmp_path)
    assert not (tmp_path / "p.csv").exists()
