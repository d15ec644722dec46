"""The monitor of a run, from files that are written here: its state, summary, tables, advice, a file for Prometheus."""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_monitor_report import report

from distsoftmax import monitor
from distsoftmax.coordinator.lock import FolderLock
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.monitoring.advice import advice
from distsoftmax.monitoring.live import node_lines, remark
from distsoftmax.monitoring.run_state import RunReader
from distsoftmax.monitoring.summary import summary
from distsoftmax.monitoring.tables import as_lines


def lines(n_steps, every=10, reports=None):
    """Lines of metrics, with a report every so many steps."""
    for step in range(n_steps):
        line = {"step": step, "objective": 1.0 / (step + 1), "certified_gap": None, "estimated_gap": 0.5 / (step + 1)}
        if step % every == 0:
            content = (reports or report(4.0, 8.0, seconds=10.0, steps=every)).as_json()
            line["cluster"] = content if step else {**content, "steps": 0}
        yield json.dumps(line) + "\n"


@pytest.fixture
def run(tmp_path):
    """Make the folder of a run."""

    def run(n_steps=31, *, done=False, name="run", config="", checkpoint=None, reports=None):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.toml").write_text(config)
        written = list(lines(n_steps, reports=reports))
        if done:
            written[-1] = json.dumps({**json.loads(written[-1]), "model_step": n_steps - 1}) + "\n"
            (folder / "model.safetensors").write_bytes(b"")
        if written:
            (folder / "metrics.jsonl").write_text("".join(written))
        if checkpoint is not None:
            (folder / f"checkpoints/step-{checkpoint:010}.safetensors").write_bytes(b"")
        return folder

    return run


@contextmanager
def held(folder):
    """Hold a folder as a run does."""
    lock = FolderLock(folder, pytest.fail)
    lock.take()
    try:
        yield
    finally:
        lock.release()


def shown(state, width=400):
    return "\n".join(as_lines(state, state.whole or state.latest, width=width))


# --- how a run is ---


def test_a_run_that_goes_on_is_known_by_its_lock_and_named_with_its_host_and_process(run):
    folder = run()
    with held(folder):
        state = RunReader(folder).read()
        assert (state.status, state.step, state.process) == ("running", 30, str(os.getpid()))
        assert f"running (process {os.getpid()} on {os.uname().nodename})" in shown(state)
    assert RunReader(folder).read().status == "stopped"


@pytest.mark.parametrize(
    ("options", "lock", "status", "words"),
    [
        ({"n_steps": 0}, "held", "reading", "reads its data; it has taken no step yet"),
        ({"n_steps": 0}, "left", "crashed", "crashed; nothing of it is saved"),
        ({"n_steps": 0}, "", "not begun", "ended before its first step"),
        ({"done": True}, "", "done", "run: done"),
        ({"checkpoint": 30}, "", "stopped", "stopped; it goes on from step 30"),
        ({"checkpoint": 20}, "left", "crashed", "crashed; it goes on from step 20"),
    ],
)
def test_each_end_and_beginning_of_a_run_has_its_answer(run, options, lock, status, words):
    folder = run(**options)
    if lock == "left":
        (folder / ".lock").write_text('{"host": "a", "process": 7}')
    with held(folder) if lock == "held" else open(os.devnull):
        state = RunReader(folder).read()
    assert state.status == status
    assert words in shown(state)
    assert (state.host == "") == (lock != "held")


def test_where_the_lock_cannot_be_asked_a_run_goes_on_as_long_as_lines_come(run, monkeypatch):
    folder = run()
    (folder / ".lock").write_text("{}")
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    assert RunReader(folder).read().status == "running"
    os.utime(folder / "metrics.jsonl", (0, time.time() - 1000))
    assert not RunReader(folder).read().is_live


def test_looking_does_not_keep_a_run_from_starting(run):
    folder, stop = run(), threading.Event()
    (folder / ".lock").write_text("{}")

    def look():
        while not stop.is_set():
            RunReader(folder).read()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        for _ in range(20):
            with held(folder):
                pass
    finally:
        stop.set()
        thread.join(10)


