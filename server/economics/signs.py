"""Signs in the updates of a run that a site copies, rides along or harms. Signs, not proofs.

Read from the updates as they were kept; nothing more is asked of a site. Under noise many signs drown, and the
report says so. What no arithmetic can tell is a site that splits its data honestly over two names: that is for
certificates, which name the institution, and for ``--union``.

=========== ==================================================================================================
sign        shown when
=========== ==================================================================================================
no-change   in most of its rounds its update is a thousandth of the median site's, or less
echo        it points where the round before went (cosine over 0.98), closer than to the mean of its own round
unlike      its updates stand at right angles to the others' mean while the median site's do not, or against it
harms       its Shapley value is negative, in the sum beyond the interval and in most of its rounds
same-data   the lasting difference between two sites' updates is below half of what their sizes explain
=========== ==================================================================================================

*same-data* averages out the sampling of batches: at the same starting point two sites with the same data differ by
noise that is independent from round to round, so inner products of their differences in different rounds are 0 in
expectation. Two samples of even one population keep a difference, whose square is that of the noise times the
examples drawn in a round over the sites' size. It is looked for only without privacy: DP noise would pass for the
sampling's.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from server.economics.contribution import Contribution
from server.economics.reconstruction import KeptRound

__all__ = ["Draws", "Sign", "Signal", "Sketch", "signals", "sketch"]

_SKETCH = 1 << 16
_FEWEST_PAIRS = 6
_VISIBLE = 0.1
_ECHO = 0.98


class Sign(StrEnum):
    """What was seen."""

    NO_CHANGE = "no-change"
    ECHO = "echo"
    UNLIKE = "unlike"
    HARMS = "harms"
    SAME_DATA = "same-data"


@dataclass(frozen=True)
class Signal:
    """A sign at a site, with the figures that it rests on."""

    site: str
    sign: Sign
    because: str
    with_site: str | None = None
    """The other one, for ``same-data``."""


@dataclass(frozen=True)
class Sketch:
    """The changes of a round, small enough to keep those of all rounds: inner products are nearly kept."""

    kind: tuple[str, ...]
    """The tensors that were trained; rounds compare where these are the same."""
    start: NDArray[np.float64]
    changes: Mapping[str, NDArray[np.float64]]
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Draws:
    """How sites sample their batches; public facts."""

    examples: float
    """Expected number that a site draws in a round."""
    sizes: Mapping[str, int]
    """Declared sizes."""


def sketch(kept: KeptRound) -> Sketch:
    """Up to 65,536 parameters as they are; more by a count sketch (Charikar et al. 2002), one for all rounds."""
    names = tuple(sorted(kept.start))
    start = _flat(kept.start, names)
    changes = {site: _flat(update, names) - start for site, update in kept.updates.items()}
    if start.size > _SKETCH:
        chooser = np.random.default_rng(start.size)
        place = chooser.integers(0, _SKETCH, start.size)
        side = chooser.integers(0, 2, start.size) * 2.0 - 1.0
        start = _counted(place, side * start)
        changes = {site: _counted(place, side * change) for site, change in changes.items()}
    return Sketch(names, start, changes, kept.shares)


def signals(
    rounds: Sequence[Sketch], contributions: Sequence[Contribution], draws: Draws | None
) -> tuple[list[Signal], bool]:
    """The signs in a run, and whether copies of data would show.

    Args:
        rounds: in their order.
        contributions: as valued; of all sites.
        draws: None where noise covers the sampling of batches.
    """
    sites = sorted({site for each in rounds for site in each.changes})
    found = _still(rounds, sites)
    silent = {signal.site for signal in found}
    common = {site: _with_others(rounds, site) for site in sites if site not in silent}
    visible = bool(common) and statistics.median(common.values()) > _VISIBLE
    if visible:
        echoes = _echoes(rounds, list(common))
        repeating = {signal.site for signal in echoes}
        found += echoes
        found += _unlike({site: value for site, value in common.items() if site not in repeating})
    found += [signal for each in contributions if (signal := _harm(each)) is not None]
    would_show, copies = _same_data(rounds, [site for site in sites if site not in silent], draws)
    return found + copies, would_show


def _flat(weights: Mapping[str, NDArray[np.float32]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(weights[name], np.float64).ravel() for name in names])


def _counted(place: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.bincount(place, values, _SKETCH), np.float64)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def _still(rounds: Sequence[Sketch], sites: Sequence[str]) -> list[Signal]:
    found = []
    for site in sites:
        small, present = 0, 0
        for each in rounds:
            if site in each.changes:
                present += 1
                norms = {name: float(np.linalg.norm(change)) for name, change in each.changes.items()}
                small += norms[site] <= 1e-3 * statistics.median(norms.values())
        if 2 * small > present:
            found.append(
                Signal(site, Sign.NO_CHANGE, f"in {small} of {present} rounds its update is next to nothing")
            )
    return found


def _others(each: Sketch, site: str) -> NDArray[np.float64]:
    """Weighted sum of the other sites' changes; zeros where there are none."""
    parts = [each.shares[name] * change for name, change in each.changes.items() if name != site]
    return np.sum(parts, axis=0) if parts else np.zeros_like(each.start)


