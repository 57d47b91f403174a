"""Everything that would fail later fails here: data, policy, budget, model, coordinator; nothing is written.

A finding is told to the local operator alone, in full (PRIVACY P15).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from client.consent import noise_under, request_under
from client.policy import Policy
from client.policy_file import read_policy
from client.policy_rules import refusals
from client.preparation import proven_classifier
from common.base_model import resolve_base
from common.build import build_digest
from common.errors import BadInput, HanseError, RunFailed
from common.examples import Columns
from common.privacy.budget import PrivacyBudget
from common.privacy.ledger.book import Ledger, open_ledger
from common.sources import load_source
from common.study import Study
from common.study_file import parse_study
from deploy.budget_forecast import forecast_study
from deploy.site.confinement import can_confine
from deploy.site.home import FederationFile, NodeHome, SiteHome
from deploy.site.reach import reach

__all__ = ["SiteCheck", "check_node", "check_site"]


@dataclass(frozen=True)
class SiteCheck:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str
    """What was found; where it failed, what is wrong and the mend."""
    notes: tuple[str, ...] = field(default=())


def check_site(home: SiteHome, connect: bool = True) -> Iterator[SiteCheck]:
    """Look at a site and yield each finding as it is made.

    Args:
        home: the site's folder.
        connect: whether to ask the coordinators too.

    Raises:
        BadInput: the folder is no site's, or its policy cannot be read: nothing further can be looked at.
    """
    site = home.read()
    policy = read_policy(home.directory.policy)
    named = policy.site.name == site.name
    yield SiteCheck(
        "policy", named, f"{home.directory.policy}: complete" if named else _another_name(policy, site.name)
    )
    yield _confinement()
    for federation in home.joined():
        study = _study(home, federation)
        where = f"{federation.federation}: "
        yield _tried(where + "data", lambda study=study: _data(site.data, study))  # type: ignore[misc]
        yield _agreement(where + "policy agrees", home, policy, study)
        yield _tried(where + "budget", lambda study=study: _budget(home, policy, study))  # type: ignore[misc]
        yield _tried(where + "model", lambda study=study: _model(study))  # type: ignore[misc]
    for node in home.node_homes() if connect else []:
        yield _tried(f"{node.path.name}: coordinator", lambda node=node: _coordinator(node))  # type: ignore[misc]


def check_node(node: NodeHome) -> Iterator[SiteCheck]:
    """Look at a node whose folder lies apart; raises ``BadInput`` where the folder is no node's."""
    content = node.read()
    yield SiteCheck("node", True, f"{content.federation}: asks the guard at {content.socket}")
    yield _tried(f"{content.federation}: coordinator", lambda: _coordinator(node))


def _tried(name: str, look: Callable[[], str]) -> SiteCheck:
    try:
        return SiteCheck(name, True, look())
    except HanseError as error:
        return SiteCheck(name, False, str(error))


def _another_name(policy: Policy, name: str) -> str:
    return f'site.name = "{policy.site.name}": the coordinator knows this site as "{name}"; change the policy'


def _confinement() -> SiteCheck:
    if can_confine():
        return SiteCheck(
            "confinement", True, "the kernel keeps the coordinator's code away from this site's files"
        )
    told = "this system cannot confine the node: run guard and node as two users, the node with --unconfined"
    return SiteCheck("confinement", False, told)


def _study(home: SiteHome, federation: FederationFile) -> Study:
    path = home.study_file(federation.federation)
    return parse_study(path.read_text(encoding="utf-8"), where=str(path))


def _data(source: str, study: Study) -> str:
    columns = Columns(study.data.text_column, study.data.label_column, group=study.privacy.group_column)
    dataset, report = load_source(source, study.task.labels, columns)
    warnings = "".join(f"; warning: {warning}" for warning in report.warnings)
    return f"{source}: {len(dataset.examples)} rows can be used{warnings}"


def _agreement(name: str, home: SiteHome, policy: Policy, study: Study) -> SiteCheck:
    try:
        digest = study.digest(resolve_base(study.model.base).digest)
        request = request_under(policy, study, digest, noise_under(policy, study), _ledger(home, policy))
        found = refusals(policy, request)
    except HanseError as error:
        return SiteCheck(name, False, str(error))
    if found:
        told = "; ".join(f"{refusal.code}: {refusal}" for refusal in found)
        if any(refusal.code == "not-approved" for refusal in found):
            told += f"; to approve it: hanse policy approve {digest} --site {home.path}"
        return SiteCheck(name, False, told)
    return SiteCheck(name, True, f"study {study.study.name}, digest {digest}")


def _ledger(home: SiteHome, policy: Policy) -> Ledger | None:
    return home.directory.existing_ledger(policy.ledger.url) if home.directory.has_ledger() else None


def _budget(home: SiteHome, policy: Policy, study: Study) -> str:
    if not study.privacy.enabled:
        return "privacy is off: nothing is charged"
    ledger, dataset = _ledger(home, policy), policy.dataset.name
    if ledger is not None:
        with ledger.reading() as history:
            opened = [budget.terms for budget in history.of(dataset)]
        if policy.terms in opened:
            return _forecast(policy, study, ledger)
        if opened:
            raise BadInput(
                f'dataset "{dataset}": its budget was opened with other terms than [budget] says; they stay'
            )
    with tempfile.TemporaryDirectory(prefix="hanse-check-") as folder:
        return _forecast(policy, study, open_ledger(Path(folder) / "ledger.db", Path(folder) / "site.key"))


def _forecast(policy: Policy, study: Study, ledger: Ledger) -> str:
    PrivacyBudget(ledger, policy.dataset.name).ensure_open(policy.terms, build_digest())
    with ledger.reading() as history:
        budget = next(each for each in history.of(policy.dataset.name) if each.terms == policy.terms)
        found = forecast_study(budget, study, policy.site.name)
    if not found.fits:
        raise BadInput("; ".join(found.faults))
    return (
        f"holds the study: epsilon {found.epsilon:g} at delta {found.delta:.3g} over {found.steps} steps, "
        f"noise multiplier {found.noise_multiplier or 0.0:.4f}"
    )


def _model(study: Study) -> str:
    proven_classifier(study)
    return f"{study.model.base}: loads, and trains privately as written (preflight)"


def _coordinator(node: NodeHome) -> str:
    settings = node.settings()
    found = reach(settings.coordinator, settings.authority, settings.key)
    if not found.registered:
        raise RunFailed(
            f"{settings.coordinator}: answers, but does not know this node's key: send {node.public_key} to the "
            "coordinator's operator"
        )
    return f"{settings.coordinator}: answers over TLS and knows this node's key"
