"""Check N: what the loop releases over rows without gradients is noise, and its batches are Poisson.

Cheaper and sharper than any attack. Rows are blank, so their clipped sum is zero and all that a step releases is
noise: of the recorded scale in every tensor, drawn afresh in every round, at every site and in every repetition,
and on the grid that hides its low-order bits. As many blank units as the site has are drawn over many steps for
the sampler, and 64 units at an expected batch of one for empty batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from common.audit.hypothesis_tests import StatisticalTest
from common.audit.noise_tests import independence_tests, scale_tests
from common.audit.sampler_tests import count_batches, sampler_tests
from common.privacy.gaussian_noise import grid_step
from common.privacy.mechanism import SampledGaussian
from common.wire import Phase
from deploy.audit.canaries import CanaryNetwork, blank
from deploy.audit.pipeline import Released
from deploy.audit.site_copy import SiteCopy

__all__ = [
    "FAMILIES",
    "NoiseSample",
    "by_draw",
    "by_tensor",
    "few_units",
    "lattice_test",
    "noise_and_sampler_tests",
    "noise_samples",
    "sampled_batches",
    "steps_test",
]

FAMILIES = 4
"""Scale and mean; independence; sampler; empty batches: each gets an equal share of the false alarm rate."""

_SAMPLER_STEPS = 200
_FEW_UNITS, _FEW_STEPS = 64, 400
_MOST_COORDINATES = 200_000
"""Of one tensor that are looked at: their scale is known within half a percent."""


@dataclass(frozen=True, eq=False)
class NoiseSample:
    """The noise of one step, by parameter, in units of C."""

    drawn: str
    """Which trainer, round and step."""
    phase: Phase
    noise: dict[str, NDArray[np.float64]]


def noise_and_sampler_tests(copy: SiteCopy, false_alarm_rate: float) -> tuple[StatisticalTest, ...]:
    """All tests of check N on a site's copy; together they blame a correct pipeline at the rate given."""
    share = false_alarm_rate / FAMILIES
    sigma, rate = copy.claimed.noise_multiplier, copy.claimed.sample_rate
    samples = noise_samples(copy)
    few = few_units(copy)
    many = sampled_batches(copy, copy.texts.units, _SAMPLER_STEPS)
    empty = sampled_batches(few, _FEW_UNITS, _FEW_STEPS)
    return (
        steps_test(len(many) + len(empty), _SAMPLER_STEPS + _FEW_STEPS),
        *scale_tests(by_tensor(samples), sigma, share),
        *independence_tests(by_draw(samples), share),
        *sampler_tests(count_batches(many), rate, share),
        *(
            replace(test, name=f"{test.name}, one unit expected")
            for test in sampler_tests(count_batches(empty), few.claimed.sample_rate, share)
        ),
        lattice_test(samples, copy),
    )


def noise_samples(copy: SiteCopy) -> tuple[NoiseSample, ...]:
    """Noise of two rounds, of one of them repeated, and of another site; and of the head alone where it trains."""
    units = copy.texts.units
    phases = [Phase.TRAIN]
    if copy.study.model.warm_start_steps and copy.study.model.trainable != "head":
        phases.append(Phase.WARM_START)
    facts = replace(copy.facts, name=f"{copy.facts.name}, other", partition=copy.facts.partition + 1)
    other = replace(copy, facts=facts)
    found: list[NoiseSample] = []
    for phase in phases:
        for who, number, drawn in (
            (copy, 1, "round 1"),
            (copy, 1, "round 1 repeated"),
            (copy, 2, "round 2"),
            (other, 1, "round 1 of another site"),
        ):
            found += _noise_of_a_round(who, units, phase, number, drawn)
    return tuple(found)


def sampled_batches(copy: SiteCopy, units: int, steps: int) -> NDArray[np.bool_]:
    """Who was in each of ``steps`` batches of the loop over so many blank units: ``(steps taken, units)``."""
    seen: list[NDArray[np.bool_]] = []

    def watch(network: CanaryNetwork, rows: NDArray[np.int64], released: Released) -> None:
        batch = np.zeros(units, dtype=bool)
        batch[rows] = True
        seen.append(batch)

    audited = blank(units, copy.texts.pad_token, copy.texts.persons is not None)
    copy.classifier.load(copy.classifier.initial)
    copy.take_round(copy.trainer(audited, watch), Phase.WARM_START, steps)
    return np.array(seen)


def steps_test(taken: int, planned: int) -> StatisticalTest:
    """Whether as many steps were taken as planned, those with an empty batch among them; no chance decides."""
    return StatisticalTest("steps taken", taken, planned, 1.0 if taken == planned else 0.0, 0.5)


def lattice_test(samples: Sequence[NoiseSample], copy: SiteCopy) -> StatisticalTest:
    """Whether noised sums lie on the grid of ``common.privacy.gaussian_noise``: no chance of a false alarm.

    Floating-point noise is off the grid in nearly every coordinate. Being on it is the mitigation that is
    claimed, not a proof that low-order bits say nothing.
    """
    clip = copy.study.privacy.max_grad_norm
    step = grid_step(copy.claimed.noise_multiplier * clip)
    off = 0
    for sample in samples:
        for values in sample.noise.values():
            steps = values * clip / step
            with np.errstate(invalid="ignore"):
                off += int(np.sum(~(np.abs(steps - np.rint(steps)) < 0.01)))
    return StatisticalTest("coordinates off the grid", off, 0.0, 0.0 if off else 1.0, 0.5)


def _noise_of_a_round(copy: SiteCopy, units: int, phase: Phase, number: int, drawn: str) -> list[NoiseSample]:
    found: list[NoiseSample] = []

    def watch(network: CanaryNetwork, rows: NDArray[np.int64], released: Released) -> None:
        noise = {name: _some(values) for name, values in released.items()}
        found.append(NoiseSample(f"{phase.value}, {drawn}", phase, noise))

    audited = blank(units, copy.texts.pad_token, copy.texts.persons is not None)
    copy.classifier.load(copy.classifier.initial)
    copy.take_round(copy.trainer(audited, watch), phase, steps=1, number=number)
    return found


def _some(values: torch.Tensor) -> NDArray[np.float64]:
    return values.reshape(-1)[:_MOST_COORDINATES].cpu().numpy().copy()


def by_tensor(samples: Sequence[NoiseSample]) -> dict[str, NDArray[np.float64]]:
    """Every draw's noise together, by phase and tensor."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for sample in samples:
        for name, values in sample.noise.items():
            found.setdefault(f"{sample.phase.value} {name}", []).append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def by_draw(samples: Sequence[NoiseSample]) -> dict[str, NDArray[np.float64]]:
    """A draw's noise in all tensors of the first phase; the others are of another size."""
    return {
        sample.drawn: np.concatenate(list(sample.noise.values()))
        for sample in samples
        if sample.phase is samples[0].phase
    }


def few_units(copy: SiteCopy) -> SiteCopy:
    """The same copy, as if it declared 64 units and asked for a batch of one."""
    privacy = copy.study.privacy.model_copy(update={"batch_size": 1})
    claimed = SampledGaussian(1 / _FEW_UNITS, copy.claimed.noise_multiplier, copy.claimed.steps)
    return replace(
        copy,
        study=copy.study.model_copy(update={"privacy": privacy}),
        facts=replace(copy.facts, declared_size=_FEW_UNITS),
        claimed=claimed,
    )
