"""--to onnx: a graph that takes raw rows and gives the class and the probabilities, as skl2onnx names them.

Inputs: where all columns are numbers, one tensor `X` (rows, n_features). Where there are columns of text, one input
(rows, 1) for each raw column, of numbers or of strings, under the column's name; a column that is called as an output
has an underscore behind its name. Outputs: `label` (rows,), strings, and `probabilities` (rows, n_classes), in the
order of the model's classes. Numbers are float64, or float32 where that is asked for.

A missing number is NaN, or one that --missing has named, and is filled as in training; a model that was trained
without a fill gives NaN for it. A category that training never saw, or spelled otherwise, or a missing one (an
empty string), is 0 in all its columns.

    session = onnxruntime.InferenceSession("wine.onnx")
    label, probabilities = session.run(None, {"X": rows})

The graph keeps to old operators, opset 13 of ai.onnx and 1 of ai.onnx.ml, in version 7 of the format, which onnxruntime
reads from 1.6 on. https://onnx.ai/onnx/operators/ describes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

import distsoftmax
from distsoftmax.data.missing import MissingValues
from distsoftmax.errors import InputError
from distsoftmax.exporting.names import metadata, parameters_in
from distsoftmax.model import Model

OPSET, ML_OPSET, IR_VERSION = 13, 1, 7
OUTPUTS = ("label", "probabilities")
LARGEST = (1 << 31) - (1 << 20)  # bytes: a message of protocol buffers has less than 2 GiB


def write_onnx(model: Model, file: BinaryIO, dtype: np.dtype) -> None:
    """Write the graph; the same bytes for the same model.

    Parameters
    ----------
    dtype : numpy.dtype
        float32 or float64: of the inputs, of the arithmetic and of the probabilities.

    Raises
    ------
    InputError
        The package onnx is missing, a coefficient is beyond the type, or the model is too large for the format.
    OSError
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"--to onnx needs the package onnx ({error}): pip install 'distsoftmax[onnx]'") from None
    coef, intercept = parameters_in(model, dtype)
    if coef.nbytes + sum(len(name) for name in model.feature_names) > LARGEST:
        raise InputError("the model is larger than 2 GiB, which no ONNX file holds; take --to torch-safetensors")
    proto = _Graph(onnx, dtype).of(model, coef, intercept)
    onnx.checker.check_model(proto, full_check=True)
    file.write(proto.SerializeToString(deterministic=True))


def input_names(model: Model) -> list[str]:
    """Return the names of the inputs, in the order of the raw columns.

    Examples
    --------
    >>> from distsoftmax.model import Encoding
    >>> encoding = Encoding(numeric=("size", "label"), categories=(("colour", ("blue", "red")),))
    >>> input_names(Model(np.zeros((2, 4)), np.zeros(2), ("cat", "dog"), encoding))
    ['size', 'label_', 'colour']
    """
    encoding = model.encoding
    if not encoding.categories:
        return ["X"]
    columns = [*encoding.numeric, *(name for name, _ in encoding.categories)]
    names, taken = [], {"", *OUTPUTS, *columns}
    for name in columns:
        if name in ("", *OUTPUTS):
            while name in taken:
                name += "_"
            taken.add(name)
        names.append(name)
    return names


class _Graph:
    """A graph that grows by a node at a time."""

    def __init__(self, onnx: Any, dtype: np.dtype) -> None:
        self._onnx = onnx
        self._dtype = dtype
        self._type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._names: Iterator[str] = iter(())

    def of(self, model: Model, coef: NDArray, intercept: NDArray) -> Any:
        """Return the whole of a model."""
        onnx, names = self._onnx, input_names(model)
        taken = set(names)
        self._names = (name for name in map("node_{}".format, itertools.count()) if name not in taken)
        features = self._features(model, names)
        scores = self._add("Gemm", features, self._constant(coef), self._constant(intercept), transB=1)
        best = self._add("ArgMax", scores, axis=1, keepdims=0)
        label, probabilities = OUTPUTS
        self._add("Gather", self._constant(np.array(model.classes, dtype=object)), best, to=label)
        self._add("Softmax", scores, axis=1, to=probabilities)
        outputs = [
            onnx.helper.make_tensor_value_info(label, onnx.TensorProto.STRING, ["rows"]),
            onnx.helper.make_tensor_value_info(probabilities, self._type, ["rows", len(model.classes)]),
        ]
        graph = onnx.helper.make_graph(self._nodes, "distsoftmax", self._inputs, outputs, self._constants)
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        if model.encoding.categories:
            opsets.append(onnx.helper.make_opsetid("ai.onnx.ml", ML_OPSET))
        proto = onnx.helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=opsets,
            producer_name="distsoftmax",
            producer_version=distsoftmax.__version__,
        )
        onnx.helper.set_model_props(proto, dict(metadata(model)))
        return proto

    def _features(self, model: Model, names: list[str]) -> str:
        """Return the name of the features, (rows, n_features), of inputs of these names."""
        encoding, n_numeric = model.encoding, len(model.encoding.numeric)
        if not encoding.categories:
            return self._filled(model, self._input(names[0], self._type, n_numeric))
        parts = [self._input(name, self._type, 1) for name in names[:n_numeric]]
        if len(parts) > 1:
            parts = [self._add("Concat", *parts, axis=1)]
        parts = [self._filled(model, name) for name in parts]
        for name, (_, texts) in zip(names[n_numeric:], encoding.categories, strict=True):
            cells = self._input(name, self._onnx.TensorProto.STRING, 1)
            # (rows, 1, categories), float32
            marks = self._add("OneHotEncoder", cells, domain="ai.onnx.ml", cats_strings=list(texts), zeros=1)
            flat = self._add("Squeeze", marks, self._constant(np.array([1], dtype=np.int64)))
            parts.append(self._add("Cast", flat, to_type=self._type))
        return self._add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def _filled(self, model: Model, numbers: str) -> str:
        fill, named = model.encoding.fill, MissingValues.of(model.encoding.missing).numbers
        if fill is None and not named:
            return numbers
        is_missing = self._add("IsNaN", numbers)
        for number in named:
            equal = self._add("Equal", numbers, self._constant(np.array(number, dtype=self._dtype)))
            is_missing = self._add("Or", is_missing, equal)
        stands_in = np.full(1, np.nan) if fill is None else fill
        return self._add("Where", is_missing, self._constant(stands_in.astype(self._dtype).reshape(1, -1)), numbers)

    def _input(self, name: str, kind: int, width: int) -> str:
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, kind, ["rows", width]))
        return name

    def _constant(self, values: NDArray) -> str:
        name = next(self._names)
        if values.dtype == object:
            texts = [text.encode() for text in values]
            tensor = self._onnx.helper.make_tensor(name, self._onnx.TensorProto.STRING, values.shape, texts)
        else:
            tensor = self._onnx.numpy_helper.from_array(values, name)
        self._constants.append(tensor)
        return name

    def _add(self, operator: str, *inputs: str, to: str = "", to_type: int = 0, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        output = to or next(self._names)
        if to_type:
            attributes["to"] = to_type
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], **attributes))
        return output
