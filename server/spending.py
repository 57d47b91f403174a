"""What each site has spent so far, recomputed from what it released."""

from __future__ import annotations

from functools import lru_cache

from common.privacy.accounting import epsilon_after
from common.privacy.mechanism import Mechanism, NotPrivate, SampledGaussian
from common.schedule import schedule
from common.study import Study
from common.wire import SiteDescription

__all__ = ["planned_mechanism", "spent_epsilon"]


def planned_mechanism(study: Study, site: SiteDescription, steps: int) -> Mechanism:
    """What ``steps`` local steps release at a site, by the plan and its declared facts."""
    if not study.privacy.enabled:
        return NotPrivate("privacy.enabled = false")
    return SampledGaussian(study.privacy.batch_size / site.declared_size, site.noise_multiplier, steps)


def spent_epsilon(study: Study, site: SiteDescription, round_number: int) -> float | None:
    """Epsilon of a site after a round, every round up to it counted in full; None without privacy."""
    if not study.privacy.enabled:
        return None
    rate = study.privacy.batch_size / site.declared_size
    steps_by_round = _steps_by_round(study.to_json())
    spent = _curve(rate, site.noise_multiplier, steps_by_round, site.delta)
    return spent[round_number - 1]


@lru_cache(maxsize=4)
def _steps_by_round(study_json: str) -> tuple[int, ...]:
    total, steps = 0, []
    for planned in schedule(Study.from_json(study_json)):
        total += planned.steps
        steps.append(total)
    return tuple(steps)


@lru_cache(maxsize=10_000)
def _curve(rate: float, noise_multiplier: float, steps: tuple[int, ...], delta: float) -> tuple[float, ...]:
    return tuple(epsilon_after(rate, noise_multiplier, list(steps), delta))
