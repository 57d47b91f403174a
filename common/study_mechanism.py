"""What a study releases about a site's data, by plan and declared facts alone, before anything runs.

Site, coordinator, forecast and auditor all take it from here, so that they cannot differ.
"""

from __future__ import annotations

from functools import lru_cache

from common.privacy.accounting import Accountant, noise_multiplier_for
from common.privacy.coverage import together
from common.privacy.mechanism import Gaussian, Mechanism, NotPrivate, SampledGaussian
from common.schedule import planned_steps, schedule
from common.study import Study

__all__ = [
    "calibrated_noise_multiplier",
    "central_mechanism",
    "central_noise_multiplier",
    "round_mechanism",
    "sample_rate",
    "study_mechanism",
]


def sample_rate(study: Study, declared_size: int) -> float:
    """q: the probability with which each unit enters a step (PRIVACY P3: from the declared size)."""
    return study.privacy.batch_size / declared_size


def calibrated_noise_multiplier(study: Study, name: str, declared_size: int, order: int | None = None) -> float:
    """The smallest noise multiplier at which the site's whole study stays within its epsilon.

    0 where the site adds no noise: without privacy, and where the coordinator adds it (P19).

    Args:
        study: the plan.
        name: the site, which may have an epsilon of its own.
        declared_size: in units.
        order: of the site's filter; None for a plan, which PLD judges (PRIVACY P5).
    """
    if not study.privacy.noised_at_sites:
        return 0.0
    phase = (sample_rate(study, declared_size), planned_steps(study))
    accountant: Accountant = "pld" if order is None else "rdp"
    return noise_multiplier_for(study.epsilon_of(name), study.delta_of(declared_size), [phase], accountant, order)


def round_mechanism(study: Study, declared_size: int, noise_multiplier: float, steps: int) -> Mechanism:
    """What ``steps`` local steps release."""
    if not study.privacy.enabled:
        return NotPrivate("privacy.enabled = false")
    if study.privacy.unit == "institution":
        return NotPrivate("given to the coordinator, who adds the noise")
    return SampledGaussian(sample_rate(study, declared_size), noise_multiplier, steps)


def study_mechanism(study: Study, declared_size: int, noise_multiplier: float) -> Mechanism:
    """What all rounds of the study release together."""
    rounds = (round_mechanism(study, declared_size, noise_multiplier, each.steps) for each in schedule(study))
    return together(*rounds)


def central_noise_multiplier(study: Study) -> float:
    """The coordinator's noise under unit "institution": over all rounds it stays within privacy.epsilon (P19)."""
    delta = study.delta_of(study.data.sites)
    return _noise_for_every_round(study.privacy.epsilon, delta, len(schedule(study)))


def central_mechanism(study: Study, rounds: int) -> Mechanism:
    """What ``rounds`` noisy means release about an institution, which takes part in each."""
    return Gaussian(central_noise_multiplier(study), rounds)


@lru_cache(maxsize=64)
def _noise_for_every_round(epsilon: float, delta: float, rounds: int) -> float:
    return noise_multiplier_for(epsilon, delta, [(1.0, rounds)])
