"""The look at samples before training, as a command: alone and on several ranks."""

import json


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
