"""Start a job again where a rank or a node is lost.

    python -m distsoftmax.supervise -- mpirun -n 4 python -m distsoftmax.train --data letter.csv --label Letter

The statuses 0 (done), 2 (bad input or usage) of the first start, 3 (done, but with --strict and short of its
--tolerance) and 75 (stopped early and resumable) are final. After any other end the job is started again, and goes on
from where it was. Where it comes no further the cause is shown, and its status is returned. SIGTERM, SIGINT, SIGUSR1
and SIGHUP end the job in order; a second SIGTERM or SIGINT, after a second or more, ends it at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType

from distsoftmax.run_folder import Position, model_stamp, position
from distsoftmax.supervision.command import Command
from distsoftmax.supervision.hosts import hosts_of, keeping_alive, on_hosts, on_ranks, ranks_of, that_answer
from distsoftmax.supervision.job import Job, adopt_orphans, say
from distsoftmax.supervision.slurm import allocated, end_steps

FINAL = (0, 75)
BAD_USAGE, NOT_CONVERGED, RESUMABLE = 2, 3, 75
DONE = (0, NOT_CONVERGED)  # of a run: a model was written, else a rank alone has ended with this status
NO_MODEL = 256  # is added to the status of a run that says it is done, but has written no model
MAX_RESTARTS = 10
FUTILE_RESTARTS = 2  # in a row that came no further: what they failed of does not go away by itself
FIRST_PAUSE, MOST_DOUBLINGS = 0.25, 7  # seconds before a restart; doubled as long as nothing says that it helps
# seconds before a restart where one could not read what was read before: file systems fail over within minutes
OUTAGE_PAUSE = 180.0
SECOND_SIGNAL_SECONDS = 1.0  # a terminal or a batch system may send the first one several times
AFTER_DASHES = "stands after two dashes, as in -- mpirun -n 4 python ..."
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL, signal.SIGSEGV)


class Supervisor:
    """Starts a job, and starts it again as long as that helps. One a process: it takes the process's signals.

    Parameters
    ----------
    command : Command
    max_restarts : int
    must_advance : bool
        Whether a run that stops no further than where it was is an error: nobody may start it again as it is.
    """

    def __init__(self, command: Command, max_restarts: int, *, must_advance: bool = False) -> None:
        self._command = command
        self._max_restarts = max_restarts
        self._must_advance = must_advance
        self._most_ranks: int | None = None
        self._job: Job | None = None
        self._last_lines: list[str] = []
        self._restarts = 0
        self._last_position = Position()
        self._stop = 0  # the signal that has asked the job to end
        self._last_request = self._last_passed = 0.0
        self._at_once = False
        self._wakeup = _wake_up_at(STOPPING, self._ask_to_end)
        adopt_orphans()

    def run(self) -> int:
        """Start the job until it has ended for good, and return the exit status."""
        origin = self._position()
        status = self._run_to_its_end(origin)
        if status == RESUMABLE and self._must_advance and self._command.out and self._position() <= origin:
            say(
                f"the run has stopped {origin}, no further than where it was, and would again. Give it more time, or a "
                "later --deadline, and start it again: it goes on from there"
            )
            return 1
        return status

    def _run_to_its_end(self, origin: Position) -> int:
        words = list(self._command.words)
        best = origin
        futile = 0
        while True:
            status = self._run_once(words)
            if self._is_final(status):
                return status
            reached = self._position()
            ended = f"the job ended {_in_words(status)}{f' {reached}' if self._command.out else ''}"
            if self._stop:
                return self._asked(ended)
            futile = futile + 1 if self._restarts and self._command.out and reached <= best else 0
            best = max(best, reached)
            if futile == FUTILE_RESTARTS or self._restarts == self._max_restarts:
                return self._give_up(ended, futile, status)
            doublings = min(futile if self._command.out else self._restarts, MOST_DOUBLINGS)
            pause = OUTAGE_PAUSE if status == BAD_USAGE else FIRST_PAUSE * 2**doublings
            self._restarts += 1
            say(f"{ended}; restart {self._restarts} of {self._max_restarts} in {pause:g} s")
            if self._interrupted(pause):
                return self._asked("the job was not started again")
            words = self._words_again(fewer=futile > 0 and reached.step < 0)
            if self._command.out and origin.step < 0:
                words += ["--resume", "auto"]  # what is in the folder now this command has made

    def _run_once(self, words: list[str]) -> int:
        """Start the job, wait for its end, and return its status; that of bad usage where it cannot be started."""
        out = self._command.out
        stamp = out and model_stamp(out)
        try:
            self._job = Job(words, self._wakeup, keeping_alive(words, os.environ))
        except OSError as error:
            self._last_lines = []
            say(f"{words[0]}: cannot be started: {error.strerror}")
            return BAD_USAGE
        if self._stop:  # the signal came while the job was started
            self._pass_on()
        status = self._job.wait()
        if not self._is_final(status):
            end_steps(words, os.environ)
        self._last_lines, self._job = self._job.last_lines, None
        return NO_MODEL + status if status in DONE and out and model_stamp(out) == stamp else status

    def _is_final(self, status: int) -> bool:
        """Whether no restart follows: input that was good at the first start is hard to read now, not bad."""
        if status == BAD_USAGE:
            return self._restarts == 0
        return status in FINAL or (status == NOT_CONVERGED and self._command.out is not None)

    def _words_again(self, *, fewer: bool) -> list[str]:
        """Return the words of the next start, without the hosts that do not answer; with `fewer` on half the ranks."""
        words = list(self._command.words)
        hosts = hosts_of(words)
        hosts, answering = (hosts, that_answer(hosts, words, os.environ)) if hosts else allocated(os.environ)
        lost = [host.name for host in hosts if host.name not in answering]
        if lost:
            say(f"these hosts do not answer, so the job goes on without them: {', '.join(lost)}")
            words = on_hosts(words, hosts, answering)
        n_ranks = ranks_of(words)
        if n_ranks is None:
            return words
        if fewer and n_ranks > 1:
            self._most_ranks = n_ranks // 2
            say(f"no step was taken on {n_ranks} ranks, so {self._most_ranks} are started")
        return on_ranks(words, min(n_ranks, self._most_ranks or n_ranks))

    def _give_up(self, ended: str, futile: int, status: int) -> int:
        no_use = f"{futile} restarts in a row came no further"
        why = no_use if futile == FUTILE_RESTARTS else f"--max-restarts is {self._max_restarts}"
        say(f"{ended}; it is not started again: {why}")
        if self._last_lines:
            say("\n  ".join(["the last lines on its standard error were", *self._last_lines]))
        if status >= NO_MODEL:
            return status - NO_MODEL or 1
        return status if status > 0 else 128 - status

    def _asked(self, ended: str) -> int:
        name = signal.Signals(self._stop).name
        say(f"{ended}, as {name} asked for{' it at once' if self._at_once else ''}; the same command goes on")
        return 128 + self._stop if self._at_once else RESUMABLE

    def _position(self) -> Position:
        """Return how far the run has come, or what was last known of it where its folder cannot be read now."""
        if self._command.out:
            with contextlib.suppress(OSError):
                self._last_position = position(self._command.out)
        return self._last_position

    def _interrupted(self, seconds: float) -> bool:
        """Let so many seconds pass, or less where a signal asks for the end; return whether one has."""
        end = time.monotonic() + seconds
        while not self._stop and (remaining := end - time.monotonic()) > 0:
            if select.select([self._wakeup], [], [], remaining)[0]:
                os.read(self._wakeup, 4096)
        return bool(self._stop)

    def _ask_to_end(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number in (signal.SIGTERM, signal.SIGINT):
            self._at_once |= now - self._last_request >= SECOND_SIGNAL_SECONDS and self._last_request > 0
            self._last_request = now
        self._stop = number
        self._pass_on()

    def _pass_on(self) -> None:
        """Ask mpirun for the end.

        Open MPI kills the ranks on SIGTERM and SIGINT, MPICH does on a second Ctrl-C, with a page of assertions. Both
        pass SIGUSR1 on; but MPICH's mpirun fails where many come while the ranks end.
        """
        now = time.monotonic()
        if self._job is None:
            return
        if self._at_once:
            self._job.send(signal.SIGKILL)
        elif now - self._last_passed >= SECOND_SIGNAL_SECONDS:
            self._last_passed = now
            self._job.send(signal.SIGUSR1)


def _wake_up_at(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> int:
    """Handle signals, and return a file descriptor that can be read when one has come, or when a child has ended."""
    readable, writable = os.pipe()
    for end in (readable, writable):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only a signal with a handler wakes up
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup has asked for
            signal.signal(number, handler)
    return readable


def _in_words(status: int) -> str:
    if status >= NO_MODEL:
        return f"with status {status - NO_MODEL}, but without a model"
    if status < 0:
        return f"because its launcher was killed by {signal.Signals(-status).name},"
    number = status - 128 if status > 128 else status  # MPICH returns a signal's number as it is
    named = number in set(signal.Signals) if status > 128 else number in CRASHES
    return f"with status {status}{f' ({signal.Signals(number).name})' if named else ''}"


def parser() -> argparse.ArgumentParser:
    """Return the options of the command, those before the two dashes."""
    from distsoftmax.usage.help import described

    form = argparse.RawDescriptionHelpFormatter
    usage = "python -m distsoftmax.supervise [OPTIONS] -- mpirun ..."
    parser = argparse.ArgumentParser(usage=usage, description=described(__doc__), formatter_class=form)
    parser.add_argument("--max-restarts", type=int, default=MAX_RESTARTS, metavar="N", help=f"default: {MAX_RESTARTS}")
    parser.add_argument(
        "--out", metavar="DIR", help="the folder of a run whose command and --config name none; default: a new one"
    )
    parser.add_argument(
        "--must-advance",
        action="store_true",
        help="exit with 1, not 75, where the run comes no further: for a script that starts it again after 75",
    )
    parser.add_argument(
        "--cold", action="store_true", help="leave out --warm: a restart reads and prepares the data anew"
    )
    return parser


def main() -> int:
    """Read the command line, and supervise the command after the two dashes."""
    own, words = _split(sys.argv[1:])
    form = parser()
    options, others = form.parse_known_args(own)
    if others:
        form.error(f"{others[0]} is no option of the supervisor; the command {AFTER_DASHES}")
    if options.max_restarts < 0:
        form.error(f"--max-restarts is {options.max_restarts}; it must be 0 or more")
    if not words:
        form.error(f"there is nothing to start: the command {AFTER_DASHES}")
    command = Command.of(words, warm=not options.cold, default_out=options.out)
    try:
        return Supervisor(command, options.max_restarts, must_advance=options.must_advance).run()
    finally:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)  # one that comes late must not change the status


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first two dashes, and those after them."""
    number = words.index("--") if "--" in words else len(words)
    return words[:number], words[number + 1 :]


if __name__ == "__main__":
    sys.exit(main())
