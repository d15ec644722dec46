"""Arrays, named by what they hold."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]
Reals: TypeAlias = NDArray[Any]  # of float64 or float32: the type computed in
Integers: TypeAlias = NDArray[np.int64]
