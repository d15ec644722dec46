"""The options on the data."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from typing import Literal

from distsoftmax.config.values import Text, parse_memory, require
from distsoftmax.errors import InputError

Format = Literal["auto", "csv", "svmlight", "parquet", "npy", "npz", "hdf5"]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """The files that hold samples, and how they are read."""

    data: tuple[str, ...] = ()
    """Files, globs or folders of parts: CSV, TSV, svmlight, Parquet, .npy, .npz or HDF5."""
    labels: tuple[str, ...] = ()
    """The .npy files of labels that belong to .npy files of features, or to a sparse matrix in .npz."""
    format: Format = "auto"
    """The format of the files; by default found by their content, then by their names."""
    label: Text = None
    """The label column: its name, or its number counted from 0 in a CSV file."""
    weight: Text = None
    """The column of sample weights; a weight of 2 counts like two rows in training, and nowhere else."""
    features: tuple[str, ...] = ()
    """The feature columns; by default all that are nothing else."""
    one_hot: tuple[str, ...] = ()
    """Text columns that are taken as categories, a feature for each; auto: all that hold no numbers."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line of a CSV file holds the column names."""
    separator: str = "auto"
    """What separates the cells of a CSV file: a character, or tab, space, comma, semicolon, pipe."""
    decimal: Literal[".", ","] = "."
    """The decimal mark of a CSV file."""
    index_base: Literal["auto", "0", "1"] = "auto"
    """The index of the first column in svmlight files; auto: as in training or, there, 0 where that occurs anywhere,
    else 1."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(SourceConfig):
    """The samples, and what is done to them before training. Without --data: scikit-learn's digits."""

    class_weight: Text = None
    """balanced, so that all classes weigh the same in sum, or a JSON file of each class's weight."""
    impute: Literal["error", "mean", "zero"] = "error"
    """What stands for a missing number: its column's mean, zero, or nothing, which is an error."""
    n_features: int | None = None
    """The number of columns of svmlight files; by default the largest index that occurs."""
    valid: tuple[str, ...] = ()
    """Samples held out from training, in the same form as --data."""
    valid_labels: tuple[str, ...] = ()
    """The .npy files of labels that belong to --valid."""
    valid_fraction: float | None = None
    """The fraction of --data held out from training; by default 0, and 0.2 for the built-in digits."""
    standardize: bool = True
    """Train on features with mean 0 and standard deviation 1; --l2 acts in these units. The saved model takes the
    features as they are. Without an intercept the features are scaled but not centred."""
    center: Literal["auto", "yes", "no"] = "auto"
    """Whether --standardize subtracts the mean; by default for dense features, not for sparse ones."""
    dtype: Literal["stored", "float32", "float64"] = "stored"
    """The type the features are multiplied in. By default that of a floating-point array, and float32 for text and
    integers."""
    memory: Text = None
    """How much of the features a rank keeps in memory, as in 2GiB; the rest lies in scratch. The same bits."""
    scratch: Text = None
    """The folder for what --memory has no room for, on a disk of each node; by default TMPDIR. Nothing stays in it."""
    shards: int | None = None
    """The number of slices the data is cut into. It fixes the bits of the model; by default it follows from the
    number of samples."""
    seed: int = 0
    """Decides which samples --valid-fraction holds out, which the preconditioner looks at, and the mini-batches."""

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
    def scratch_folder(self) -> str:
        """The folder for what --memory has no room for."""
        return self.scratch or tempfile.gettempdir()

    @property
    def held_out_fraction(self) -> float:
        """The fraction of the source held out from training."""
        if self.valid_fraction is not None:
            return self.valid_fraction
        return 0.0 if self.data else 0.2
