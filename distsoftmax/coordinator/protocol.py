"""What the training loop asks of whoever keeps what comes of it: `Coordinator`, or one that keeps nothing on disk."""

from __future__ import annotations

from typing import Protocol

from distsoftmax.cluster.control import Lap, Verdict
from distsoftmax.data.dataset import Dataset
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.solvers.protocol import Array
from distsoftmax.solvers.state import State
from distsoftmax.training.result import Review
from distsoftmax.training.stopping import StepLimit


class Recorder(Protocol):
    """Takes down a run as the steps go by; every rank has one. `Coordinator` says more of each."""

    @property
    def failure(self) -> str:
        """What rank 0 could not do and must end the run for; empty where there is nothing."""

    @property
    def save_seconds(self) -> float:
        """What the longest save so far has taken."""

    @property
    def seconds_saving(self) -> float:
        """What all saves so far have taken."""

    def restore(self, dataset: Dataset, state_type: type[State]) -> tuple[State, Review] | None:
        """Return what an earlier start of this run has kept, or None. Collective."""

    def start(self, dataset: Dataset) -> Array:
        """Return the parameters that a new run starts from. Collective."""

    def open_folder(self, state: State, dataset: Dataset, limit: StepLimit) -> None:
        """Get ready for the steps that follow on a state. Collective."""

    def record(
        self, state: State, review: Review, lap: Lap, verdict: Verdict, report: ClusterReport | None, *, is_last: bool
    ) -> None:
        """Take a step down. Not collective."""

    def check_saved(self) -> None:
        """Raise on every rank what rank 0 could not do. Collective."""
