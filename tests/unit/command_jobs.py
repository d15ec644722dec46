"""Jobs whose ranks are threads of this process: a command from its words to its exit status, without mpirun."""

import functools
import re
import threading
from dataclasses import dataclass

from ranks import on_ranks

from distsoftmax import command_line, describe, evaluate, predict, summary, train
from distsoftmax.cluster import startup
from distsoftmax.config import TrainConfig
from distsoftmax.training import signals

COMMANDS = {
    "train": (TrainConfig, train.command),
    "evaluate": (evaluate.EvaluateConfig, evaluate.command),
    "predict": (predict.PredictConfig, predict.command),
    "describe": (describe.DescribeConfig, describe.command),
    "summary": (summary.SummaryConfig, summary.command),
}


@dataclass(frozen=True)
class Ended:
    """A job that has ended: its exit status, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def sha256(self):
        """That of the model that was trained."""
        (sha256,) = re.findall(r"^model sha256 ([0-9a-f]{64})$", self.out, re.MULTILINE)
        return sha256


_parse = command_line.parse


@functools.cache
def _parsed_once(config_type, arguments, *names):
    """Parse a command line: for all ranks and tests once, as it takes as long as a small training."""
    return _parse(config_type, list(arguments), *names)


def job_runner(monkeypatch, capsys):
    """Return a function that runs a command on so many ranks; all of them end with the same status, or it fails."""
    own, turn = threading.local(), threading.Lock()

    def parse_in_turn(config_type, arguments, *names):
        reads_file = any(argument.startswith("--config") for argument in arguments)
        with turn:  # what it prints is caught by replacing sys.stdout, which is everybody's
            if reads_file:
                return _parse(config_type, arguments, *names)
            return _parsed_once(config_type, tuple(arguments), *names)

    monkeypatch.setattr(command_line, "parse", parse_in_turn)
    monkeypatch.setattr(startup, "join_job", lambda *_: own.rank)
    # only the main thread may set handlers, and the tests keep their own
    monkeypatch.setattr(signals.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(signals.signal, "set_wakeup_fd", lambda *_, **__: None)
    make_pair, writers = signals.socket.socketpair, []

    def recorded_pair():
        reader, writer = make_pair()
        writers.append(writer)
        return reader, writer

    monkeypatch.setattr(signals.socket, "socketpair", recorded_pair)

    def job(n, name, *words):
        monkeypatch.setattr("sys.argv", [name, *map(str, words)])
        monkeypatch.setattr(command_line, "started_processes", lambda: n)

        def work(rank):
            own.rank = rank
            try:
                command_line.run_command(*COMMANDS[name])
            except SystemExit as end:
                return end.code

        capsys.readouterr()
        statuses = on_ranks(n, work)
        while writers:  # a process that ends with an error leaves its sockets to the system
            writers.pop().close()
        printed = capsys.readouterr()
        assert len(set(statuses)) == 1, (statuses, printed)
        return Ended(statuses[0], printed.out, printed.err)

    return job
