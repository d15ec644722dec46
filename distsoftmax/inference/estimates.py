"""What a summary holds: coefficients against a reference class, their errors, and how the model fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import chdtrc, ndtr, ndtri

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.elementary import exp, log

DIGITS = 12  # of tails and quantiles: that hides what versions of scipy and of libm differ by


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that is shown of a model. Arrays are (n_classes - 1, width), float64.

    Attributes
    ----------
    model, data : str
    classes : tuple of str
        Those that are compared with the reference, in the order of the rows.
    reference : str
    features : tuple of str
        In the order of the columns; the intercept last.
    coef, errors : ndarray
        The logarithm of the odds against the reference class, for one unit of the feature; and the standard errors.
    covariance : {"classical", "ridge", "sandwich", "cluster"}
    n_clusters : int
    l2, confidence : float
    n_samples, n_parameters : int
    weight : float
        The sum of the sample weights.
    log_likelihood, null_log_likelihood : float
        Natural logarithms; of the model, and of one with intercepts alone (without intercepts: of equal probabilities).
    effective_parameters : float
        Of a model with an L2 penalty less than `n_parameters` (R. J. Gray, 1992).
    degrees : int
        Of freedom, of the likelihood-ratio test against the null model.
    polished : bool
        Whether Newton steps were taken to the optimum.
    n_steps : int
    decrement : float
        Of the model: its squared distance to the optimum in standard errors.
    largest_change : float
        Of a coefficient from the model to the optimum, in standard errors.
    notes, omitted : tuple of str
    vcov : ndarray or None
        The covariance of all rows of the table, where asked for.
    """

    model: str
    data: str
    classes: tuple[str, ...]
    reference: str
    features: tuple[str, ...]
    coef: Doubles
    errors: Doubles
    covariance: str
    n_clusters: int
    l2: float
    confidence: float
    n_samples: int
    n_parameters: int
    weight: float
    log_likelihood: float
    null_log_likelihood: float
    effective_parameters: float
    degrees: int
    polished: bool
    n_steps: int
    decrement: float
    largest_change: float
    notes: tuple[str, ...]
    omitted: tuple[str, ...]
    vcov: Doubles | None = field(default=None, repr=False)

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return 2 * self.effective_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz' criterion; the number of samples is the sum of their weights."""
        return self.effective_parameters * log(self.weight) - 2 * self.log_likelihood

    @property
    def mcfadden_r2(self) -> float:
        """1 less the ratio of the log-likelihoods."""
        return 1 - self.log_likelihood / self.null_log_likelihood

    @property
    def likelihood_ratio(self) -> float:
        """Twice the difference of the log-likelihoods."""
        return 2 * (self.log_likelihood - self.null_log_likelihood)

    @property
    def likelihood_ratio_p(self) -> float:
        """The probability of such a ratio where no feature matters."""
        return chi_square_tail(self.likelihood_ratio, self.degrees) if self.degrees else math.nan

    @property
    def z(self) -> Doubles:
        """Coefficients in standard errors."""
        return self.coef / self.errors

    @property
    def p(self) -> Doubles:
        """The probability of a coefficient as far from 0, where the true one is 0: Wald's test."""
        return two_sided(self.z)

    @property
    def interval(self) -> tuple[Doubles, Doubles]:
        """The ends of the confidence intervals of the coefficients."""
        reach = normal_quantile(self.confidence) * self.errors
        return self.coef - reach, self.coef + reach

    @property
    def odds_ratios(self) -> tuple[Doubles, Doubles, Doubles]:
        """The factor on the odds for one unit of a feature, and the ends of its interval."""
        low, high = self.interval
        return exp(self.coef), exp(low), exp(high)


def two_sided(z: Doubles) -> Doubles:
    """Return the probability that a standard normal number is as far from 0, any shape."""
    return _rounded(2 * ndtr(-np.abs(z)))


def normal_quantile(confidence: float) -> float:
    """Return the number that a standard normal one is within, up to its sign, with a probability."""
    return float(_rounded(-ndtri((1 - confidence) / 2)))


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability that a chi-square number with so many degrees of freedom is larger."""
    return float(_rounded(chdtrc(degrees, max(statistic, 0.0))))


def _rounded(numbers: Doubles) -> Doubles:
    texts = [f"{number:.{DIGITS}g}" for number in numbers.ravel().tolist()]
    return np.array(texts, dtype=np.float64).reshape(numbers.shape)
