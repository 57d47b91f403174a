"""`hanse ledger reenter` and `write-off`: let a site reserve again after entries were lost (PRIVACY P8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import BadInput

if TYPE_CHECKING:
    from client.policy import Policy
    from common.privacy.ledger.book import Ledger
    from common.privacy.recovery import LostRelease

__all__ = ["reenter", "write_off"]

_Site = Annotated[
    Path, typer.Option("--site", envvar="HANSE_SITE", help="The institution's folder; holds its ledger.")
]
_Head = Annotated[
    str, typer.Option("--head", metavar="SEQ:HASH", help="The newest head that was witnessed, in witness.jsonl.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def reenter(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Every run since the backup: the coordinator's folders.")
    ],
    head: _Head,
    site: _Site = Path(),
    as_json: _Json = False,
) -> None:
    """Enter the rounds that a restored ledger lacks again, each at its whole cost, from the run records."""
    from common.privacy.recovery import reenter as enter
    from deploy.witnessed_head import parse_head

    policy, ledger = _own(site)
    lost = parse_head(head)
    releases = [release for run in runs for release in _missing(policy, ledger, run)]
    if not releases:
        raise BadInput(f"{', '.join(map(str, runs))}: no round of this site is missing in its ledger")
    entries = enter(ledger, policy.dataset.name, lost, releases)
    if as_json:
        print(json.dumps({"entered": [entry.sequence for entry in entries], "head": head}))
        return
    typer.echo(f"Entered {len(entries)} lost releases of {policy.dataset.name}; see: hanse budget --site {site}")


def write_off(
    head: _Head,
    site: _Site = Path(),
    note: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "",
    as_json: _Json = False,
) -> None:
    """Give up all that is left of the budgets, because what was lost is not known; it cannot be undone."""
    from common.privacy.recovery import write_off as close
    from deploy.witnessed_head import parse_head

    policy, ledger = _own(site)
    entry = close(ledger, policy.dataset.name, parse_head(head), note)
    if as_json:
        print(json.dumps({"closed": entry.sequence, "head": head}))
        return
    typer.echo(f"Wrote off what was left of {policy.dataset.name} (entry {entry.sequence}).")


def _own(site: Path) -> tuple[Policy, Ledger]:
    from client.policy_file import read_policy
    from client.site_directory import SiteDirectory

    directory = SiteDirectory(site)
    policy = read_policy(directory.policy)
    return policy, directory.existing_ledger(policy.ledger.url)


def _missing(policy: Policy, ledger: Ledger, directory: Path) -> list[LostRelease]:
    """What the run's record says this site released and its ledger does not have.

    A round counts even where the record has no update of the site: it was reserved before the answer was lost.
    """
    from client.consent import noise_under
    from common.audit.run_record import read_run
    from common.base_model import resolve_base
    from common.privacy.recovery import LostRelease
    from common.study_file import read_study
    from common.study_mechanism import study_mechanism

    record, study = read_run(directory), read_study(directory / "study.toml")
    digest, dataset = study.digest(resolve_base(study.model.base).digest), policy.dataset.name
    with ledger.reading() as history:
        known = {key[3] for key in history.rounds if key[:3] == (dataset, digest, record.run)}
        plan = [budget for budget in history.of(dataset) if budget.terms.kind == "plan"]
        has_study = (dataset, digest, record.run) in history.runs
    rounds = [
        LostRelease(digest, record.run, each.round, None, own.mechanism)
        for each in record.rounds
        for own in each.sites
        if own.site == policy.site.name and each.round not in known
    ]
    if not rounds or not plan or has_study:
        return rounds
    whole = study_mechanism(study, policy.dataset.declared_size, noise_under(policy, study))
    return [LostRelease(digest, record.run, None, None, whole), *rounds]
