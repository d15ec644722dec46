"""The report on runs: one page that says what their folders hold, whatever that is, and pictures."""

import itertools
import json
import os
import re
import shlex
import struct
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported_runs import metrics_of, write_path, write_run

import distsoftmax
from distsoftmax import command_line, report
from distsoftmax.config import TrainConfig
from distsoftmax.config.file_paths import lasting
from distsoftmax.coordinator.folder import resuming_options
from distsoftmax.coordinator.lock import FolderLock
from distsoftmax.model import Encoding, Model
from distsoftmax.reporting import canvas, run_facts
from distsoftmax.reporting import page as page_module
from distsoftmax.reporting.canvas import LIGHT, Picture, as_svg
from distsoftmax.reporting.coefficients import coefficients_block
from distsoftmax.reporting.diagrams import confusion_picture
from distsoftmax.reporting.evaluation import evaluation_of
from distsoftmax.reporting.history import read_history, thinned
from distsoftmax.reporting.record import Record, read_json, read_options, shown

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

VOID = {"meta", "link", "br", "hr", "img", "input"}
NASTY = [
    "<script>alert(1)</script>",
    "\"'&amp;",
    "$x^2$",
    "$\\frac",
    "\u202eevil\0",
    "猫 🐈",
    "a" * 500,
    "#a1b201",
    "0.123456789",
]


class Page(HTMLParser):
    """A page that has been read: its elements with their attributes, its text, and whether all that opens closes."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data + " "

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run, in the test's own."""
    monkeypatch.chdir(tmp_path)
    return write_run(tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run, and the file of its page with all pictures, which tests only look at."""
    folder = write_run(tmp_path_factory.mktemp("whole") / "run")
    out = folder.parent / "page.html"
    assert report.main([str(folder), "--out", str(out)]) == 0
    return folder, out


@pytest.fixture
def made(capsys, monkeypatch):
    """Make a report, and return its page; its pictures are left out, which take their time."""
    monkeypatch.setattr(page_module, "as_svg", lambda picture: "<svg></svg>")

    def made(*words):
        assert report.main([*map(str, words), "--out", "page.html"]) == 0, capsys.readouterr().err
        return Page(Path("page.html").read_text("utf-8"))

    return made


@pytest.fixture
def refused(capsys):
    """Return the one line that is said of a report that cannot be made."""

    def refused(*words):
        assert report.main([*map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return refused


# --- the page ---


def test_a_page_loads_nothing_runs_nothing_and_refers_to_itself_alone(whole):
    content = whole[1].read_text("utf-8")
    page = Page(content)
    assert not {"script", "link", "iframe", "object", "img", "base", "form"} & {tag for tag, _ in page.elements}
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith("#"), attributes
            assert attributes.get(name, "#")[1:] in ids | {""}
        for reference in re.findall(r"url\(([^)]*)\)", " ".join(filter(None, attributes.values()))):
            assert reference.lstrip("#") in ids
    assert "@import" not in content
    assert "http" not in content.replace("http-equiv", "")


def test_a_page_can_be_read_without_being_seen(whole):
    page = Page(whole[1].read_text("utf-8"))
    drawings = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert len(drawings) == len(page.all("svg")) >= 9
    assert all(len(drawing["aria-label"]) > 20 for drawing in drawings)
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def contrast(one, other):
    """The contrast of two colours, by WCAG 2.2."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_colours_have_contrast_in_light_and_in_dark(whole):
    style = re.search("<style>(.*?)</style>", whole[1].read_text("utf-8"), re.DOTALL)[1]
    sets = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in style.split("@media")[:2]]
    assert sets[0].items() >= LIGHT.items()
    assert sets[0].keys() == sets[1].keys()
    for colours in sets:
        for name, colour in colours.items():
            if name in ("ink", "muted"):
                assert contrast(colour, colours["surface"]) >= 5.5, name
                assert contrast(colour, colours["wash"]) >= 4.5, name
            elif name.startswith("series"):
                assert contrast(colour, colours["surface"]) >= 3, name
            elif f"{name}-wash" in colours:
                assert contrast(colour, colours[f"{name}-wash"]) >= 4.5, name


