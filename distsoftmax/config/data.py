"""The options on the data."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from typing import Literal, Optional

from distsoftmax.config.values import Text, Words, parse_memory, require
from distsoftmax.errors import InputError

Format = Literal["auto", "csv", "svmlight", "parquet", "npy", "npz", "hdf5"]
OnMissing = Literal["error", "fill", "drop row"]  # what becomes of a missing cell


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """The files that hold samples, and how they are read."""

    data: Words = ()
    """Files, globs or folders of parts: CSV, TSV, svmlight, Parquet, .npy, .npz or HDF5. A URL such as
    s3://bucket/folder is copied to --scratch through fsspec."""
    labels: Words = ()
    """The .npy files with the labels of features in .npy files, or of a sparse matrix in .npz."""
    format: Format = "auto"
    """The format of the files; auto: by their content, then by their names."""
    label: Text = None
    """The column of labels: its name or, in a CSV file, its number, counted from 0.
    In .npz and HDF5 files: the array of labels, by default y."""
    weight: Text = None
    """The column of sample weights: a row of weight 2 counts in training like two rows.
    predict and evaluate leave the column out."""
    features: Words = ()
    """The columns taken as features; by default all but those of the labels and the weights."""
    one_hot: Words = ()
    """The columns of text taken as categories, with a feature for each category; auto: all columns of text."""
    drop: Words = ()
    """The columns that are not taken: by name or, in a CSV file, by number."""
    missing: Words = ()
    """What a missing cell says, besides NA, NaN, null and nothing at all; a number, such as -999, in any spelling.
    predict and evaluate know it from the model."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line of a CSV file holds the column names."""
    separator: str = "auto"
    """What separates the cells of a CSV file: a character, or tab, space, comma, semicolon, pipe."""
    decimal: Literal[".", ","] = "."
    """The decimal mark of a CSV file."""
    index_base: Literal["auto", "0", "1"] = "auto"
    """The index of the first column in svmlight files; auto: 0 where that occurs anywhere, else 1.
    With a model, auto is as in its training."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(SourceConfig):
    """The samples, and what is done to them before training. Without --data: scikit-learn's digits.

    Examples
    --------
    >>> DataConfig(data=("wine.npz",), valid_fraction=0.25).held_out_fraction
    0.25
    >>> DataConfig(valid_fraction=2)
    Traceback (most recent call last):
    distsoftmax.errors.InputError: --valid-fraction is 2; it must be at least 0 and less than 1
    """

    class_weight: Text = None
    """The weights of the classes: a JSON file of them, or balanced, so that all classes weigh the same in sum."""
    impute: Literal["error", "mean", "zero"] = "error"
    """What is put in place of a missing number: the mean of its column, or 0; error refuses it."""
    drop_rows_missing: bool = False
    """Leave out the rows with a missing cell in a column that is used; predict writes no prediction for them."""
    n_features: Optional[int] = None
    """The number of columns of svmlight files; by default as many as the largest index asks for."""
    valid: Words = ()
    """Files of samples to measure the model on, not to train it; in the same form as --data."""
    valid_labels: Words = ()
    """The .npy files with the labels of --valid."""
    valid_fraction: Optional[float] = None
    """The fraction of --data to measure the model on, not to train it; by default 0, and 0.2 of the digits."""
    standardize: bool = True
    """Train on features of mean 0 and standard deviation 1, in whose units the penalties act.
    The saved model takes the features as they are. Without an intercept features are scaled only."""
    center: Literal["auto", "yes", "no"] = "auto"
    """Whether --standardize subtracts the mean; auto: from dense features, not from sparse ones."""
    dtype: Literal["stored", "float32", "float64"] = "stored"
    """The type to compute in; stored: that of float32 and float64 arrays, and float32 for all else."""
    memory: Text = None
    """How much of the features a rank keeps in memory, as in 2GiB; the rest lies in scratch. The same bits."""
    scratch: Text = None
    """The folder for what --memory has no room for, on a disk of each node; by default TMPDIR. Nothing stays in it."""
    shards: Optional[int] = None
    """The number of slices the data are cut into, at most one a sample. It decides the last bits of the model.
    By default it follows from the number of samples."""
    seed: int = 0
    """Decides which samples --valid-fraction takes, which ones make the preconditioner, and the mini-batches of sgd."""

    def __post_init__(self) -> None:
        """Refuse what no data set could satisfy."""
        require(
            self.shards is None or 1 <= self.shards <= 2**20,
            "shards",
            self.shards,
            "it must be at least 1 and at most 2^20",
        )
        require(0 <= self.seed < 2**63, "seed", self.seed, "it must be an integer from 0 to 2^63 - 1")
        fraction = self.valid_fraction
        require(
            fraction is None or 0 <= fraction < 1, "valid_fraction", fraction, "it must be at least 0 and less than 1"
        )
        require(self.n_features is None or self.n_features >= 1, "n_features", self.n_features, "it must be at least 1")
        if self.memory is not None:
            parse_memory(self.memory)
        if self.valid and fraction:
            raise InputError("--valid and --valid-fraction both hold samples out: give one of them")
        if self.drop_rows_missing and self.impute != "error":
            raise InputError(
                "--drop-rows-missing and --impute both say what becomes of missing cells: give one of them"
            )
        if self.center == "yes" and not self.standardize:
            raise InputError("--center yes is a part of --standardize: leave --no-standardize out")
        if self.valid_labels and not self.valid:
            raise InputError("--valid-labels was given without --valid: name the file it belongs to with --valid FILE")
        about_files = (*fields(SourceConfig), *(item for item in fields(self) if item.name in ("valid", "n_features")))
        for item in about_files if not self.data else ():
            if getattr(self, item.name) != item.default:
                name = item.name.replace("_", "-")
                raise InputError(f"--{name} was given without --data: name the file it belongs to with --data FILE")

    @property
    def on_missing(self) -> OnMissing:
        """What becomes of a missing cell."""
        if self.drop_rows_missing:
            return "drop row"
        return "error" if self.impute == "error" else "fill"

    @property
    def scratch_folder(self) -> str:
        """The folder for what --memory has no room for."""
        return self.scratch or tempfile.gettempdir()

    @property
    def held_out_fraction(self) -> float:
        """The fraction of the source held out from training."""
        if self.valid_fraction is not None:
            return self.valid_fraction
        return 0.0 if self.data else 0.2
