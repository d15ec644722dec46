"""Distributed data-parallel softmax regression that gives the same bits on any number of ranks, on any processor.

The map of the house. Who stands higher may import who stands lower; tests/unit/test_architecture.py holds both true.

    __main__                            the front door: the commands, the version, shell completion
    train evaluate predict describe     commands: from arguments to a config, and one call
    summary                             a command: standard errors and tests of a model's coefficients
    export                              a command without MPI: a model in the files of other programs
    monitor                             a command: how a run and its nodes do, from outside; the nodes of an allocation
    report                              a command: a page of runs to look at, without MPI
    supervise                           a command without MPI: starts a job again where a rank or a node is lost
    estimator                           scikit-learn's interface, over arrays in memory
    estimation                          what it is made of: rows given, options, folds, a run without a folder
    supervision                         a job from outside: its command, hosts and processes
    command_line                        from argv and a TOML file to a config; exit statuses
    usage                               what a command says of its options: help, a TOML file, shell completion
    inspection                          what a source holds, before anything is trained on it
    reporting                           runs read from their folders, pictures of them, and the page that holds both
    scoring                             a model over a source: predictions, and how good they are
    inference                           a model's exact hessian: standard errors, tests, and their table
    exporting                           a model as other programs take it: ONNX, scikit-learn, PyTorch, CSV
    regularization_path                 the training loop, once for each value of l2
    trainer                             a run of training, and its loop, `fit`
    session                             what is set up before the first step: the samples, the objective
    coordinator                         rank 0 alone: the folder of a run, checkpoints, metrics, progress, reports
    training                            when a run stops, its result and its start, the same on all ranks; signals
    objective                           cross-entropy, penalties, their sum; certificate, preconditioner, mini-batches
    solvers                             one update rule a file, pure, and the protocol of the objective that they need
    data                                from files to shards to prepared samples, with a reader for each format
    monitoring                          what every rank and node does, gathered, kept and shown beside the steps
    cluster                             the ranks: communicator, assignment of shards, exact sums, control message
    arithmetic                          the compiled core and its Python door: every operation, specified
    config model errors                 the options, a trained model, the errors a user can meet
    durable tensor_file scratch         files that are whole or not there; tensors in files; private folders
    output_file                         the file that a command writes where --out says
    run_folder                          a run's folder from outside: its name, how far the run has come
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distsoftmax.estimator import SoftmaxRegression, SoftmaxRegressionCV, softmax_regression
    from distsoftmax.model import Model
    from distsoftmax.scoring.predictor import load_model

__version__ = "0.1.0"
__all__ = ["Model", "SoftmaxRegression", "SoftmaxRegressionCV", "__version__", "load_model", "softmax_regression"]

_HOMES = {"Model": "distsoftmax.model", "load_model": "distsoftmax.scoring.predictor"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: to import this package takes no time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "distsoftmax.estimator")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
