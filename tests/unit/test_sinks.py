"""One suite over all sinks of metrics: every step once, as in metrics.jsonl, whatever happens to run, disk or server.

The ranks of the runs are threads.
"""

import errno
import functools
import json
import math
import os
import threading
import time
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from in_process import trained
from mortal_ranks import on_mortal_ranks

from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator import coordinator, lock
from distsoftmax.coordinator.sinks import feed, mlflow, tensorboard
from distsoftmax.coordinator.sinks.feed import Feed
from distsoftmax.coordinator.sinks.sink import Sink
from distsoftmax.errors import OutputError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the sinks
needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow-skinny is not installed")
needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
KINDS = [
    "metrics",
    pytest.param("tensorboard", marks=needs_tensorboard),
    pytest.param("mlflow", marks=needs_mlflow),
]
COMPARED = ("objective", "gradient_norm", "seconds", "held_out_log_loss")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch, request):
    """A tracking store of the test's own, and quick tries."""
    if "mlflow" in request.node.name and find_spec("mlflow") is not None:
        __import__("mlflow")  # which takes seconds, here and not within the bounds of a test
    for name, value in mlflow.SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setattr(feed, "PAUSE", 0.01)
    monkeypatch.setattr(feed, "SHORTEST_SECONDS", 0.01)


@pytest.fixture
def train(job, tmp_path):
    """Train on so many ranks with a sink, for 20 steps or as the options say."""
    generator = np.random.default_rng(3)
    np.savez(tmp_path / "table.npz", X=generator.standard_normal((60, 3)), y=np.arange(60) % 2)

    def train(kind, *options, ranks=2):
        words = (
            "--data",
            "table.npz",
            "--learning-rate",
            0.1,
            "--tolerance",
            0,
            "--valid-fraction",
            0.2,
            "--out",
            "run",
        )
        asked = [] if kind == "metrics" else [f"--{kind}"]
        return job(ranks, "train", *words, "--max-steps", 20, *asked, *options)

    return train


def told(kind, folder="run"):
    """What a sink holds: for each metric its values, each with its step, in the order in which a reader meets them."""
    if kind == "metrics":
        with open(f"{folder}/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        # what is not known is null
        return {name: [(line["step"], line[name]) for line in lines if line.get(name) is not None] for name in COMPARED}
    if kind == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(f"{folder}/tensorboard", size_guidance={"scalars": 0})
        events.Reload()
        known = [name for name in COMPARED if name in events.Tags()["scalars"]]
        return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in known}
    client = client_of_store()
    run = the_run(folder)
    history = {name: client.get_metric_history(run.info.run_id, name) for name in COMPARED if name in run.data.metrics}
    return {name: [(metric.step, metric.value) for metric in metrics] for name, metrics in history.items()}


def client_of_store():
    from mlflow import MlflowClient

    return MlflowClient()


def the_run(folder="run"):
    """The one run in the store that has been told of a folder."""
    (run,) = [run for run in client_of_store().search_runs(["0"]) if run.data.tags["folder"] == os.path.abspath(folder)]
    return run


def assert_complete(kind, n_steps, folder="run", *, timed=True):
    """Each step once, with the values of metrics.jsonl; not `timed`, of a sink which keeps what it was told first."""
    found, expected = told(kind, folder), told("metrics", folder)
    assert [step for step, _ in found["objective"]] == list(range(n_steps + 1))
    for name in COMPARED:
        if expected[name] and (timed or name != "seconds"):
            steps = [step for step, _ in found[name]]
            assert len(set(steps)) == len(steps), name
            if timed:
                assert steps == [step for step, _ in expected[name]], name
            values = [dict(found[name])[step] for step, _ in expected[name]], [value for _, value in expected[name]]
            np.testing.assert_allclose(*values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 3])
def test_every_step_is_told_once_with_its_values_by_rank_0_alone(train, kind, ranks):
    ended = train(kind, ranks=ranks)
    assert (ended.status, ended.err) == (0, "")
    assert_complete(kind, 20)
    if kind == "tensorboard":
        assert len(os.listdir("run/tensorboard")) == 1


