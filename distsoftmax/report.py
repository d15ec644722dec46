"""Make a page of runs, to look at and to show to others: python -m distsoftmax.report RUN [RUN ...]

    python -m distsoftmax.report runs/wine                        writes report.html
    python -m distsoftmax.report runs --out all.html              all runs below a folder, side by side and one by one
    python -m distsoftmax.report runs/wine --png pictures         its pictures alone
    python -m distsoftmax.evaluate runs/wine --data new.npz --json > new.json
    python -m distsoftmax.report runs/wine --evaluation new.json

RUN is the folder that training was given by --out, also while it still goes on. The page is one file that opens from
disk, loads nothing, follows the reader's light or dark colours, and prints. It needs pip install 'distsoftmax[report]',
and neither MPI nor mpirun. Exit status: 0, or 2 for a folder that holds no run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from distsoftmax.errors import DistSoftmaxError, InputError
from distsoftmax.usage.output import print_text

if TYPE_CHECKING:
    from distsoftmax.reporting.runs import PathOfRuns, Run

OUT = "report.html"
NEEDED = ("jinja2", "matplotlib")


def main(words: list[str]) -> int:
    """Read the command line, make the report, and return the exit status."""
    options = parser().parse_args(words)
    try:
        _require_packages()
        return print_text("\n".join(_report(options)))
    except DistSoftmaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    from distsoftmax.usage.help import described_parser

    parser = described_parser("report", __doc__)
    parser.add_argument("run", metavar="RUN", nargs="+", help="the folder of a run, of an --l2-path, or of several")
    parser.add_argument("--out", metavar="FILE", help=f"the page to write; default: {OUT}")
    parser.add_argument("--png", metavar="DIR", help="write the pictures alone into this folder; with --out, both")
    parser.add_argument(
        "--evaluation", metavar="FILE", help="what evaluate --json has printed, to be shown instead of the run's own"
    )
    return parser


def _require_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise InputError(
            f"a report needs {' and '.join(missing)}, which {are} not installed: pip install 'distsoftmax[report]'"
        )


def _report(options: argparse.Namespace) -> list[str]:
    """Write what is asked for, and return what to say of it."""
    from distsoftmax.durable import write_atomically
    from distsoftmax.reporting.comparison import comparison
    from distsoftmax.reporting.page import page, require_folder, require_page, write_pictures
    from distsoftmax.reporting.runs import find_runs, read_run, without_model
    from distsoftmax.reporting.sections import section_of

    wants_page = options.out is not None or options.png is None
    out = require_page(OUT if options.out is None else options.out) if wants_page else None
    png = None if options.png is None else require_folder(options.png)
    folders = find_runs([Path(run) for run in options.run])
    if options.evaluation is not None and len(folders) > 1:
        raise InputError(
            f"--evaluation {options.evaluation} is of one model, and {len(folders)} runs are given: name its run alone"
        )
    sections, runs = [], []
    for folder, name in zip(folders, _names(folders), strict=True):
        run = read_run(folder, name)
        if options.evaluation is not None:
            run = _with_evaluation(run, options.evaluation)
        sections.append(section_of(run))
        runs.append(without_model(run))
    together = comparison(runs) if len(runs) > 1 else None
    n_runs = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    written = []
    if out is not None:
        write_atomically(out, page(sections, together).encode("utf-8", "backslashreplace"))
        written.append(f"report on {n_runs}: {OUT if options.out is None else options.out}")
    if png is not None:
        n_pictures = write_pictures(png, [*([together] if together else []), *sections])
        written.append(f"{n_pictures} pictures of {n_runs}: {options.png}")
    return written


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a name for each of several folders, which are distinct: what follows the folder above all of them."""
    paths = [folder.absolute() for folder in folders]
    if len(paths) == 1:
        return [paths[0].resolve().name or str(paths[0])]
    above = os.path.commonpath([path.parent for path in paths])
    return [os.path.relpath(path, above) for path in paths]


def _with_evaluation(whole: Run | PathOfRuns, file: str) -> Run | PathOfRuns:
    from distsoftmax.reporting.evaluation import read_evaluation
    from distsoftmax.reporting.record import shown
    from distsoftmax.reporting.runs import Run

    evaluation = read_evaluation(Path(file))
    run = whole if isinstance(whole, Run) else whole.chosen
    if run is None:
        raise InputError(f"--evaluation {file}: {whole.folder} has no model yet that it could be of")
    if run.model is not None and run.model.classes != evaluation.classes:
        raise InputError(
            f"--evaluation {file}: its classes are not those of the model in {run.folder}; evaluate that model"
        )
    run = replace(run, evaluation=evaluation, evaluated_on=shown(Path(file).name), is_asked_for=True)
    return run if isinstance(whole, Run) else replace(whole, chosen=run)


if __name__ == "__main__":
    from distsoftmax.cluster.early_exit import is_first_process, started_processes

    if started_processes() > 1 and not is_first_process():
        sys.exit(0)  # the first process alone works, for itself
    sys.exit(main(sys.argv[1:]))