def test_of_a_path_the_newest_run_is_shown(run, tmp_path):
    run(21, name="path/path/01-l2-1e-1", done=True)
    run(11, name="path/path/02-l2-1e-2")
    with held(tmp_path / "path"):
        state = RunReader(tmp_path / "path").read()
    assert (state.status, state.leg, state.n_legs, state.step) == ("running", "02-l2-1e-2", 2, 10)
    assert "path, 02-l2-1e-2 (run 2 of a path): running" in shown(state)


def test_a_run_of_an_earlier_version_has_no_reports_and_says_so(run):
    folder = run(0)
    (folder / "metrics.jsonl").write_text('{"step": 0, "objective": 1.5}\n')
    state = RunReader(folder).read()
    assert (state.step, state.whole) == (0, None)
    assert "there is no report on its nodes: an earlier version has made this run" in shown(state)
    assert summary(state)["efficiency"] is None


# --- a file that grows ---


@given(cuts=st.lists(st.integers(0, 30_000), max_size=12))
def test_a_file_that_grows_by_any_pieces_reads_as_the_whole_one(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("run")
    content = "".join(lines(25)).encode()
    (folder / "metrics.jsonl").write_bytes(content)
    whole = RunReader(folder).read()
    (folder / "metrics.jsonl").write_bytes(b"")
    reader = RunReader(folder)
    for cut in sorted(cuts):
        with (folder / "metrics.jsonl").open("ab") as file:
            file.write(content[file.tell() : cut])
        assert reader.read().step <= whole.step
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(content[file.tell() :])
    assert replace(reader.read(), age=0.0) == replace(whole, age=0.0)


def test_lines_that_are_none_of_ours_and_one_that_was_cut_short_are_passed_over(run):
    folder = run(11)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('garbage\n[]\n{"step": "x"}\n{"step": 11, "cluster": 7}\n{"step": 12, "cluster": {"ranks"')
    state = RunReader(folder).read()
    assert (state.step, state.whole.steps) == (11, 10)


def test_a_file_that_a_resumed_run_has_replaced_is_read_anew(run):
    folder = run(31)
    reader = RunReader(folder)
    assert reader.read().step == 30
    (folder / "new").write_text("".join(lines(12)))
    os.replace(folder / "new", folder / "metrics.jsonl")
    state = reader.read()
    assert (state.step, state.whole.steps) == (11, 10)


# --- where the time goes ---


def test_the_summary_divides_the_time_of_the_steps(run):
    document = summary(RunReader(run()).read())
    parts = [document[name] for name in ("efficiency", "waiting", "messages", "rest")]
    assert parts == pytest.approx([0.6, 0.2, 0.2, 0.0])
    assert (document["seconds"], document["steps"]) == (30.0, 30)
    assert document["imbalance"] == pytest.approx(8 / 6, rel=1e-5)
    assert document["lost_seconds"] == pytest.approx(6.0)
    assert [rank["speed"] for rank in document["ranks"]] == [1.0, 0.5]


def test_every_field_of_the_summary_is_documented(run):
    from distsoftmax.monitoring import summary as module

    named = set(re.findall(r"[a-z_]+", module.__doc__))
    document = summary(RunReader(run()).read())
    assert set(document) <= named
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=6))
def test_the_parts_are_parts(tmp_path_factory, compute):
    folder = tmp_path_factory.mktemp("run")
    (folder / "metrics.jsonl").write_text("".join(lines(11, reports=report(*compute))))
    document = summary(RunReader(folder).read())
    parts = [document[name] for name in ("efficiency", "waiting", "messages", "rest")]
    assert all(0 <= part <= 1 for part in parts)
    assert sum(parts) == pytest.approx(1.0, abs=1e-4)


# --- advice ---


