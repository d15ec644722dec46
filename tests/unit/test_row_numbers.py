"""A column that numbers the rows is pointed out, by describe and by training, and nothing else is."""

import json

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")

N_ROWS = 60
GENERATOR = np.random.default_rng(4)
A = GENERATOR.standard_normal(N_ROWS).round(3)
KINDS = np.where(A > 0, "cat", "dog")
ORDER = np.arange(N_ROWS)
SHUFFLED = GENERATOR.permutation(N_ROWS)

# the name and the values of a column, and whether it numbers the rows
COLUMNS = {
    "from 0": ("n", ORDER, True),
    "from 1": ("n", ORDER + 1, True),
    "as floats": ("n", ORDER.astype(float), True),
    "a likely name in any order": ("Unnamed: 0", SHUFFLED, True),
    "another likely name": ("user_id", SHUFFLED + 1, True),
    "a likely name with its last twice": ("id", np.append(SHUFFLED[:-1], SHUFFLED[0]), False),
    "a likely name with other numbers": ("id", ORDER * 2, False),
    "a likely name with fractions": ("id", ORDER + 0.5, False),
    "a likely name with negative ones": ("id", ORDER - 1, False),
    "any order under another name": ("n", SHUFFLED, False),
    "falling": ("n", ORDER[::-1], False),
    "from 2": ("n", ORDER + 2, False),
    "two that have changed places": ("n", np.concatenate([[0, 2, 1], ORDER[3:]]), False),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_it_is_pointed_out_on_any_number_of_ranks(job, name):
    column, values, is_pointed_out = COLUMNS[name]
    kind = "parquet" if len(name) % 2 else "csv"
    frame = pandas.DataFrame({"a": A, column: values, "kind": KINDS})
    frame.to_csv("d.csv", index=False) if kind == "csv" else frame.to_parquet("d.parquet")
    word = "'Unnamed: 0'" if column.startswith("U") else column
    said = f"d.{kind}: column {column} numbers the rows, and is of no use for new ones; leave it out with --drop {word}"
    for ranks in (1, 3) if "likely" in name else (2,):
        problems = json.loads(job(ranks, "describe", f"d.{kind}", "--label", "kind", "--json").out)["problems"]
        assert ({"severity": "note", "text": said} in problems) == is_pointed_out, problems
    ended = job(2, "train", "--data", f"d.{kind}", "--label", "kind", "--max-steps", 1, "--out", "run")
    assert (said in ended.out) == is_pointed_out, ended.out


def test_the_index_that_pandas_writes_has_an_empty_name_and_is_left_out_as_it_says(job):
    pandas.DataFrame({"a": A, "kind": KINDS}).to_csv("d.csv")
    ended = job(2, "train", "--data", "d.csv", "--label", "kind", "--max-steps", 1, "--out", "run")
    assert "column '' numbers the rows, and is of no use for new ones; leave it out with --drop ''" in ended.out
    words = ["--label", "kind", "--drop", "", "--max-steps", 1, "--out", "again"]
    ended = job(2, "train", "--data", "d.csv", *words)
    assert ended.status == 0
    assert "x 1 features" in ended.out
    assert "numbers the rows" not in ended.out


def test_a_column_without_a_name_is_dropped_by_its_number(job):
    pandas.DataFrame({"a": A, "n": ORDER, "kind": KINDS}).to_csv("d.csv", index=False, header=False)
    ended = job(1, "train", "--data", "d.csv", "--label", 2, "--max-steps", 1, "--out", "run")
    assert "column x1 numbers the rows, and is of no use for new ones; leave it out with --drop 1" in ended.out


def test_rows_that_are_left_out_keep_their_numbers(job):
    texts = [str(value) if row % 7 else "" for row, value in enumerate(A)]
    pandas.DataFrame({"a": texts, "n": ORDER, "kind": KINDS}).to_csv("d.csv", index=False)
    words = ["--label", "kind", "--drop-rows-missing", "--max-steps", 1, "--out", "run"]
    assert "column n numbers the rows" in job(3, "train", "--data", "d.csv", *words).out


def test_an_array_has_no_option_for_it(job):
    np.savez("d.npz", X=np.column_stack([A, ORDER]), y=KINDS)
    ended = job(2, "train", "--data", "d.npz", "--max-steps", 1, "--out", "run")
    assert "d.npz: column x1 numbers the rows, and is of no use for new ones; leave it out\n" in ended.out


def test_in_few_rows_nothing_is_said(job):
    pandas.DataFrame({"a": A, "n": ORDER, "kind": KINDS}).head(12).to_csv("d.csv", index=False)
    assert "numbers the rows" not in job(1, "describe", "d.csv", "--label", "kind").out
