"""The options of `summary`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distsoftmax.config import ScoringConfig, Text
from distsoftmax.config.values import require
from distsoftmax.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SummaryConfig(ScoringConfig):
    """The options of `summary`. With --weight a row of weight 2 counts like two rows.

    Examples
    --------
    >>> SummaryConfig(model="runs/wine", data=("wine.npz",), confidence=95)
    Traceback (most recent call last):
    distsoftmax.errors.InputError: --confidence is 95; it must be above 0 and below 1, as in 0.95
    """

    reference: Text = None
    """The class that the others are compared with; by default the model's first."""
    covariance: Literal["classical", "sandwich"] = "classical"
    """Where the standard errors come from: the inverse hessian, which trusts the model and takes --weight as counts
    of rows; or the sandwich, which holds where the model is wrong, too, and for sampling weights."""
    cluster: Text = None
    """The column that says which rows belong together, such as a person's: cluster-robust standard errors."""
    confidence: float = 0.95
    """The level of the confidence intervals."""
    polish: bool = True
    """Go from the model to the exact optimum of its objective on these samples by Newton steps, first."""
    odds_ratios: bool = False
    """Show odds ratios and their intervals in the table, in place of coefficients."""
    json: bool = False
    """Print one JSON object instead of a table."""
    csv: Text = None
    """Write the table to this CSV file, too."""
    vcov: Text = None
    """Write the covariance matrix of the table's coefficients to this .npy file, row after row of the table."""

    def __post_init__(self) -> None:
        """Refuse what no table could show."""
        super().__post_init__()
        require(0 < self.confidence < 1, "confidence", self.confidence, "it must be above 0 and below 1, as in 0.95")
        for name in ("reference", "cluster", "csv", "vcov"):
            if getattr(self, name) == "":
                raise InputError(f"--{name} names nothing, as where a variable of the shell is not set; name it")
        if self.vcov is not None and not self.vcov.endswith(".npy"):
            raise InputError(f"--vcov {self.vcov}: the matrix is written as .npy; name such a file")
        if self.cluster is not None and self.cluster in (self.label, self.weight):
            raise InputError(f"--cluster {self.cluster} is the column of the labels or weights; name another")
        if self.cluster is not None and self.labels:
            raise InputError("--cluster names a column, but --labels says that the samples are arrays without any")
