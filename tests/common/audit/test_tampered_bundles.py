"""A table of tampered bundles: each is found, and the finding names the entry.

Some are forged without the site's key, some by the site itself, which signs another history than the one that
was witnessed and recorded. What the single-file verifier can know of them it finds at the same entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from common.audit.findings import Finding, LedgerCheck, Severity
from common.privacy.ledger.canonical import canonical
from common.privacy.ledger.entry import Draft, LedgerEntry
from common.privacy.ledger.keys import SiteKey
from common.privacy.mechanism import SampledGaussian
from deploy import verify_ledger
from tests.common.audit.samples import (
    HONEST,
    KEYS,
    PLAN_STORY,
    Evidence,
    audited,
    bundle,
    evidence,
    written,
)
from tests.common.privacy.ledger.samples import (
    CLOSED,
    PLANNED,
    bundled,
    chained,
    lowered,
    opened,
    reserved,
    settled,
)

ENTRIES = written("north")
KEY = KEYS["north"]
STRANGER = SiteKey.from_seed(bytes(range(2, 34)))
HEADS = (
    [each.head for each in HONEST.runs[0].witness.heads if each.site == "north"] if HONEST.runs[0].witness else []
)


def _forged(data: bytes) -> Evidence:
    """North's bundle is other bytes."""
    return replace(HONEST, bundles=(replace(HONEST.bundles[0], data=data), HONEST.bundles[1]))


def _edited(place: int, **changes: object) -> Evidence:
    """Fields of one line changed; hash and signature as they were."""
    lines = HONEST.bundles[0].data.split(b"\n")
    lines[place] = canonical(json.loads(lines[place]) | changes)
    return _forged(b"\n".join(lines))


def _rehashed(place: int, **changes: object) -> Evidence:
    """Fields of one entry changed, with a right hash but without the key."""
    entry = replace(ENTRIES[place - 1], **changes)  # type: ignore[arg-type]
    forged = replace(entry, hash=hashlib.sha256(entry.body()).hexdigest())
    return _lines([*ENTRIES[: place - 1], forged, *ENTRIES[place:]])


def _lines(entries: Sequence[LedgerEntry]) -> Evidence:
    return _forged(bundled(entries, KEY.public_hex))


def _retold(*story: Draft) -> Evidence:
    """North's own key signs another story."""
    return evidence({"north": story})


def _terms(**changes: object) -> dict[str, object]:
    details = json.loads(HONEST.bundles[0].data.split(b"\n")[1])["details"]
    return details | {"terms": details["terms"] | changes}


def _resigned() -> Evidence:
    """From the fifth entry on a stranger wrote."""
    return _lines([*ENTRIES[:4], *chained([replace(d, note="north ") for d in PLAN_STORY], STRANGER)[4:]])


def _fork() -> LedgerEntry:
    """Another fifth entry by the same key."""
    return chained([replace(d, note="north ") for d in (*PLAN_STORY[:4], CLOSED)], KEY)[4]


