"""Floats that may reach the parameters are added, multiplied and drawn in arithmetic/ alone.

numpy's reductions, BLAS, LAPACK, scipy and libm choose their order or their rounding by processor and version; so does
Python's own sum() of floats, which is compensated from 3.12 on. A syntax tree does not tell integers from floats: where
a sum of integers does not say so itself (dtype=np.int64), it is listed below. Elementwise + - * / sqrt of arrays, and
math.fsum, are exact or rounded once everywhere.
"""

import ast
import functools
from pathlib import Path

import pytest

import distsoftmax

PACKAGE = Path(distsoftmax.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
MODULES = [module for module in MODULES if module.parts[0] != "arithmetic"]


def words(text):
    return frozenset(text.split())


# methods, whatever they are called on, and functions of numpy and math
METHODS = words("sum mean std var prod cumsum cumprod dot trace power")
FUNCTIONS = words(
    """nansum nanmean nanstd nanvar nanprod nancumsum nancumprod average median cov corrcoef quantile percentile vdot
    inner matmul tensordot einsum convolve correlate kron cross trapezoid trapz interp polyfit polyval histogram
    linspace logspace geomspace gradient sumprod"""
)
OF_UFUNCS = frozenset({"reduce", "reduceat", "accumulate", "at"})  # of add, multiply and other arithmetic
EXACT_UFUNCS = words("maximum minimum fmax fmin logical_and logical_or logical_xor bitwise_or bitwise_xor")
EXACT = frozenset({"math.prod"})  # multiplies one by one, in order
FROM_LIBM = words(
    """exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 pow float_power sin cos tan arcsin arccos arctan arctan2
    asin acos atan atan2 sinh cosh tanh arcsinh arccosh arctanh asinh acosh atanh cbrt hypot dist erf erfc gamma
    lgamma"""
)
FORBIDDEN_MODULES = frozenset({"random", "statistics", "cmath", "numpy.random", "numpy.linalg", "numpy.fft"})

SHOWN = "p-values and quantiles, which are shown, rounded to 12 digits"
BYTES, ROWS, CELLS = "counts bytes", "counts rows", "counts cells or texts"
PREDICTS = "of a model's predictions, after training"
EXCEPTIONS = (  # file, the expression as Python writes it, why it cannot move a bit of the parameters
    ("coordinator/report.py", "sum(cluster.allgather(size))", BYTES),
    ("coordinator/report.py", "sum(cluster.allgather(threads))", "counts threads"),
    ("coordinator/report.py", "sum(nodes.values())", "counts processors"),
    ("coordinator/time_left.py", "math.log(number)", "is a time that is shown"),
    ("data/encoding.py", "sum(cluster.allgather(own))", CELLS),
    ("data/remote.py", "sum((part.size or 0 for part, _ in absent))", BYTES),
    ("data/row_numbers.py", "sum(whole)", "integers of Python's"),
    ("data/row_numbers.py", "sum((value * value for value in whole))", "integers of Python's"),
    ("data/survey.py", "sum(dropped)", ROWS),
    ("inspection/census.py", "sum((count for count, _ in told))", ROWS),
    ("estimation/given.py", "np.random", "looks at a caller's random state, and draws nothing"),
    ("inspection/suggestion.py", "HELD_OUT ** count", "a chance, by which an option is suggested"),
    ("inspection/diagnosis.py", "sum(counts.values())", ROWS),
    ("inspection/memory_need.py", "np.add.reduceat(of_shard, starts)", BYTES),
    ("inspection/tally.py", "sum(entries)", CELLS),
    ("inspection/tally.py", "sum(nonzero)", CELLS),
    ("data/readers/parquet/source.py", "sum(counts or ())", ROWS),
    ("data/readers/parquet/footer.py", "sum(groups)", ROWS),
    ("inspection/description.py", "sum((count for _, count in named))", CELLS),
    ("supervision/hosts.py", "sum((host.slots or equal for host in group))", "counts ranks"),
    ("training/balancing.py", "sum(threads_of_ranks)", "counts threads"),
    ("inference/estimates.py", "from scipy.special import chdtrc, ndtr, ndtri", SHOWN),
    ("scoring/prediction_file.py", "sum((table.num_rows for table in group))", ROWS),
    ("objective/classification_report.py", "np.add.at(self._confusion, (classes, predicted), 1)", ROWS),
    (
        "objective/classification_report.py",
        "np.add.at(self._confidence, bins, self._fixed.limbs(largest)[0])",
        "adds integers",
    ),
)


def dotted(node):
    """The name of an attribute as it is written, such as "np.add.reduce"; empty where it is of an expression."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def says_integers(call):
    """Whether a reduction says that it is one of integers."""
    return any(keyword.arg == "dtype" and ast.unparse(keyword.value) == "np.int64" for keyword in call.keywords)


def counts(call):
    """Whether Python's sum() is one of integers by its looks: of 1, len(...), int(...), or sizes."""
    if len(call.args) != 1 or not isinstance(call.args[0], (ast.GeneratorExp, ast.ListComp)):
        return False
    element = call.args[0].elt
    if isinstance(element, ast.Attribute):
        return element.attr in ("size", "nbytes")
    if isinstance(element, ast.Call):
        return dotted(element.func) in ("len", "int")
    return isinstance(element, ast.Constant) and type(element.value) is int


def is_power_of_two(base, exponent):
    """Whether a power is exact: of 2, of -1, or of integers that are written out."""
    if ast.unparse(base) in ("2", "2.0", "-1"):
        return True
    return all(isinstance(number, ast.Constant) and type(number.value) is int for number in (base, exponent))


def has_libm_or_order(call):
    """Whether a call adds floats up, or takes its rounding from libm."""
    name = dotted(call.func)
    if name == "sum":
        return not counts(call)
    if name == "pow":
        return True
    if not isinstance(call.func, ast.Attribute):
        return False
    owner, method = dotted(call.func.value), call.func.attr
    if method == "bincount":
        return len(call.args) > 1 or any(keyword.arg == "weights" for keyword in call.keywords)
    if method in OF_UFUNCS and owner.startswith("np."):
        return owner.removeprefix("np.") not in EXACT_UFUNCS and not says_integers(call)
    if owner in ("np", "numpy", "math") and method in FROM_LIBM | FUNCTIONS:
        return True
    if method == "sum" and owner.endswith("sums"):
        return False  # `ShardSums.sum` adds integers
    return method in METHODS and name not in EXACT and not says_integers(call)


def is_forbidden(node):
    """Whether a node of a syntax tree computes what arithmetic/ alone may compute."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            return not is_power_of_two(node.left, node.right)
        return isinstance(node.op, ast.MatMult)
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, (ast.MatMult, ast.Pow))
    if isinstance(node, ast.Call):
        return has_libm_or_order(node)
    if isinstance(node, ast.Attribute):
        return dotted(node) in ("np.random", "np.linalg", "np.fft", "numpy.random", "numpy.linalg", "numpy.fft")
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        return any(name in FORBIDDEN_MODULES or name.split(".")[0] == "scipy" for name in names)
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        from_libm = module in ("math", "numpy") and any(
            alias.name in FROM_LIBM | FUNCTIONS | METHODS for alias in node.names
        )
        # scipy's sparse containers hold what is read; whatever computes is elsewhere in scipy, or a product
        return (
            from_libm or module in FORBIDDEN_MODULES or (module.split(".")[0] == "scipy" and module != "scipy.sparse")
        )
    return False


def forbidden(source):
    """The expressions in a module that only arithmetic/ may compute, with their lines."""
    return [(node.lineno, ast.unparse(node)) for node in ast.walk(ast.parse(source)) if is_forbidden(node)]


@functools.cache
def forbidden_in(module):
    return forbidden((PACKAGE / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_floats_are_summed_and_multiplied_in_arithmetic_alone(module):
    allowed = {text for file, text, _ in EXCEPTIONS if file == module.as_posix()}
    complaints = [f"{module}:{line}: {text}" for line, text in forbidden_in(module) if text not in allowed]
    assert not complaints, "use distsoftmax.arithmetic, say dtype=np.int64, or list why not:\n" + "\n".join(complaints)


@pytest.mark.parametrize(("file", "text", "reason"), EXCEPTIONS)
def test_every_exception_is_needed(file, text, reason):
    assert reason
    assert text in {found for _, found in forbidden_in(Path(file))}


@pytest.mark.parametrize(
    "line",
    [
        "a @ b",
        "a @= b",
        "np.dot(a, b)",
        "a.dot(b)",
        "np.vdot(a, b)",
        "np.einsum('ij->i', a)",
        "a.sum()",
        "a.sum(axis=0, dtype=np.float64)",
        "np.sum(a)",
        "sum(a)",
        "sum(x * y for x, y in zip(a, b))",
        "a.mean()",
        "np.cumsum(a)",
        "np.add.reduce(a)",
        "np.add.reduceat(a, starts)",
        "np.add.at(a, i, b)",
        "np.multiply.accumulate(a)",
        "np.bincount(i, weights)",
        "np.bincount(i, weights=w, minlength=3)",
        "np.linalg.norm(a)",
        "np.exp(a)",
        "np.exp(a, out=a)",
        "math.log(x)",
        "math.pow(x, 0.5)",
        "x ** 2",
        "x ** 0.5",
        "10.0 ** n",
        "x **= 2",
        "pow(x, 2)",
        "np.random.default_rng(0)",
        "np.random.Generator(np.random.Philox(0)).random(3)",
        "import random",
        "import statistics",
        "from numpy.random import Philox",
        "from math import exp",
        "import scipy.linalg",
        "from scipy.linalg import cho_factor",
        "from scipy.special import logsumexp",
        "from scipy.sparse.linalg import eigsh",
    ],
)
def test_what_moves_bits_is_seen(line):
    assert forbidden(line)


@pytest.mark.parametrize(
    "line",
    [
        "a + b * c / d - e",
        "np.sqrt(a)",
        "np.square(a)",
        "np.outer(a, b)",
        "a.max(axis=0)",
        "np.maximum.reduceat(a, starts)",
        "np.logical_xor.accumulate(a)",
        "counts.sum(axis=0, dtype=np.int64)",
        "np.cumsum(counts, dtype=np.int64)",
        "np.bincount(classes, minlength=3)",
        "sum(len(rows) for rows in blocks)",
        "sum(array.nbytes for array in arrays)",
        "2.0**-bits",
        "2**n - 1",
        "(-1) ** k / 3",
        "10**9",
        "math.fsum(a)",
        "math.sqrt(x)",
        "parameters.norm(a)",
        "batches.gradient(parameters, epoch, batch)",
        "self.sums.sum(work, samples)",
        "math.prod(shape)",
        "cluster.sum_integers(a)",
        "from scipy.sparse import csr_array",
    ],
)
def test_what_is_exact_or_rounded_once_is_allowed(line):
    assert not forbidden(line)