def test_a_page_says_what_the_folder_holds(whole):
    content = json.loads((whole[0] / "result.json").read_text())
    page = Page(whole[1].read_text("utf-8"))
    text = re.sub(r"\s+", " ", page.text)
    for words in (
        "converged",
        "4,000 training samples",
        "12 features",
        f"{content['held_out']['accuracy']:.2%}",
        "2e−6",
        "Stopped: the certified gap is below 0.0001 of the objective, after 30 steps.",
        content["model_sha256"],
        "calibration error, is 0.0321",
        "rank 1",
    ):
        assert words in text, words
    for name, scores in content["evaluation"]["classes"].items():
        assert f"{name} {scores['precision']:.4f} {scores['recall']:.4f} {scores['f1']:.4f}" in text
    numbers = Counter(re.findall(r">(\d+)</text>", whole[1].read_text("utf-8")))
    assert numbers >= Counter(str(count) for row in content["evaluation"]["confusion"] for count in row if count)


def test_the_same_run_gives_the_same_bytes(whole, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(distsoftmax.__file__).parents[1])}
    command = [sys.executable, "-m", "distsoftmax.report", str(whole[0]), "--out", "other.html"]
    subprocess.run(command, check=True, timeout=100, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    assert whole[1].read_bytes() == (tmp_path / "other.html").read_bytes()


def test_whatever_names_are_made_of_is_shown_as_text(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    folder = write_run(
        tmp_path / "<b>run & $y$", classes=NASTY, names=[f"{name} of x" for name in NASTY] * 2, n_features=18
    )
    page = made(folder)
    evaluation = evaluation_of(read_json(folder / "result.json").record("evaluation"))
    labels = Page(as_svg(confusion_picture(evaluation, "held-out"))).text
    assert not page.all("script")
    assert "<b>run & $y$" in page.text
    for name in NASTY:
        assert shown(name) in page.text
        assert labels.count(shown(name, 14)) == 2, name  # of the rows and of the columns
    for character in "\u202e\0":
        assert character not in page.text + labels


@pytest.mark.parametrize(("n_classes", "n_features"), [(1000, 40), (2, 1_000_000), (26, 16)])
def test_a_page_stays_small(tmp_path, monkeypatch, made, n_classes, n_features):
    monkeypatch.chdir(tmp_path)
    folder = write_run(
        tmp_path / "run", classes=[f"c{i}" for i in range(n_classes)], n_features=n_features, n_steps=4000
    )
    page = made(folder)
    assert Path("page.html").stat().st_size < 500_000
    assert len(page.all("tr")) < 500


def test_a_label_of_a_picture_keeps_its_digits_and_its_colours():
    def draw(figure, colours):
        figure.text(0.5, 0.5, "0.123456789 #a1b201 font: 3px x", color=colours["series-1"])

    svg = as_svg(Picture(name="p", title="", description="", draw=draw))
    assert ">0.123456789 #a1b201 font: 3px x</text>" in svg
    assert "fill: var(--series-1)" in svg
    assert not re.search("#[0-9a-f]{6}", svg.replace("#a1b201 font", ""))


# --- several runs, and paths ---


def test_runs_below_a_folder_are_compared_by_what_differs_between_them(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    for l2 in ("0.1", "0.001"):
        write_run(
            tmp_path / f"runs/deep/l2-{l2}",
            config=f'[data]\ncenter = "no"\n[objective]\nl2 = {l2}\n',
            held_out={"accuracy": 1 - float(l2), "log_loss": float(l2)},
        )
    write_path(tmp_path / "runs/path")
    page = made("runs")
    assert [a["href"] for a in page.all("a")] == ["#run-1", "#run-2", "#run-3"]
    text = re.sub(r"\s+", " ", page.text)
    assert "3 runs" in text
    assert "deep/l2-0.001 converged" in text
    assert " time --center --l2 --l2-path deep/l2-0.001" in text.replace("--tolerance ", "")
    best = re.findall(r'class="best">([^<]*)<', Path("page.html").read_text())
    assert best[:2] == ["0.9990", "0.00100"]


def test_the_best_of_runs_on_other_data_is_not_marked_and_a_path_has_the_l2_that_was_chosen(
    tmp_path, monkeypatch, made
):
    monkeypatch.chdir(tmp_path)
    for name in ("some", "other"):
        write_run(tmp_path / f"runs/{name}", config=f'[data]\ndata = ["{name}.npz"]\n')
    write_path(tmp_path / "runs/path")
    text = made("runs").text.partition("Their courses")[0]
    assert 'class="best"' not in Path("page.html").read_text().partition("Their courses")[0]
    assert re.search(r"path\s+converged .* 0\.01\s", text, re.DOTALL)


@pytest.mark.parametrize(("fraction", "n_best"), [("", 2), ("valid-fraction = 0.2\n", 0)], ids=["all", "drawn"])
def test_the_best_is_not_marked_where_other_samples_were_held_out(tmp_path, monkeypatch, made, fraction, n_best):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write_run(tmp_path / f"runs/{seed}", config=f'[data]\ndata = ["same.npz"]\n{fraction}seed = {seed}\n')
    made("runs")
    table = Path("page.html").read_text().partition("Their courses")[0]
    assert len(set(re.findall(r'class="best">([^<]*)<', table))) == n_best


def test_a_run_without_tolerance_has_not_missed_one(run, made):
    result = json.loads((run / "result.json").read_text()) | {"tolerance": 0.0, "converged": False}
    (run / "result.json").write_text(json.dumps(result))
    assert "tolerance not reached" not in made(run).text


def test_a_reason_is_a_sentence_and_a_damaged_result_is_not_called_missing(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "late", status="interrupted", reason="stopped by SIGTERM", n_steps=31)
    assert "Stopped by SIGTERM, after 30 steps." in made("late").text
    (tmp_path / "late/result.json").write_text("{bad")
    text = made("late").text
    assert "result.json: is not valid JSON" in text
    assert "There is no result.json" not in text


def test_a_path_shows_its_curve_and_the_run_that_was_chosen(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"\s+", " ", made(write_path(tmp_path / "path")).text)
    assert "A path of 3 values of l2; chosen: l2 = 0.01, by its held-out log loss." in text
    assert "Log loss over l2" in text
    assert "0.01 0.5 1e−6 6 1.5 31 0.9000 0.40000 0.8750 0.50000" in text
    unfinished = write_path(tmp_path / "unfinished", chosen=None)
    assert "of which 3 are done; what follows is on the newest" in re.sub(r"\s+", " ", made(unfinished).text)


def test_pictures_alone_are_png_files_and_nothing_else_is_written(run, capsys, monkeypatch):
    monkeypatch.setattr(canvas, "DOTS_PER_INCH", 60)  # they take less time
    assert report.main(["run", "--png", "pictures"]) == 0
    assert not Path("report.html").exists()
    files = sorted(Path("pictures").iterdir())
    assert f"{len(files)} pictures of 1 run" in capsys.readouterr().out
    assert {"confusion.png", "reliability.png", "gap-by-time.png"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        assert width == 270
        assert 70 < height < 300
    assert report.main(["run", "--png", "pictures"]) == 0  # its own files it replaces


# --- runs that go on, are damaged, or are older ---


def test_a_run_that_goes_on_says_so_and_shows_what_there_is(run, made, monkeypatch):
    (run / "model.safetensors").unlink()  # its result.json is of an earlier start, which a signal has ended
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "objective": 0.2')
    lock = FolderLock(run, pytest.fail, 300.0)
    lock.take()
    try:
        text = re.sub(r"\s+", " ", made(run).text)
    finally:
        lock.release()
    assert "still running" in text
    assert "Still running: step 30, last heard at 2026-11-28 01:00:30 UTC." in text
    assert "Objective by step" in text
    assert "training 15 s" in text  # and not the seconds of result.json
    assert "1 line of metrics.jsonl could not be read" in text


RUBBISH = [
    b"\0\0\0\0",
    b"[" * 100_000,
    b'{"step": 1e999}',
    b'{"step": true}',
    b'{"step": -4, "objective": 3}',
    b'{"step": 5, "objective": "high", "cluster": 3, "seconds": [1], "held_out_accuracy": {}}',
    b'{"step": 6, "objective": ' + b"9" * 5000 + b"}",
    b'{"step": 7, "objective": NaN, "estimated_gap": -1, "seconds": Infinity}',
    b"\xff\xfe{",
    b'{"step": 99999999999999999999999}',
]


@pytest.mark.parametrize("where", ["first", "last", "alone"])
def test_rubbish_in_the_metrics_is_passed_over(run, made, where):
    lines = (run / "metrics.jsonl").read_bytes().splitlines()
    content = {"first": RUBBISH + lines, "last": lines + RUBBISH, "alone": RUBBISH}[where]
    (run / "metrics.jsonl").write_bytes(b"\n".join(content))
    assert "lines of metrics.jsonl could not be read" in made(run).text


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", "[]"),
        ("result.json", "{" * 5000),
        (
            "result.json",
            '{"objective": "low", "evaluation": {"n_samples": 3, "classes": {"a": 5}, "confusion": [[1, 2], 3]}}',
        ),
        (
            "result.json",
            '{"status": 3, "notes": 5, "seconds": -1e308, "n_nonzero": -4, "evaluation": [], "held_out": "none"}',
        ),
        ("config.toml", "= 3"),
        ("config.toml", 'x = 1\n[data]\ndata = [1, ["a"]]\nlabel = {a = 1}\n'),
        ("model.safetensors", "rubbish"),
        ("metrics.jsonl", ""),
    ],
)
def test_a_damaged_file_does_not_keep_the_others_from_being_shown(run, made, file, content):
    (run / file).write_text(content)
    assert len(made(run).text) > 500


def test_a_model_of_a_newer_format_is_named(run, made):
    content = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(content.replace(b'"format_version": "2"', b'"format_version": "9"'))
    text = made(run).text
    assert "model.safetensors" in text
    assert "Largest coefficients" not in text


def test_a_folder_with_a_config_alone_is_a_run_that_has_not_begun(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.toml").write_text("")
    assert "The run ended before its first step." in made("run").text


# --- what is refused ---


def test_a_folder_that_holds_no_run_is_named(run, refused):
    Path("empty").mkdir()
    Path("file").touch()
    for name, problem in (("empty", "holds no run"), ("file", "is a file"), ("missing", "does not exist")):
        assert refused(
            name, "--out", "new.html"
        ) == f"error: {name} {problem}; name the folder of a run, the one given by --out, or one of several".replace(
            "no run; name the folder of a run", "no run; name the folder of one"
        )
    assert not Path("new.html").exists()


def test_nothing_is_replaced_but_an_earlier_report(run, refused, tmp_path):
    Path("mine.html").write_text("precious")
    Path("folder.html").mkdir()
    assert "no report has written it" in refused("run", "--out", "mine.html")
    assert "is a folder" in refused("run", "--out", "folder.html")
    assert "one HTML file" in refused("run", "--out", "run/metrics.jsonl")
    assert "cannot be written there" in refused("run", "--out", "nowhere/x.html")
    assert "names nothing" in refused("run", "--out", "")
    assert "is a file" in refused("run", "--png", "mine.html")
    Path("pictures").mkdir()
    Path("pictures/confusion.png").write_text("precious")
    assert "no report has written it" in refused("run", "--png", "pictures")
    assert [file.name for file in Path("pictures").iterdir()] == ["confusion.png"]
    assert Path("mine.html").read_text() == Path("pictures/confusion.png").read_text() == "precious"
    Path("link.html").symlink_to("mine.html")
    assert "no report has written it" in refused("run", "--out", "link.html")


def test_an_evaluation_on_other_samples_takes_the_place_of_the_runs_own(run, made, refused):
    content = json.loads((run / "result.json").read_text())["evaluation"]
    Path("new.json").write_text(json.dumps(content | {"accuracy": 0.4321, "n_samples": 60}))
    text = re.sub(r"\s+", " ", made(run, "--evaluation", "new.json").text)
    assert "43.21% accuracy new.json" in re.sub(r"(accuracy) (43.21%)", r"\2 \1", text)
    assert "On 60 new.json samples." in text
    for other in ("[]", "{}", '{"n_samples": 3, "classes": []}', "rubbish"):
        Path("other.json").write_text(other)
        assert "other.json" in refused(run, "--evaluation", "other.json")
    Path("other.json").write_text(json.dumps({"n_samples": 1, "classes": {"x": {}}}))
    assert "its classes are not those of the model" in refused(run, "--evaluation", "other.json")
    assert "no such file" in refused(run, "--evaluation", "missing.json")
    write_run(run.parent / "second")
    assert "name its run alone" in refused(run, "second", "--evaluation", "new.json")


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(run, refused, monkeypatch, missing):
    find = report.find_spec
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == missing else find(name))
    assert refused(run) == f"error: a report needs {missing}, which is not installed: pip install 'distsoftmax[report]'"


def test_packages_of_the_report_are_imported_within_its_work_alone():
    for path in Path(distsoftmax.__file__).parent.rglob("*.py"):
        assert not re.search("^(import|from) (matplotlib|jinja2|markupsafe)", path.read_text(), re.MULTILINE), path


def test_under_mpirun_the_first_process_alone_works(run):
    environment = {
        **os.environ,
        "PMI_SIZE": "2",
        "PMI_RANK": "1",
        "PYTHONPATH": str(Path(distsoftmax.__file__).parents[1]),
    }
    command = [sys.executable, "-m", "distsoftmax.report", "nowhere"]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=100, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


# --- its parts ---


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=300), st.integers(1, 20))
def test_a_thinned_curve_keeps_its_extremes_and_its_ends(values, most):
    kept = thinned(values, most)
    assert len(kept) <= 2 * most + 2
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    assert max(values[i] for i in kept) == max(values)
    assert min(values[i] for i in kept) == min(values)


