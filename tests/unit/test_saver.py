"""Saves on a thread of their own: one at a time, none lost, no error unheard; and what a run makes of an error."""

import errno
import hashlib
import json
import os
import re
import shutil
import threading

import numpy as np
import pytest
from objectives import fields_of, real

from distsoftmax import durable
from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.coordinator import checkpoint, coordinator, metrics
from distsoftmax.coordinator.checkpoint import newest_checkpoint
from distsoftmax.coordinator.saver import SaveErrors, Saver
from distsoftmax.errors import OutputError
from distsoftmax.solvers import make_solver
from distsoftmax.training.stopping import certified

# --- the thread ---


class SlowSaves:
    """Saves that take until they are let go; which of them are in progress, and which are done."""

    def __init__(self):
        self.begun, self.done, self.at_once, self.most_at_once = [], [], 0, 0
        self.has_begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def of(self, step):
        def save():
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.begun.append(step)
            self.has_begun.release()
            assert self.go.acquire(timeout=60)
            self.done.append(step)
            self.at_once -= 1

        return save


def test_a_save_goes_on_while_the_steps_do_and_the_last_one_is_waited_for():
    saves, saver = SlowSaves(), Saver()
    saver.save(saves.of(1))
    assert saves.has_begun.acquire(timeout=60)
    assert saves.done == []
    saves.go.release()
    saver.wait()
    assert saves.done == [1]
    saver.wait()


def test_of_the_saves_that_become_due_during_one_the_newest_is_done_after_it():
    saves, saver = SlowSaves(), Saver()
    saver.save(saves.of(1))
    assert saves.has_begun.acquire(timeout=60)
    for step in (2, 3, 4):
        saver.save(saves.of(step))
    saves.go.release(2)
    saver.wait()
    assert saves.done == [1, 4]
    assert saves.most_at_once == 1


def test_an_error_of_a_save_is_told_once_and_the_next_save_is_tried():
    saver, done = Saver(), []

    def fail():
        raise OutputError("no room")

    saver.save(fail)
    saver.wait()
    assert [str(error) for error in saver.errors()] == ["no room"]
    assert saver.errors() == []
    saver.save(lambda: done.append(2))
    saver.wait()
    assert done == [2]


def test_a_fault_in_a_save_is_raised_where_its_errors_are_asked_for():
    saver = Saver()
    saver.save(lambda: [][1])
    saver.wait()
    with pytest.raises(IndexError):
        saver.errors()


def test_a_warning_is_given_for_each_cause_not_for_each_save(tmp_path):
    said = []
    errors = SaveErrors(stop=False, warn=said.append)
    for step, cause in enumerate(["full", "full", "read-only", "full"]):
        errors.add("checkpoints", OutputError(f"step-{step}.safetensors: {cause}"))
        errors.add("metrics", OutputError("metrics.jsonl: full"))
    assert [re.sub(r"\..*: ", " ", text.partition(". ")[0]) for text in said] == [
        "warning: step-0 full",
        "warning: metrics full",
        "warning: step-2 read-only",
        "warning: step-3 full",
    ]
    assert errors.fatal == ""
    said.clear()
    errors.warn_of_shortfall(list, 3)
    assert said == [
        "warning: 4 saves of checkpoints failed; there is no checkpoint",
        "warning: metrics.jsonl lacks its last 3 lines",
    ]
    loop = tmp_path / "checkpoints"
    loop.symlink_to(loop)
    errors.warn_of_shortfall(lambda: checkpoint.checkpoint_paths(loop), 0)
    assert said[2:] == ["warning: 4 saves of checkpoints failed; the others cannot be listed now"]


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "gradient-descent"},
        {"solver": "gradient-descent", "learning_rate": 0.5, "momentum": 0.5},
        {"solver": "lbfgs"},
        {"solver": "trust-region"},
        {"solver": "sgd", "batch": 16, "average": True},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_no_array_of_a_state_is_written_to_after_it_was_made(options):
    """So a save needs no copy."""
    generator = np.random.default_rng(0)
    penalty = ObjectiveConfig(l2=0.01)
    objective = real(generator.standard_normal((90, 4)), np.arange(90) % 3, penalty)
    solver = make_solver(SolverConfig(**options), penalty)
    states = [certified(objective, solver.init(objective, np.zeros(objective.shape)), 1e-3)]
    digests = [digest(states[0])]
    for _ in range(15):
        states.append(certified(objective, solver.step(objective, states[-1]), 1e-3))
        digests.append(digest(states[-1]))
    assert [digest(state) for state in states] == digests
    assert len(set(digests)) > 5


def digest(state):
    text = hashlib.sha256()
    for value in fields_of(state).values():
        for array in value if isinstance(value, tuple) else (value,):
            text.update(np.asarray(array).tobytes() if array is not None else b"None")
    return text.hexdigest()


# --- whole runs, whose ranks are threads ---


