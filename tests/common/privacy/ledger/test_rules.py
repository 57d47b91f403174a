"""Verification of bundles: a table of attacks, and any change of a byte."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.canonical import canonical
from common.privacy.ledger.details import GENESIS, Closed, Head
from common.privacy.ledger.entry import Draft, LedgerEntry, Stamp, seal_entry
from common.privacy.ledger.rules import VerifiedLedger, verified_entries
from common.privacy.mechanism import SampledGaussian
from tests.common.privacy.ledger.samples import (
    CLOSED,
    DATA,
    KEY,
    NOON,
    OTHER_KEY,
    STORY,
    bundled,
    chained,
    lowered,
    opened,
    reserved,
)

ENTRIES = chained(STORY)
BUNDLE = bundled(ENTRIES)
HEAD = ENTRIES[-1].head


def verify(bundle: bytes, *witnessed: Head) -> VerifiedLedger:
    return verified_entries(bundle, KEY.public_hex, witnessed)


def test_p01_an_honest_bundle_verifies_against_every_head_it_had() -> None:
    found = verify(BUNDLE, GENESIS, *(entry.head for entry in ENTRIES))
    assert list(found.entries) == ENTRIES
    assert found.head == HEAD
    assert found.restored == ()
    assert found.public_key == KEY.public_hex


def test_an_empty_ledger_verifies() -> None:
    assert verify(bundled([])).head == GENESIS


def test_a_verified_ledger_cannot_be_made_otherwise() -> None:
    found = verify(BUNDLE)
    with pytest.raises(TypeError, match="verified_entries alone"):
        VerifiedLedger(found.entries, found.history, KEY.public_hex, object())
    for attempt in (lambda: copy.copy(found), lambda: copy.deepcopy(found), lambda: pickle.dumps(found)):
        with pytest.raises(TypeError, match="verify the bundle again"):
            attempt()


def _edited(place: int, **changes: object) -> bytes:
    """One field of one line changed, and written canonically; hash and signature as they were."""
    lines = BUNDLE.split(b"\n")
    lines[place] = canonical(json.loads(lines[place]) | changes)
    return b"\n".join(lines)


def _rehashed(place: int, **changes: object) -> bytes:
    """The same, with a right hash but without the key."""
    entry = replace(ENTRIES[place - 1], **changes)  # type: ignore[arg-type]
    forged = replace(entry, hash=hashlib.sha256(entry.body()).hexdigest())
    return bundled([*ENTRIES[: place - 1], forged, *ENTRIES[place:]])


def _fork(length: int) -> list[LedgerEntry]:
    """Another history by the same key, after the first ``length`` entries."""
    return [*ENTRIES[:length], seal_entry(CLOSED, ENTRIES[length - 1].head, Stamp(NOON, bytes(16), None), KEY)]


def _misnumbered() -> LedgerEntry:
    """A second entry that follows the first by its hash and calls itself the third."""
    return seal_entry(STORY[1], Head(sequence=2, hash=ENTRIES[0].hash), Stamp(NOON, bytes(16), None), KEY)


ATTACKS: dict[str, tuple[Callable[[], bytes], int]] = {
    "no bytes": (lambda: b"", 1),
    "no end of line": (lambda: BUNDLE[:-1], 1),
    "empty line": (lambda: BUNDLE + b"\n", 3),
    "carriage returns": (lambda: BUNDLE.replace(b"\n", b"\r\n"), 1),
    "another format": (lambda: BUNDLE.replace(b"hanse-ledger/1 bundle", b"hanse-ledger/2 bundle"), 1),
    "another site's": (lambda: bundled(chained(STORY, OTHER_KEY), OTHER_KEY.public_hex), 2),
    "re-signed with another key": (lambda: bundled(chained(STORY, OTHER_KEY)), 5),
    "an entry re-signed": (lambda: bundled([*ENTRIES[:5], *chained(STORY, OTHER_KEY)[5:]]), 5),
    "fewer steps": (lambda: _edited(2, mechanism={"mechanism": "gaussian", "noise_multiplier": 9, "count": 1}), 4),
    "fewer steps, right hash": (lambda: _rehashed(2, mechanism=SampledGaussian(0.02, 1.0, 1)), 5),
    "another hour": (lambda: _edited(3, time="2026-11-24T13:00:00Z"), 4),
    "a minute": (lambda: _edited(3, time="2026-11-24T12:34:00Z"), 3),
    "no such day": (lambda: _edited(3, time="2026-02-30T12:00:00Z"), 3),
    "an unknown field": (lambda: _edited(2, extra=1), 3),
    "an unknown kind": (lambda: _edited(2, kind="gift"), 3),
    "details of another kind": (lambda: _edited(2, kind="close"), 3),
    "an unknown mechanism": (lambda: _edited(2, mechanism={"mechanism": "os.system"}), 3),
    "number as text": (lambda: _edited(2, round="1"), 3),
    "negative place": (lambda: _edited(2, sequence=-2), 3),
    "upper-case hash": (lambda: _edited(2, hash=ENTRIES[1].hash.upper()), 3),
    "dropped": (lambda: bundled(ENTRIES[:2] + ENTRIES[3:]), 6),
    "first dropped": (lambda: bundled(ENTRIES[1:]), 6),
    "swapped": (lambda: bundled([*ENTRIES[:2], ENTRIES[3], ENTRIES[2], *ENTRIES[4:]]), 6),
    "repeated": (lambda: bundled([*ENTRIES, ENTRIES[-1]]), 6),
    "inserted from a fork": (lambda: bundled([*ENTRIES[:5], _fork(3)[3], ENTRIES[5]]), 6),
    "joined from two forks": (lambda: bundled([*_fork(3), *ENTRIES[4:]]), 6),
    "tail cut, header kept": (lambda: bundled(ENTRIES[:4], head=HEAD), 7),
    "tail added after the header": (lambda: bundled(ENTRIES, head=ENTRIES[3].head), 7),
    "misnumbered, well signed": (lambda: bundled([ENTRIES[0], _misnumbered()]), 6),
    "illegal order, well signed": (lambda: bundled(chained([opened(), reserved(1), reserved(1)])), 8),
    "raised, well signed": (lambda: bundled(chained([opened(), lowered(3.1)])), 8),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails_at_its_check(name: str) -> None:
    build, check = ATTACKS[name]
    with pytest.raises(AuditFailure, match=rf"^ledger check {check} "):
        verify(build())


@pytest.mark.parametrize("length", range(6))
def test_p08_a_truncated_tail_is_found_against_a_witnessed_head(length: int) -> None:
    shorter = bundled(ENTRIES[:length])
    verify(shorter)  # nobody can tell without a witness (P1)
    with pytest.raises(AuditFailure, match=r"check 9 .*missing entries"):
        verify(shorter, HEAD)


def test_p08_a_fork_and_a_rollback_are_found_against_a_witnessed_head() -> None:
    fork = _fork(3)
    verify(bundled(fork), ENTRIES[2].head)
    with pytest.raises(AuditFailure, match=r"check 9 .*another history"):
        verify(bundled(fork), ENTRIES[3].head)


def test_p08_a_loss_that_was_mended_verifies_and_is_shown() -> None:
    mended = Draft(dataset=DATA, details=Closed(why="written-off", lost=HEAD))
    entries = chained([*STORY[:3], mended])
    found = verify(bundled(entries), HEAD)
    assert found.restored == (HEAD,)


@settings(max_examples=300)
@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    changed = bytearray(BUNDLE)
    changed[place] ^= change
    with pytest.raises(AuditFailure):
        verify(bytes(changed))


@given(st.integers(0, len(BUNDLE) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_any_bytes_removed_or_inserted_are_found(place: int, inserted: bytes, removed: int) -> None:
    changed = BUNDLE[:place] + inserted + BUNDLE[place + removed :]
    if changed != BUNDLE:
        with pytest.raises(AuditFailure):
            verify(changed, HEAD)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_any_other_sequence_of_lines_is_found(places: list[int]) -> None:
    if places != list(range(6)):
        with pytest.raises(AuditFailure):
            verify(bundled([ENTRIES[place] for place in places], head=HEAD), HEAD)


@given(st.binary(max_size=300))
def test_any_bytes_end_as_an_audit_failure(data: bytes) -> None:
    for bundle in (data, data + b"\n", BUNDLE + data + b"\n", BUNDLE.split(b"\n")[0] + b"\n" + data + b"\n"):
        if bundle != BUNDLE:
            with pytest.raises(AuditFailure):
                verify(bundle, HEAD)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["open", "reserve", "composition", "sampled_gaussian"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["mechanism", "parts", "steps", "lower", "terms", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.integers(1, 6), st.sampled_from(sorted(json.loads(BUNDLE.split(b"\n")[1]))), json_values)
def test_any_value_in_any_field_is_found(place: int, field: str, value: object) -> None:
    bundle = _edited(place, **{field: value})
    if bundle != BUNDLE:
        with pytest.raises(AuditFailure):
            verify(bundle)


def test_a_malformed_public_key_is_the_verifier_s_own_mistake() -> None:
    with pytest.raises(BadInput, match="public key"):
        verified_entries(BUNDLE, "abc")