@needs_tensorboard
def test_of_the_files_of_many_processes_one_is_left_beside_an_empty_one(train, tmp_path):
    for n_steps in (3, 6, 9, 12):
        assert train("tensorboard", "--max-steps", n_steps).status == 0
    sizes = [path.stat().st_size for path in sorted((tmp_path / "run/tensorboard").iterdir())]
    assert (len(sizes), sizes[0]) == (2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_goes_on_without_a_step_told_twice(train, kind, tmp_path):
    assert train(kind, "--max-steps", 12, "--checkpoint-every", 5).status == 0
    (tmp_path / "run/checkpoints/step-0000000012.safetensors").unlink()  # as after a crash: steps 10 to 12 come again
    assert train(kind, ranks=3).status == 0
    assert_complete(kind, 20, timed=kind != "mlflow")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_that_is_asked_for_later_is_told_of_the_steps_before(train, kind):
    assert train("metrics", "--max-steps", 8).status == 0
    assert train(kind).status == 0
    assert_complete(kind, 20)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_has_ended_and_is_started_again_changes_nothing(train, kind):
    assert train(kind).status == train(kind).status == 0
    assert_complete(kind, 20, timed=kind != "mlflow")


@needs_tensorboard
def test_a_reader_that_watches_meets_no_step_twice(train, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train("tensorboard", "--max-steps", 12, "--checkpoint-every", 5)
    watching = EventAccumulator("run/tensorboard")
    watching.Reload()
    (tmp_path / "run/checkpoints/step-0000000012.safetensors").unlink()
    train("tensorboard")
    watching.Reload()
    assert [event.step for event in watching.Scalars("objective")] == list(range(21))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_each_run_of_a_path_has_its_own(job, tmp_path, kind):
    np.savez(tmp_path / "table.npz", X=np.random.default_rng(0).standard_normal((40, 2)), y=np.arange(40) % 2)
    words = ("--data", "table.npz", "--l2-path", "1e-1:1e-2:2", "--max-steps", 3, "--tolerance", 0, "--out", "run")
    assert job(2, "train", *words, f"--{kind}").status == 0
    for leg in ("path/01-l2-1e-01", "path/02-l2-1e-02"):
        assert_complete(kind, 3, f"run/{leg}")


@needs_mlflow
def test_mlflow_holds_the_options_the_result_and_the_model(train, tmp_path):
    assert train("mlflow", "--max-steps", 3).status == 0
    run, client = the_run(), client_of_store()
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["max-steps"] == "3"
    assert run.data.params["data"] == "table.npz"
    assert run.data.tags["model_sha256"] == result["model_sha256"]
    assert math.isclose(run.data.metrics["final_objective"], result["objective"])
    assert math.isclose(run.data.metrics["final_held_out_accuracy"], result["held_out"]["accuracy"])
    kept = client.download_artifacts(run.info.run_id, "model.safetensors", str(tmp_path))
    with open(kept, "rb") as copy:
        assert copy.read() == (tmp_path / "run/model.safetensors").read_bytes()


@needs_mlflow
def test_the_same_run_of_mlflow_is_interrupted_and_ends_and_a_failed_one_is_called_so(train, monkeypatch):
    assert train("mlflow", "--max-seconds", 1e-9).status == 75
    interrupted = the_run()
    assert interrupted.info.status == "KILLED"
    assert train("mlflow").status == 0
    assert (the_run().info.run_id, the_run().info.status) == (interrupted.info.run_id, "FINISHED")

    def save(*arguments, **options):
        raise OutputError("the disk is full")

    monkeypatch.setattr(coordinator, "save_checkpoint", save)
    assert train("mlflow", "--out", "other").status == 1
    assert the_run("other").info.status == "FAILED"


@needs_mlflow
def test_a_run_that_is_resumed_from_another_folder_goes_on_in_the_store_where_it_began(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(mlflow.importlib.util, "find_spec", lambda name: None)  # as without sqlalchemy
    begun, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    runs = []
    for folder in (begun, elsewhere):
        folder.mkdir()
        monkeypatch.chdir(folder)
        (tmp_path / "run").mkdir(exist_ok=True)
        sink = mlflow.Mlflow(tmp_path / "run")
        sink.begin({"max-steps": 3}, [])
        runs.append((json.loads((tmp_path / "run/mlflow.json").read_text()), sink.where))
    assert runs[0] == runs[1]
    assert not list(elsewhere.iterdir())


@needs_tensorboard
def test_tensorboard_holds_the_options_and_the_result(train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    train("tensorboard")
    events = EventAccumulator("run/tensorboard")
    events.Reload()
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    given = metadata.parse_session_start_info_plugin_data(content).hparams
    assert (given["learning-rate"].number_value, given["data"].string_value) == (0.1, "table.npz")
    (final,) = events.Scalars("final/objective")
    assert (final.step, final.value) == (20, pytest.approx(told("metrics")["objective"][-1][1], rel=1e-6))


# --- what fails ---


def break_writes(kind, monkeypatch, n_failures=math.inf):
    """Let so many writes to a sink fail from now on, as a full disk or a dead server does; return the count of them."""
    count = SimpleNamespace(failures=0)

    def failing(real, error):
        @functools.wraps(real)
        def call(*arguments, **options):
            if count.failures < n_failures:
                count.failures += 1
                raise error
            return real(*arguments, **options)

        return call

    if kind == "tensorboard":
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(tensorboard, "append_whole", failing(tensorboard.append_whole, full))
    else:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        dead = MlflowException("the server at <socket object at 0x7f01> does not answer")
        monkeypatch.setattr(MlflowClient, "log_batch", failing(MlflowClient.log_batch, dead))
    return count


CAUSE = {"tensorboard": "No space left on device", "mlflow": "MlflowException: the server at <socket> does not answer"}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_sink_that_fails_ends_the_run_with_one_error_or_is_a_warning_as_on_save_error_says(train, kind, monkeypatch):
    whole = train("metrics", "--out", "whole")
    break_writes(kind, monkeypatch)
    monkeypatch.setattr(feed, "ABANDON_SECONDS", 0.2)
    stopped = train(kind)
    assert stopped.status == 1
    (line,) = stopped.err.splitlines()
    assert line.startswith(f"error: --{kind}: ")
    assert CAUSE[kind] in line
    monkeypatch.setattr(feed, "END_SECONDS", 0.2)
    went_on = train(kind, "--out", "other", "--on-save-error", "continue")
    assert (went_on.status, went_on.sha256) == (0, whole.sha256)
    warnings = went_on.err.splitlines()
    assert [line.startswith(f"warning: --{kind}: ") for line in warnings] == [True] * len(warnings)
    assert len(warnings) <= 2, warnings  # the cause, and that the end was not taken


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_a_sink_that_fails_for_a_moment_is_tried_again_and_lacks_nothing(train, kind, choice, monkeypatch):
    count = break_writes(kind, monkeypatch, n_failures=feed.TRIES - 1)
    ended = train(kind, "--on-save-error", choice)
    assert (ended.status, ended.err, count.failures) == (0, "", feed.TRIES - 1)
    assert_complete(kind, 20)


@needs_mlflow
def test_a_step_that_arrived_although_its_call_failed_is_not_told_again(train, monkeypatch):
    """As where a server's answer is lost."""
    from mlflow import MlflowClient

    real, answers = MlflowClient.log_batch, []

    def log_batch(*arguments, **options):
        real(*arguments, **options)
        answers.append("lost")
        if len(answers) % 2:
            raise ConnectionError("the answer is lost")

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    assert train("mlflow").status == 0
    assert_complete("mlflow", 20)


class Recorded(Sink):
    """A sink that keeps what it is told, and that waits where it is held up."""

    where = "memory"

    def __init__(self):
        self.calls, self.go = [], threading.Event()

    def begin(self, options, history):
        self.calls.append(("begin", dict(options), list(history)))

    def write(self, lines):
        assert self.go.wait(60)
        self.calls.append(("write", [line["step"] for line in lines]))

    def end(self, result):
        self.calls.append(("end", result))


def test_a_slow_sink_holds_up_no_step_and_is_told_of_several_at_a_time():
    sink = Recorded()
    fed = Feed("slow", sink, {"l2": 0.1}, lambda: [{"step": 0}])
    for step in range(1, 2001):
        fed.write({"step": step})
    sink.go.set()  # for which the sink has waited less than a minute
    fed.end({"status": "ended"}, 20)
    begin, *writes, end = sink.calls
    assert begin == ("begin", {"l2": 0.1}, [{"step": 0}])
    assert [step for _, steps in writes for step in steps] == list(range(1, 2001))
    assert len(writes) < 10
    assert end == ("end", {"status": "ended"})
    assert fed.errors() == []


def test_a_sink_that_is_too_far_behind_loses_the_oldest_lines(monkeypatch):
    monkeypatch.setattr(feed, "MOST_WAITING", 10)
    sink = Recorded()
    fed = Feed("slow", sink, {}, list)
    for step in range(100):
        fed.write({"step": step})
    sink.go.set()
    fed.end({"status": "ended"}, 20)
    steps = [step for call in sink.calls if call[0] == "write" for step in call[1]]
    assert steps[-10:] == list(range(90, 100))


@needs_tensorboard
@pytest.mark.parametrize(("choice", "status"), [("stop", 1), ("continue", 0)])
def test_a_sink_that_hangs_does_not_hang_the_run(train, choice, status, monkeypatch):
    monkeypatch.setattr(feed, "END_SECONDS", 0.3)
    released = threading.Event()
    monkeypatch.setattr(tensorboard.TensorBoard, "write", lambda *_: released.wait(120))
    start = time.monotonic()
    ended = train("tensorboard", "--on-save-error", choice)
    assert time.monotonic() - start < 60
    released.set()
    assert ended.status == status
    (line,) = ended.err.splitlines()
    assert "--tensorboard: run/tensorboard has not taken the end of the run within 0 s" in line
    assert os.path.exists("run/model.safetensors")


@needs_tensorboard
def test_a_sink_that_does_not_end_in_time_leaves_an_interrupted_run_resumable(train, monkeypatch):
    monkeypatch.setattr(feed, "END_SECONDS", 0.3)
    released = threading.Event()
    monkeypatch.setattr(tensorboard.TensorBoard, "write", lambda *_: released.wait(120))
    ended = train("tensorboard", "--max-seconds", 1e-9)
    released.set()
    assert ended.status == 75
    assert "it is told of that when the run goes on" in ended.err


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
@pytest.mark.parametrize("spec", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of that name"])
def test_a_missing_package_is_one_error_before_the_data_are_read(job, tmp_path, kind, spec, monkeypatch):
    monkeypatch.setattr(feed.importlib.util, "find_spec", lambda name: spec)
    ended = job(2, "train", "--data", "there-is-no-such-file.csv", "--out", "new/run", f"--{kind}")
    assert ended.status == 2
    assert ended.err == f"error: --{kind} needs the package {kind}: pip install 'distsoftmax[{kind}]'\n"
    assert list(tmp_path.iterdir()) == []


@needs_tensorboard
def test_a_second_run_on_the_folder_is_refused_and_leaves_its_event_file_alone(train, monkeypatch, tmp_path):
    train("tensorboard")
    before = os.listdir("run/tensorboard")
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    holder = lock.FolderLock(tmp_path / "run", pytest.fail)
    holder.take()
    try:
        ended = train("tensorboard", "--max-steps", 30)
    finally:
        holder.release()
    assert (ended.status, "is in use by another run" in ended.err) == (2, True)
    assert os.listdir("run/tensorboard") == before


@needs_tensorboard
@pytest.mark.parametrize("call", [60, 75])
def test_a_rank_that_becomes_rank_0_takes_the_event_file_over(tmp_path, call):
    generator = np.random.default_rng(3)
    np.savez(tmp_path / "table.npz", X=generator.standard_normal((60, 3)), y=np.arange(60) % 2)
    config = TrainConfig(
        data=DataConfig(data=(str(tmp_path / "table.npz"),), shards=5),
        objective=ObjectiveConfig(l2=1e-3),
        solver=SolverConfig(solver="gradient-descent", max_steps=12, tolerance=0.0),
        run=RunConfig(out=str(tmp_path / "run"), progress="never", threads=1, tensorboard=True),
    )
    outcomes, _ = on_mortal_ranks(3, functools.partial(trained, config), {0: (call, False)})
    assert len({outcome for outcome in outcomes if isinstance(outcome, str)}) == 1, outcomes
    assert_complete("tensorboard", 12, tmp_path / "run")


def test_what_no_option_asks_for_is_not_imported(train, monkeypatch):
    """Neither is anything written."""
    monkeypatch.setattr(feed, "Feed", lambda *_: pytest.fail("no sink was asked for"))
    assert train("metrics").status == 0
    assert not {"tensorboard", "mlflow.json"} & set(os.listdir("run"))
