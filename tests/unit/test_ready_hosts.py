"""Whether hosts are ready for a job, with a script in place of ssh."""

import os
import subprocess
import sys
import time

import pytest

import distsoftmax
from distsoftmax.supervision import ready as ready_module
from distsoftmax.supervision import remote
from distsoftmax.supervision.hosts import Host, that_answer
from distsoftmax.supervision.ready import Environment, ready
from distsoftmax.supervision.remote import UNREACHED, ask

AGENT = """#!/bin/bash
# in place of ssh: what each host is asked is answered here
host=$1; shift
case $host in
    red | green) eval "$*" ;;
    chatty) echo "welcome to $host" && eval "$*" ;;
    blue) echo "ssh: connect to host blue port 22: No route to host" >&2; echo >&2; exit 255 ;;
    silent) exec sleep 100 ;;
    old) echo '["0.0.1", 7, 3]' ;;
    bare) echo "Traceback" >&2; echo "ModuleNotFoundError: No module named 'numpy'" >&2; exit 1 ;;
    nofolder) exit 201 ;;
    nopython) exit 202 ;;
esac
"""


@pytest.fixture
def environ(tmp_path, monkeypatch):
    monkeypatch.setattr(ready_module, "CHECK_SECONDS", 60)
    agent = tmp_path / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    return {"HYDRA_LAUNCHER_EXEC": str(agent)}


def test_hosts_that_have_all_are_ready_with_their_slots_or_cores(environ):
    cores = len(os.sched_getaffinity(0))
    hosts = [Host("red", 5), Host("chatty"), Host(os.uname().nodename), Host("red", 2)]
    expected = [Host("red", 7), Host("chatty", cores), Host(os.uname().nodename, cores)]
    assert ready(hosts, environ) == (expected, [])


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("blue", "cannot be reached: ssh: connect to host blue port 22: No route to host"),
        ("old", f"has distsoftmax 0.0.1 with arithmetic 7, this host has {distsoftmax.__version__} with"),
        ("bare", "cannot be used there: ModuleNotFoundError: No module named 'numpy'; share "),
        ("nofolder", f"has no folder {os.getcwd()}, in which the job starts; share {os.getcwd()} with it, or copy it"),
        ("nopython", f"has no {sys.executable}, or not the Python that it links to; install that, and share"),
    ],
)
def test_a_host_that_is_not_ready_is_named_in_one_line_with_the_remedy(host, words, environ):
    hosts, (complaint,) = ready([Host("red"), Host(host), Host("green")], environ)
    assert hosts == []
    assert complaint.startswith(f"{host}: ")
    assert words in complaint
    assert "\n" not in complaint
    assert host == "blue" or f"rsync -a {os.path.sep}" in complaint


def test_what_is_missing_is_found_by_the_command_itself(environ, tmp_path, monkeypatch):
    """The script's own statuses, and a folder whose name a shell would take apart."""
    odd = tmp_path / "it's a $folder"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert ready([Host("red", 1)], environ) == ([Host("red", 1)], [])
    environment = Environment.here()
    for missing in ({"folder": "/no/such"}, {"python": "/no/python"}):
        there = Environment(**{**vars(environment), **missing})
        (answer,) = ask({"red": ["sh", "-c", there.check]}, 10).values()
        assert f"has no {'folder ' * ('folder' in missing)}{next(iter(missing.values()))}" in there.missing(
            "red", answer
        )


def test_hosts_are_asked_at_once_and_each_within_a_time(environ, tmp_path):
    agent = environ["HYDRA_LAUNCHER_EXEC"]
    start = time.monotonic()
    answers = ask({**{f"s{n}": [agent, "silent"] for n in range(40)}, "old": [agent, "old"]}, 4.0)
    assert time.monotonic() - start < 60  # one after the other they would take 160 s
    assert answers.pop("old").status == 0
    assert {(answer.status, answer.complaint) for answer in answers.values()} == {(UNREACHED, "no answer within 4 s")}


def test_more_hosts_than_connections_at_a_time_are_all_asked(monkeypatch):
    monkeypatch.setattr(remote, "AT_ONCE", 3)
    answers = ask({f"h{n}": ["sh", "-c", f"echo {n}"] for n in range(10)}, 10)
    assert [answer.out for answer in answers.values()] == [f"{n}\n" for n in range(10)]


def test_a_host_that_does_not_answer_is_said_with_the_error_of_ssh(environ, capfd, monkeypatch):
    monkeypatch.setattr(remote, "PROBE_SECONDS", 4.0)
    hosts = [Host("red"), Host("blue"), Host("silent")]
    assert that_answer(hosts, ["mpirun"], environ) == {"red"}
    assert capfd.readouterr().err.splitlines() == [
        "supervise: blue cannot be reached: ssh: connect to host blue port 22: No route to host",
        "supervise: silent cannot be reached: no answer within 4 s",
    ]


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["--hosts", "red:2,green:3"], 0, "red:2,green:3 5\n", ""),
        (["--hostfile", "hosts"], 0, "red:4,green:1 5\n", ""),
        (["--hosts", "red,blue,old"], 2, "", "hosts: blue: cannot be reached: ssh: connect to host blue port 22: No"),
        (["--hosts", ""], 2, "", "no host is named"),
        (["--hostfile", "none"], 2, "", "none: cannot be read"),
        ([], 2, "", "one of the arguments --hosts --hostfile is required"),
    ],
    ids=str,
)
def test_the_command_prints_the_hosts_or_what_they_lack(words, status, out, err, environ, tmp_path):
    (tmp_path / "hosts").write_text("red slots=4  # comment\n\ngreen:1\n")
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), os.path.dirname(distsoftmax.__path__[0])]))
    command = [sys.executable, "-m", "distsoftmax.supervision.ready", *words]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **environ, "PYTHONPATH": path},
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, out), ended.stderr
    assert err in ended.stderr
    assert len(ended.stderr.splitlines()) == (2 if "old" in str(words) else ended.stderr.count("\n"))
