"""Check S: one unit more moves what a step releases by at most C, and a blank unit by nothing. No chance decides.

Two steps are taken from the same weights with the same noise over neighbouring batches, and the two releases are
subtracted. The noise is every entry moved by one standard deviation, so a scale that follows the batch shows.
A unit of norm 100 C shows clipping that comes late, two layers show clipping layer by layer, a person of several
rows shows clipping row by row, and one whose gradient is no number shows what slips through.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from client.training import StepPlan
from common.audit.hypothesis_tests import StatisticalTest
from common.errors import HanseError
from deploy.audit.canaries import BLANK, POISON, AuditedTexts, CanaryNetwork, with_canaries
from deploy.audit.pipeline import Released
from deploy.audit.site_copy import SiteCopy

__all__ = ["TOLERANCE", "sensitivity_tests"]

TOLERANCE = 1e-3
"""In units of C: rounding of float32 sums; the clipping itself stays 1e-4 below C."""

_OTHERS = 6
_ROWS_OF_A_PERSON = 4
_NORM = 100.0


class _SameNoise:
    """Noise that is the same in every step: each entry is moved by one standard deviation."""

    private: ClassVar[bool] = False

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        return np.arange(population)

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        return total.detach() + standard_deviation


def sensitivity_tests(copy: SiteCopy) -> tuple[StatisticalTest, ...]:
    """How far each kind of added unit moves a step, in units of C; a test that fails is a violation.

    The p-value is 1 or 0: nothing is drawn. Where a step cannot be taken at all the distance is infinite.
    """
    kinds = {
        "a unit of 100 C": (0, 1.0),
        "a unit without gradient": (BLANK, 0.0),
        "a unit that is no number": (POISON, 0.0),
    }
    found = [_judged(name, _distance(copy, code, 1), most) for name, (code, most) in kinds.items()]
    if copy.texts.persons is not None:
        found.append(_judged("a person of several rows", _distance(copy, 0, _ROWS_OF_A_PERSON), 1.0))
    return tuple(found)


def _judged(name: str, distance: float, most: float) -> StatisticalTest:
    within = distance <= most + TOLERANCE
    return StatisticalTest(f"{name} moves the sum by", distance, most, 1.0 if within else 0.0, 0.5)


def _distance(copy: SiteCopy, code: int, rows: int) -> float:
    audited = _neighbours(copy, code, rows)
    without = np.arange(audited.texts.units - 1)
    try:
        one = _release(copy, audited, without)
        other = _release(copy, audited, np.append(without, len(without)))
    except HanseError:
        return math.inf
    distance = float((one - other).norm())
    return distance if math.isfinite(distance) else math.inf


def _neighbours(copy: SiteCopy, code: int, rows: int) -> AuditedTexts:
    """A few of the site's units, and one more with so many rows of that code."""
    first = copy.texts.of_units(np.arange(min(_OTHERS, copy.texts.units)))
    few = replace(
        copy.texts,
        tokens=np.concatenate([copy.texts.tokens[slice(*copy.texts.offsets[i : i + 2])] for i in first]),
        offsets=np.concatenate([[0], np.cumsum(copy.texts.lengths[first])]),
        labels=copy.texts.labels[first],
        persons=None if copy.texts.persons is None else copy.texts.persons[first],
    )
    made = with_canaries(few, np.ones(rows, dtype=bool), _NORM * copy.study.privacy.max_grad_norm)
    codes = made.codes.copy()
    codes[len(first) :] = code
    persons = None if few.persons is None else np.append(few.persons, [few.units] * rows)
    return replace(made, texts=replace(made.texts, persons=persons), codes=codes)


def _release(copy: SiteCopy, audited: AuditedTexts, units: NDArray[np.int64]) -> torch.Tensor:
    """What one step over these units releases, all parameters in a row, in units of C."""
    clip, batch = copy.study.privacy.max_grad_norm, float(copy.study.privacy.batch_size)
    plan = StepPlan(1.0, copy.claimed.noise_multiplier, clip, batch, steps=1)
    taken: list[torch.Tensor] = []

    def watch(network: CanaryNetwork, rows: NDArray[np.int64], released: Released) -> None:
        taken.append(torch.cat([value.reshape(-1).cpu() for value in released.values()]))

    trainer = copy.trainer(audited, watch)
    copy.classifier.load(copy.classifier.initial)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout alone draws from it
        trainer.step(plan, units, _SameNoise())
    return taken[0]
