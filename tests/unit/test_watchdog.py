"""The watchdogs' messages and judgement, without processes. `tests/jobs/test_no_hang.py` has whole jobs."""

import re
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ranks import on_ranks

import distsoftmax
from distsoftmax.cluster import watchdog
from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.heartbeat import (
    BEAT,
    TOKEN_BYTES,
    Heard,
    Heartbeat,
    idle_seconds,
    late_ranks,
    packed_answer,
    unpacked_answer,
)
from distsoftmax.cluster.watchdog import Watchdog

TOKEN = bytes(range(TOKEN_BYTES))
NOW = 1000.0


def beat(rank=0, n_calls=7, call="sum_integers", step=3, idle=0.0):
    return Heartbeat(rank=rank, n_calls=n_calls, call=call, step=step, idle=idle)


def heard(*beats, when=NOW):
    return {one.rank: Heard(one, when) for one in beats}


@pytest.mark.parametrize("call", ["", "gather_records", "broadcast_bytes", "in_rank_order", "finalize", "repair"])
def test_a_heartbeat_is_read_as_it_was_sent(call):
    sent = beat(rank=2**31, n_calls=2**40, call=call, step=-1, idle=0.25)
    assert Heartbeat.unpacked(sent.packed(TOKEN), TOKEN) == sent


def test_every_name_of_a_call_has_room():
    text = (Path(distsoftmax.__file__).parent / "cluster" / "mpi.py").read_text()
    names = re.findall(r'_counted\("(\w+)"', text)
    assert len(names) > 9
    for name in names:
        assert Heartbeat.unpacked(beat(call=name).packed(TOKEN), TOKEN).call == name


def test_an_answer_is_read_as_it_was_sent():
    for hangs in (True, False):
        assert unpacked_answer(packed_answer(TOKEN, hangs), TOKEN) is hangs


@pytest.mark.parametrize("damage", [lambda text: text[:-1], lambda text: text + b"!", lambda text: b"?" + text[1:]])
def test_datagrams_of_strangers_are_no_messages(damage):
    assert Heartbeat.unpacked(damage(beat().packed(TOKEN)), TOKEN) is None
    assert unpacked_answer(damage(packed_answer(TOKEN, True)), TOKEN) is None
    assert Heartbeat.unpacked(packed_answer(TOKEN, True), TOKEN) is None
    assert unpacked_answer(bytes(BEAT.size), TOKEN) is None


def test_a_job_is_idle_for_as_long_as_its_liveliest_rank():
    ranks = heard(beat(0, idle=50.0), beat(1, idle=3.0), beat(2, idle=70.0))
    assert idle_seconds(ranks, NOW) == 3.0
    assert idle_seconds(ranks, NOW + 4) == 7.0


def late(*beats, ranks=None, **others):
    known = {**heard(*beats), **others}
    return late_ranks(range(len(known)) if ranks is None else ranks, known, NOW, 3.0)


def test_who_works_while_the_others_wait_is_late():
    assert late(beat(0), beat(1), beat(2, n_calls=6, call="")) == {2: "works, after call 6, step 3"}


def test_who_is_in_an_earlier_call_is_late():
    assert late(beat(0), beat(1, n_calls=6, call="barrier")) == {1: "waits in barrier, call 6, step 3"}


def test_who_is_in_another_call_than_most_is_late():
    assert late(beat(0), beat(1, call="barrier"), beat(2)) == {1: "waits in barrier, call 7, step 3"}
    assert late(beat(0, call="barrier"), beat(1), beat(2)) == {0: "waits in barrier, call 7, step 3"}


def test_where_all_wait_in_one_call_nobody_is_late():
    assert late(beat(0), beat(1), beat(2)) == {}


def test_where_all_work_all_are_late():
    assert sorted(late(beat(0, call=""), beat(1, call="", n_calls=9))) == [0, 1]


def test_who_does_not_answer_is_late_whatever_it_said_before():
    known = {**heard(beat(0), beat(2)), 1: Heard(beat(1, n_calls=9), NOW - 8)}
    found = late_ranks(range(4), known, NOW, 3.0)
    assert sorted(found) == [1, 3]
    assert found[1].startswith("has been silent for 8 s ")
    assert found[1].endswith("before that it waited in sum_integers, call 9, step 3")
    assert found[3] == "has never answered"


def test_ranks_that_the_job_has_lost_are_not_late():
    assert late_ranks([0, 2], heard(beat(0), beat(1, n_calls=1), beat(2)), NOW, 3.0) == {}


class Ended(Exception):
    """A watchdog has ended the job."""


def take_all(dog):
    """Let a watchdog receive what was sent to it, however late this process runs."""
    while dog._socket and select.select([dog._socket], [], [], 0.02)[0]:
        dog._listen(time.monotonic() + 0.001)


class Ranks:
    """The watchdogs of ranks that are threads, of which each step is made by the test."""

    def __init__(self, size, timeout, monkeypatch):
        def make(cluster):
            own = Watchdog(cluster, timeout if cluster.rank == 0 else 99.0)
            own._cluster = self.clusters[cluster.rank] = Standing(cluster)
            return own

        self.clusters = [None] * size
        monkeypatch.setattr(watchdog.faulthandler, "dump_traceback_later", lambda *_, **__: None)
        monkeypatch.setattr(watchdog, "_exit_later", lambda: None)
        monkeypatch.setattr(watchdog, "_stacks", lambda: "")
        self.dogs = on_ranks(size, make)
        self.now = time.monotonic()

    def beat_at(self, seconds, *ranks):
        """Let ranks look, send and judge at a time, as if all they send arrived at that time; the first comes last."""
        for rank in sorted(ranks or range(len(self.dogs)), reverse=True):
            dog = self.dogs[rank]
            take_all(dog)
            arrived = {other: Heard(known.beat, self.now + seconds) for other, known in dog._heard.items()}
            dog._heard |= {other: known for other, known in arrived.items() if not ranks or other in ranks}
            dog._watch(self.now + seconds)
        for dog in self.dogs:
            before = dog._last_answer
            take_all(dog)
            if dog._last_answer != before:
                dog._last_answer = self.now + seconds


