"""Exact intervals for a binomial probability (Clopper, Pearson 1934). Probabilities are shares from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from common.errors import BadInput

__all__ = ["Interval", "check_confidence", "interval", "lower_end", "upper_end"]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval around it."""

    estimate: float
    lower: float
    upper: float


def upper_end(successes: int, trials: int, error: float) -> float:
    """Upper end that the probability exceeds with chance at most ``error``; 1 where there were no trials."""
    _check(successes, trials, error)
    if successes == trials:
        return 1.0
    return float(stats.beta.ppf(1 - error, successes + 1, trials - successes))


def lower_end(successes: int, trials: int, error: float) -> float:
    """Lower end that the probability falls short of with chance at most ``error``; 0 without trials."""
    _check(successes, trials, error)
    if successes == 0:
        return 0.0
    return float(stats.beta.ppf(error, successes, trials - successes + 1))


def interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Two-sided interval, half of the error at each end; needs at least one trial."""
    check_confidence(confidence)
    if trials < 1:
        raise BadInput(f"interval: trials = {trials}: must be at least 1")
    error = (1 - confidence) / 2
    ends = lower_end(successes, trials, error), upper_end(successes, trials, error)
    return Interval(successes / trials, *ends)


def check_confidence(confidence: float) -> None:
    """Raise ``BadInput`` unless ``confidence`` is from 0.5 to below 1."""
    if not 0.5 <= confidence < 1:
        raise BadInput(f"confidence = {confidence!r}: must be at least 0.5 and below 1")


def _check(successes: int, trials: int, error: float) -> None:
    if not 0 <= successes <= trials:
        raise BadInput(f"interval: {successes} successes in {trials} trials: is impossible")
    if not 0 < error < 1:
        raise BadInput(f"interval: error = {error!r}: must be above 0 and below 1")
