"""How an evaluation is shown: within the width of a terminal, whatever the classes are called and however many."""

from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from distsoftmax.objective.classification_report import N_BINS, ClassificationReport
from distsoftmax.scoring.report_table import as_table, shortened

NAMES = {
    "iris": ["setosa", "versicolor", "virginica"],
    "letters": [chr(65 + number) for number in range(26)],
    "long": [
        f"a class whose name of {number} is longer than a line of a terminal can hold of it" for number in range(9)
    ],
    "wide": [f"一个很长的类别名称，终端的一行放不下，第{number}个" for number in range(5)],
    "digits": [str(number) for number in range(40)],
    "many": [f"class {number}" for number in range(1000)],
}


def report(names, n_samples=3000):
    generator = np.random.default_rng(len(names))
    true = generator.integers(0, len(names), n_samples)
    predicted = np.where(generator.random(n_samples) < 0.8, true, generator.integers(0, len(names), n_samples))
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (true, predicted), 1)
    by_class = np.stack([confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)])
    bins = np.zeros((2, N_BINS), dtype=np.int64)
    bins[:, -1] = n_samples, confusion.trace()
    return ClassificationReport(tuple(names), by_class, confusion, 0.5, bins, np.full(N_BINS, 0.95))


@pytest.mark.parametrize("width", [48, 80, 200])
@pytest.mark.parametrize("kind", NAMES)
def test_no_line_is_wider_than_the_terminal(kind, width):
    assert max(map(cell_len, as_table(report(NAMES[kind]), width).splitlines())) <= width


@pytest.mark.parametrize("width", [48, 80])
@pytest.mark.parametrize("kind", ["iris", "letters", "long", "digits"])
def test_every_count_of_the_matrix_is_shown_once(kind, width):
    found = report(NAMES[kind])
    columns = [[] for _ in found.classes]
    for group in as_table(found, width).split("confusion matrix")[1].split("\n\n"):
        head, *rows = group.splitlines()[-len(found.classes) - 1 :]
        for counts, row in zip(columns, rows, strict=True):
            counts += [int(word) for word in row.split()[-len(head.split()) :]]
    assert columns == found.confusion.tolist()


def test_of_many_classes_the_worst_and_the_most_confused_are_shown_and_how_to_get_all():
    found = report(NAMES["many"])
    text = as_table(found, 80)
    lines = text.splitlines()
    assert len(lines) < 60
    shown = [float(line.split()[4]) for line in lines if line.startswith("class ") and len(line.split()) == 6]
    assert shown == sorted(found.f1.round(4).tolist())[:20]
    errors = found.confusion - np.diag(found.confusion.diagonal())
    pairs = [int(line.split("(")[0].split()[-1]) for line in lines if line.endswith("%)")]
    assert pairs == sorted(errors.ravel().tolist(), reverse=True)[:20]
    assert text.endswith("--json has all 1000 classes and the whole confusion matrix")


def test_without_a_matrix_it_is_said_that_confusions_are_not_counted():
    found = replace(report(NAMES["many"]), confusion=None)
    text = as_table(found, 80)
    assert "with 1000 classes it is not counted which are confused with which" in text
    assert text.endswith("--json has all 1000 classes")


@pytest.mark.parametrize("width", range(4, 30))
@pytest.mark.parametrize("name", ["versicolor", NAMES["long"][0], NAMES["wide"][0], "a", ""])
def test_a_long_name_keeps_its_beginning_and_its_end(name, width):
    short = shortened(name, width)
    assert cell_len(short) <= width
    if cell_len(name) > width:
        begin, end = (part.strip() for part in short.split("..", 1))
        assert name.startswith(begin)
        assert name.endswith(end)
    else:
        assert short == name
