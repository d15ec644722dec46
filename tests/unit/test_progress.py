"""The line that shows how a run goes: on terminals of any width, in a notebook and in a log."""

import fcntl
import itertools
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from types import SimpleNamespace

import numpy as np
import pytest

from distsoftmax.coordinator import progress, time_left
from distsoftmax.coordinator.metrics import in_words
from distsoftmax.coordinator.progress import ProgressLine, moving_line, plain_line
from distsoftmax.coordinator.time_left import TimeLeft
from distsoftmax.solvers.protocol import Evaluation
from distsoftmax.solvers.state import State

ARGUMENTS = ("training", 267, 1000, "step 267 of 1000  gap 2.28e-04  objective 0.084330", "about 1:10 left", 12.0)


@pytest.mark.parametrize("width", range(24, 160))
def test_the_line_fits_and_the_step_is_never_cut(width):
    line = moving_line(*ARGUMENTS, width)
    assert len(line) <= width
    assert line.count("step 267 of 1000") == (width >= len("training step 267 of 1000"))


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (40, "training step 267 of 1000  gap 2.28e-04"),
        (60, "training step 267 of 1000  gap 2.28e-04  about 1:10 left"),
        (79, "training step 267 of 1000  gap 2.28e-04  objective 0.084330  about 1:10 left"),
        (120, "training ━━━━━─────────────── 0:12 step 267 of 1000  gap 2.28e-04  objective 0.084330  about 1:10 left"),
    ],
)  # fmt: skip
def test_what_matters_most_is_shown_as_long_as_there_is_room(width, line):
    assert moving_line(*ARGUMENTS, width) == line


def test_a_long_name_of_what_is_read_is_shortened_in_the_middle():
    line = moving_line("reading /a/very/long/path/to/a/folder/of/parts/with/the/samples.csv", 3, 8, "", "", 1.0, 79)
    assert line.startswith("reading /a/very/lon..")
    assert line.endswith(" 3 of 8")


def test_a_log_has_the_step_and_the_time_left_or_how_much_is_done():
    assert plain_line(*ARGUMENTS[:5]) == (
        "training: step 267 of 1000  gap 2.28e-04  objective 0.084330  about 1:10 left"
    )
    assert plain_line("reading a.csv", 3, 8, "", "") == "reading a.csv: 3 of 8"


WAY = """
import time
from distsoftmax.coordinator.progress import ProgressLine
line = ProgressLine("auto", silent=False)
for step in range(4):
    line.show("training", step, 9, f"step {step} of 9  gap 1.00e-03  objective 0.123456", "at most 0:30 left")
    time.sleep(0.11)
line.leave()
print("done", flush=True)
"""


def on_a_terminal(columns):
    """What a program writes to a terminal of so many columns, as lines of the screen, by their last content."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}
    process = subprocess.Popen([sys.executable, "-c", WAY], stdout=secondary, stderr=secondary, env=environment)
    os.close(secondary)
    content = b""
    while True:
        try:
            chunk = os.read(primary, 4096)
        except OSError:  # the other end is closed
            break
        content += chunk
    os.close(primary)
    assert process.wait(60) == 0
    screen, row = [""], 0
    for piece in re.split(r"(\r\n|\x1b\[1A|\x1b\[2K)", content.decode()):
        if piece == "\r\n":
            row += 1
            screen += [""] * (row == len(screen))
        elif piece == "\x1b[1A":
            row -= 1
        elif piece == "\x1b[2K":
            screen[row] = ""
        else:
            screen[row] += piece
    return screen


@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal_the_line_moves_and_never_wraps(columns):
    screen = on_a_terminal(columns)
    assert screen[1:] == ["done", ""]
    assert len(screen[0]) < columns
    assert "step 3 of 9  gap 1.00e-03" in screen[0]


def test_in_a_notebook_the_line_goes_back_to_its_beginning(monkeypatch, capsys):
    now = itertools.count(10.0, 2.0)
    monkeypatch.setattr(progress, "_is_of_a_notebook", lambda stream: True)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    line = ProgressLine("auto", silent=False)
    for step in (1, 2):
        line.show("training", step, 9, f"step {step} of 9")
    line.leave()
    written = capsys.readouterr().err
    assert written.count("\r") == 2
    assert "\x1b" not in written
    assert [len(text) for text in written.rstrip("\n").split("\r")] == [0, 79, 79]
    assert written.endswith("\n")


def test_a_notebook_shows_it():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cell = nbformat.v4.new_code_cell(WAY.replace("0.11", "0.4"))
    book = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(book, timeout=50).execute()
    shown = "".join(output["text"] for output in cell.outputs if output["name"] == "stderr")
    assert shown.startswith("\rtraining")
    assert shown.count("\n") == 1


def state(step, gap, value=0.5):
    evaluation = Evaluation(value, np.ones((2, 2)), 0.1, lower_bound=value - gap, reachable_bound=0.0)
    return State(
        step=step, parameters=np.zeros((2, 2)), evaluation=evaluation, lower_bound=value - gap, first_value=1.0,
        first_gradient_norm=1.0, step_size=1.0, exhausted=False,
    )  # fmt: skip


def told(monkeypatch, gaps, n_steps=1000, seconds_left=math.inf, tolerance=1e-4):
    """What is said after steps of a second each, after which the gap was so much."""
    now = itertools.count()
    monkeypatch.setattr(time_left.time, "monotonic", lambda: float(next(now)))
    left = TimeLeft(tolerance)
    return [left.note(state(step, gap), n_steps, seconds_left) for step, gap in enumerate(gaps)][-1]


def test_a_gap_that_falls_by_a_factor_tells_when_the_tolerance_is_reached(monkeypatch):
    gaps = [0.4 * 0.8**step for step in range(20)]
    steps = math.log(gaps[-1] / (1e-4 * 0.5)) / -math.log(0.8)
    assert told(monkeypatch, gaps) == f"about 0:{int(steps):02} left"


def test_the_limit_of_steps_or_of_time_is_told_where_it_comes_first(monkeypatch):
    slow = [0.4 * 0.999**step for step in range(20)]
    assert told(monkeypatch, slow, n_steps=100) == "at most 1:21 left"
    assert told(monkeypatch, slow, seconds_left=30.0) == "at most 0:30 left"
    assert told(monkeypatch, [0.4] * 20, n_steps=100) == "at most 1:21 left"
    assert told(monkeypatch, [0.4 * 0.8**step for step in range(20)], n_steps=100, tolerance=0.0) == "at most 1:21 left"


def test_at_first_nothing_is_said_but_what_is_known(monkeypatch):
    assert told(monkeypatch, [0.4, 0.3]) == ""
    assert told(monkeypatch, [0.4, 0.3], seconds_left=3700.0) == "at most 1:01:40 left"


def test_the_words_of_a_step_name_the_step_of_how_many():
    assert in_words(state(3, 0.25), 9) == "step 3 of 9  gap 2.50e-01  objective 0.500000"
    unknown = SimpleNamespace(
        step=3, certified_gap=None, estimated_gap=None, latest_value=0.5, evaluation=SimpleNamespace(gradient_norm=0.1)
    )
    assert in_words(unknown) == "step 3  gradient 1.00e-01  objective 0.500000"
