"""The look at samples before training, as a command: alone and on several ranks."""

import json
import shlex

import numpy as np
import pytest


def test_it_says_what_a_user_wants_to_know(job, table):
    ended = job(1, "describe", table, "--label", "kind")
    for words in ("csv, 1 file", "300 rows, 4 features, dense", "3 classes", "missing values: none", "16 shards"):
        assert words in ended.out
    assert "nothing is wrong with it" in ended.out


def test_several_parts_are_one_source(job, table, tmp_path):
    header, *lines = table.read_text().splitlines(keepends=True)
    for number in range(3):
        (tmp_path / f"part-{number}.csv").write_text(header + "".join(lines[number::3]))
    ended = job(2, "describe", "part-0.csv", "part-1.csv", "part-2.csv", "--label", "kind", "--json")
    found = json.loads(ended.out)
    assert (found["files"], found["rows"], found["problems"]) == (3, 300, [])


def test_what_would_stop_training_is_listed_and_ends_with_status_2(job, table):
    table.write_text(table.read_text() + "1,,cat,3,inf\n")
    by_itself = job(1, "describe", table, "--label", "kind")
    together = job(3, "describe", table, "--label", "kind")
    training = job(3, "train", "--data", table, "--label", "kind", "--out", "run")
    assert by_itself.status == together.status == training.status == 2
    assert together.out == by_itself.out
    assert [line.partition(":")[0] for line in together.out.splitlines()[-2:]] == ["error", "error"]
    (complaint,) = (line for line in training.err.splitlines() if line.startswith("error: "))
    assert complaint in together.out


def test_without_a_label_it_says_how_to_name_one(job, table):
    ended = job(2, "describe", table)
    assert ended.status == 0
    assert "say which column holds the label with --label; the columns are a, b, kind, c, d" in ended.out


def test_what_the_reader_notes_of_its_reading_stands_apart(job, tmp_path):
    (tmp_path / "d.svm").write_text("".join(f"{row % 2} qid:{row} 1:{row} 3:2\n" for row in range(40)))
    by_itself = job(1, "describe", "d.svm")
    together = job(3, "describe", "d.svm")
    assert by_itself.out == together.out
    assert together.err == "note: d.svm: the query ids (qid) are ignored\n"


def test_no_data_is_refused(job):
    ended = job(2, "describe", "--label", "kind")
    assert ended.status == 2
    assert "no samples are given" in ended.err


def suggested(job, *words):
    """The command line that describe suggests, and the words after the command; the same in both forms."""
    shown, told = job(1, "describe", *words), json.loads(job(2, "describe", *words, "--json").out)
    line = told["suggestion"]
    assert line == shown.out.splitlines()[-1]
    words = shlex.split(line)
    return line, words[words.index("distsoftmax.train") + 1 :]


def rows_of_a_table(n=160):
    """Rows with missing numbers, a text column, a column that names the rows, weights and a label."""
    return [f"{i % 5 or ''},{['red', 'light blue'][i % 2]},{i % 3},id{i},{'ab'[i % 7 > 3]}" for i in range(n)]


@pytest.mark.parametrize(
    ("head", "words", "expected"),
    [
        (
            "a size,colour,w,id,the kind",
            ["--label", "the kind", "--weight", "w"],
            "--data 'a table.csv' --label 'the kind' --weight w --one-hot colour --drop id "
            "--impute mean --valid-fraction 0.2 --l2 1e-2",
        ),
        (
            None,
            ["--label", 4, "--weight", 2, "--header", "no"],
            "--data 'a table.csv' --label 4 --weight 2 --one-hot 1 --drop 3 --header no --impute mean "
            "--valid-fraction 0.2 --l2 1e-2",
        ),
    ],
    ids=["names", "numbers"],
)
def test_the_command_that_is_suggested_trains(job, tmp_path, head, words, expected):
    (tmp_path / "a table.csv").write_text("\n".join([*([head] if head else []), *rows_of_a_table()]) + "\n")
    line, training = suggested(job, "a table.csv", *words)
    assert line == f"python -m distsoftmax.train {expected}"
    ended = job(1, "train", *training, "--out", "run")
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize(("size", "is_safe"), [(3, False), (10, True)])
def test_samples_are_held_out_where_no_class_is_at_risk_to_be_held_out_whole(job, tmp_path, size, is_safe):
    rows = [f"{row},{row % 7},class {row // size}" for row in range(40 * size)]
    (tmp_path / "small.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    _, training = suggested(job, "small.csv", "--label", "kind")
    assert ("--valid-fraction" in training) == is_safe


def test_the_one_column_of_text_is_suggested_as_the_label(job, table):
    _, training = suggested(job, table)
    assert training[:4] == ["--data", str(table), "--label", "kind"]
    assert job(1, "train", *training, "--out", "run").status == 0


def test_options_that_were_given_are_suggested_again(job, tmp_path):
    np.save(tmp_path / "X.npy", np.arange(90.0).reshape(30, 3))
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    _, training = suggested(job, "X.npy", "--labels", "y.npy", "--dtype", "float32", "--shards", 4)
    assert training == [
        *("--data", "X.npy", "--labels", "y.npy", "--dtype", "float32", "--shards", "4", "--l2", "1e-2"),
    ]  # 6 held-out samples would tell nothing
    assert job(1, "train", *training, "--out", "run").status == 0


@pytest.mark.parametrize(
    "content",
    ["a;kind\n" + "".join(f"{i % 3},5;{'xy'[i % 2]}\n" for i in range(30)), "kind\nx\ny\nx\ny\n"],
    ids=["decimal comma", "labels alone"],
)
@pytest.mark.parametrize("words", [["--label", "kind"], []])
def test_a_command_that_would_not_help_is_not_suggested(job, tmp_path, content, words):
    (tmp_path / "d.csv").write_text(content)
    ended = job(1, "describe", "d.csv", *words)
    assert "distsoftmax.train" not in ended.out + ended.err


@pytest.mark.parametrize(
    "line", ["1,2,cat,3,inf", "1,two,cat,3,4", "1,2,cat,3,1e200"], ids=["infinite", "word", "large"]
)
def test_where_only_the_user_can_tell_the_remedy_nothing_is_suggested(job, table, line):
    table.write_text(f"{table.read_text()}{line}\n")
    ended = job(1, "describe", table, "--label", "kind", "--json")
    assert (ended.status, json.loads(ended.out)["suggestion"]) == (2, None)
    assert job(1, "describe", table, "--label", "kind").out.splitlines()[-1].startswith(("error: ", "note: "))


def test_ranks_are_suggested_where_there_is_work_for_them(job, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    np.savez(tmp_path / "large.npz", X=np.arange(2_100_000.0).reshape(-1, 3), y=np.arange(700_000) % 2)
    np.savez(tmp_path / "small.npz", X=np.arange(60.0).reshape(-1, 3), y=np.arange(20) % 2)
    assert suggested(job, "large.npz")[0].startswith("mpirun -n 8 python -m distsoftmax.train --data large.npz ")
    assert suggested(job, "small.npz")[0].startswith("python -m ")
    assert suggested(job, "small.npz", "--ranks", 3)[0].startswith("mpirun -n 3 python -m ")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert suggested(job, "large.npz")[0].startswith("python -m ")
