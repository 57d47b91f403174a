"""One statistical test of an implementation: what was measured, what should be, and how often it errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import stats

from common.errors import BadInput

__all__ = ["FALSE_ALARM_RATE", "StatisticalTest", "judged", "of_normal", "two_sided"]

FALSE_ALARM_RATE = 1e-3
"""Chance that a whole family of tests blames a correct implementation."""


@dataclass(frozen=True, slots=True)
class StatisticalTest:
    """A test of one statistic against its distribution in a correct implementation."""

    name: str
    measured: float
    expected: float
    p_value: float
    """Chance, in a correct implementation, of a value at least as far off."""
    false_alarm_rate: float
    """The test fails where ``p_value`` is below it: its own share of the family's rate."""

    @property
    def passed(self) -> bool:
        """Whether the implementation survives."""
        return self.p_value >= self.false_alarm_rate


def judged(tests: Sequence[StatisticalTest], false_alarm_rate: float) -> tuple[StatisticalTest, ...]:
    """The tests as one family: each gets an equal share of the false alarm rate (Bonferroni)."""
    if not 0 < false_alarm_rate < 1:
        raise BadInput(f"test: false_alarm_rate = {false_alarm_rate!r}: must be above 0 and below 1")
    return tuple(replace(test, false_alarm_rate=false_alarm_rate / len(tests)) for test in tests)


def two_sided(below: float, above: float) -> float:
    """Two-sided p-value from the chances of at most, and of at least, what was measured."""
    return min(1.0, 2 * min(below, above))


def of_normal(standardised: float) -> float:
    """Two-sided p-value of a standard normal statistic."""
    return float(2 * stats.norm.sf(abs(standardised)))
