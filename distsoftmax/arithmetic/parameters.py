"""Arithmetic on parameters: sums, updates, products, Cholesky's method. Every rank does it alone, with the same bits.

SPECIFICATION.md, "Arithmetic on parameters", has the sequence of operations of each function, and bounds of its error.
In float64, except where a function says otherwise. A matrix's rows may lie apart in memory, as those of
`parameters[:, :-1]` do: that needs no copy, and moves no bit. NaN and infinity in give NaN and infinity out. Nothing is
broadcast or converted: arrays of another type or of shapes that do not fit raise an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Reals
from distsoftmax.arithmetic.library import address, function

FLOAT64 = np.dtype(np.float64)
LEAST_SQUARE = math.ldexp(1.0, -900)  # below this sum of squares, underflow of single squares may be felt
FEW_CLASSES = 3  # up to which products of pairs of columns take longer to make than they save
DONE, NO_ROOM, NOT_POSITIVE = range(3)  # what the core returns; see core/cholesky.c


def dot(a: Doubles, b: Doubles) -> float:
    """Return <a, b> of two vectors, (n,), or matrices, (rows, n)."""
    if a.shape != b.shape:
        raise ValueError(f"dot takes two arrays of one shape, not {a.shape} and {b.shape}")
    if not a.size:
        return 0.0
    first = _rows_of(a)
    second = first if b is a else _rows_of(b)
    return float(function("ds_dot", "nnpnpn", "x")(*_shape(a), *first[:2], *second[:2]))


def squared_norm(a: Doubles) -> float:
    """Return the sum of squares: `dot` of an array with itself. It may overflow or underflow; `norm` does not."""
    return dot(a, a)


def norm(a: Doubles) -> float:
    """Return the square root of the sum of squares, which is scaled by a power of 2 where it over- or underflows."""
    square = dot(a, a)
    if LEAST_SQUARE <= square < math.inf:
        return math.sqrt(square)
    largest = float(np.abs(a).max()) if a.size else 0.0
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(a, -exponent)
    try:
        return math.ldexp(math.sqrt(dot(scaled, scaled)), exponent)
    except OverflowError:
        return math.inf


def total(a: Doubles) -> float:
    """Return the sum of all elements of a vector or matrix."""
    if not a.size:
        return 0.0
    rows = _rows_of(a)
    return float(function("ds_total", "nnpn", "x")(*_shape(a), *rows[:2]))


def axpy(alpha: float, x: Doubles, y: Doubles) -> None:
    """Set y = fma(alpha, x, y) in place, element by element.

    Parameters
    ----------
    x, y : ndarray of float64, (n,) or (rows, n)
        y's rows must be contiguous each. They may be the same array, but not overlap otherwise.
    """
    if x.shape != y.shape:
        raise ValueError(f"axpy takes two arrays of one shape, not {x.shape} and {y.shape}")
    if not y.flags.writeable:
        raise ValueError("axpy writes into its last argument, and that is read-only")
    if not y.size:
        return
    first, second = _rows_of(x), _rows_of(y)
    if second[2] is not y:
        raise ValueError(f"axpy writes into rows that are contiguous each, not into strides of {y.strides}")
    function("ds_axpy", "nnxpnpn")(*_shape(y), alpha, *first[:2], *second[:2])


def column_norms(a: Doubles) -> Doubles:
    """Return the Euclidean norm of each column, (columns,)."""
    squares = np.zeros(a.shape[1])
    if a.size:
        rows = _rows_of(a)
        function("ds_column_squares", "nnpnp")(*a.shape, *rows[:2], address(squares))
    norms: Doubles = np.sqrt(squares, out=squares)
    return norms


def matrix_vector(a: Doubles, x: Doubles) -> Doubles:
    """Return a @ x, (rows,): each number the `dot` of a row with x."""
    if a.ndim != 2 or x.shape != a.shape[1:]:
        raise ValueError(f"matrix_vector takes a matrix and a vector that fit, not {a.shape} and {x.shape}")
    result = np.zeros(len(a))
    if a.size:
        rows, x = _rows_of(a), np.ascontiguousarray(_checked(x, FLOAT64))
        function("ds_matrix_vector", "nnpnpp")(*a.shape, *rows[:2], address(x), address(result))
    return result


def product(a: Reals, b: Reals) -> Reals:
    """Return a @ b, (m, n), in the type of both: float64 or float32. Either may be a transposed or strided view."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"product takes two matrices that fit, not {a.shape} and {b.shape}")
    of_core = function("ds_product" + _suffix(a), "nnnpnnpnnp", "i")
    _checked(b, a.dtype)
    result: Reals = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    if result.size and a.size:
        _check_room(of_core(*result.shape, a.shape[1], *_strided(a), *_strided(b), address(result)), result)
    return result


def gram(rows: Reals, weights: Reals | None = None) -> Reals:
    """Return rows^T diag(weights) rows, (n, n), in the type of the rows: float64 or float32. Exactly symmetric.

    Parameters
    ----------
    rows : ndarray, (n_rows, n)
    weights : ndarray, (n_rows,), optional
        1 by default.
    """
    if rows.ndim != 2 or (weights is not None and weights.shape != rows.shape[:1]):
        raise ValueError(f"gram takes rows, {rows.shape}, and a weight for each")
    of_core = function("ds_gram" + _suffix(rows), "nnpnnpp", "i")
    if weights is not None:
        weights = np.ascontiguousarray(_checked(weights, rows.dtype))
    result: Reals = np.zeros((rows.shape[1], rows.shape[1]), rows.dtype)
    if rows.size:
        by_weights = None if weights is None else address(weights)
        _check_room(of_core(*rows.shape, *_strided(rows), by_weights, address(result)), result)
    return result


