"""The component audit of DP-SGD: one step's noise is bounded from observations, the run is composed by PLD.

Per step, with the sampler's draw known, a canary's projection is N(C, s^2 C^2) when it is in the batch and
N(0, s^2 C^2) when it is not. All steps and canaries together bound mu = 1/s from below; composing (q, T) with
noise 1/mu then bounds epsilon. The sampler is taken on trust: test it by itself
(``common.audit.sampler_tests``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from common.audit.trials import Trials, count_trials, mu_lower_bound
from common.errors import BadInput
from common.privacy.accounting import epsilon
from common.privacy.mechanism import LARGEST_NOISE, SampledGaussian

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ComponentBound", "component_bound", "planned_threshold"]

_THRESHOLDS = 21


@dataclass(frozen=True, slots=True)
class ComponentBound:
    """What the observations prove at the stated confidence."""

    trials: Trials
    mu: float
    """Lower bound of C / noise standard deviation; 0 if nothing is proved."""
    epsilon: float
    """Lower bound of the whole run's epsilon, the sampler as claimed."""

    @property
    def noise_multiplier(self) -> float:
        """Upper bound of the noise multiplier; infinity if nothing is proved."""
        return 1 / self.mu if self.mu else float("inf")


def planned_threshold(excluded: int, included: int, noise_multiplier: float, confidence: float = 0.95) -> float:
    """The threshold, in units of C, from which the claimed noise would give the best bound.

    Few observations with a canary and many without move it from the middle, 1/2, towards 1. It knows no
    score, so it is fixed beforehand.
    """
    if not noise_multiplier > 0:
        raise BadInput(f"component: noise_multiplier = {noise_multiplier!r}: must be above 0")
    thresholds = np.linspace(0.0, 1.0, _THRESHOLDS)
    false_positives = np.rint(excluded * stats.norm.sf(thresholds / noise_multiplier))
    false_negatives = np.rint(included * stats.norm.cdf((thresholds - 1) / noise_multiplier))
    bounds = [
        mu_lower_bound(Trials(excluded, int(fp), included, int(fn)), confidence)
        for fp, fn in zip(false_positives, false_negatives, strict=True)
    ]
    return float(thresholds[int(np.argmax(bounds))])


def component_bound(
    excluded: ArrayLike, included: ArrayLike, claimed: SampledGaussian, delta: float, confidence: float = 0.95
) -> ComponentBound:
    """Bound the epsilon of ``claimed``'s sampler and steps from projections on canaries, in units of C.

    The threshold follows from the claim and the numbers of observations alone (:func:`planned_threshold`).

    Args:
        excluded: projections in steps where the canary was not in the batch.
        included: projections in steps where it was.
        claimed: sample rate and steps are used; the noise multiplier sets the threshold and is what is tested.
        delta: at which epsilon is bounded.
        confidence: chance that the bound is true.
    """
    out, in_ = np.asarray(excluded), np.asarray(included)
    trials = count_trials(out, in_, planned_threshold(out.size, in_.size, claimed.noise_multiplier, confidence))
    mu = mu_lower_bound(trials, confidence)
    if mu < 1 / LARGEST_NOISE:
        return ComponentBound(trials, 0.0, 0.0)
    proved = SampledGaussian(claimed.sample_rate, 1 / mu, claimed.steps)
    return ComponentBound(trials, mu, epsilon(proved, delta))
