"""Shell completion, in real shells, as far as they are installed."""

import fcntl
import os
import pty
import select
import shlex
import shutil
import struct
import subprocess
import termios
import time

import pytest

from distsoftmax.__main__ import COMMANDS, command_options, main

CASES = [
    ("distsoftmax tr", ["train"]),
    ("distsoftmax ", [*COMMANDS, "completion", "--help", "--version"]),
    ("distsoftmax completion ", ["bash", "zsh"]),
    ("distsoftmax train --da", ["--data"]),
    ("distsoftmax train --data wi", ["wine.csv", "wine.npz"]),
    ("distsoftmax train --data wine.csv wine.n", ["wine.npz"]),
    ("distsoftmax train --data wine.csv --solv", ["--solver"]),
    ("distsoftmax train --solver ", ["auto", "gradient-descent", "lbfgs", "trust-region", "sgd"]),
    ("distsoftmax train --warm --no-w", ["--no-warm"]),
    ("distsoftmax train --label ", []),
    ("distsoftmax train --threads ", ["auto"]),
    ("distsoftmax evaluate ru", ["runs"]),
    ("distsoftmax supervise --c", ["--cold"]),
    ("/opt/env/bin/distsoftmax train --impute m", ["mean"]),
    ("python -m distsoftmax.tr", ["distsoftmax.train"]),
    ("python -m distsoftmax de", ["describe"]),
    ("python -m distsoftmax.train --impute m", ["mean"]),
    ("python3 -m distsoftmax train --impute m", ["mean"]),
    ("mpirun -n 4 python -m distsoftmax.train --impute m", ["mean"]),
    ("srun distsoftmax train --impute m", ["mean"]),
    ("python -m distsoftmax.supervise -- mpirun -n 4 python -m distsoftmax.train --impute m", ["mean"]),
    ("python wi", ["mine"]),  # what completed python's lines before
    ("python -m js", ["mine"]),
]


@pytest.fixture
def script(capsys, tmp_path):
    """Return the file of the script of a shell, in a folder with a few files."""
    for name in ("wine.csv", "wine.npz", "other"):
        (tmp_path / name).touch()
    (tmp_path / "runs").mkdir()

    def script(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"completion.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return script


def in_bash(script, lines, before="", after=""):
    """Complete lines in bash, whose last word is the one to complete; return the words it offers for each."""
    look = r"""
try() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  local function=$(complete -p "${1##*/}" | sed 's/.*-F \([^ ]*\).*/\1/')
  "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
  printf '%s\n' "${COMPREPLY[*]}"
}
"""
    words = [" ".join(shlex.quote(word) for word in line.split(" ")) for line in lines]
    text = "\n".join([before, f". {script}", look, after, *(f"try {line}" for line in words)])
    ended = subprocess.run(
        ["bash", "--norc", "-c", text], capture_output=True, text=True, timeout=60, check=False, cwd=script.parent
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return [line.split() for line in ended.stdout.splitlines()]


MINE = "_mine() { COMPREPLY=(mine); }; complete -F _mine python"


def test_bash_completes_commands_options_choices_and_files(script):
    found = in_bash(script("bash"), [line for line, _ in CASES], before=MINE)
    assert dict(zip((line for line, _ in CASES), map(sorted, found), strict=True)) == {
        line: sorted(expected) for line, expected in CASES
    }


def test_bash_takes_a_value_behind_an_equals_sign(script):
    found = in_bash(script("bash"), ["distsoftmax train --solver = l", "distsoftmax train --resume ="])
    assert found == [["lbfgs"], ["auto", "never"]]


def test_a_completion_of_python_that_is_loaded_late_goes_on_as_well(script):
    """As with bash-completion, which loads that of a program when it is first asked for."""
    late = f"_completion_loader() {{ {MINE}; }}"
    lines = ["python wi", "python -m distsoftmax.tr", "python wi"]
    assert in_bash(script("bash"), lines, after=late) == [["mine"], ["distsoftmax.train"], ["mine"]]


def test_every_option_of_every_command_is_completed(script):
    lines = [f"distsoftmax {command} -" for command in COMMANDS]
    for command, found in zip(COMMANDS, in_bash(script("bash"), lines), strict=True):
        assert sorted(found) == sorted(flag for option in command_options(command) for flag in option.flags)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_the_same(script):
    unique = [(line, words[0]) for line, words in CASES if len(words) == 1 and words != ["mine"]]
    path = script("zsh")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(path.parent)
        os.environ |= {"PS1": "> ", "TERM": "dumb", "HOME": str(path.parent)}
        os.execvp("zsh", ["zsh", "-f", "-i"])

    def shown_until(condition):
        text, end = "", time.monotonic() + 60
        while not condition(text) and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                text += os.read(terminal, 1 << 16).decode().replace("\a", "")
        return text

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))  # a line that is longer scrolls
    os.write(terminal, f"autoload -Uz compinit; compinit -u -D; source {path}; echo rea''dy\n".encode())
    assert "ready" in shown_until(lambda text: "ready" in text)
    for line, word in unique:
        completed = " ".join([*line.split(" ")[:-1], word])
        os.write(terminal, f"{line}\t".encode())
        assert completed in shown_until(lambda text, completed=completed: completed in text)
        os.write(terminal, b"\x15")  # takes the line away
    os.write(terminal, b"exit\n")
    os.waitpid(pid, 0)
