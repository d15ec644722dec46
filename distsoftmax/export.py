"""Write a trained model as other programs take it: python -m distsoftmax.export MODEL --to onnx --out model.onnx

    --to onnx               a graph for onnxruntime and others
    --to sklearn-json       the attributes of scikit-learn's LogisticRegression
    --to csv                a row for each class and feature
    --to torch-safetensors  weight and bias of a torch.nn.Linear

The graph takes raw rows, and deals with missing numbers and text columns: one input X or, where a column is of text, an
input for each column, under its name; the outputs are label and probabilities. Needs no MPI; onnx needs the package of
that name (pip install 'distsoftmax[onnx]').
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from distsoftmax.cluster.early_exit import is_first_process, started_processes
from distsoftmax.errors import DistSoftmaxError, InputError
from distsoftmax.usage.output import print_text

if TYPE_CHECKING:
    from typing import BinaryIO

    from distsoftmax.model import Model

TEXT = ("sklearn-json", "csv")  # which standard output takes, too
DTYPES = {"onnx": "float64", "torch-safetensors": "float32"}  # of the numbers, where the target has a choice
TARGETS = ("onnx", "sklearn-json", "csv", "torch-safetensors")
BAD_USAGE = 2


def main(words: list[str]) -> int:
    """Read the command line, write the file, and return the exit status.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from distsoftmax.durable import write_atomically
    >>> from distsoftmax.model import Encoding, Model
    >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
    >>> write_atomically(Path("model.safetensors"), *model.file_content())
    >>> main(["model.safetensors", "--to", "csv", "--out", "coefficients.csv"])
    csv: coefficients.csv
    0
    >>> Path("coefficients.csv").read_text().splitlines()[:3]
    ['class,feature,coefficient', 'cat,(intercept),0.0', 'cat,size,1.0']
    """
    options = _options(words)
    try:
        return _export(options)
    except DistSoftmaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    from distsoftmax.usage.help import described_parser

    parser = described_parser("export", __doc__)
    parser.add_argument("model", metavar="MODEL", help="the model.safetensors of a run, or the folder it stands in")
    parser.add_argument(
        "--to", metavar="TARGET", choices=TARGETS, required=True, help=f"what to write: {', '.join(TARGETS)}"
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="the file to write; - for standard output (texts)")
    default = ", ".join(f"{name} for {target}" for target, name in DTYPES.items())
    parser.add_argument(
        "--dtype",
        metavar="TYPE",
        choices=("float32", "float64"),
        help=f"float32 or float64, the type of the numbers (default: {default})",
    )
    return parser


def _options(words: list[str]) -> argparse.Namespace:
    form = parser()
    options = form.parse_args(words)
    if options.dtype is not None and options.to not in DTYPES:
        form.error(f"--dtype is for {' and '.join(DTYPES)}; --to {options.to} writes every digit")
    return options


def _export(options: argparse.Namespace) -> int:
    """Write the file that was asked for, and return the exit status.

    Raises
    ------
    DistSoftmaxError
    """
    from distsoftmax.exporting.names import encoding_note
    from distsoftmax.model import INTERIM_NOTE, load_model
    from distsoftmax.output_file import STANDARD_OUTPUT, output_file, require_no_input, require_output
    from distsoftmax.run_folder import model_file

    if not options.out:
        raise InputError("--out names nothing, as where a variable of the shell is not set; name a file")
    if options.out == STANDARD_OUTPUT and options.to not in TEXT:
        raise InputError(f"--out -: {options.to} is no text, which standard output is for; name a file")
    require_output(options.out)
    path = model_file(options.model)
    model = load_model(path)
    require_no_input(options.out, [path])
    with output_file(options.out) as file:
        _write(options, model, file)
    notes = [f"{path} {INTERIM_NOTE}"] if model.interim else []
    if encoding_note(model) and options.to in ("sklearn-json", "torch-safetensors"):
        notes.append(f"{options.out}: {encoding_note(model)}")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0 if options.out == STANDARD_OUTPUT else print_text(f"{options.to}: {options.out}")


def _write(options: argparse.Namespace, model: Model, file: BinaryIO) -> None:
    import numpy as np

    from distsoftmax.exporting.onnx_graph import write_onnx
    from distsoftmax.exporting.parameter_files import write_coefficients, write_sklearn_json, write_torch_tensors

    if options.to == "csv":
        write_coefficients(model, file)
    elif options.to == "sklearn-json":
        write_sklearn_json(model, file)
    else:
        write = write_onnx if options.to == "onnx" else write_torch_tensors
        write(model, file, np.dtype(options.dtype or DTYPES[options.to]))


if __name__ == "__main__":
    if started_processes() > 1:
        if is_first_process():
            print("error: a model is exported by one process; leave mpirun out", file=sys.stderr)
        sys.exit(BAD_USAGE)
    sys.exit(main(sys.argv[1:]))
