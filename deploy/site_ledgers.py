"""The ledgers of a simulation's virtual sites: copied into the run directory, and what they add up to."""

from __future__ import annotations

from pathlib import Path

from client.virtual import virtual_site_directory
from common.privacy.budget import PrivacyBudget
from common.privacy.ledger.bundle import export_bundle
from common.privacy.spending import Claim
from common.study import Study
from deploy.own_ledger import open_own_ledger, policy_of
from deploy.results import read_result

__all__ = ["export_ledgers"]


def export_ledgers(study: Study, directory: Path) -> dict[str, Claim]:
    """Write the ledger of each site of a finished run to ``sites/NAME/ledger.jsonl``.

    Returns:
        Each site's claim over every run on record. Empty for a run without privacy, which keeps no ledger.
    """
    if not study.privacy.enabled:
        return {}
    claims = {}
    for name in [site["name"] for site in read_result(directory)["sites"]]:
        site = virtual_site_directory(study, name)
        policy = policy_of(site.path)
        ledger = open_own_ledger(site.path)
        bundle = directory / "sites" / site.path.name / "ledger.jsonl"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_bundle(ledger, bundle)
        claims[name] = PrivacyBudget(ledger, policy.dataset.name if policy else study.study.name).claim()
    return claims