@pytest.fixture
def train(job, tmp_path):
    """Train on two ranks for 20 steps with a save after each, or as the options say."""
    generator = np.random.default_rng(3)
    np.savez(tmp_path / "table.npz", X=generator.standard_normal((60, 3)), y=np.arange(60) % 2)

    def train(out, *options):
        words = ("--data", "table.npz", "--learning-rate", 0.1, "--tolerance", 0, "--max-steps", 20)
        return job(2, "train", *words, "--checkpoint-seconds", 0, "--out", out, *options)

    return train


@pytest.fixture
def failing(monkeypatch):
    """Let the writing of files whose names hold a word fail from now on, and of the others succeed."""

    def failing(word, number):
        def fsync(descriptor, real=os.fsync):
            if word in os.readlink(f"/proc/self/fd/{descriptor}"):
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(durable.os, "fsync", fsync)

    return failing


def sha256_of(ended):
    return re.search(r"^model sha256 (\w+)$", ended.out, re.M).group(1)


def lines(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


CAUSES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO]


@pytest.mark.parametrize("cause", CAUSES, ids=errno.errorcode.get)
def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_one_clear_error(train, failing, cause):
    failing("step-", cause)
    ended = train("run")
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert re.fullmatch(
        rf"error: run/checkpoints/step-\d+.safetensors: could not be written: {os.strerror(cause)}.*", line
    )
    assert line.endswith("free some space and start again") == (cause in (errno.ENOSPC, errno.EDQUOT))


def test_with_continue_the_run_goes_on_to_the_same_model_and_says_what_is_missing(train, failing):
    whole = train("whole")
    failing("step-", errno.ENOSPC)
    ended = train("run", "--on-save-error", "continue")
    assert ended.status == 0
    assert sha256_of(ended) == sha256_of(whole)
    first, last = ended.err.splitlines()
    assert re.match(r"warning: run/checkpoints/step-\d+\.safetensors: could not be written: No space left", first)
    assert re.fullmatch(r"warning: \d+ saves? of checkpoints failed; there is no checkpoint", last)


def test_with_continue_a_save_is_tried_again(train, monkeypatch, tmp_path):
    failures = [OutputError("the disk is full")] * 2

    def save(*arguments, **options):
        if failures:
            raise failures.pop()
        checkpoint.save_checkpoint(*arguments, **options)

    monkeypatch.setattr(coordinator, "save_checkpoint", save)
    ended = train("run", "--on-save-error", "continue")
    assert ended.status == 0
    assert "warning: 2 saves of checkpoints failed; the newest checkpoint is step-0000000020" in ended.err
    assert newest_checkpoint(tmp_path / "run" / "checkpoints", pytest.fail) is not None


def test_with_continue_lines_of_metrics_are_written_once_there_is_room(train, monkeypatch, tmp_path):
    n_failures = 0

    def full(path, flags, real=durable.open_regular):
        nonlocal n_failures
        if flags & os.O_APPEND and n_failures < 7:
            n_failures += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags)

    monkeypatch.setattr(metrics, "open_regular", full)
    ended = train("run", "--on-save-error", "continue")
    assert (ended.status, n_failures) == (0, 7)
    assert lines(tmp_path / "run") == list(range(21))
    (line,) = ended.err.splitlines()
    assert line.startswith("warning: run/metrics.jsonl: could not be written: No space left")
    n_failures = 0
    stopped = train("other")
    assert stopped.status == 1
    assert "error: other/metrics.jsonl: could not be written: No space left" in stopped.err


def test_of_a_line_of_metrics_that_does_not_fit_nothing_stays(tmp_path):
    class Full:
        """A file whose disk has room for ten bytes more."""

        def __init__(self, file):
            self.file, self.room = file, 10

        def write(self, content):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = self.file.write(content[: self.room])
            self.room -= written
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"first\n")
    with path.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        metrics.append_whole(Full(file), b"a line of more than ten bytes\n")
    assert path.read_bytes() == b"first\n"


@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_that_the_model_cannot_be_written_always_is_an_error(train, failing, choice):
    failing("model.safetensors", errno.ENOSPC)
    ended = train("run", "--on-save-error", choice)
    assert ended.status == 1
    assert ended.err == "error: run/model.safetensors: could not be written: No space left on device; " + (
        "free some space and start again\n"
    )


@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_a_folder_that_is_removed_under_the_run_is_an_error_that_names_it(train, monkeypatch, choice):
    def save(folder, state, *arguments, **options):
        if state.step == 20:
            shutil.rmtree("run")
        checkpoint.save_checkpoint(folder, state, *arguments, **options)

    monkeypatch.setattr(coordinator, "save_checkpoint", save)
    ended = train("run", "--on-save-error", choice)
    assert ended.status == 1
    file = "checkpoints/step-0000000020" if choice == "stop" else "model"
    assert re.search(
        rf"^error: run/{file}.safetensors: could not be written: No such file or directory; its folder was removed or",
        ended.err,
        re.M,
    )
    assert ("warning: 1 save of checkpoints failed; there is no checkpoint" in ended.err) == (choice == "continue")
