"""The examples in docstrings: they run, and every public name has some."""

import doctest
import importlib
from pathlib import Path

import pytest

import distsoftmax
from distsoftmax import command_line, config, durable, estimator, model, predict, scratch, tensor_file
from distsoftmax.exporting import parameter_files
from distsoftmax.inspection import description
from distsoftmax.scoring import predictor

TOP = Path(distsoftmax.__file__).parents[1]
FILES = sorted(path for path in TOP.glob("distsoftmax/**/*.py") if path.name not in ("__init__.py", "__main__.py"))
MODULES = [".".join(path.relative_to(TOP).with_suffix("").parts) for path in FILES]
MODULES.remove("distsoftmax.cluster.mpi")  # importing it starts MPI
PUBLIC = [
    config.DataConfig,
    config.ObjectiveConfig,
    config.SolverConfig,
    config.TrainConfig,
    config.ScoringConfig,
    config.parse_l2_path,
    config.parse_memory,
    config.model_file,
    command_line.parse,
    model.Encoding,
    model.Model,
    model.NumberedNames,
    model.load_model,
    tensor_file.read_tensor_file,
    tensor_file.tensor_file_content,
    durable.write_atomically,
    estimator.SoftmaxRegression,
    estimator.SoftmaxRegressionCV,
    estimator.softmax_regression,
    scratch.private_folder,
    predict.command,
    predictor.Predictor,
    predictor.load_model,
    parameter_files.write_coefficients,
    parameter_files.write_sklearn_json,
    parameter_files.write_torch_tensors,
    description.describe,
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__qualname__)
def test_a_public_name_has_an_example(public):
    assert doctest.DocTestFinder(recurse=False).find(public)[0].examples