def softmax_hessian(rows: Doubles, probabilities: Doubles, weights: Doubles) -> Doubles:
    """Return sum_r weights[r] (diag(p_r) - p_r p_r^T) (x) rows[r] rows[r]^T, (n_classes * n, n_classes * n).

    Exactly symmetric. Of few classes each block is a weighted `gram`; else one product of pairs of classes and pairs of
    columns gives all.

    Parameters
    ----------
    rows : ndarray of float64, (n_rows, n)
    probabilities : ndarray of float64, (n_rows, n_classes)
    weights : ndarray of float64, (n_rows,)
    """
    (n_rows, n), n_classes = rows.shape, probabilities.shape[1]
    if len(probabilities) != n_rows or weights.shape != (n_rows,):
        raise ValueError(f"a hessian takes probabilities and a weight for each of {n_rows} rows")
    rows, probabilities, weights = (
        np.ascontiguousarray(_checked(array, FLOAT64)) for array in (rows, probabilities, weights)
    )
    result: Doubles = np.zeros((n_classes * n, n_classes * n))
    if n_classes <= FEW_CLASSES:
        blocks = result.reshape(n_classes, n, n_classes, n)
        for k in range(n_classes):
            others = np.zeros(n_rows)
            for m in range(n_classes):
                others += 0.0 if m == k else probabilities[:, m]
            blocks[k, :, k] = gram(rows, weights * (probabilities[:, k] * others))
            for m in range(k):
                blocks[m, :, k] = blocks[k, :, m] = -gram(rows, weights * (probabilities[:, m] * probabilities[:, k]))
    elif result.size and n_rows:
        arrays = address(probabilities), address(rows), address(weights), address(result)
        _check_room(function("ds_hessian", "nnnpppp", "i")(n_rows, n_classes, n, *arrays), result)
    return result


def cholesky(a: Doubles) -> Doubles | None:
    """Return the upper triangle r, (n, n), with a = r^T r; None where a is not positive definite in this arithmetic.

    Parameters
    ----------
    a : ndarray of float64, (n, n)
        Of it the upper triangle is read.
    """
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"cholesky takes a square matrix, not {a.shape}")
    factor: Doubles = np.array(_checked(a, FLOAT64), order="C")
    outcome = function("ds_cholesky", "np", "i")(len(a), address(factor))
    _check_room(outcome, factor)
    return None if outcome == NOT_POSITIVE else factor


def cholesky_solve(factor: Doubles, b: Doubles) -> Doubles:
    """Return a^-1 b, (n,), for the factor that `cholesky` gives of a."""
    if b.shape != factor.shape[:1]:
        raise ValueError(f"cholesky_solve takes a vector that fits, not {factor.shape} and {b.shape}")
    result: Doubles = np.array(_checked(b, FLOAT64), order="C")
    factor = _whole_factor(factor)
    function("ds_cholesky_solve", "npp")(len(result), address(factor), address(result))
    return result


def inverse(factor: Doubles) -> Doubles:
    """Return a^-1, (n, n), for the factor that `cholesky` gives of a. Exactly symmetric."""
    factor = _whole_factor(factor)
    transposed, result = np.zeros(factor.shape), np.zeros(factor.shape)
    of_core = function("ds_inverse", "nppp", "i")
    _check_room(of_core(len(factor), address(factor), address(transposed), address(result)), result)
    return result


def row_blocks(a: Reals, numbers: int) -> Iterator[slice]:
    """Yield blocks of rows of so many numbers, or of one row: what is computed of a block stays small, or in cache."""
    rows = max(numbers // max(a.shape[1], 1), 1)
    for start in range(0, len(a), rows):
        yield slice(start, start + rows)


def _whole_factor(factor: Doubles) -> Doubles:
    if factor.ndim != 2 or factor.shape[0] != factor.shape[1]:
        raise ValueError(f"a factor is a square matrix, not {factor.shape}")
    return np.ascontiguousarray(_checked(factor, FLOAT64))


def _shape(a: Doubles) -> tuple[int, ...]:
    """Return rows and columns; a vector is one row."""
    return a.shape if a.ndim == 2 else (1, a.size)


def _rows_of(a: Doubles) -> tuple[int, int, Doubles]:
    """Return where an array of one or more numbers lies, the numbers from row to row, and the array or a copy."""
    if a.dtype != FLOAT64:
        raise TypeError(f"parameters are float64, not {a.dtype}")
    if a.ndim not in (1, 2):
        raise ValueError(f"parameters have 1 or 2 dimensions, not {a.ndim}")
    if not a.flags.c_contiguous:
        stride, remainder = divmod(a.strides[0], 8)
        if a.ndim == 2 and a.strides[1] == 8 and not remainder and stride >= a.shape[1]:
            return int(a.ctypes.data), stride, a
        a = np.ascontiguousarray(a)
    return address(a), a.shape[-1], a


def _strided(a: Reals) -> tuple[int, int, int]:
    """Return where a matrix lies, and the numbers from row to row and from column to column."""
    return address(a), a.strides[0] // a.itemsize, a.strides[1] // a.itemsize


def _suffix(a: Reals) -> str:
    """Return how the names of functions for a matrix's type end."""
    if a.dtype.char not in "fd" or not a.dtype.isnative:
        raise TypeError(f"products are in float32 or float64, not {a.dtype}")
    return f"_f{8 * a.itemsize}"


def _checked(a: Reals, dtype: np.dtype) -> Reals:
    if a.dtype != dtype:
        raise TypeError(f"{dtype} is expected, not {a.dtype}")
    return a


def _check_room(outcome: int, result: Reals) -> None:
    if outcome == NO_ROOM:
        raise MemoryError(f"no memory for a product that gives {result.shape}")