LESS = SampledGaussian(0.02, 1.0, 49)
LOUD = SampledGaussian(0.02, 0.3, 100)
TAMPERED: dict[str, tuple[Callable[[], Evidence], LedgerCheck, int]] = {
    # without the key
    "a larger epsilon": (lambda: _edited(1, details=_terms(epsilon=80)), LedgerCheck.CHAIN, 1),
    "a smaller delta": (lambda: _edited(1, details=_terms(delta=1e-6)), LedgerCheck.CHAIN, 1),
    "another unit": (lambda: _edited(1, details=_terms(unit="example")), LedgerCheck.CHAIN, 1),
    "another study": (lambda: _edited(2, study="b" * 64), LedgerCheck.CHAIN, 2),
    "an unknown field": (lambda: _edited(2, extra=1), LedgerCheck.FORM, 2),
    "fewer steps": (lambda: _rehashed(3, mechanism=LESS), LedgerCheck.SIGNATURES, 3),
    "another dataset": (lambda: _edited(3, dataset="others"), LedgerCheck.CHAIN, 3),
    "an unknown kind": (lambda: _edited(3, kind="gift"), LedgerCheck.FORM, 3),
    "another hour": (lambda: _edited(4, time="2026-11-24T13:00:00Z"), LedgerCheck.CHAIN, 4),
    "a minute": (lambda: _edited(4, time="2026-11-24T12:34:00Z"), LedgerCheck.FORM, 4),
    "another entry's signature": (
        lambda: _edited(4, signature=ENTRIES[4].signature),
        LedgerCheck.SIGNATURES,
        4,
    ),
    "a note rewritten": (lambda: _edited(5, note="nothing"), LedgerCheck.CHAIN, 5),
    "a stranger's entries": (_resigned, LedgerCheck.SIGNATURES, 5),
    "other random bytes": (lambda: _edited(6, random="0" * 32), LedgerCheck.CHAIN, 6),
    "a number as text": (lambda: _edited(6, round="2"), LedgerCheck.FORM, 6),
    "the first dropped": (lambda: _lines(ENTRIES[1:]), LedgerCheck.CHAIN, 1),
    "one dropped": (lambda: _lines([*ENTRIES[:2], *ENTRIES[3:]]), LedgerCheck.CHAIN, 3),
    "two swapped": (lambda: _lines([*ENTRIES[:3], ENTRIES[4], ENTRIES[3], ENTRIES[5]]), LedgerCheck.CHAIN, 4),
    "one inserted": (lambda: _lines([*ENTRIES[:4], _fork(), *ENTRIES[4:]]), LedgerCheck.CHAIN, 6),
    "the last repeated": (lambda: _lines([*ENTRIES, ENTRIES[-1]]), LedgerCheck.CHAIN, 7),
    "the end cut off, header kept": (
        lambda: _forged(bundled(ENTRIES[:4], KEY.public_hex, head=ENTRIES[5].head)),
        LedgerCheck.CHAIN,
        6,
    ),
    "the end cut off": (lambda: _lines(ENTRIES[:4]), LedgerCheck.WITNESSED, 6),
    # by the site itself
    "another end": (lambda: _retold(*PLAN_STORY[:5], settled(2, 5, outcome="failed")), LedgerCheck.WITNESSED, 6),
    "a history rewritten": (
        lambda: _retold(*PLAN_STORY[:2], reserved(1, LESS), settled(1, 3, LESS), *PLAN_STORY[4:]),
        LedgerCheck.WITNESSED,
        4,
    ),
    "less reserved than released": (
        lambda: _retold(*PLAN_STORY[:2], reserved(1, LESS), settled(1, 3, LESS), *PLAN_STORY[4:]),
        LedgerCheck.RECORDED,
        3,
    ),
    "a reservation never settled": (lambda: _retold(*PLAN_STORY[:5]), LedgerCheck.RECORDED, 5),
    "settled for less": (lambda: _retold(*PLAN_STORY[:3], settled(1, 3, LESS)), LedgerCheck.ORDER, 4),
    "refunded under a plan": (
        lambda: _retold(*PLAN_STORY[:3], settled(1, 3, LESS, refund="public-fact")),
        LedgerCheck.ORDER,
        4,
    ),
    "settled twice": (lambda: _retold(*PLAN_STORY, settled(2, 5)), LedgerCheck.ORDER, 7),
    "a round twice": (lambda: _retold(*PLAN_STORY[:4], reserved(1)), LedgerCheck.ORDER, 5),
    "an epsilon raised": (lambda: _retold(*PLAN_STORY, lowered(80.0)), LedgerCheck.POLICY, 7),
    "beyond a lowered limit": (lambda: _retold(PLAN_STORY[0], lowered(0.5), PLAN_STORY[1]), LedgerCheck.POLICY, 3),
    "more than the budget": (lambda: _retold(opened(PLANNED), reserved(None, LOUD)), LedgerCheck.BUDGET, 1),
}


def _violations(given: Evidence) -> list[Finding]:
    checks = audited(given).checks
    return [each for check in checks for each in check.findings if each.severity is Severity.VIOLATION]


def test_p01_the_honest_bundle_has_no_violation_and_20_kinds_are_in_the_table() -> None:
    assert _violations(HONEST) == []
    assert len(TAMPERED) >= 20


@pytest.mark.parametrize("name", TAMPERED)
def test_p01_a_tampered_bundle_is_found_with_its_entry(name: str) -> None:
    build, check, entry = TAMPERED[name]
    found = _violations(build())
    assert (check, entry) in {(each.check, each.entry) for each in found}, found
    told = next(each for each in found if (each.check, each.entry) == (check, entry))
    assert any(f"{word} {entry}" in told.what for word in ("entry", "head", "reservation", "budget")), told.what
    assert told.where == "north.jsonl" or told.where.startswith("north.jsonl: round")


_FOUND_ALONE = (
    LedgerCheck.FORM,
    LedgerCheck.CHAIN,
    LedgerCheck.SIGNATURES,
    LedgerCheck.ORDER,
    LedgerCheck.WITNESSED,
)


@pytest.mark.parametrize("name", [name for name, (_, check, _) in TAMPERED.items() if check in _FOUND_ALONE])
def test_p01_the_single_file_verifier_names_the_same_entry(name: str) -> None:
    build, _, entry = TAMPERED[name]
    with pytest.raises(verify_ledger.Violation) as raised:
        verify_ledger.verify(
            build().bundles[0].data, KEY.public_hex, [(head.sequence, head.hash) for head in HEADS]
        )
    assert raised.value.entry in (entry, 0)
    assert raised.value.entry or raised.value.check == 7


def test_p01_tampering_is_found_beside_the_other_site_s_honest_bundle_only() -> None:
    other = replace(HONEST, bundles=(HONEST.bundles[0], bundle("south", written("south", PLAN_STORY[:4]))))
    assert {each.where.partition(":")[0] for each in _violations(other)} == {"south.jsonl"}
