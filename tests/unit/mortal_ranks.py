"""Ranks as threads of one process, some of which die in the midst of a collective call: what a repairing MPI does."""

import math
import threading
from unittest.mock import patch

import numpy as np
from ranks import ThreadCommunicator

from distsoftmax.errors import RanksLost
from distsoftmax.monitoring import reporter

DEADLINE = 60.0  # seconds


class Killed(BaseException):
    """Raised in the thread of a rank that dies."""


class Job:
    """What the threads of a job share.

    dooms: {rank: (call, has_sent)}: in which of its collective calls a rank dies, counted from 1, and whether the
    others still get what it has sent. `hears(rank)` says how a survivor's call in which a rank has died ends: "well",
    "lost", with RanksLost, or "wrong", as if well, but with the survivor's own value in place of that of the dead.
    """

    def __init__(self, size, dooms, hears):
        self.size, self.dooms, self.hears = size, dooms, hears
        self.changed = threading.Condition()
        self.living = set(range(size))
        self.revoked = set()
        self.sent = {}
        self.last_calls = set()  # those in which a rank died after it had sent
        self.decided = {}


class MortalCommunicator(ThreadCommunicator):
    """See `Communicator`: a thread's, whose collective calls raise RanksLost where others have died."""

    repairs = True

    def __init__(self, own, job):
        self.own, self.job = own, job
        self.comrades, self.generation, self.number = list(range(job.size)), 0, 0
        self.rank, self.size = own, job.size

    def allgather(self, value):
        job, key = self.job, (self.generation, self.number)
        self.n_calls += 1
        self.number += 1
        with job.changed:
            doom, has_sent = job.dooms.get(self.own, (0, False))
            if self.n_calls == doom:
                job.living.discard(self.own)
                if has_sent:
                    job.sent.setdefault(key, {})[self.own] = value
                    job.last_calls.add(key)
                job.changed.notify_all()
                raise Killed
            job.sent.setdefault(key, {})[self.own] = value
            job.changed.notify_all()
            self._wait(lambda: self._is_complete(key) or self._is_broken())
            sent, how = job.sent[key], job.hears(self.own)
            if self._is_complete(key) and (key not in job.last_calls or how == "well"):
                return [sent[member] for member in self.comrades]
            if how == "wrong" and all(member in sent or member not in job.living for member in self.comrades):
                return [sent[member] if member in job.living else value for member in self.comrades]
            job.revoked.add(self.generation)
            job.changed.notify_all()
            raise RanksLost(f"seen by rank {self.rank}").on_all_ranks()

    def gather_records(self, record):
        records = self.allgather(record.copy())
        wrong = [member not in self.job.sent[self.generation, self.number - 1] for member in self.comrades]
        return np.array([np.zeros_like(own) if is_wrong else own for own, is_wrong in zip(records, wrong, strict=True)])

    def barrier(self):
        self.allgather(None)

    def agree(self, done):
        votes = self._all_living(("agree", self.generation, self.number_of("agree")), done)
        return len(votes) == len(self.comrades) and all(votes.values())

    def confirm_loss(self):
        with self.job.changed:
            if not self._is_broken():
                return False
            self.job.revoked.add(self.generation)
            self.job.changed.notify_all()
            return True

    def repair(self):
        before = self.size
        self.comrades = sorted(self._all_living(("repair", self.generation), True))
        self.generation, self.number = self.generation + 1, 0
        self.rank, self.size = self.comrades.index(self.own), len(self.comrades)
        return before - self.size

    def number_of(self, what):
        self.counts = getattr(self, "counts", {})
        self.counts[what, self.generation] = self.counts.get((what, self.generation), 0) + 1
        return self.counts[what, self.generation]

    def _all_living(self, key, value):
        """What all living members give; the same for all of them, whoever dies meanwhile."""
        job = self.job
        with job.changed:
            job.sent.setdefault(key, {})[self.own] = value
            job.changed.notify_all()
            self._wait(lambda: key in job.decided or set(self.comrades) & job.living <= job.sent[key].keys())
            if key not in job.decided:
                job.decided[key] = {member: job.sent[key][member] for member in self.comrades if member in job.living}
                job.changed.notify_all()
            return job.decided[key]

    def _is_complete(self, key):
        return len(self.job.sent[key]) == len(self.comrades)

    def _is_broken(self):
        return self.generation in self.job.revoked or not self.job.living.issuperset(self.comrades)

    def _wait(self, condition):
        assert self.job.changed.wait_for(condition, DEADLINE), f"rank {self.own} hangs in generation {self.generation}"


def on_mortal_ranks(size, work, dooms, hears=lambda rank: "well"):
    """Return what `work(cluster)` returns or raises on each rank, Killed where it died; and how many calls it made.

    Reports on the nodes come at the start and at the end alone, not by the clock, so that calls have the same numbers.
    """
    job, outcomes = Job(size, dooms, hears), [None] * size
    clusters = [MortalCommunicator(rank, job) for rank in range(size)]

    def run(rank):
        try:
            outcomes[rank] = work(clusters[rank])
        except BaseException as error:
            error.__traceback__ = None  # or what the rank held would live on
            outcomes[rank] = error
            if not isinstance(error, Killed):  # or the others wait for it
                with job.changed:
                    job.living.discard(rank)
                    job.changed.notify_all()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    with patch.object(reporter, "FIRST_SECONDS", math.inf):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert not any(thread.is_alive() for thread in threads), "a rank hangs"
    return outcomes, [cluster.n_calls for cluster in clusters]
