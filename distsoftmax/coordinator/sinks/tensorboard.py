"""--tensorboard: an event file in the run's folder, which `tensorboard --logdir` shows; no TensorFlow is needed.

An event file is a row of records (TFRecord): a length, its checksum, an `Event` as protocol buffers encode it, its
checksum. A process that goes on with a run begins a new file with all that came before, from metrics.jsonl, and empties
the old one. A START in the new file has a reader that is watching drop what it knows; the old file is removed by the
next process, for such a reader does not get over the loss of the file that it reads.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distsoftmax.coordinator.metrics import append_whole
from distsoftmax.coordinator.sinks.sink import Line, Sink, as_text, numbers_in, seconds_of
from distsoftmax.durable import make_folder, open_regular

ENDING = ".distsoftmax"  # of the names of event files that are ours


class TensorBoard(Sink):
    """See `Sink`. The folder `tensorboard` in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._path = self._folder
        self.where = str(self._folder)

    def begin(self, options: Mapping[str, object], history: Iterable[Line]) -> None:
        """See `Sink.begin`."""
        from tensorboard.compat.proto import event_pb2
        from tensorboard.plugins.hparams import summary_v2

        make_folder(self._folder)
        older = list(self._folder.glob(f"*.tfevents.*{ENDING}"))
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{os.uname().nodename}.{os.getpid()}.{time.monotonic_ns()}{ENDING}"
        path = self._folder / name
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        given = {
            option: value if isinstance(value, (bool, int, float)) else as_text(value)
            for option, value in options.items()
        }
        head = [
            event_pb2.Event(wall_time=now, file_version="brain.Event:2"),
            event_pb2.Event(wall_time=now, step=0, session_log=start),
            event_pb2.Event(wall_time=now, summary=summary_v2.hparams_pb(given, start_time_secs=now)),
        ]
        self._append(path, itertools.chain(head, map(_event, history)), os.O_CREAT | os.O_EXCL)
        self._path = path
        for earlier in older:
            with contextlib.suppress(OSError):
                os.truncate(earlier, 0) if earlier.stat().st_size else earlier.unlink()

    def write(self, lines: Sequence[Line]) -> None:
        """See `Sink.write`."""
        self._append(self._path, map(_event, lines))

    def end(self, result: Mapping[str, Any]) -> None:
        """See `Sink.end`."""
        final = {f"final/{name}": value for name, value in numbers_in(result)}
        if final:
            self._append(self._path, [_event({"step": result["n_steps"], **final})])

    def _append(self, path: Path, events: Iterable[Any], flags: int = 0) -> None:
        """Write events at the end of a file, all of them or none."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        content = io.BytesIO()
        records = RecordWriter(content)
        for event in events:
            records.write(event.SerializeToString())
        with os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND | flags), "ab", buffering=0) as file:
            append_whole(file, content.getvalue())


def _event(line: Line) -> Any:
    """Return the numbers of a line as an event at its step."""
    from tensorboard.compat.proto import event_pb2, summary_pb2

    values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in numbers_in(line)]
    return event_pb2.Event(wall_time=seconds_of(line), step=line["step"], summary=summary_pb2.Summary(value=values))
