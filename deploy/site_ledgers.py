"""The ledgers of a simulation's virtual sites: copied into the run directory, and what they add up to."""

from __future__ import annotations

from pathlib import Path

from client.policy_file import read_policy
from client.virtual import virtual_site_directory
from common.privacy.ledger.bundle import export_bundle, read_bundle
from common.privacy.spending import Claim, claim
from common.study import Study
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
        policy = read_policy(site.policy) if site.policy.is_file() else None
        ledger = site.existing_ledger(policy.ledger.url if policy else "")
        bundle = directory / "sites" / site.path.name / "ledger.jsonl"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_bundle(ledger, bundle)
        history = read_bundle(bundle, ledger.public_key).history
        claims[name] = claim(history, policy.dataset.name if policy else study.study.name)
    return claims
