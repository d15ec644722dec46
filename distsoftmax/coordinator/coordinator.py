"""The coordinator: rank 0's folder, and what goes into it as the steps go by."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Lap, Verdict
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.checkpoint import checkpoint_paths, save_checkpoint
from distsoftmax.coordinator.folder import choose_folder, forget_warm, make_results_folder, resuming_options
from distsoftmax.coordinator.lock import FolderLock
from distsoftmax.coordinator.metrics import in_words, metrics_of
from distsoftmax.coordinator.mirror import Mirror
from distsoftmax.coordinator.path_folder import PathFolder
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.coordinator.restoration import Restoration
from distsoftmax.coordinator.result_file import MODEL, read_result, remove_result, save_outcome
from distsoftmax.coordinator.run_identity import RunIdentity
from distsoftmax.coordinator.saver import SaveErrors, Saver
from distsoftmax.coordinator.sinks.feed import Sinks
from distsoftmax.coordinator.time_left import TimeLeft
from distsoftmax.data.dataset import Dataset
from distsoftmax.durable import remove_leftovers, write_atomically
from distsoftmax.errors import OutputError
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.objective.classification_report import ClassificationReport
from distsoftmax.scratch import MEMORY, warm_folder
from distsoftmax.solvers.protocol import Array
from distsoftmax.solvers.state import State
from distsoftmax.training.early_stopping import EarlyStopping
from distsoftmax.training.result import Interruption, Result, Review
from distsoftmax.training.stopping import StepLimit


class Coordinator:
    """Keeps the results of a run. Every rank makes one; only rank 0's touches files.

    Used as a context, it waits at the end for the save in progress and gives the folder free. Not collective.

    Parameters
    ----------
    config : TrainConfig
    cluster : Communicator
    progress : ProgressLine, optional
        An earlier run's, to go on with.
    task : str
        What the progress line calls the steps.
    path : PathFolder, optional
        Of the path that the run is a part of.

    Attributes
    ----------
    folder : Path
        The run's folder, the same on every rank.
    progress : ProgressLine

    Raises
    ------
    InputError
        On every rank: the folder cannot be made where it was asked for, or another run holds it; or there is no model
        where the run is to start from. Collective for this reason.
    """

    def __init__(
        self,
        config: TrainConfig,
        cluster: Communicator,
        progress: ProgressLine | None = None,
        task: str = "training",
        path: PathFolder | None = None,
    ) -> None:
        self._config = config
        self._path = path
        self._cluster = cluster
        self._task = task
        self.folder = choose_folder(config, cluster)
        self.progress = progress or ProgressLine(config.run.progress, silent=cluster.rank != 0)
        self._identity: RunIdentity | None = None
        self._seconds_before = 0.0
        self._opened: float | None = None  # when the first step was about to be taken
        self._saved_step = -1
        self._n_steps = self._n_samples = 0
        self._time_left = TimeLeft(config.solver.tolerance)
        self._warn = partial(_warn, self.progress, cluster)
        self._lock = FolderLock(self.folder, self._warn, config.run.timeout)
        self._saver = Saver()
        self._errors = SaveErrors(stop=config.run.on_save_error == "stop", warn=self._warn)
        self._last_save = time.monotonic()
        self._sinks = Sinks(config, self.folder, cluster)
        if path is None:  # which has locked its own for all its runs
            on_rank_0(cluster, self._lock.take)
        try:
            self._restoration = Restoration(config, self.folder, cluster)
        except BaseException:  # ranks may be lost, too, and then it is made anew
            self._lock.release()
            raise
        self._mirror = Mirror(warm_folder(MEMORY, self.whole_folder), cluster) if config.run.warm else None

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._saver.wait()
        self._sinks.close()
        if self._mirror is not None:
            self._mirror.wait()  # else it would write into the folder while that is removed
        if self._path is None:
            forget_warm(self._config, self.folder, error)
        self._lock.release()

    @property
    def failure(self) -> str:
        """What rank 0 could not do and must end the run for; it travels to the others with a control message."""
        for kind, error in (*(("checkpoints", error) for error in self._saver.errors()), *self._sinks.errors()):
            self._errors.add(kind, error)
        return self._errors.fatal

    @property
    def save_seconds(self) -> float:
        """What the longest save so far has taken; 0 on other ranks than rank 0."""
        return self._saver.longest_seconds

    @property
    def seconds_saving(self) -> float:
        """What all saves so far have taken, beside the steps; 0 on other ranks than rank 0."""
        return self._saver.seconds

    @property
    def training_seconds(self) -> float:
        """Seconds spent in this run since its first step, by earlier processes, too."""
        return self._seconds_before + (0.0 if self._opened is None else time.perf_counter() - self._opened)

    @property
    def whole_folder(self) -> Path:
        """The folder of the run, or of the path that it is a part of."""
        return self._path.folder if self._path is not None else self.folder

    @property
    def model_path(self) -> Path:
        """Where the model goes."""
        return self.folder / MODEL

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    def restore(self, dataset: Dataset, state_type: type[State]) -> tuple[State, Review] | None:
        """Return what is in the newest checkpoint of this run on every rank, or None. Collective.

        Raises
        ------
        InputError
            On every rank: the folder holds another run, or any run where none was wanted.
        """
        self._identity = now = self._restoration.identity(dataset)
        checkpoint = self._restoration.newest_checkpoint(now, self._mirror)
        if checkpoint is None:
            return None
        self._identity = now.continuing(checkpoint.identity)
        state = checkpoint.state(state_type)
        self._saved_step, self._seconds_before = state.step, checkpoint.seconds
        return state, Review(checkpoint.best or EarlyStopping())

    def start(self, dataset: Dataset) -> Array:
        """Return the parameters that a new run starts from; see `Restoration.start`. Collective."""
        return self._restoration.start(dataset)

    def open_folder(self, state: State, dataset: Dataset, limit: StepLimit) -> None:
        """Make the folder and what is in it from the start, before the run goes on from a state. Collective.

        It is called again where another rank has become rank 0: that one takes the folder over.

        Raises
        ------
        InputError, OutputError
            On every rank: it cannot be made, or not be written.
        """
        self._n_steps, self._n_samples = limit.steps, dataset.n_training
        self.progress.is_silent = self._cluster.rank != 0
        if self._mirror is not None:
            self._mirror.choose_ranks()  # some may be lost
        on_rank_0(self._cluster, lambda: self._fill_folder(state))
        if self._opened is None:  # else ranks were lost meanwhile, and the time goes on
            self._opened = time.perf_counter()
        self.progress.leave()

    def record(
        self, state: State, review: Review, lap: Lap, verdict: Verdict, report: ClusterReport | None, *, is_last: bool
    ) -> None:
        """Write what is due after a step. Not collective; a failure is kept for the next control message.

        Checkpoints are written while the steps go on; the last one is waited for.

        Parameters
        ----------
        review : Review
            Where it has a result, the last line of metrics says what the closing lines will say.
        lap : Lap
            Rank 0's.
        report : ClusterReport or None
            Where one was due.
        """
        assert self._identity is not None, "restore comes first"
        if self._mirror is not None and state.step != self._saved_step:
            self._mirror.keep(state, self._identity, _kept(review.best), self.training_seconds)
        if self._mirror is not None and is_last:
            self._mirror.wait()
        if self._cluster.rank != 0:
            return
        run, n_samples = self._config.run, state.n_sampled or self._n_samples
        if report is not None:
            self.progress.watch(report)
        if is_last or state.step % run.metrics_every == 0 or review.held_out is not None:
            try:
                self._sinks.write(metrics_of(state, review, lap, verdict, n_samples, report))
            except OutputError as error:  # it does not cost the state
                self._errors.add("metrics", error)
        by_step = run.checkpoint_every is not None and state.step % run.checkpoint_every == 0
        if is_last or by_step or time.monotonic() - self._last_save >= run.checkpoint_seconds:
            self._save(state, review.best)
        left = "" if is_last else self._time_left.note(state, self._n_steps, verdict.seconds_left)
        self.progress.show(self._task, state.step, self._n_steps, in_words(state, self._n_steps), left)
        if is_last:
            self.progress.leave()
            self._saver.wait()
            if not self.failure:
                self._errors.warn_of_shortfall(partial(checkpoint_paths, self.checkpoints), self._sinks.n_unwritten)

    def check_saved(self) -> None:
        """Raise on every rank what rank 0 could not do. Collective.

        Raises
        ------
        OutputError
        """
        with self._cluster.agreement():
            if self.failure:
                raise OutputError(self.failure)

    def save_outcome(
        self, ended: Result | Interruption, dataset: Dataset, solver: str, evaluation: ClassificationReport | None
    ) -> str:
        """Write the model and result.json, and return the model's SHA-256; see `result_file.save_outcome`. Collective.

        Raises
        ------
        OutputError
            On every rank.
        """
        save = partial(save_outcome, self.folder, ended, evaluation, config=self._config, dataset=dataset)
        assert self._identity is not None, "restore comes first"
        save = partial(save, solver=solver, n_ranks=self._cluster.size, arithmetic=self._identity.arithmetic)
        sha256 = on_rank_0(self._cluster, lambda: save(seconds=self.training_seconds))
        on_rank_0(self._cluster, lambda: self._sinks.end(read_result(self.folder)))
        if isinstance(ended, Interruption):
            for _, error in self._sinks.errors():
                self._warn(f"warning: {error}; it is told of that when the run goes on")
        self.check_saved()
        return sha256

    def _fill_folder(self, state: State) -> None:
        self._saver.wait()
        self._lock.take() if self._path is None else self._path.open()
        make_results_folder(self.checkpoints, self.folder)
        remove_leftovers(self.folder)
        remove_result(self.folder)
        write_atomically(self.folder / "config.toml", resuming_options(self._config))
        self._sinks.begin(state.step)
        self._last_save = time.monotonic()

    def _save(self, state: State, best: EarlyStopping) -> None:
        assert self._identity is not None, "restore comes first"
        if state.step != self._saved_step:
            save = partial(
                save_checkpoint,
                self.checkpoints,
                state,
                self._identity,
                self._config.run.keep_checkpoints,
                best=_kept(best),
                seconds=self.training_seconds,
            )
            self._saver.save(save)
            self._saved_step = state.step
        self._last_save = time.monotonic()


def _warn(progress: ProgressLine, cluster: Communicator, text: str) -> None:
    progress.leave()
    cluster.say(text, to_stderr=True)


def _kept(best: EarlyStopping) -> EarlyStopping | None:
    return best if best.last_step >= 0 else None
