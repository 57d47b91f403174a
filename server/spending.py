"""What each site has spent so far, recomputed from what it released."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from common.privacy.accounting import epsilon_after, rdp_at_order
from common.privacy.mechanism import Mechanism, SampledGaussian
from common.privacy.spending import filter_reading
from common.schedule import schedule
from common.study import Study
from common.study_mechanism import central_noise_multiplier, round_mechanism, sample_rate
from common.wire import SiteDescription

__all__ = ["planned_mechanism", "spent_epsilon"]


def planned_mechanism(study: Study, site: SiteDescription, steps: int) -> Mechanism:
    """What ``steps`` local steps release at a site, by the plan and its declared facts."""
    return round_mechanism(study, site.declared_size, site.noise_multiplier, steps)


def spent_epsilon(
    study: Study, site: SiteDescription, round_number: int, asked: Sequence[int] | None = None
) -> float | None:
    """Epsilon of a site after a round; None without privacy.

    By PLD, every round up to it counted in full, also one that did not ask the site: a plan was charged for it
    all the same (PRIVACY P21). For a site whose budget is a filter, a reading at its order and no claim (P6), over
    the rounds in ``asked`` (None: all of them).
    """
    if not study.privacy.enabled:
        return None
    if study.privacy.unit == "institution":
        noise, delta = central_noise_multiplier(study), study.delta_of(study.data.sites)
        return _curve(1.0, noise, tuple(range(1, len(schedule(study)) + 1)), delta)[round_number - 1]
    rate = sample_rate(study, site.declared_size)
    steps_by_round = _steps_by_round(study.to_json())
    if site.order and asked is not None:
        counted = sum(
            each.steps for each in schedule(study) if each.number <= round_number and each.number in asked
        )
        if counted == 0:
            return 0.0
        return _readings(rate, site.noise_multiplier, (counted,), site.delta, site.order)[0]
    if site.order:
        spent = _readings(rate, site.noise_multiplier, steps_by_round, site.delta, site.order)
    else:
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


@lru_cache(maxsize=10_000)
def _readings(
    rate: float, noise_multiplier: float, steps: tuple[int, ...], delta: float, order: int
) -> tuple[float, ...]:
    charged = (rdp_at_order(SampledGaussian(rate, noise_multiplier, taken), order) for taken in steps)
    return tuple(filter_reading(each, order, delta) for each in charged)
