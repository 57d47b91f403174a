"""What a sweep cost its sites: tuning on private data is paid for, run by run (PRIVACY P21)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.privacy.spending import Claim
from deploy.report.facts import LedgerFacts, RunFacts

__all__ = ["SiteCost", "SweepCost", "sweep_cost"]


@dataclass(frozen=True)
class SiteCost:
    """One virtual site over a whole sweep."""

    site: str
    runs: int
    """Runs of the sweep that its ledger holds."""
    sweep: Claim
    """What they cost together: the sums of their budgets' epsilons and deltas (P6)."""
    all_runs: Claim
    """The ledger's claim, with runs before and beside the sweep."""


@dataclass(frozen=True)
class SweepCost:
    """Every site's cost of a sweep."""

    sites: tuple[SiteCost, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary by site."""
        return {
            each.site: {key: value for key, value in asdict(each).items() if key != "site"} for each in self.sites
        }


def sweep_cost(runs: Sequence[RunFacts]) -> SweepCost:
    """Add up what the runs of a sweep cost each site, from the newest ledger of each.

    The runs share one ledger per site, so each site's largest claim is that of its newest export.
    """
    identifiers = {run.identifier for run in runs if run.identifier}
    newest: dict[str, LedgerFacts] = {}
    for run in runs:
        for site, facts in run.ledgers.items():
            if site not in newest or len(facts.by_run) > len(newest[site].by_run):
                newest[site] = facts
    costs = []
    for site, facts in newest.items():
        budgets = {place: claim for run, (place, claim) in facts.by_run.items() if run in identifiers}
        counted = sum(run in identifiers for run in facts.by_run)
        epsilon = math.fsum(claim.epsilon for claim in budgets.values())
        delta = math.fsum(claim.delta for claim in budgets.values())
        costs.append(SiteCost(site, counted, Claim(epsilon, delta), facts.claim))
    return SweepCost(tuple(costs))
