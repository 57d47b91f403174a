"""The model that a coalition would have made, from the updates of a run, without training again.

``M(S) = M_start + sum over S of w_i (M_i - M_start)`` with the weights ``w_i`` of the *full* round (Song et al.
2019; Wang et al. 2020 renormalise them over S). Kept as they are, a site that sends no change is a null player
and earns nothing; renormalised, it would dilute the others whenever it joins, and be paid for that.

Holds for weighted means (fedavg, fedprox). Where a server optimizer follows, give its step. Median, trimmed mean
and Krum are no sums over sites, so no coalition's model follows from theirs. Under secure aggregation there is
nothing to rebuild from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput
from common.weights import Weights
from server.economics.games import Coalition

__all__ = ["KeptRound", "ServerStep", "coalition_change", "coalition_model", "kept_round", "whole_run_model"]

ServerStep: TypeAlias = Callable[[Weights, Weights], Weights]
"""Global weights before the round and a combined change, to the weights after it."""


@dataclass(frozen=True)
class KeptRound:
    """What a round leaves behind for its contributions: one entry for each site whose update counted."""

    number: int
    start: Weights
    """Global weights that the round began with."""
    updates: Mapping[str, Weights]
    """Each site's weights as they arrived (not changes)."""
    shares: Mapping[str, float]
    """Weight of each update in the full round; they sum to 1."""


def kept_round(
    number: int, start: Weights, updates: Mapping[str, Weights], weights: Mapping[str, float]
) -> KeptRound:
    """Keep a round, with the weights of the sites that replied normalised as the round's mean normalised them.

    Raises:
        BadInput: nobody replied, a reply has no weight or a weight that is not positive, or an update has other
            tensors than the round.
    """
    if not updates:
        raise BadInput(f"round {number}: no update was kept")
    for site, update in updates.items():
        if not (math.isfinite(weights.get(site, 0.0)) and weights.get(site, 0.0) > 0):
            raise BadInput(f"round {number}: weight of {site} = {weights.get(site)}: must be greater than 0")
        if {n: v.shape for n, v in update.items()} != {n: v.shape for n, v in start.items()}:
            raise BadInput(f"round {number}: the update of {site} has other tensors than the round began with")
    total = math.fsum(weights[site] for site in updates)
    return KeptRound(number, start, dict(updates), {site: weights[site] / total for site in updates})


def coalition_change(kept: KeptRound, coalition: Iterable[str]) -> Weights:
    """The change by a coalition alone, under the full round's weights; a site that was absent adds nothing.

    Sums are in float64 and in the order of the names, so the result depends on the set alone.
    """
    sums: dict[str, NDArray[np.float64]] = {n: np.zeros(v.shape) for n, v in kept.start.items()}
    for site in sorted(set(coalition) & kept.updates.keys()):
        for name, start in kept.start.items():
            sums[name] += kept.shares[site] * (kept.updates[site][name].astype(np.float64) - start)
    return {name: np.asarray(value, np.float32) for name, value in sums.items()}


def coalition_model(kept: KeptRound, coalition: Coalition, step: ServerStep | None = None) -> Weights:
    """The global weights after the round, had only ``coalition`` replied; of nobody: those before it.

    With ``step`` (an adaptive server optimizer from its state before the round) nobody's model is the step on no
    change, so momentum of earlier rounds is nobody's contribution.
    """
    return (step or _added)(kept.start, coalition_change(kept, coalition))


def whole_run_model(rounds: Sequence[KeptRound], coalition: Coalition) -> Weights:
    """One-round reconstruction (Song et al. 2019): the first weights plus a coalition's changes of all rounds.

    ``2^n - 1`` evaluations for a whole run instead of for every round. Parameters that only later rounds train
    start from the first round that has them.

    Raises:
        BadInput: there are no rounds.
    """
    if not rounds:
        raise BadInput("rounds: at least one kept round is needed")
    start: Weights = {}
    sums: dict[str, NDArray[np.float64]] = {}
    for kept in rounds:
        for name, change in coalition_change(kept, coalition).items():
            start.setdefault(name, kept.start[name])
            sums[name] = sums.get(name, np.zeros(change.shape)) + change
    return {name: np.asarray(value + sums[name], np.float32) for name, value in start.items()}


def _added(start: Weights, change: Weights) -> Weights:
    return {name: np.asarray(value + change[name], np.float32) for name, value in start.items()}
