"""A run of the training loop in a user's own process: nothing on disk, the signals given back, a model in any case."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Lap, Verdict
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.metrics import in_words
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.data.dataset import Dataset
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.monitoring.reporter import Reporter, Work
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.session import Session
from distsoftmax.solvers.protocol import Array
from distsoftmax.solvers.state import State
from distsoftmax.trainer import fit
from distsoftmax.training.clock import TimeLimit
from distsoftmax.training.memory import Memory
from distsoftmax.training.result import Interruption, Result, Review, conclude
from distsoftmax.training.stopping import StepLimit

SMALL_STEP = 16_000_000  # bytes of features times classes: a pass over less takes no longer than to wake threads
SPARSE_WORK = 16  # times as long as a pass over dense features is one over as many bytes of sparse ones
SMALL_DATA = 8 << 20  # bytes of features, beside which a process takes more in any case
MOST_KEPT = 0.12  # of the features' bytes, for probabilities: with all else a fit takes less than a fifth of them


class Interrupts:
    """Ctrl-C while a run goes on: the first ends it after the step, a second one at once, as without this.

    Attributes
    ----------
    received : int
        The number of the signal; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note Ctrl-C within a block, where Python would raise KeyboardInterrupt, which the main thread alone sees."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
            yield
            return

        def note(number: int, _: FrameType | None) -> None:
            if self.received:
                raise KeyboardInterrupt
            self.received = number

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class Onlooker:
    """A recorder that keeps nothing but shows the steps; see `coordinator.protocol.Recorder`."""

    failure = ""
    save_seconds = 0.0
    seconds_saving = 0.0

    def __init__(self, progress: ProgressLine, task: str, start: Array | None) -> None:
        self._progress, self._task, self._start = progress, task, start
        self._n_steps = 0

    def restore(self, dataset: Dataset, state_type: type[State]) -> None:
        """Return that nothing was kept."""

    def start(self, dataset: Dataset) -> Array:
        """Return the parameters that the run starts from."""
        return np.zeros(dataset.shape) if self._start is None else self._start

    def open_folder(self, state: State, dataset: Dataset, limit: StepLimit) -> None:
        """Note the number of steps; there is no folder."""
        self._n_steps = limit.steps

    def record(
        self, state: State, review: Review, lap: Lap, verdict: Verdict, report: ClusterReport | None, *, is_last: bool
    ) -> None:
        """Show a step."""
        if not self._progress.is_silent:
            self._progress.show(self._task, state.step, self._n_steps, in_words(state))
            if is_last:
                self._progress.leave()

    def check_saved(self) -> None:
        """Find that nothing failed."""


class NoReports(Reporter):
    """Reports nothing on the ranks and their nodes, and measures nothing for it."""

    def __init__(self) -> None:
        pass

    def begin(self) -> None:
        """See `Reporter.begin`."""

    def meet(self, threads: int) -> None:
        """See `Reporter.meet`."""

    def is_due(self, step: int) -> bool:
        """See `Reporter.is_due`."""
        return False

    def report(self, work: Work) -> None:
        """See `Reporter.report`."""


@dataclass
class Trainer:
    """Trains on datasets in memory, for as long as no Ctrl-C has come.

    Attributes
    ----------
    cluster : Communicator
    interrupts : Interrupts
    progress : ProgressLine
    threads : int
        That may be used.
    """

    cluster: Communicator
    interrupts: Interrupts
    progress: ProgressLine
    threads: int

    def open(self, config: TrainConfig, dataset: Dataset) -> Session:
        """Set up what is needed of a dataset before the first step. Collective."""
        work = dataset.bytes_held * dataset.shape[0] * (SPARSE_WORK if dataset.sparse else 1)
        threads = self.threads if work > SMALL_STEP else 1  # no bit depends on it
        objective = SoftmaxObjective(dataset, config.objective, self.cluster, threads, config.data.seed)
        if dataset.bytes_held > SMALL_DATA:
            objective.cross_entropy.most_kept = MOST_KEPT
        return Session(
            cluster=self.cluster,
            signals=self.interrupts,
            config=config,
            dataset=dataset,
            objective=objective,
            limit=TimeLimit(),
            progress=self.progress,
            reporter=NoReports(),
        )

    def run(self, session: Session, task: str, start: Array | None = None) -> Result:
        """Take the steps of the run at hand; a Ctrl-C ends it after a step, with what is there. Collective.

        Raises
        ------
        DistSoftmaxError
            See `trainer.fit`.
        """
        memory, config = Memory(), session.config
        ended = fit(config, Onlooker(self.progress, task, start), session, memory)
        if not isinstance(ended, Interruption):
            return ended
        newest = memory.recall(self.cluster)
        assert newest is not None, "each step is committed before it may be the last"
        self.interrupts.received = ended.signal  # it may have come to another rank
        state, review = newest
        review = Review(review.best, reason="it was interrupted")
        return conclude(session.objective, state, review, config.solver.tolerance)