def _with_others(rounds: Sequence[Sketch], site: str) -> float:
    """Mean cosine of a site's change with the sum of the others'."""
    cosines = [_cosine(each.changes[site], _others(each, site)) for each in rounds if site in each.changes]
    return statistics.fmean(cosines)


def _echoes(rounds: Sequence[Sketch], sites: Sequence[str]) -> list[Signal]:
    found = []
    for site in sites:
        pairs = [(a, b) for a, b in pairwise(rounds) if a.kind == b.kind and site in b.changes]
        if len(pairs) < 2:
            continue
        last = statistics.fmean(_cosine(now.changes[site], now.start - before.start) for before, now in pairs)
        own = statistics.fmean(_cosine(now.changes[site], _mean(now)) for _, now in pairs)
        if last > max(_ECHO, own):
            because = f"cosine {last:.4f} with the round before, {own:.4f} with its own"
            found.append(Signal(site, Sign.ECHO, because))
    return found


def _mean(each: Sketch) -> NDArray[np.float64]:
    return np.asarray(np.sum([each.shares[name] * change for name, change in each.changes.items()], axis=0))


def _unlike(common: Mapping[str, float]) -> list[Signal]:
    typical = statistics.median(common.values()) if common else 0.0
    return [
        Signal(site, Sign.UNLIKE, f"cosine {value:.3f} with the others, the median site has {typical:.3f}")
        for site, value in common.items()
        if value < 0.25 * typical
    ]


def _harm(each: Contribution) -> Signal | None:
    negative = sum(value < 0 for value in each.by_round)
    if each.shapley + (each.half_width or 0.0) >= 0 or 2 * negative <= each.games:
        return None
    return Signal(each.site, Sign.HARMS, f"value {each.shapley:.6f}, negative in {negative} of {each.games} games")


def _same_data(rounds: Sequence[Sketch], sites: Sequence[str], draws: Draws | None) -> tuple[bool, list[Signal]]:
    """Whether copies would show, and the pairs that are."""
    found: list[Signal] = []
    would_show = False
    for one, other in combinations(sites, 2):
        differences = _differences(rounds, (one, other))
        products = [float(a @ b) for (kind, a), (same, b) in combinations(differences, 2) if kind == same]
        if draws is None or len(products) < _FEWEST_PAIRS:
            continue
        lasting = statistics.fmean(products)
        # Products that share a round are not independent: the error is taken twice as wide.
        error = 2 * statistics.stdev(products) / len(products) ** 0.5
        batches = statistics.fmean(float(difference @ difference) for _, difference in differences) - lasting
        expected = max(0.0, batches) * draws.examples * (1 / draws.sizes[one] + 1 / draws.sizes[other]) / 2
        if 2 * error >= 0.5 * expected:
            continue
        would_show = True
        if lasting + 2 * error < 0.5 * expected:
            because = f"lasting difference {lasting / expected:.2f} of what sites of their sizes have"
            found += [Signal(one, Sign.SAME_DATA, because, other), Signal(other, Sign.SAME_DATA, because, one)]
    return would_show, found


def _differences(
    rounds: Sequence[Sketch], pair: tuple[str, str]
) -> list[tuple[tuple[str, ...], NDArray[np.float64]]]:
    """The pair's difference in each round that has both, over the round's mean norm, with the round's kind."""
    differences: list[tuple[tuple[str, ...], NDArray[np.float64]]] = []
    for each in rounds:
        if pair[0] in each.changes and pair[1] in each.changes:
            scale = statistics.fmean(float(np.linalg.norm(change)) for change in each.changes.values())
            differences.append((each.kind, (each.changes[pair[0]] - each.changes[pair[1]]) / (scale or 1.0)))
    return differences
