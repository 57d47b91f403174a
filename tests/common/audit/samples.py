"""Two institutions, one run, and its coordinator's record: honest, and each part replaceable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.audit.ledger_audit import LedgerAudit, audit_ledgers
from common.audit.ledger_files import Bundle, TrustedKey
from common.audit.run_record import RecordedRound, RecordedSite, RunEvidence, Witness, WitnessedHead
from common.privacy.accounting import epsilon_after
from common.privacy.ledger.details import Head
from common.privacy.ledger.entry import Draft, LedgerEntry
from common.privacy.ledger.keys import SiteKey
from common.privacy.mechanism import SampledGaussian
from tests.common.privacy.ledger.samples import (
    KEY,
    OTHER_KEY,
    PLANNED,
    ROUND,
    bundled,
    chained,
    opened,
    reserved,
    settled,
)

__all__ = [
    "HONEST",
    "KEYS",
    "NAMES",
    "PLAN_STORY",
    "Evidence",
    "audited",
    "bundle",
    "evidence",
    "recorded",
    "shifted",
    "verdicts",
    "with_heads",
    "with_rounds",
    "written",
]

NAMES = ("north", "south")
KEYS: dict[str, SiteKey] = {"north": KEY, "south": OTHER_KEY}
WHOLE = SampledGaussian(0.02, 1.0, 100)
PLAN_STORY: tuple[Draft, ...] = (
    opened(PLANNED),
    reserved(None, WHOLE),
    reserved(1),
    settled(1, 3),
    reserved(2),
    settled(2, 5),
)
"""A study of two rounds under a plan; each round's head is that of its ``settle``."""

EPSILONS = tuple(epsilon_after(ROUND.sample_rate, ROUND.noise_multiplier, [50, 100], PLANNED.delta))


@dataclass(frozen=True)
class Evidence:
    """Everything that an auditor is given."""

    bundles: tuple[Bundle, ...]
    keys: tuple[TrustedKey, ...]
    witnesses: tuple[Witness, ...]
    runs: tuple[RunEvidence, ...]


def bundle(site: str, entries: Sequence[LedgerEntry], key: SiteKey | None = None) -> Bundle:
    """A site's ledger as a file whose name says nothing about the site."""
    return Bundle(f"{site}.jsonl", bundled(entries, (key or KEYS[site]).public_hex))


def written(site: str, story: Sequence[Draft] = PLAN_STORY) -> list[LedgerEntry]:
    """A site's entries; a note makes them its own, as random bytes do in real ledgers."""
    return chained([replace(draft, note=f"{site} {draft.note}") for draft in story], KEYS[site])


def recorded(site: str, number: int, replied: bool = True) -> RecordedSite:
    """One site in one round, as an honest coordinator records it."""
    return RecordedSite(site, ROUND, EPSILONS[number - 1], replied)


def evidence(stories: dict[str, Sequence[Draft]] | None = None) -> Evidence:
    """Honest evidence; ``stories`` replaces what a site's ledger says, heads as for the plain story."""
    plain = {site: written(site) for site in NAMES}
    told = {site: written(site, (stories or {}).get(site, PLAN_STORY)) for site in NAMES}
    heads = tuple(
        WitnessedHead(number, site, plain[site][place].head)
        for number, place in ((1, 3), (2, 5))
        for site in NAMES
    )
    rounds = tuple(RecordedRound(number, tuple(recorded(site, number) for site in NAMES)) for number in (1, 2))
    return Evidence(
        bundles=tuple(bundle(site, told[site]) for site in NAMES),
        keys=tuple(TrustedKey(key.public_hex) for key in KEYS.values()),
        witnesses=(),
        runs=(RunEvidence("run", "r", rounds, Witness("witness", heads), started=2, finished=True),),
    )


HONEST = evidence()


def audited(given: Evidence, second_opinion: bool = False) -> LedgerAudit:
    """The audit of evidence."""
    return audit_ledgers(given.bundles, given.keys, given.witnesses, given.runs, second_opinion)


def verdicts(audit: LedgerAudit) -> dict[str, str]:
    """Verdict by the name of the check's enumeration member."""
    return {check.check.name: check.verdict for check in audit.checks}


def with_heads(given: Evidence, heads: Sequence[WitnessedHead]) -> Evidence:
    """The same evidence with other witnessed heads in the run."""
    return replace(given, runs=(replace(given.runs[0], witness=Witness("witness", tuple(heads))),))


def with_rounds(given: Evidence, rounds: Sequence[RecordedRound]) -> Evidence:
    """The same evidence with another record."""
    return replace(given, runs=(replace(given.runs[0], rounds=tuple(rounds)),))


def shifted(head: Head, by: int) -> Head:
    """A head at another place."""
    return Head(sequence=head.sequence + by, hash=head.hash)
