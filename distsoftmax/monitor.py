"""Watch a run from another terminal, or see afterwards where its time went; or measure the nodes of an allocation.

    python -m distsoftmax.monitor RUN                            its nodes and ranks, again and again on a terminal
    python -m distsoftmax.monitor RUN --json                     one JSON document
    python -m distsoftmax.monitor RUN --watch --prometheus FILE  renews a file for node_exporter's textfile collector
    mpirun -n 8 python -m distsoftmax.monitor --nodes            without a run: measures every node, and ranks them

RUN is the folder that training was given by --out. Reading it disturbs nothing and takes no MPI. Exit status: 0, or 2
for a folder that holds no run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from distsoftmax.errors import DistSoftmaxError

if TYPE_CHECKING:
    from distsoftmax.monitoring.run_state import RunReader, RunState

INTERVAL = 2.0  # seconds between two looks at a run
BAD_USAGE = 2


def main(words: list[str]) -> int:
    """Read the command line, look at the run, and return the exit status."""
    options = _options(words)
    from distsoftmax.monitoring.run_state import RunReader

    try:
        return _watch(RunReader(Path(options.run)), options)
    except KeyboardInterrupt:  # the way to leave a table that refreshes
        return 0
    except BrokenPipeError:  # as behind `| head`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (stays open to the end)
        return 0
    except DistSoftmaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    from distsoftmax.usage.help import described_parser

    parser = described_parser("monitor", __doc__)
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or of an --l2-path")
    parser.add_argument("--json", action="store_true", help="print one JSON document: see monitoring/summary.py")
    parser.add_argument("--prometheus", metavar="FILE", help="write a text file for node_exporter; renewed by --watch")
    parser.add_argument("--watch", action="store_true", help="go on until the run ends, also where this is no terminal")
    parser.add_argument("--interval", metavar="T", type=float, default=INTERVAL, help=f"seconds; default: {INTERVAL:g}")
    parser.add_argument(
        "--nodes", action="store_true", help="measure the nodes of this job, under mpirun; see --nodes --help"
    )
    return parser


def _options(words: list[str]) -> argparse.Namespace:
    form = parser()
    options = form.parse_args(words)
    if not 0.1 <= options.interval < math.inf:
        form.error(f"--interval is {options.interval:g}; it must be at least 0.1 seconds")
    if options.prometheus and not Path(options.prometheus).absolute().parent.is_dir():
        form.error(f"--prometheus {options.prometheus}: its folder does not exist; make it, or name another file")
    if options.json and options.watch:
        form.error("--json prints one document: leave out --watch, or ask again")
    return options


def _watch(reader: RunReader, options: argparse.Namespace) -> int:
    """Show the run once, or until it has ended."""
    from distsoftmax.monitoring.prometheus import write_exposition

    is_terminal = sys.stdout.isatty() and not options.json
    n_drawn = 0
    while True:
        state = reader.read()
        follows = state.is_live and (options.watch or is_terminal)
        if options.prometheus:
            write_exposition(Path(options.prometheus), state)
        if options.json:
            from distsoftmax.monitoring.summary import summary

            print(json.dumps(summary(state), indent=1))
        elif is_terminal or not options.prometheus:
            n_drawn = _draw(state, n_drawn, is_terminal=is_terminal, is_over=not follows)
        sys.stdout.flush()
        if not follows:
            return 0
        time.sleep(options.interval)


def _draw(state: RunState, n_drawn: int, *, is_terminal: bool, is_over: bool) -> int:
    """Print the tables, on a terminal over the last ones; return the number of lines.

    While a run goes on they tell of the time since the last report but one, and at its end of all.
    """
    from distsoftmax.monitoring.tables import as_lines

    width, most = 80, 16
    if is_terminal:
        columns, height = os.get_terminal_size(sys.stdout.fileno())
        width, most = max(columns - 1, 20) if columns else 80, max(1, (height - 14) // 2) if height else 16
    recent = state.latest if state.latest is not None and state.latest.steps else state.whole or state.latest
    report = recent if state.is_live and not is_over else state.whole or state.latest
    lines = as_lines(state, report, width=width, most=most)
    if n_drawn:
        print(f"\x1b[{n_drawn}F\x1b[J" if is_terminal else "\n", end="")
    print("\n".join(lines))
    return len(lines)


def _run_on_nodes() -> None:
    from distsoftmax.command_line import run_command
    from distsoftmax.monitoring.allocation import NodesConfig, command

    run_command(NodesConfig, command)


if __name__ == "__main__":
    if "--nodes" in sys.argv[1:]:
        _run_on_nodes()
    from distsoftmax.cluster.early_exit import is_first_process, started_processes

    if started_processes() > 1:
        if is_first_process():
            print("error: a run is watched without mpirun; under mpirun, --nodes measures the nodes", file=sys.stderr)
        sys.exit(BAD_USAGE)
    status = main(sys.argv[1:])
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.exit(status)
