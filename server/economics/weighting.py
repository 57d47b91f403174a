"""What a site's update is worth at its epsilon, and the weights that use it best.

A site's estimate of the common direction has variance ``s^2 / n + kappa / (n epsilon)^2``: sampling noise and
privacy noise. Weighted by inverse variance, precisions add, so a coalition's worth is the sum of its sites' and
the share of the gap that it closes, ``P / (P + P0)``, is concave in it.

Assumed, not verified on BERT: the form of the variance, unbiased updates (clipping is not), and the constants,
which are to be fitted on public data before money is tied to them. ``n`` is the declared size in units, never a
count of the file; so weights are public (PRIVACY P3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from common.errors import BadInput

__all__ = [
    "combined_precision",
    "dp_sgd_variance",
    "gap_closed",
    "gaussian_release_constant",
    "inverse_variance_weights",
    "precision",
]


def precision(size: int, epsilon: float, spread: float, noise_constant: float) -> Fraction:
    """Inverse variance of one site's estimate, exact for the numbers given, so that prices made of it are too.

    Args:
        size: declared size n in units.
        epsilon: the site's epsilon over the study.
        spread: s^2, variance of one clipped gradient; at most C^2.
        noise_constant: kappa, see :func:`gaussian_release_constant`.

    Raises:
        BadInput: a number out of its range.
    """
    if size < 1 or not (0 < epsilon < math.inf) or not (0 <= spread < math.inf and 0 <= noise_constant < math.inf):
        raise BadInput(
            f"precision: size, epsilon, spread, noise_constant = {size}, {epsilon}, {spread}, {noise_constant}: "
            "size at least 1, epsilon greater than 0, the others at least 0"
        )
    variance = Fraction(spread) / size + Fraction(noise_constant) / (size * Fraction(epsilon)) ** 2
    if variance == 0:
        raise BadInput("precision: spread and noise_constant are both 0; worth would be infinite")
    return 1 / variance


def gaussian_release_constant(dimension: float, max_grad_norm: float, delta: float) -> float:
    """Kappa of one Gaussian release: ``2 d C^2 ln(1.25 / delta)``, d the effective dimension."""
    return 2 * dimension * max_grad_norm**2 * math.log(1.25 / delta)


def dp_sgd_variance(
    dimension: float, noise_multiplier: float, max_grad_norm: float, batch_size: float, steps: int
) -> float:
    """Variance that DP-SGD's noise adds to the mean of a site's steps: ``d (sigma C / b)^2 / T``.

    Stands in place of ``kappa / (n epsilon)^2``, with the accountant's noise multiplier for the site's epsilon.
    """
    return dimension * (noise_multiplier * max_grad_norm / batch_size) ** 2 / steps


def inverse_variance_weights(precisions: Mapping[str, float | Fraction]) -> dict[str, float]:
    """Aggregation weights ``v_i / P``: the weighted mean of least variance. They sum to 1 up to rounding.

    Raises:
        BadInput: no site, or a precision that is not positive and finite.
    """
    if not precisions or not all(0 < v < math.inf for v in precisions.values()):
        raise BadInput(f"precisions = {dict(precisions)}: at least one, each greater than 0 and finite")
    total = sum(Fraction(value) for value in precisions.values())
    return {site: float(Fraction(value) / total) for site, value in precisions.items()}


def combined_precision(precisions: Mapping[str, float | Fraction], weights: Mapping[str, float]) -> float:
    """Inverse variance of the mean under any weights, which are normalised; at most the sum of the precisions.

    Raises:
        BadInput: the two name different sites, or weights are negative or all 0.
    """
    if precisions.keys() != weights.keys() or min(weights.values(), default=-1) < 0 or not any(weights.values()):
        raise BadInput("weights: one for each precision, at least 0, and not all 0")
    variance = math.fsum(weights[site] ** 2 / float(value) for site, value in precisions.items())
    return math.fsum(weights.values()) ** 2 / variance


def gap_closed(total: float | Fraction, public: float | Fraction) -> float:
    """Share of the gap between the public base model and perfect knowledge that precision closes: P / (P + P0)."""
    if total < 0 or public <= 0:
        raise BadInput(f"gap_closed: total, public = {total}, {public}: at least 0 and greater than 0")
    return float(total / (total + public))
