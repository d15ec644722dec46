"""Whether arrays are those of samples: their shapes and types, one part's like another's, and the labels in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.arrays.files import Arrays, FileRows, open_array
from distsoftmax.errors import InputError

LABEL_KINDS = {"i": "numbers", "u": "numbers", "f": "numbers", "b": "bool", "U": "text"}


@dataclass(frozen=True)
class PartSummary:
    """What all ranks know of a part: of features, or of labels alone.

    Attributes
    ----------
    dtype : str
        Of the features.
    labels : str or None
        Of what kind the labels are; None where they are not in this part.
    """

    path: str
    n_rows: int
    labels: str | None = None
    n_features: int = 0
    dtype: str = ""
    sparse: bool = False
    streamed: bool = False

    @property
    def content(self) -> str:
        """What parts have in common, in words."""
        features = [f"{'sparse' if self.sparse else 'dense'} features of type {self.dtype}"] if self.dtype else []
        labels = [f"{self.labels} as labels"] if self.labels is not None else []
        return " with ".join(features + labels)


def summarize(path: str, arrays: Arrays) -> PartSummary:
    """Return what all ranks should know of an opened part.

    Raises
    ------
    InputError
        Its arrays are not those of samples.
    """
    features = arrays.features
    if len(features.shape) != 2:
        raise InputError(f"{path}: the features have shape {features.shape}; expected (n_samples, n_features)")
    _require_numbers(path, "features", features)
    if features.shape[1] == 0:
        raise InputError(f"{path}: the features have shape {features.shape}: there is no feature to learn from")
    for what, rows in (("labels", arrays.labels), ("weights", arrays.weights)):
        if rows is None:
            continue
        if len(rows.shape) != 1:
            raise InputError(f"{path}: the {what} have shape {rows.shape}; expected (n_samples,)")
        if rows.shape[0] != features.shape[0]:
            raise InputError(
                f"{path}: {features.shape[0]} samples but {rows.shape[0]} {what}; give one {what[:-1]} a sample"
            )
    if arrays.weights is not None:
        _require_numbers(path, "weights", arrays.weights)
    labels = None if arrays.labels is None else _kind_of_labels(path, arrays.labels)
    n_rows, n_features = features.shape
    return PartSummary(path, n_rows, labels, n_features, str(features.dtype), arrays.sparse, arrays.streamed)


def summarize_labels(part: FileState) -> PartSummary:
    """Open a .npy file of labels and return what all ranks should know of it.

    Raises
    ------
    InputError
        It is damaged, or holds no labels.
    """
    rows = open_array(part)
    if len(rows.shape) != 1:
        raise InputError(f"{part.path}: the labels have shape {rows.shape}; expected (n_samples,)")
    return PartSummary(part.path, rows.shape[0], _kind_of_labels(part.path, rows))


def require_alike(files: Sequence[FileState], summaries: Sequence[PartSummary | None]) -> PartSummary:
    """Refuse parts that do not fit one another, and return the first; types count only where there are rows.

    Raises
    ------
    InputError
        Names two files and what differs; or all are empty.
    """
    parts = [part for part in summaries if part is not None]
    if not parts:
        raise InputError(f"{files[0].path}: is empty")
    first = next((part for part in parts if part.n_rows), parts[0])
    for part in parts:
        if part.n_features != first.n_features:
            raise InputError(
                f"{part.path}: has {part.n_features} features, but {first.path} {first.n_features}; give parts of one "
                "table"
            )
        if part.n_rows and part.content != first.content:
            raise InputError(
                f"{part.path}: holds {part.content}, but {first.path} {first.content}; save all parts alike"
            )
    return first


def _require_numbers(path: str, what: str, rows: FileRows) -> None:
    if rows.dtype.kind not in "fiub" or rows.dtype.itemsize > 8:
        raise InputError(
            f"{path}: the {what} are of type {rows.dtype}; expected numbers: integers, bool, float16, float32 or "
            "float64"
        )


def _kind_of_labels(path: str, rows: FileRows) -> str:
    if rows.dtype.kind not in LABEL_KINDS:
        raise InputError(f"{path}: the labels are of type {rows.dtype}; expected numbers or text")
    return LABEL_KINDS[rows.dtype.kind]
