"""--to torch-safetensors: the parameters of a torch.nn.Linear.

linear = torch.nn.Linear(n_features, n_classes)
linear.load_state_dict(safetensors.torch.load_file("wine.torch.safetensors"))
probabilities = torch.softmax(linear(features), dim=1)
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from distsoftmax.exporting.names import metadata, parameters_in
from distsoftmax.model import Model
from distsoftmax.tensor_file import tensor_file_content

KIND = "torch.nn.Linear"


def write_torch_tensors(model: Model, file: BinaryIO, dtype: np.dtype) -> None:
    """Write `weight` (n_classes, n_features) and `bias` (n_classes,), with names and columns as texts in the metadata.

    Parameters
    ----------
    dtype : numpy.dtype
        float32 or float64. A `Linear` takes float32 unless it was made with ``dtype=torch.float64``.

    Raises
    ------
    InputError
        A coefficient is beyond the type.
    OSError

    Examples
    --------
    >>> import io
    >>> from safetensors.numpy import load
    >>> from distsoftmax.model import Encoding
    >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("size", "age")))
    >>> content = io.BytesIO()
    >>> write_torch_tensors(model, content, np.dtype("float32"))
    >>> load(content.getvalue())["weight"].dtype
    dtype('float32')
    """
    weight, bias = parameters_in(model, dtype)
    for buffer in tensor_file_content(KIND, {"weight": weight, "bias": bias}, metadata(model)):
        file.write(buffer)
