"""What a report says of a run, read once from its directory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from common.privacy.spending import Claim
from common.study import Study
from server.records import RoundRecord

__all__ = ["LedgerFacts", "RunFacts", "RunState", "SiteFacts", "UnitGuarantee"]

RunState = Literal["finished", "failed", "going", "stopped"]
"""``stopped``: no result, and nothing was written for a while; ``hanse simulate --resume`` goes on."""


@dataclass(frozen=True)
class SiteFacts:
    """One site over the whole run."""

    name: str
    declared_size: int | None
    rounds_replied: int
    epsilon: float | None
    """Spent in this run; None without privacy."""
    epsilon_budget: float | None
    delta: float | None
    noise_multiplier: float | None
    sample_rate: float | None
    steps: int | None
    median_seconds: float | None
    """Of the rounds in which it answered: from the round's start to its update."""
    silent: int
    """Rounds of this run without its update."""


@dataclass(frozen=True)
class LedgerFacts:
    """What a site's ledger adds up to."""

    claim: Claim
    """Over every run on record (P6)."""
    budgets: int
    by_run: Mapping[str, tuple[int, Claim]]
    """By run identifier: the budget that holds it, by its place, and what that budget claims."""


@dataclass(frozen=True)
class UnitGuarantee:
    """The guarantee of one unit, which a report leads with (P2)."""

    epsilon: float
    """At one site: the largest."""
    delta: float
    epsilon_everywhere: float
    """For a unit with data at every site: the sum."""
    delta_everywhere: float


@dataclass(frozen=True)
class RunFacts:
    """One run, finished or not."""

    name: str
    """The run directory's name."""
    identifier: str
    """What names it in ledgers; empty before it is drawn."""
    state: RunState
    study: Study
    planned_rounds: int
    rounds: tuple[RoundRecord, ...]
    sites: tuple[SiteFacts, ...]
    ledgers: Mapping[str, LedgerFacts]
    result: Mapping[str, Any] | None
    """``result.json`` as it is; None before the end."""
    message: str = ""
    """Why it failed, if it did."""

    @property
    def private(self) -> bool:
        """Whether the run was under differential privacy."""
        return self.study.privacy.enabled

    @property
    def central(self) -> bool:
        """Whether the coordinator added the noise, so that per-site figures are its own (P19)."""
        return self.study.privacy.noised_centrally

    @property
    def test(self) -> Mapping[str, Any] | None:
        """The test evaluation of ``result.json``."""
        return self.result["test"] if self.result else None

    @property
    def guarantee(self) -> UnitGuarantee | None:
        """The guarantee of one unit over this run alone; None without privacy or before a round.

        Until a run has ended, each site's whole budget counts, whatever was spent so far (P7).
        """
        counted = [
            (site.epsilon if self.state == "finished" else site.epsilon_budget, site.delta or 0.0)
            for site in self.sites
        ]
        known = [(epsilon, delta) for epsilon, delta in counted if epsilon is not None]
        if not self.private or not known:
            return None
        worst, delta = max(known)
        if self.central:  # one mechanism over all sites: nothing adds up
            return UnitGuarantee(worst, delta, worst, delta)
        return UnitGuarantee(worst, delta, math.fsum(e for e, _ in known), math.fsum(d for _, d in known))
