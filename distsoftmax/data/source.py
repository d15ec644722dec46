"""What a reader offers: a table of samples in one or several files (parts), read a shard at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig, Format, SourceConfig
from distsoftmax.data.bad_cell import BadCell, bad_cells_named
from distsoftmax.data.parts import FileState
from distsoftmax.model import Encoding

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_array

Features: TypeAlias = "NDArray | csr_array"


@dataclass(frozen=True)
class TextColumn:
    """A column as read: distinct texts, and for each row the index of its text; -1 where the cell is missing."""

    texts: tuple[str, ...]
    codes: NDArray[np.integer]


@dataclass(frozen=True)
class RawRows:
    """Rows as a source holds them.

    Attributes
    ----------
    features : ndarray or csr_array, (rows, n_features)
        As stored; NaN where a cell holds no number. A csr_array has sorted, distinct column indices in each row.
    labels : TextColumn or None
        None where no labels were asked for.
    weights : ndarray of float64, (rows,), or None
        As read, NaN where missing; None where no column of weights was asked for.
    categories : tuple of TextColumn
        The text columns declared with --one-hot, in the order of `Source.category_names`.
    kept : pyarrow.Table or None
        The columns `Source.kept_names` as they stand; of a CSV file texts, null where nothing stands. None where none
        are asked for.
    """

    features: Features
    labels: TextColumn | None = None
    weights: NDArray[np.float64] | None = None
    categories: tuple[TextColumn, ...] = ()
    kept: pa.Table | None = None


MISSING_LABEL = (
    "the label is missing (an empty cell, NA, nan, null or the like); leave the row out, as --drop-rows-missing does, "
    "or give the class another name"
)
AUTO = ("auto",)  # --one-hot auto: the text columns are found, not named.


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """The name of a source, and how to take it apart.

    Attributes
    ----------
    paths, labels_paths : tuple of str
        Files, globs or folders of parts; and the .npy files with the labels of features in arrays.
    features : tuple of str
        The feature columns of a table; empty for all that are nothing else.
    one_hot : tuple of str
        The text columns of a table that are taken as categories; ("auto",) for all that hold no numbers.
    index_base : {"auto", "0", "1"}
        The first column's index in svmlight files; auto finds it over the whole source.
    n_features : int or None
        The number of columns of svmlight files; None finds the largest index over the whole source.
    drop, keep : tuple of str
        The columns of a table that are not taken; and those that are read as they stand, besides what else they are.
    missing : tuple of str
        What stands for a missing cell, besides what does so in the format.
    rows_may_lack_labels : bool
        Whether a row without label is read, as one that will be left out.
    left_out : tuple of str
        Where a model is at hand, which says what is wanted: the columns of a CSV file without header that hold weights
        or are dropped.
    known_label : str or None
        The column of labels that a model was trained with: taken where none is named and the source has it.
    scratch : str or None
        Where --memory bounds what a rank keeps: the folder for the text of compressed files.
    copies : str or None
        The folder for copies of what URLs name; None: TMPDIR.
    expected_names, expected_categories : sequence of str or None
        The features and the text columns a model was trained on, where one is at hand: they tell a header from a row,
        and which columns to take, in which order.
    expected_base : int or None
        The first column's index in the svmlight files of training, where it had such: taken where none is said.
    needs_labels : bool
        Whether the labels are read.
    """

    paths: tuple[str, ...]
    labels_paths: tuple[str, ...] = ()
    format: Format = "auto"
    label: str | None = None
    weight: str | None = None
    header: Literal["auto", "yes", "no"] = "auto"
    separator: str = "auto"
    decimal: str = "."
    features: tuple[str, ...] = ()
    one_hot: tuple[str, ...] = ()
    index_base: Literal["auto", "0", "1"] = "auto"
    n_features: int | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    known_label: str | None = None
    scratch: str | None = None
    copies: str | None = None
    expected_names: Sequence[str] | None = None
    expected_categories: tuple[str, ...] | None = None
    expected_base: int | None = None
    needs_labels: bool = True
    rows_may_lack_labels: bool = False

    @classmethod
    def of(cls, config: SourceConfig) -> SourceSpec:
        """Return what the options say of the source named by --data."""
        spec = cls(
            paths=config.data,
            labels_paths=config.labels,
            format=config.format,
            label=config.label,
            weight=config.weight,
            features=config.features,
            one_hot=config.one_hot,
            header=config.header,
            separator=config.separator,
            decimal=config.decimal,
            index_base=config.index_base,
            drop=config.drop,
            missing=config.missing,
        )
        if not isinstance(config, DataConfig):
            return spec
        return replace(
            spec,
            scratch=None if config.memory is None else config.scratch_folder,
            copies=config.scratch_folder,
            n_features=config.n_features,
            rows_may_lack_labels=config.drop_rows_missing,
        )

    def expecting(self, encoding: Encoding, label: str | None = None) -> SourceSpec:
        """Return the same source with what is known of its columns, and of that of the labels, from training."""
        categories = tuple(name for name, _ in encoding.categories)
        return replace(
            self,
            expected_names=encoding.numeric,
            expected_categories=categories,
            expected_base=encoding.index_base,
            weight=None,
            drop=(),
            left_out=self.drop if self.weight is None else (self.weight, *self.drop),
            known_label=label,
            missing=tuple(dict.fromkeys((*encoding.missing, *self.missing))),
            rows_may_lack_labels=encoding.drop_rows_missing,
        )


class Source(ABC):
    """A table of samples in one or several parts, one after the other.

    A source is made without opening a file. Its life: `scan`, then `divide`, then any number of `read`. Here stands
    what most formats have in common; a reader sets what differs, on its class or while it scans.

    Attributes
    ----------
    path : str
        What an error calls the whole.
    format : str
        Of all parts.
    parts : tuple of FileState
        The files: of samples, then of labels where these have files of their own.
    n_rows : int
    feature_names : sequence of str
        The columns of `RawRows.features`: in the source, or made up as x0, x1, ...
    category_names : tuple of str
        The text columns taken as categories.
    kept_names : tuple of str
        The columns that are read as they stand.
    sparse : bool
        Whether features come as csr_array.
    is_text : bool
        Whether the numbers are stored as text, so that their type says nothing.
    index_base : int or None
        The first column's index in svmlight files, once found; None for other formats.
    is_digested : bool
        Whether a digest of each shard is taken as it is read, by which a changed source is told.
    label_name : str or None
        The column of labels, by its name or, where there are no names, its number; None where it has no column.
    headless_by_guess : bool
        Whether the first line was taken for a row although it might be a header.
    rows_may_lack_labels : bool
        Whether a row without label is read, as one that will be left out; otherwise it is an error.
    marked : callable
        Returns rows with those cells missing that --missing names.
    notes : tuple of str
        What the user should know, once: that a compressed file cannot be divided, say.
    bounds : ndarray of int64, (n_shards + 1,)
        Shard s holds the rows bounds[s] to bounds[s + 1]; known once the source is divided.
    """

    format: Format
    n_rows: int = 0
    feature_names: Sequence[str] = ()
    category_names: tuple[str, ...] = ()
    kept_names: tuple[str, ...] = ()
    sparse: bool = False
    is_text: bool = False
    index_base: int | None = None
    is_digested: bool = True
    label_name: str | None = None
    headless_by_guess: bool = False
    rows_may_lack_labels: bool = False
    notes: tuple[str, ...] = ()

    def __init__(self, path: str, parts: tuple[FileState, ...] = ()) -> None:
        self.path = path
        self.parts = parts
        self.marked: Callable[[RawRows], RawRows] = lambda rows: rows
        self.bounds = np.zeros(1, dtype=np.int64)

    @abstractmethod
    def scan(self, cluster: Communicator) -> None:
        """Open the parts and find rows and columns; the ranks divide the work. Collective.

        Raises
        ------
        InputError
            On every rank: a part is missing, empty, damaged, or does not fit the others.
        """

    def divide(self, bounds: NDArray[np.int64], owned: Sequence[range], cluster: Communicator) -> None:
        """Fix the shards: shard s holds the rows bounds[s] to bounds[s + 1]; rank r reads owned[r]. Collective.

        Each shard has a row at least. The feature names are known from here on.
        """
        self.bounds = bounds

    def read(self, shard: int) -> RawRows:
        """Return a shard that this rank owns. Not collective; any order, and as often as needed.

        Raises
        ------
        InputError
            Naming file, row (counted from 1 in its file, the header left out) and column; or the file has changed
            since it was scanned.
        """
        first = int(self.bounds[shard])
        with bad_cells_named(self.locate, first):
            rows = self.marked(self._read_shard(shard))
        if rows.labels is not None and not self.rows_may_lack_labels:
            with bad_cells_named(self._locate_label, first):
                for row in np.flatnonzero(rows.labels.codes < 0)[:1]:
                    raise BadCell(row, MISSING_LABEL, self.label_name)
        return rows

    @abstractmethod
    def locate(self, row: int) -> tuple[str, int]:
        """Return the file of a row of the source, and the row's number in it, counted from 1."""

    def _locate_label(self, row: int) -> tuple[str, int]:
        """Return the file of a row's label, and its row there."""
        return self.locate(row)

    @abstractmethod
    def _read_shard(self, shard: int) -> RawRows:
        """Read a shard. A BadCell counts its row from the shard's first."""

    def _rows(self, shard: int) -> slice:
        """Return the rows of a shard, counted in the source."""
        return slice(int(self.bounds[shard]), int(self.bounds[shard + 1]))