def test_of_steps_that_were_done_again_the_last_line_counts(tmp_path):
    lines = [*metrics_of(9), *(f'{{"step": {step}, "objective": 7.0, "seconds": 1}}\n' for step in (5, 7))]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    history = read_history(tmp_path / "metrics.jsonl")
    assert history.steps.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert history.columns["objective"].tolist()[-2:] == [7.0, 7.0]
    assert history.seconds.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0]  # two steps before the last line


@given(st.integers(2, 9), st.data())
def test_the_most_confused_pairs_are_the_largest_off_the_diagonal(n, data):
    rows = data.draw(st.lists(st.lists(st.integers(0, 5), min_size=n, max_size=n), min_size=n, max_size=n))
    content = {"n_samples": 1, "classes": {str(code): {} for code in range(n)}, "confusion": rows}
    pairs = evaluation_of(Record(content)).most_confused(4)
    every = [(-rows[i][j], i, j) for i in range(n) for j in range(n) if i != j and rows[i][j]]
    assert [(-pair.samples, int(pair.true), int(pair.predicted)) for pair in pairs] == sorted(every)[:4]


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40))
def test_the_largest_coefficients_are_the_largest_by_magnitude_in_the_order_of_the_features(values):
    coef = np.array([values, [0] * len(values)], dtype=np.float64)
    names = tuple(f"f{number}" for number in range(len(values)))
    block = coefficients_block(Model(coef, np.zeros(2), ("a", "b"), Encoding(numeric=names)), {})
    wanted = sorted(((-abs(value), number) for number, value in enumerate(values) if value))[:10]
    rows = [row[0].text for row in block.grid[0].rows]
    assert rows == ([f"f{number}" for _, number in wanted] or ["all are 0"])
    assert block.grid[1].rows[0][0].text == "all are 0"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--data", "a b.csv", "c'd.csv", "--label", "$y", "--l2", "1e-3", "--no-standardize", "--seed", "7"],
        [
            "--data",
            "x.npz",
            "--valid-fraction",
            "0.25",
            "--one-hot",
            "auto",
            "--solver",
            "sgd",
            "--learning-rate",
            "0.5",
        ],
        ["--data=-x.csv", "--label=-1", "--l2-path", "1e-1:1e-3:3", "--threads", "2", "--checkpoint-seconds", "0"],
    ],
)
def test_the_command_that_is_shown_gives_the_options_of_the_run(words, tmp_path):
    config = command_line.parse(TrainConfig, words, prog="train")
    (tmp_path / "config.toml").write_bytes(resuming_options(config))
    shell = run_facts.command_line(read_options(tmp_path / "config.toml"), 3, "out").replace("\\\n", " ")
    mpirun, n, three, _, _, module, *again = shlex.split(shell)
    assert (mpirun, n, three, module) == ("mpirun", "-n", "3", "distsoftmax.train")
    expected, found = (
        command_line.parse(TrainConfig, options, "train").sections() for options in ([*words, "--out", "out"], again)
    )
    for part, options in expected.items():
        assert {name: lasting(name, value) for name, value in found[part].items()} == {
            name: lasting(name, value) for name, value in options.items()
        }
