"""Whether batches are drawn as accounted: each unit by itself, in every step, with probability q.

A sampler that shuffles passes every attack with orthogonal canaries and fails here: its batches are of one
size, and each unit comes once an epoch. What is given says who was in which step, and stays at the site
(PRIVACY P20): pass or fail leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from common.audit.hypothesis_tests import FALSE_ALARM_RATE, StatisticalTest, judged, two_sided
from common.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["SamplerCounts", "count_batches", "sampler_tests"]


@dataclass(frozen=True, slots=True, eq=False)
class SamplerCounts:
    """What the tests need of the batches that were drawn."""

    batch_sizes: NDArray[np.int64]
    """One a step, empty batches included."""
    unit_counts: NDArray[np.int64]
    """In how many steps each unit was."""


def count_batches(batches: ArrayLike) -> SamplerCounts:
    """Counts from a table of booleans, a row for each step and a column for each unit."""
    table = np.asarray(batches, dtype=bool)
    if table.ndim != 2 or 0 in table.shape:
        raise BadInput("sampler: needs a table of steps by units, neither of them none")
    return SamplerCounts(table.sum(axis=1, dtype=np.int64), table.sum(axis=0, dtype=np.int64))


def sampler_tests(
    counts: SamplerCounts, sample_rate: float, false_alarm_rate: float = FALSE_ALARM_RATE
) -> tuple[StatisticalTest, ...]:
    """Four tests of Poisson sampling at ``sample_rate``.

    ==================  ======================================================================================
    inclusions          all units and steps together, binomial (exact): q itself; 5 % off shows from about
                        4,300 inclusions at 99.9 %
    batch sizes         their variance n q (1 - q): batches of one size, shuffled epochs, dropped remainders
    unit counts         the variance T q (1 - q) over units: a unit once an epoch, units never seen
    empty batches       binomial with chance (1 - q)^n (exact): empty batches skipped or drawn again
    ==================  ======================================================================================

    The two variances are compared by a gamma distribution with the exact first two moments of the sum of
    squared deviations from the known mean; in simulation at n q = 1 to 50 false alarms stay below twice what
    is stated. With a single unit or step the variance tests say little; give hundreds of both.
    """
    if not 0 < sample_rate < 1:
        raise BadInput(f"sampler: sample_rate = {sample_rate!r}: must be above 0 and below 1")
    sizes, units = counts.batch_sizes, counts.unit_counts
    if int(sizes.sum()) != int(units.sum()):
        raise BadInput(f"sampler: batches hold {sizes.sum()} units, units were in {units.sum()} batches")
    empty = (1 - sample_rate) ** units.size
    tests = (
        _binomial("inclusions", int(sizes.sum()), sizes.size * units.size, sample_rate),
        _dispersion("variance of batch sizes", sizes, units.size, sample_rate),
        _dispersion("variance of unit counts", units, sizes.size, sample_rate),
        _binomial("empty batches", int(np.sum(sizes == 0)), sizes.size, empty),
    )
    return judged(tests, false_alarm_rate)


def _binomial(name: str, count: int, trials: int, probability: float) -> StatisticalTest:
    below = float(stats.binom.cdf(count, trials, probability))
    above = float(stats.binom.sf(count - 1, trials, probability))
    return StatisticalTest(name, count, trials * probability, two_sided(below, above), FALSE_ALARM_RATE)


def _dispersion(name: str, counts: NDArray[np.int64], trials: int, probability: float) -> StatisticalTest:
    """Sum of squared deviations of binomial counts: mean k v and variance k (mu4 - v^2), v = n q (1 - q)."""
    variance = trials * probability * (1 - probability)
    fourth = variance * (1 + 3 * variance - 6 * variance / trials)
    found = float(np.sum((counts - trials * probability) ** 2))
    spread = (fourth - variance**2) / variance
    shape = counts.size * variance / spread
    below = float(stats.gamma.cdf(found, shape, scale=spread))
    above = float(stats.gamma.sf(found, shape, scale=spread))
    return StatisticalTest(name, found / counts.size, variance, two_sided(below, above), FALSE_ALARM_RATE)
