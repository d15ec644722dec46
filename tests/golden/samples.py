"""The files of the golden runs, made of integers alone, so that they are the same on every machine.

No random numbers of numpy are used. Values are integers divided by 37 in IEEE arithmetic, so that they use all bits of
their type and sums of them are rounded.
"""

import json
import math
from dataclasses import dataclass

import numpy as np

MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407  # MMIX; D. E. Knuth, TAOCP 2, section 3.3.4, table 1
KINDS = ("cat", "dog", "eel", "fox")
COLOURS = ("blue", "green", "red", "")  # the last is a missing cell


class Congruential:
    """The linear congruential generator x -> MULTIPLIER x + INCREMENT modulo 2^64."""

    def __init__(self, seed):
        self._state = seed

    def integers(self, shape, below):
        """Return integers from 0 to below - 1, from the generator's upper bits."""
        numbers = []
        for _ in range(math.prod(shape)):
            self._state = (self._state * MULTIPLIER + INCREMENT) % 2**64
            numbers.append((self._state >> 33) % below)
        return np.array(numbers, dtype=np.int64).reshape(shape)


@dataclass(frozen=True)
class Samples:
    """Samples as integers.

    Attributes
    ----------
    integers : ndarray of int64, (n_rows, n_features)
        From 0 to 200.
    classes : ndarray of int64, (n_rows,)
        Every class occurs.
    weights : ndarray of int64, (n_rows,)
        From 0 to 4.
    """

    integers: np.ndarray
    classes: np.ndarray
    weights: np.ndarray

    @property
    def values(self):
        """The features as float64: columns differ in mean and in scale."""
        columns = np.arange(self.integers.shape[1])
        return (self.integers - 100 + 30 * (columns % 4)) * (1 + columns % 3) / 37.0


def draw(seed, n_rows, n_features, n_classes, noise=400):
    """Return samples whose classes follow linear scores, with noise."""
    generator = Congruential(seed)
    integers = generator.integers((n_rows, n_features), 201)
    slopes = generator.integers((n_classes, n_features), 9) - 4
    scores = (integers - 100) @ slopes.T + noise * (generator.integers((n_rows, n_classes), 9) - 4)
    classes = scores.argmax(axis=1)
    classes[:n_classes] = np.arange(n_classes)
    return Samples(integers, classes, generator.integers((n_rows,), 5))


def draw_sparse(seed, n_rows, n_features, n_classes, most):
    """Return (starts, columns, values, classes) of compressed rows, each of 0 to `most` entries."""
    generator = Congruential(seed)
    slopes = generator.integers((n_features, n_classes), 9) - 4
    starts, columns, values, classes = [0], [], [], []
    for row in range(n_rows):
        count = int(generator.integers((), most + 1))
        own = sorted(set(generator.integers((count,), n_features).tolist()))
        numbers = generator.integers((len(own),), 150) + 1
        scores = numbers @ slopes[own] + 50 * generator.integers((n_classes,), 9)
        columns += own
        values += (numbers / 37.0).tolist()
        starts.append(len(columns))
        classes.append(row if row < n_classes else int(scores.argmax()))
    return np.array(starts), np.array(columns), np.array(values), np.array(classes)


def write_files(folder):
    """Write the files of all runs into a folder."""
    for name, dtype, sizes in (
        ("plain", np.float64, (300, 6, 3)),
        ("floats", np.float32, (411, 13, 5)),
        ("blocks", np.float32, (621, 7, 3)),  # with two shards, each takes two blocks
        ("blocks64", np.float64, (543, 11, 10)),
        ("two", np.float32, (157, 1, 2)),
        ("nine", np.float64, (260, 17, 9)),
        ("panels", np.float32, (221, 61, 53)),  # more than 48 features and classes
        ("kronecker", np.float64, (243, 90, 12)),
        ("long", np.float32, (71, 1030, 2)),  # more features than are taken at once
    ):
        drawn = draw(len(name) + math.prod(sizes), *sizes)
        np.savez(folder / f"{name}.npz", X=drawn.values.astype(dtype), y=drawn.classes, w=drawn.weights)
    _write_compact(folder)
    _write_sparse(folder)
    _write_table(folder / "table.csv", draw(71, 317, 5, len(KINDS)))
    _write_table(folder / "valid.csv", draw(71, 90, 5, len(KINDS)))
    weights = dict(zip(KINDS, (0.7, 1.0, 2.3, 5.1), strict=True))
    (folder / "class-weights.json").write_text(json.dumps(weights))


def _write_compact(folder):
    """Write features of small types."""
    drawn = draw(5, 321, 20, 4)
    np.save(folder / "bytes.npy", drawn.integers.astype(np.uint8))
    np.save(folder / "bytes-labels.npy", np.array(KINDS)[drawn.classes])
    drawn = draw(6, 257, 9, 3)
    np.savez(folder / "short.npz", X=(131 * drawn.integers - 9000).astype(np.int16), y=drawn.classes, w=drawn.weights)
    np.savez(folder / "half.npz", X=drawn.values.astype(np.float16), y=drawn.classes, w=drawn.weights)
    drawn = draw(7, 290, 33, 8, noise=200)
    np.savez(folder / "truth.npz", X=drawn.integers > 120, y=drawn.classes, w=drawn.weights)


def _write_sparse(folder):
    """Write sparse features, as text and as scipy.sparse.save_npz does."""
    starts, columns, values, classes = draw_sparse(8, 310, 40, 4, most=9)
    lines = []
    for row, label in enumerate(classes.tolist()):
        own = slice(starts[row], starts[row + 1])
        pairs = zip(columns[own].tolist(), values[own].tolist(), strict=True)
        lines.append(" ".join([KINDS[label], *(f"{column + 1}:{value!r}" for column, value in pairs)]))
    (folder / "text.svm").write_text("\n".join(lines) + "\n")
    for name, dtype, sizes in (("sparse", np.float32, (277, 150, 11)), ("sparse64", np.float64, (190, 25, 19))):
        starts, columns, values, classes = draw_sparse(9, *sizes, most=14)
        weights = Congruential(10).integers(classes.shape, 5)
        matrix = {"format": b"csr", "shape": np.array(sizes[:2]), "indptr": starts, "indices": columns}
        np.savez(folder / f"{name}.npz", **matrix, data=values.astype(dtype), y=classes, w=weights)


def _write_table(path, drawn):
    """Write a table with a column of texts, one of weights, and missing cells."""
    lines = ["a,b,colour,c,w,kind,d,e"]
    for row, (numbers, label) in enumerate(zip(drawn.values.tolist(), drawn.classes.tolist(), strict=True)):
        a, b, c, d, e = (repr(number) for number in numbers)
        cells = [a, "" if row % 11 == 3 else b, COLOURS[(row * row + label) % 4], "NA" if row % 7 == 5 else c]
        lines.append(",".join([*cells, f"{drawn.weights[row] / 3:.4f}", KINDS[label], d, e]))
    path.write_text("\n".join(lines) + "\n")
