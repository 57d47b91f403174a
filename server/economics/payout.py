"""A pot shared among a run's sites: amounts, ownership, and a signed statement for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import BadInput
from common.files import write_text
from common.privacy.ledger.keys import SiteKey
from server.economics.rewards import WHOLE_MODEL, Allocation, Limits, Policy, policy_weights, share_pot
from server.economics.statements import (
    Statement,
    sign_statement,
    statement_csv,
    statement_html,
    statement_json,
)

__all__ = ["Pot", "RunToPay", "shares_of", "statements_of", "write_statements"]


@dataclass(frozen=True)
class RunToPay:
    """What payment needs to know of a run."""

    study: str
    run: str
    sizes: Mapping[str, int]
    """Declared sizes of all sites."""
    central: bool
    """Whether contributions must stay with the coordinator (PRIVACY P19)."""
    contribution: Mapping[str, Any] | None
    """The content of ``contribution.json``; None if it was not computed."""


@dataclass(frozen=True)
class Pot:
    """What is shared, and how."""

    cents: int
    currency: str
    policy: Policy
    limits: Mapping[str, Limits]
    auction: Mapping[str, int]
    """Cents paid for privacy beside the pot, by site."""


def shares_of(run: RunToPay, policy: Policy, whole: int, limits: Mapping[str, Limits] | None = None) -> Allocation:
    """A whole, cents or millionths of ownership, shared by a policy.

    Raises:
        BadInput: contributions are wanted under central DP, or were not computed.
    """
    if policy is Policy.SHAPLEY and run.central:
        raise BadInput(
            '--policy shapley: under unit = "institution" contributions stay with the coordinator, and payouts by '
            "them would tell; use equal or size"
        )
    values = None
    if policy is Policy.SHAPLEY:
        if run.contribution is None:
            raise BadInput("--policy shapley: the run has no contribution.json; run `hanse contribution` first")
        values = {str(site["site"]): float(site["value"]) for site in run.contribution["sites"]}
    return share_pot(whole, policy_weights(policy, run.sizes, values, run.sizes), limits)


def statements_of(run: RunToPay, pot: Pot) -> tuple[Statement, ...]:
    """A statement for each site, by name. A site's own says nothing of another's amount.

    Raises:
        BadInput: a payment of the auction names no site of the run; else as :func:`shares_of`.
    """
    strangers = sorted(pot.auction.keys() - run.sizes.keys())
    if strangers:
        raise BadInput(f"--payments: {', '.join(strangers)}: no site of this run")
    shared = shares_of(run, pot.policy, pot.cents, pot.limits)
    owned = shares_of(run, pot.policy, WHOLE_MODEL)
    told = {} if run.central or run.contribution is None else {s["site"]: s for s in run.contribution["sites"]}
    method = "not stated" if not told or run.contribution is None else str(run.contribution["method"])
    return tuple(
        Statement(
            study=run.study,
            run=run.run,
            site=site,
            policy=pot.policy.value,
            contribution=told[site]["value"] if site in told else None,
            half_width=told[site]["value_half_width"] if site in told else None,
            method=method,
            currency=pot.currency,
            pot_cents=pot.cents,
            auction_cents=pot.auction.get(site, 0),
            payout_cents=shared.parts[site],
            kept_cents=shared.kept,
            ownership_millionths=owned.parts[site],
        )
        for site in sorted(run.sizes)
    )


def write_statements(statements: tuple[Statement, ...], key: SiteKey, folder: Path) -> list[Path]:
    """Write each site's statement, signed, in a folder of its own: JSON, CSV and HTML.

    Raises:
        BadInput: the folder is not empty: a statement is never written over.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"--out {folder}: is not empty; name a new folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for number, statement in enumerate(statements, start=1):
        signed = sign_statement(statement, key)
        own = folder / _folder_name(number, statement.site)
        own.mkdir(mode=0o700)
        write_text(own / "statement.json", statement_json(signed))
        write_text(own / "statement.csv", statement_csv(signed))
        write_text(own / "statement.html", statement_html(signed))
        written.append(own)
    return written


def _folder_name(number: int, site: str) -> str:
    """The site's name where it may be one of a folder, else its number."""
    plain = all(letter.isalnum() or letter in "._-" for letter in site) and not site.startswith(".")
    return site if plain else f"site-{number}"
