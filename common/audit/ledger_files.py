"""Bundles opened for an audit: each verified against a key that the auditor trusts, one ledger for each key."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from common.audit.findings import Finding, LedgerCheck, Severity
from common.errors import AuditFailure
from common.privacy.ledger.keys import public_key_from_hex
from common.privacy.ledger.rules import VerifiedLedger, verified_entries

__all__ = ["Bundle", "OpenedLedger", "TrustedKey", "open_bundles"]

_BY_LEDGER_CHECK = {
    1: LedgerCheck.FORM,
    2: LedgerCheck.KEY,
    3: LedgerCheck.FORM,
    4: LedgerCheck.CHAIN,
    5: LedgerCheck.SIGNATURES,
    6: LedgerCheck.CHAIN,
    7: LedgerCheck.CHAIN,
    8: LedgerCheck.ORDER,
}
_POLICY_RULES = re.compile(r"order rule (O7|O2): .*(?:epsilon at most|not closed)")
_NO_KEY = "0" * 64


@dataclass(frozen=True, slots=True)
class Bundle:
    """A ledger as a file, unverified."""

    name: str
    """Where it comes from, for reports."""
    data: bytes
    site: str = ""
    """Whose it is said to be; "" if nobody says."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A site's public key that the auditor has from elsewhere."""

    public_key: str
    """64 lower-case hexadecimal digits."""
    site: str = ""
    """The site's name as coordinators have it; "" if the auditor leaves it open."""


@dataclass(frozen=True, slots=True)
class OpenedLedger:
    """A bundle that passed the checks of ``common.privacy.ledger.rules``."""

    name: str
    site: str
    """From the trusted key; "" if it leaves that open."""
    label: str
    """Whose the bundle is said to be; "" if nobody says."""
    ledger: VerifiedLedger


def open_bundles(
    bundles: Sequence[Bundle], keys: Sequence[TrustedKey]
) -> tuple[tuple[OpenedLedger, ...], list[Finding]]:
    """Verify each bundle; give the ledgers that survive, and what was found.

    Of several copies of one ledger the longest is kept; copies that differ are two histories under one key,
    which is a violation (PRIVACY P8), and both are kept.

    Raises:
        BadInput: a trusted key, which is the auditor's own, is malformed.
    """
    for key in keys:
        public_key_from_hex(key.public_key)
    opened, findings = [], []
    for bundle in bundles:
        ledger, found = _open(bundle, keys)
        findings += found
        if ledger is not None:
            opened.append(ledger)
    kept, found = _one_for_each_key(opened)
    return kept, findings + found


def _open(bundle: Bundle, keys: Sequence[TrustedKey]) -> tuple[OpenedLedger | None, list[Finding]]:
    named = _named_key(bundle.data)
    trusted = next((key for key in keys if key.public_key == named), None)
    public_key = trusted.public_key if trusted else keys[0].public_key if keys else named
    try:
        ledger = verified_entries(bundle.data, public_key)
    except AuditFailure as error:
        return None, _failure(bundle, error)
    found = []
    if not keys:
        what = f"no public key was given; its signatures are those of the key {named[:16]}... that it names itself"
        found.append(Finding(LedgerCheck.KEY, Severity.GAP, bundle.name, what))
    return OpenedLedger(bundle.name, trusted.site if trusted else "", bundle.site, ledger), found


def _failure(bundle: Bundle, error: AuditFailure) -> list[Finding]:
    """The violation, and for every other check that this ledger could not be examined further."""
    check = _BY_LEDGER_CHECK.get(error.check, LedgerCheck.FORM)
    if check is LedgerCheck.ORDER and _POLICY_RULES.search(str(error)):
        check = LedgerCheck.POLICY
    found = [Finding(check, Severity.VIOLATION, bundle.name, str(error), error.entry)]
    others = (other for other in LedgerCheck if other is not check)
    what = f"not examined to its end, because check {check.number} ({check.value}) failed"
    return found + [Finding(other, Severity.GAP, bundle.name, what) for other in others]


def _named_key(data: bytes) -> str:
    """The key that a header names, before anything is verified; zeros where none can be read."""
    try:
        header = json.loads(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return _NO_KEY
    named = header.get("public_key") if isinstance(header, dict) else None
    return named if isinstance(named, str) and re.fullmatch("[0-9a-f]{64}", named) else _NO_KEY


def _one_for_each_key(opened: Sequence[OpenedLedger]) -> tuple[tuple[OpenedLedger, ...], list[Finding]]:
    kept: list[OpenedLedger] = []
    findings: list[Finding] = []
    for ledger in sorted(opened, key=lambda each: -len(each.ledger.entries)):
        told = [found for other in kept if (found := _told_apart(ledger, other)) is not None]
        findings += told
        if not any(found.severity is Severity.INFORMATION for found in told):
            kept.append(ledger)
    return tuple(ledger for ledger in opened if any(ledger is each for each in kept)), findings


def _told_apart(ledger: OpenedLedger, longer: OpenedLedger) -> Finding | None:
    """What is wrong, or to know, about two ledgers; each entry holds 16 random bytes, so equal ones are copies."""
    copied = len(ledger.ledger.entries) > 0 and longer.ledger.history.knows(ledger.ledger.entries[0].head)
    if ledger.ledger.public_key != longer.ledger.public_key:
        if not copied:
            return None
        what = f"holds entries of {longer.name}, signed by another key"
        return Finding(LedgerCheck.KEY, Severity.VIOLATION, ledger.name, what)
    if longer.ledger.history.knows(ledger.ledger.head):
        what = f"is a copy, or an older state, of {longer.name}, which counts in its place"
        return Finding(LedgerCheck.KEY, Severity.INFORMATION, ledger.name, what)
    what = f"another history than {longer.name} under one key: a key lives in one ledger only"
    return Finding(LedgerCheck.KEY, Severity.VIOLATION, ledger.name, what)