def with_ranks(changed, *changes):
    return replace(changed, ranks=tuple(replace(r, **c) for r, c in zip(changed.ranks, changes, strict=True)))


def test_busy_ranks_are_given_no_advice():
    assert advice(report(9.5, 9.4, 9.6)) == []
    assert advice(report(9.9)) == []


def test_a_slow_rank_is_named_with_the_reason():
    slow = report(4.0, 4.0, 8.0, node=lambda rank: "ab"[rank // 2])
    assert advice(slow) == ["rank 2 on node b computes at 0.50 of the others' speed: --balance dynamic"]
    assert advice(slow, "dynamic") == [
        "rank 2 on node b computes at 0.50 of the others' speed: more --shards divide more finely"
    ]
    taken = with_ranks(slow, {}, {}, {"others_share": 0.45, "steal_share": 0.05})
    assert "speed, as others take 50% of the cores: end them, or --balance dynamic" in advice(taken)[0]
    throttled = with_ranks(slow, {}, {}, {"throttled_seconds": 4.0})
    assert "held back for 40% of the time by a limit on the control group: raise it, or" in advice(throttled)[0]


def test_slow_ranks_of_a_node_are_named_together():
    slow = report(4.0, 4.0, 4.0, 8.0, 8.0, node=lambda rank: "ab"[rank > 2])
    assert advice(slow) == ["ranks 3, 4 on node b compute at 0.50 of the others' speed: --balance dynamic"]


def test_rows_that_are_dealt_out_unevenly_are_no_slow_rank():
    uneven = with_ranks(report(4.0, 8.0), {"rows": 100}, {"rows": 200})
    uneven = replace(uneven, nodes=(replace(uneven.nodes[0], rows=300),))
    assert advice(uneven)[0].startswith("rank 1 has 1.33 times the rows of the mean: more --shards divide evenly")


def test_other_losses_have_their_advice():
    assert "fewer ranks are quicker" in advice(report(1.0, 1.1))[0]
    crowded = report(4.0, 4.0)
    crowded = replace(crowded, nodes=(replace(crowded.nodes[0], cores=1.0),))
    assert advice(crowded) == ["2 ranks on node a share 1 core: start 1 there"]
    idle = replace(crowded, nodes=(replace(crowded.nodes[0], cores=8.0),))
    assert "2 of 8 cores of node a compute: raise --threads, or start more ranks there" in advice(idle)
    without = with_ranks(report(4.0, 0.0), {}, {"shards": 0, "rows": 0})
    assert "1 of 2 ranks have no shard: start fewer ranks, or give more --shards" in advice(without)
    scarce = report(9.9)
    scarce = replace(scarce, nodes=(replace(scarce.nodes[0], memory_bytes=2**36, memory_available_bytes=2**30),))
    assert advice(scarce) == ["node a has 1.0 of 64.0 GiB of memory left: --memory bounds what a rank keeps"]


# --- tables ---


@given(st.integers(1, 200), st.integers(1, 80), st.integers(20, 120))
def test_tables_fit_the_columns_whatever_is_shown(tmp_path_factory, n_ranks, n_nodes, width):
    folder = tmp_path_factory.mktemp("run")
    many = report(
        *(5.0 + rank % 7 for rank in range(n_ranks)), node=lambda rank: f"a-long-name-of-a-node-{rank % n_nodes}"
    )
    (folder / "metrics.jsonl").write_text("".join(lines(11, reports=many)))
    text = as_lines(RunReader(folder).read(), many, width=width)
    assert max(map(len, text)) <= width
    assert not any("nan" in line or "None" in line for line in text)


def test_a_narrow_table_leaves_out_whole_columns_and_cuts_no_number(run):
    full = report(10.0, 10.0)
    state = RunReader(run(reports=full)).read()

    def cells(width):
        text = as_lines(state, full, width=width)
        heads = (number for number, line in enumerate(text) if line.startswith(("node ", "rank ")))
        return [re.split(r"\s{2,}", line.strip()) for head in heads for line in text[head : head + 2]]

    wide = cells(400)
    for width in range(20, 80):
        for shown, whole in zip(cells(width), wide, strict=True):
            assert shown == whole[: len(shown)]


def test_all_columns_have_room_in_80(run):
    full = report(10.0, 10.0)
    node = replace(
        full.nodes[0], node="a-node-of-a-cluster", load=128.5, others_share=1.0, memory_available_bytes=2**40,
        frequency_mhz=4500.0, temperature_celsius=100.0, cores=256.0, wait_seconds=10.0,
    )  # fmt: skip
    ranks = tuple(replace(rank, node=node.node, rank=4000, rows=10**9, rss_bytes=2**40) for rank in full.ranks)
    folder = run(reports=replace(full, nodes=(node,), ranks=ranks, median_per_row=1e-8))
    text = shown(RunReader(folder).read(), width=80)
    assert "compute   wait" in text
    assert "100 %  100 %" in text
    assert text.count("1048576") == 2


# --- while it goes on ---


def test_a_line_a_node_marks_the_slowest_and_many_nodes_show_the_slowest_first():
    two = report(4.0, 4.0, 8.0, 8.0, node=lambda rank: "ab"[rank // 2])
    assert node_lines(two, 10) == [
        "  b  2 ranks  compute 80 %, wait 20 %, others 0 %  <- slowest",
        "  a  2 ranks  compute 40 %, wait 60 %, others 0 %",
    ]
    many = node_lines(report(*range(1, 10), node=str), 4)
    assert [line.split()[0] for line in many] == ["8", "7", "6", "and"]
    assert many[-1] == "  and 6 nodes that compute less long"


def test_one_node_has_a_line_on_its_ranks_and_one_rank_none():
    assert node_lines(report(4.0, 8.0), 10) == ["  ranks compute 40 80 % of the time, rank 1 the slowest, others 0 %"]
    assert node_lines(report(9.0, 9.1), 10) == ["  ranks compute 90 91 % of the time, others 0 %"]
    assert node_lines(report(4.0), 10) == node_lines(report(4.0, 8.0), 0) == []


def test_a_log_names_the_slowest_rank_only_where_the_others_wait_for_it():
    assert remark(report(9.0, 9.1)) == ""
    slow = with_ranks(report(3.0, 9.0), {}, {"others_share": 0.5})
    assert remark(slow) == (
        "slowest: rank 1 on node a computes 1.5 times as long as the mean (others take 50 % of its cores); the ranks "
        "wait 40 % of the time"
    )


def test_a_plain_log_has_the_remark_at_its_own_cadence(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = ProgressLine("never", silent=False)
    progress.watch(report(3.0, 9.0))
    for _ in range(100):
        now[0] += 1.0
        progress.show("training", 1, 9, "step 1")
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 6
    assert err[0] == "training: step 1"
    assert err[1].startswith("slowest: rank 1 on node a")


def test_the_moving_line_has_the_nodes_below_it_and_leaves_without_them(capsys):
    progress = ProgressLine("always", silent=False)
    progress.watch(report(3.0, 9.0, node=lambda rank: "ab"[rank]))
    progress.show("training", 1, 9, "step 1")
    first = capsys.readouterr().err
    assert first.count("\n") == 3
    assert "b  1 rank  compute 90 %" in first
    time.sleep(0.11)
    progress.show("training", 2, 9, "step 2")
    second = capsys.readouterr().err
    assert second.count("\x1b[1A") == second.count("\x1b[2K") == 3
    progress.leave()
    last = capsys.readouterr().err
    assert last.count("\x1b[1A") == 3
    assert last.count("\n") == 1
    progress.show("training", 3, 9, "step 3")
    assert "\x1b[1A" not in capsys.readouterr().err


# --- Prometheus ---

SAMPLE = re.compile(r'(distsoftmax_[a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\n"])*",?)*)\} (-?[0-9.e+-]+)')


def test_the_file_for_prometheus_is_in_its_format(run, tmp_path):
    folder = run(name='a "run"\\')
    monitor.main([str(folder), "--prometheus", str(tmp_path / "x.prom")])
    text = (tmp_path / "x.prom").read_text()
    assert text.endswith("\n")
    described, seen = [], set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            described.append(line.split()[2])
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {described[-1]} gauge"
        else:
            name, labels, _ = SAMPLE.fullmatch(line).groups()
            assert name == described[-1]
            assert (name, labels) not in seen
            seen.add((name, labels))
    assert len(described) == len(set(described))
    assert 'distsoftmax_rank_speed_ratio{run="' in text
    assert 'a \\"run\\"\\\\",rank="1",node="a"} 0.5' in text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_file_for_prometheus_is_renewed_while_the_run_goes_on(run, tmp_path):
    folder, file = run(), tmp_path / "x.prom"
    with held(folder):
        watching = threading.Thread(
            target=monitor.main, args=([str(folder), "--watch", "--interval=0.1", f"--prometheus={file}"],), daemon=True
        )
        watching.start()
        for step in (30, 35):
            with (folder / "metrics.jsonl").open("a") as metrics:
                metrics.write(json.dumps({"step": step}) + "\n")
            end = time.monotonic() + 60
            while not (file.exists() and f"}} {step}\n" in file.read_text()):
                assert time.monotonic() < end
                time.sleep(0.02)
        assert re.search(r"^distsoftmax_up.* 1$", file.read_text(), re.M)
    watching.join(60)
    assert not watching.is_alive()
    assert re.search(r"^distsoftmax_up.* 0$", file.read_text(), re.M)


# --- the command ---


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "distsoftmax.monitor", *map(str, words)],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_it_loads_none_of_what_takes_long(run):
    code = (
        f"import sys; sys.argv[1:] = [{str(run())!r}]; from distsoftmax import monitor; monitor.main(sys.argv[1:]); "
        "print(sorted({'numpy', 'psutil', 'rich', 'tyro', 'mpi4py', 'pyarrow', 'scipy'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_what_is_no_run_is_one_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for name, words in (
        ("nowhere", "does not exist; name the folder of a run"),
        ("file", "is a file; name the folder of a run"),
        (".", "holds no run; name the folder of one"),
    ):
        assert monitor.main([str(tmp_path / name)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert words in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--interval", "0"], "it must be at least 0.1 seconds"),
        (["--interval", "nan"], "it must be at least 0.1 seconds"),
        (["--json", "--watch"], "leave out --watch"),
        (["--prometheus", "nowhere/x.prom"], "its folder does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, capsys, words, complaint):
    with pytest.raises(SystemExit, match="2"):
        monitor.main([str(run()), *words])
    assert complaint in capsys.readouterr().err


def test_a_pipe_gets_plain_text_once_also_of_a_run_that_goes_on(run, capsys):
    folder = run()
    with held(folder):
        assert monitor.main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert " ".join(out.split()).startswith(f"{folder}: running")  # a long name has a line of its own
    assert "\x1b" not in out
    assert out.count("rank  node") == 1


def test_a_reader_that_goes_and_ctrl_c_end_it_quietly(run):
    folder = run()
    with held(folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "distsoftmax.monitor", str(folder), "--watch", "--interval", "0.1"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
        process.stderr.close()
        quiet = subprocess.Popen(
            [sys.executable, "-m", "distsoftmax.monitor", str(folder), "--watch"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        quiet.stdout.readline()
        quiet.send_signal(2)
        _, err = quiet.communicate(timeout=60)
        assert (quiet.returncode, err) == (0, "")


def test_under_mpirun_it_says_once_how_to_start_it():
    for rank, err in (
        ("0", "error: a run is watched without mpirun; under mpirun, --nodes measures the nodes\n"),
        ("1", ""),
    ):
        ended = command("run", env={**os.environ, "PMI_SIZE": "2", "PMI_RANK": rank})
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", err)