class Standing:
    """A rank as its watchdog sees it."""

    def __init__(self, cluster):
        self.rank, self.size, self.members = cluster.rank, cluster.size, cluster.members
        self.n_calls, self.call, self.n_shards_done, self.step = 5, "barrier", 0, 1

    def abort(self, text, status=1):
        raise Ended(text)


@pytest.fixture
def ranks(monkeypatch):
    made = []

    def ranks(size, timeout=100.0):
        made.append(Ranks(size, timeout, monkeypatch))
        return made[-1]

    monkeypatch.setattr(Watchdog, "_bytes_moved", lambda self: 0)
    yield ranks
    for dog in (dog for job in made for dog in job.dogs):
        if dog._socket:
            dog._socket.close()


def test_the_timeout_is_that_of_rank_0(ranks):
    assert [dog.timeout for dog in ranks(3).dogs] == [100.0] * 3


def test_heartbeats_reach_rank_0_and_are_answered(ranks):
    job = ranks(3)
    job.beat_at(0)
    job.beat_at(1)
    assert sorted(job.dogs[0]._heard) == [0, 1, 2]
    assert all(dog._answered_by for dog in job.dogs[1:])


def test_a_job_in_which_one_rank_makes_progress_goes_on(ranks):
    job = ranks(3)
    for seconds in range(0, 500, 50):
        job.clusters[1].n_shards_done += 1
        job.beat_at(seconds)
    with pytest.raises(Ended, match="no rank has made progress"):
        for seconds in range(500, 700, 50):
            job.beat_at(seconds)


def test_rank_0_ends_a_job_without_progress_names_who_is_late_and_tells_the_others(ranks):
    job = ranks(3)
    job.clusters[2].call = ""
    job.beat_at(0)
    with pytest.raises(Ended, match="no rank has made progress for 100 s; late: .*rank 2 on node .* is stopped"):
        job.dogs[0]._watch(job.now + 101)
    for dog in job.dogs[1:]:
        with pytest.raises(Ended, match="no rank makes progress"):
            dog._listen(time.monotonic() + 60)


def test_where_no_datagram_comes_through_each_rank_judges_by_itself(ranks, monkeypatch):
    monkeypatch.setattr(watchdog, "_open_socket", lambda: None)
    job = ranks(2)
    job.beat_at(0)
    job.beat_at(99)
    with pytest.raises(Ended, match="rank 0 on node .* does not answer"):
        job.dogs[1]._watch(job.now + 101)
    job.clusters[0].n_calls += 1
    job.dogs[0]._watch(job.now + 101)
    with pytest.raises(Ended, match="rank 1 on node .* has never answered"):
        job.dogs[0]._watch(job.now + 202)


def test_after_a_repair_the_first_of_the_survivors_listens(ranks):
    job = ranks(3)
    job.beat_at(0)
    for cluster in job.clusters[1:]:
        cluster.members, cluster.size, cluster.rank = (1, 2), 2, cluster.rank - 1
    job.dogs[2]._answered_by = None  # long silent
    job.beat_at(1, 1, 2)
    job.beat_at(2, 1, 2)
    assert sorted(job.dogs[1]._heard) == [1, 2]


def test_a_repair_that_takes_too_long_ends_the_job(ranks):
    job = ranks(2)
    for cluster in job.clusters:
        cluster.call = "repair"
    job.beat_at(0)
    job.beat_at(29)
    with pytest.raises(Ended, match="the repair of the job took more than 30 s"):
        job.dogs[1]._watch(job.now + 31)


def test_datagrams_of_strangers_change_nothing(ranks):
    job = ranks(2)
    job.beat_at(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        port = job.dogs[1]._posts[1].port
        for datagram in (b"", b"?" * 200, packed_answer(bytes(TOKEN_BYTES), True)):
            stranger.sendto(datagram, ("127.0.0.1", port))
        take_all(job.dogs[1])
    job.beat_at(1)


def test_bytes_that_are_read_are_progress_but_not_the_watchdogs_own(tmp_path):
    dog = Watchdog(Alone(), 10.0)
    (tmp_path / "data").write_bytes(bytes(10_000))
    dog._bytes_moved()
    before = dog._bytes_moved()
    if not before:
        pytest.skip("this system does not count them")
    (tmp_path / "data").read_bytes()
    assert dog._bytes_moved() - before >= 10_000


def test_a_process_that_does_nothing_is_idle():
    """In a process of its own: other threads of this one may read."""
    program = """
from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.watchdog import Watchdog
dog = Watchdog(Alone(), 10.0)
dog._look(0.0)
print([dog._look(float(second)).idle for second in range(1, 9)])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == str([float(n) for n in range(1, 9)])


def test_the_stacks_name_each_thread_but_the_watchdogs_own():
    release = threading.Event()
    threads = [
        threading.Thread(target=release.wait, name=name, daemon=True) for name in ("a worker", watchdog.OWN_THREADS[0])
    ]
    for thread in threads:
        thread.start()
    text = watchdog._stacks()
    release.set()
    assert "  MainThread, most recent call first:\n" in text
    assert "in test_the_stacks_name_each_thread_but_the_watchdogs_own" in text
    assert "  a worker, most recent call first:\n" in text
    assert f"  {watchdog.OWN_THREADS[0]}, most" not in text
