"""How far a mean of sampled marginals may lie from the true one: half-widths of intervals.

For a site's marginals in M independent permutations, with range r (largest less smallest possible) and sample
standard deviation s. Half-widths hold for one site; for all of n sites at once give each ``1 - (1 - confidence)
/ n``.
"""

from __future__ import annotations

import math

from scipy.stats import t

from common.errors import BadInput

__all__ = ["bernstein_half_width", "hoeffding_half_width", "hoeffding_permutations", "student_half_width"]


def student_half_width(deviation: float, samples: int, confidence: float) -> float:
    """Student's t: exact for normal samples, good for means of many marginals; nearly 1.96 s / sqrt(M) at 95 %.

    Raises:
        BadInput: fewer than two samples, or a confidence outside (0, 1).
    """
    _check(samples, confidence)
    return float(t.ppf((1 + confidence) / 2, samples - 1)) * deviation / math.sqrt(samples)


def bernstein_half_width(deviation: float, spread: float, samples: int, confidence: float) -> float:
    """Empirical Bernstein, for any distribution of range ``spread`` (Maurer & Pontil 2009, Thm 4, both sides).

    Hardly better than Hoeffding below some 1,000 permutations.
    """
    _check(samples, confidence)
    log = math.log(4 / (1 - confidence))
    return math.sqrt(2 * deviation**2 * log / samples) + 7 * spread * log / (3 * (samples - 1))


def hoeffding_half_width(spread: float, samples: int, confidence: float) -> float:
    """Hoeffding, for any distribution of range ``spread``: ``r sqrt(ln(2 / delta) / (2 M))``."""
    _check(samples, confidence)
    return spread * math.sqrt(math.log(2 / (1 - confidence)) / (2 * samples))


def hoeffding_permutations(spread: float, half_width: float, sites: int, confidence: float) -> int:
    """Permutations after which all sites lie within ``half_width`` at once (cf. Maleki et al. 2013)."""
    _check(2, confidence)
    return math.ceil((spread / half_width) ** 2 / 2 * math.log(2 * sites / (1 - confidence)))


def _check(samples: int, confidence: float) -> None:
    if samples < 2:
        raise BadInput(f"samples = {samples}: an interval needs at least 2")
    if not 0 < confidence < 1:
        raise BadInput(f"confidence = {confidence}: must be between 0 and 1; try 0.95")
