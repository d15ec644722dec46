"""Sinks fed on threads of their own, so that a slow disk or server holds up no step, and a dead one no run."""

from __future__ import annotations

import importlib.util
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.metrics import MetricsFile, earlier_lines
from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.coordinator.sinks.mlflow import Mlflow
from distsoftmax.coordinator.sinks.sink import Line, Sink
from distsoftmax.coordinator.sinks.tensorboard import TensorBoard
from distsoftmax.errors import InputError, OutputError

KINDS: Mapping[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoard, "mlflow": Mlflow}  # by option and package
MOST_WAITING = 100_000  # lines kept for a sink that is behind; beyond it the oldest are lost
SHORTEST_SECONDS = 1.0  # from one call to the next: lines are told several at a time
SMALLEST_RATIO = 4  # of that time to the time that a call takes: no more than a fifth of a core
TRIES = 3  # in a row that may fail before an error is told of
PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before another try; doubled each time
END_SECONDS = 60.0  # that the end of a run waits for its sinks
LONGEST_TEXT = 300  # characters of what a library says
ABANDON_SECONDS = 5.0  # that a run waits for them which has failed, or goes on after ranks were lost


class Feed:
    """Feeds a sink on a thread of its own, which does not keep the process from ending.

    Parameters
    ----------
    name : str
        The option that has asked for the sink.
    sink : Sink
    options, history
        See `Sink.begin`; `history` is called for each try.
    """

    def __init__(
        self, name: str, sink: Sink, options: Mapping[str, object], history: Callable[[], Iterable[Line]]
    ) -> None:
        self.name = name
        self._sink = sink
        self._options, self._history = options, history
        self._waiting = deque[Line](maxlen=MOST_WAITING)
        self._result: Mapping[str, Any] | None = None
        self._news = threading.Condition()
        self._errors: list[OutputError] = []
        self._is_given_up = False
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether it was told of the run's end."""
        return self._result is not None

    def write(self, line: Line) -> None:
        """Let the sink have a line as soon as it can. Never waits."""
        with self._news:
            self._waiting.append(line)
            self._news.notify()

    def end(self, result: Mapping[str, Any], seconds: float) -> None:
        """Let the sink have what is waiting for it, and the result, if that holds anything; wait so long at most."""
        with self._news:
            self._result = result
            self._news.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._is_given_up = True
            self._errors.append(
                OutputError(
                    f"--{self.name}: {self._sink.where} has not taken the end of the run within {seconds:.0f} s"
                )
            )

    def errors(self) -> list[OutputError]:
        """Return what has gone wrong since the last call."""
        count = len(self._errors)
        told, self._errors[:count] = self._errors[:count], []
        return told

    def _run(self) -> None:
        failures, has_begun = 0, False
        taken: list[Line] = []  # by this thread, but not yet by the sink
        while not self._is_given_up:
            with self._news:
                if has_begun and not failures:
                    self._news.wait_for(lambda: self.has_ended or self._waiting)
                result, start = self._result, time.monotonic()
                taken += self._waiting  # all, where there is a result
                self._waiting.clear()
            del taken[:-MOST_WAITING]
            try:
                if not has_begun:
                    self._sink.begin(self._options, self._history())
                    has_begun = True
                if taken:
                    self._sink.write(taken)
                    taken = []
                if result is not None:
                    if result:
                        self._sink.end(result)
                    return
            except Exception as error:  # a library may raise anything; whatever it is, it must not cost the run
                failures += 1
                if failures % TRIES == 0:
                    self._errors.append(self._named(error))
                    if result is not None:
                        return
                self._pause(min(PAUSE * 2 ** (failures - 1), LONGEST_PAUSE))
            else:
                failures = 0
                self._pause(max(SHORTEST_SECONDS, SMALLEST_RATIO * (time.monotonic() - start)))

    def _pause(self, seconds: float) -> None:
        """Wait so long, or until the end of the run is told of."""
        with self._news:
            was_ending = self.has_ended
            self._news.wait_for(lambda: self._is_given_up or (self.has_ended and not was_ending), seconds)

    def _named(self, error: Exception) -> OutputError:
        """Return an error of a sink in one line, which is the same for the same cause."""
        text = str(error) if isinstance(error, (OSError, OutputError)) else f"{type(error).__name__}: {error}"
        text = re.sub(r" object at 0x[0-9a-f]+", "", " ".join(text.split()))[:LONGEST_TEXT]
        where = "" if self._sink.where in text else f"{self._sink.where}: "
        return OutputError(f"--{self.name}: {where}could not be written: {text}")


class Sinks:
    """metrics.jsonl and the sinks that a run has asked for. Every rank makes them; rank 0 alone calls them.

    metrics.jsonl is written before the next step, for the run is resumed by it; the others are fed beside the steps.

    Parameters
    ----------
    config : TrainConfig
    folder : Path
        The run's.
    cluster : Communicator

    Raises
    ------
    InputError
        On every rank: the package of a sink is missing. Collective for this reason.
    """

    def __init__(self, config: TrainConfig, folder: Path, cluster: Communicator) -> None:
        self._names = [name for name in KINDS if getattr(config.run, name)]
        self._options = {name: value for part in config.sections().values() for name, value in part.items()}
        self._timeout = config.run.timeout
        self._folder = folder
        self._metrics: MetricsFile | None = None
        self._feeds: list[Feed] = []
        on_rank_0(cluster, self._require_packages)

    @property
    def n_unwritten(self) -> int:
        """The lines that metrics.jsonl lacks."""
        return 0 if self._metrics is None else self._metrics.n_unwritten

    def begin(self, step: int) -> None:
        """Begin, from a step on; also where ranks were lost, and the steps since are taken again.

        Raises
        ------
        OutputError
            metrics.jsonl cannot be read or written.
        """
        self._stop({}, ABANDON_SECONDS)
        path = self._folder / "metrics.jsonl"
        self._metrics, history = MetricsFile(path, step), partial(earlier_lines, path, step)
        self._feeds = [Feed(name, KINDS[name](self._folder), self._options, history) for name in self._names]

    def write(self, line: Line) -> None:
        """Write a line of metrics, and let each sink have it. Waits for metrics.jsonl alone.

        Raises
        ------
        OutputError
            It could not be written there; it is tried again with the next one.
        """
        assert self._metrics is not None, "begin comes first"
        for feed in self._feeds:
            feed.write(line)
        self._metrics.write(line)

    def errors(self) -> list[tuple[str, OutputError]]:
        """Return what has gone wrong with the feeds since the last call, with the option of each."""
        return [(feed.name, error) for feed in self._feeds for error in feed.errors()]

    def end(self, result: Mapping[str, Any]) -> None:
        """Let each sink have the result of the run, and wait until they have it, but not for ever."""
        # no longer than the watchdog bears
        self._stop(result, min(END_SECONDS, self._timeout / 2) if self._timeout else END_SECONDS)

    def close(self) -> None:
        """Tell the sinks that the run has failed, if they know of no other end."""
        self._stop({"status": "failed"}, ABANDON_SECONDS)

    def _stop(self, result: Mapping[str, Any], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for feed in self._feeds:
            if not feed.has_ended:
                feed.end(result, max(deadline - time.monotonic(), 0.0))

    def _require_packages(self) -> None:
        for name in self._names:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:  # as of a folder of that name
                raise InputError(f"--{name} needs the package {name}: pip install 'distsoftmax[{name}]'")
