"""The front door: the commands and their help, as a terminal of 80 columns shows them."""

import importlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import distsoftmax
from distsoftmax.__main__ import COMMANDS, command_options, main
from distsoftmax.command_line import UsageText, parse
from distsoftmax.durable import write_atomically
from distsoftmax.model import Encoding, Model
from distsoftmax.usage.help import groups

PACKAGE = Path(distsoftmax.__file__).parent


def config_of(command):
    """The dataclass of a command's options; None where they are argparse's."""
    return getattr(importlib.import_module(f"distsoftmax.{command}"), f"{command.capitalize()}Config", None)


def run(*words, **variables):
    environment = {**os.environ, "COLUMNS": "80", **variables}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def help_of(command, monkeypatch, columns=80):
    monkeypatch.setenv("COLUMNS", str(columns))
    module = importlib.import_module(f"distsoftmax.{command}")
    config_type = config_of(command)
    if config_type is None:
        return module.parser().format_help()
    with pytest.raises(UsageText) as caught:
        parse(config_type, ["--help"], f"python -m distsoftmax.{command}", module.__doc__)
    assert caught.value.status == 0
    return str(caught.value)


def test_the_table_has_every_module_that_can_be_run():
    runnable = {
        path.stem
        for path in PACKAGE.glob("*.py")
        if path.stem != "__main__" and re.search('^if __name__ == "__main__":', path.read_text(), re.MULTILINE)
    }
    assert set(COMMANDS) == runnable


@pytest.mark.parametrize("command", COMMANDS)
def test_the_line_of_a_command_is_what_its_module_says(command):
    doc = importlib.import_module(f"distsoftmax.{command}").__doc__
    summary = COMMANDS[command]
    assert doc.startswith(summary[0].upper() + summary[1:])
    assert len(summary) + 14 <= 80


def test_without_a_command_all_are_listed_with_the_version(capsys):
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"distsoftmax {distsoftmax.__version__}: ")
        assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)
        assert max(map(len, lines)) <= 80


def test_the_version_tells_what_the_bits_and_the_speed_depend_on_and_starts_no_mpi():
    program = "import sys; from distsoftmax.__main__ import main; main(['--version'])\n"
    program += "if 'mpi4py' in sys.modules:\n    from mpi4py import MPI\n    print('started', MPI.Is_initialized())"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PMI")}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert re.match(rf"distsoftmax {distsoftmax.__version__}\narithmetic \d+ on \S+\nPython 3.*\nMPI: \S", ended.stdout)
    assert "started True" not in ended.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (["desribe", "x"], "did you mean describe?"),
        (["zzz"], "the commands are train, evaluate,"),
        (["completion"], "completion is made for bash and zsh"),
        (["completion", "tcsh"], "completion is made for bash and zsh"),
    ],
    ids=str,
)
def test_an_unknown_command_names_the_nearest_and_has_status_2(capsys, words, told):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert printed.err.count("\n") == 1


def test_a_command_runs_through_the_front_door_as_by_itself(tmp_path):
    by_itself, through = run("distsoftmax.evaluate", "none"), run("distsoftmax", "evaluate", "none")
    assert (through.returncode, through.stdout, through.stderr) == (2, by_itself.stdout, by_itself.stderr)
    assert "no samples are given" in through.stderr
    assert run("distsoftmax", "evaluate", "--help").stdout.startswith("usage: python -m distsoftmax evaluate MODEL ")
    assert run("distsoftmax.evaluate", "--help").stdout.startswith("usage: python -m distsoftmax.evaluate MODEL ")


@pytest.mark.parametrize("command", ["predict", "export"])
def test_help_and_a_command_is_the_help_of_that_command(command):
    asked, direct = run("distsoftmax", "help", command), run("distsoftmax", command, "--help")
    assert asked.stdout.partition("\n")[2] == direct.stdout.partition("\n")[2] != ""


@pytest.mark.parametrize(
    ("words", "status"), [(["report", "none"], 0), (["export", "a", "--to", "csv", "--out", "b"], 2)]
)
def test_a_process_of_a_job_that_has_nothing_to_do_leaves_the_others_alone(words, status):
    through = run("distsoftmax", *words, PMI_SIZE="2", PMI_RANK="1")
    assert (through.returncode, through.stdout, through.stderr) == (status, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_last_line_that_cannot_be_written_is_one_error(tmp_path):
    model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
    write_atomically(tmp_path / "model.safetensors", *model.file_content())
    words = ["distsoftmax.export", str(tmp_path), "--to", "csv", "--out", str(tmp_path / "table.csv")]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", *words], stdout=full, stderr=-1, text=True, timeout=60, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == "error: standard output could not be written: No space left on device\n"


@pytest.mark.parametrize("columns", [80, 60, 100])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_its_terminal_and_says_nothing_empty(command, columns, monkeypatch):
    text = help_of(command, monkeypatch, columns)
    for leftover in ("{None}", "None}", "(default: )", "(default: None)", "(default: False)", "==SUPPRESS==", "\x1b"):
        assert leftover not in text
    wide = [line for line in text.splitlines() if len(line) > columns]
    assert [line for line in wide if columns == 80 or "python -m distsoftmax" not in line] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_once_and_the_common_ones_first(command, monkeypatch):
    text = help_of(command, monkeypatch)
    heads = re.findall(r"^  (-[^ ].*?)(?:  |$)", text, re.MULTILINE)
    named = [word.split()[0] for head in heads for word in head.split(", ")]
    options = command_options(command)
    assert sorted(named) == sorted(flag for option in options for flag in option.flags)
    if config_of(command) is not None:
        titles = re.findall(r"^(\w+ )?options$", text, re.MULTILINE)
        assert titles[0] in ("common ", "")
        assert len(set(titles)) == len(titles)
        members = [option for _, _, group in groups(options) for option in group]
        assert sorted(option.name for option in members) == sorted(option.name for option in options)


@pytest.mark.parametrize("command", [command for command in COMMANDS if config_of(command)])
def test_every_option_is_explained(command):
    for option in command_options(command):
        assert len(option.text.split()) >= 4, option.name


def test_help_loads_neither_numpy_nor_mpi():
    program = """
import sys
sys.argv = ["train", "--help"]
from distsoftmax import train
from distsoftmax.command_line import run_command
try:
    run_command(train.TrainConfig, train.command)
except SystemExit as end:
    print("status", end.code, *{"numpy", "mpi4py", "rich", "asyncio", "typeguard"} & set(sys.modules))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.splitlines()[-1] == "status 0"


def shown_on_a_terminal(**variables):
    """What a terminal gets of a help text."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", **variables}
    with subprocess.Popen(
        [sys.executable, "-m", "distsoftmax.evaluate", "--help"], stdout=follower, env=environment
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while more := os.read(leader, 1 << 16):
                shown += more
        except OSError:  # the other end is closed
            pass
        process.wait(timeout=60)
    os.close(leader)
    return shown.decode().replace("\r\n", "\n")


def test_bold_type_is_for_terminals_and_for_those_who_want_it():
    plain = run("distsoftmax.evaluate", "--help").stdout
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    assert "\x1b" not in plain
    shown = shown_on_a_terminal(**environment, NO_COLOR="")
    assert "\x1b[1mcommon options\x1b[0m" in shown
    assert re.sub(r"\x1b\[\dm", "", shown) == plain
    for variables in ({"NO_COLOR": "1"}, {"NO_COLOR": "", "TERM": "dumb"}):
        assert shown_on_a_terminal(**variables) == plain
