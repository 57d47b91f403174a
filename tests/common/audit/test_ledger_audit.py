"""The audit of ledgers: honest evidence passes every check; a table of frauds, each caught at its check."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.audit.findings import LedgerCheck, Severity
from common.audit.ledger_audit import UNPROVEN, LedgerAudit, audit_ledgers
from common.audit.ledger_files import Bundle, TrustedKey
from common.audit.run_record import RecordedRound, RunEvidence, Witness, WitnessedHead
from common.errors import BadInput
from common.privacy.accounting import rdp_at_order
from common.privacy.ledger.details import Approved, Closed, Head, Released
from common.privacy.ledger.entry import Draft
from common.privacy.ledger.keys import SiteKey
from common.privacy.mechanism import NotPrivate, SampledGaussian
from common.privacy.spending import filter_reading
from tests.common.audit.samples import (
    HONEST,
    KEYS,
    NAMES,
    PLAN_STORY,
    Evidence,
    audited,
    bundle,
    evidence,
    recorded,
    shifted,
    verdicts,
    with_heads,
    with_rounds,
    written,
)
from tests.common.privacy.ledger.samples import (
    CLOSED,
    DATA,
    FILTER,
    PLANNED,
    ROUND,
    STUDY,
    chained,
    lowered,
    opened,
    reserved,
    settled,
)

HEADS = HONEST.runs[0].witness.heads if HONEST.runs[0].witness else ()
ROUNDS = HONEST.runs[0].rounds
STRANGER = SiteKey.from_seed(bytes(range(2, 34)))


NAMED = replace(HONEST, keys=tuple(TrustedKey(key.public_hex, site) for site, key in KEYS.items()))


def _failed(audit: LedgerAudit) -> set[str]:
    return {check.check.name for check in audit.failed}


def test_p01_honest_evidence_passes_every_check() -> None:
    audit = audited(HONEST)
    assert set(verdicts(audit).values()) == {"passed"}, [c for c in audit.checks if c.verdict != "passed"]
    assert [check.number for check in audit.checks] == list(range(1, 12))
    assert [ledger.entries for ledger in audit.ledgers] == [6, 6]


@pytest.mark.parametrize("bundles", [(), HONEST.bundles, (Bundle("x", b"no ledger"),)], ids=["none", "all", "bad"])
def test_p01_every_result_says_what_stays_unproven(bundles: tuple[Bundle, ...]) -> None:
    audit = audit_ledgers(bundles, second_opinion=False)
    assert "that the recorded mechanism is what ran" in audit.unproven == UNPROVEN
    assert audit.to_json()["unproven"] == UNPROVEN


def test_the_result_is_json() -> None:
    found = json.loads(json.dumps(audited(HONEST).to_json(), allow_nan=False))
    assert [check["verdict"] for check in found["checks"]] == ["passed"] * 11
    assert {figure["scope"] for figure in found["figures"]} == {"study", "dataset", "site", "person"}


def test_p02_rows_are_not_called_persons() -> None:
    terms = PLANNED.model_copy(update={"unit": "example"})
    audit = audited(
        replace(HONEST, bundles=(bundle("north", written("north", [opened(terms), *PLAN_STORY[1:]])),))
    )
    assert "Unit example is one row: figures hold per person only where" in audit.guarantee
    assert "Unit example" not in audited(HONEST).guarantee


def test_without_anything_nothing_is_possible() -> None:
    assert set(verdicts(audit_ledgers([])).values()) == {"not-possible"}


def test_without_keys_witnesses_and_records_those_checks_are_not_possible() -> None:
    found = verdicts(audit_ledgers(HONEST.bundles, second_opinion=False))
    not_possible = {name for name, verdict in found.items() if verdict == "not-possible"}
    assert not_possible == {"KEY", "WITNESSED", "RECORDED", "LEDGERED", "FIGURES"}
    assert {found[name] for name in found.keys() - not_possible} == {"passed"}


def test_a_malformed_key_is_the_auditor_s_own_mistake() -> None:
    with pytest.raises(BadInput, match="public key"):
        audit_ledgers(HONEST.bundles, [TrustedKey("abc")])


# --- frauds ---------------------------------------------------------------------------------------------------


def _told(north: tuple[Draft, ...]) -> Evidence:
    """North's key signs another story than the one that was witnessed and recorded."""
    return evidence({"north": north})


def _damaged(old: bytes, new: bytes) -> Evidence:
    first = HONEST.bundles[0]
    assert old in first.data
    return replace(HONEST, bundles=(replace(first, data=first.data.replace(old, new, 1)), HONEST.bundles[1]))


def _added(entries: tuple[Draft, ...]) -> Evidence:
    """North's ledger goes on after what was witnessed."""
    return _told((*PLAN_STORY, *entries))


def _second_ledger() -> Evidence:
    """Both histories of one key lie before the auditor."""
    other = Bundle("other.jsonl", bundle("north", written("north", [*PLAN_STORY[:5], CLOSED])).data)
    return replace(HONEST, bundles=(*HONEST.bundles, other))


def _approved(expires: str) -> tuple[Draft, ...]:
    approval = Draft(dataset=DATA, study=STUDY, details=Approved(expires=expires))
    return (PLAN_STORY[0], approval, reserved(None, SampledGaussian(0.02, 1.0, 100)))


def _rounds_with(number: int, **changes: object) -> Evidence:
    """North's part of a round recorded otherwise."""
    changed = [
        replace(each, sites=(replace(each.sites[0], **changes), *each.sites[1:]))  # type: ignore[arg-type]
        if each.round == number
        else each
        for each in ROUNDS
    ]
    return with_rounds(HONEST, changed)


OVER = reserved(None, SampledGaussian(0.02, 0.3, 100))
FRAUDS: dict[str, tuple[Callable[[], Evidence], LedgerCheck, str]] = {
    "an unknown field": (lambda: _damaged(b'"note":"', b'"extra":1,"note":"'), LedgerCheck.FORM, "entry 1"),
    "no line's end": (
        lambda: replace(HONEST, bundles=(replace(HONEST.bundles[0], data=HONEST.bundles[0].data[:-1]),)),
        LedgerCheck.FORM,
        "last line has no end",
    ),
    "a stranger's ledger": (
        lambda: replace(HONEST, bundles=(bundle("x", chained(PLAN_STORY, STRANGER), STRANGER), *HONEST.bundles)),
        LedgerCheck.KEY,
        "another site's",
    ),
    "two ledgers of one key": (_second_ledger, LedgerCheck.KEY, "a key lives in one ledger only"),
    "fewer steps": (lambda: _damaged(b'"steps":50', b'"steps":49'), LedgerCheck.CHAIN, "entry 3"),
    "signed by another": (
        lambda: replace(HONEST, bundles=(bundle("north", chained(PLAN_STORY, STRANGER)), HONEST.bundles[1])),
        LedgerCheck.SIGNATURES,
        "entry 1",
    ),
    "a round settled twice": (lambda: _added((settled(2, 5),)), LedgerCheck.ORDER, "O6"),
    "a tail cut off": (lambda: _told(PLAN_STORY[:4]), LedgerCheck.WITNESSED, "missing entries: head 6"),
    "a neighbour's ledger under one's own key": (
        lambda: replace(
            HONEST,
            bundles=(
                HONEST.bundles[0],
                bundle("south", chained([replace(d, note="north ") for d in PLAN_STORY], KEYS["south"])),
            ),
        ),
        LedgerCheck.KEY,
        "signed by another key",
    ),
    "all cut off": (lambda: _told(()), LedgerCheck.WITNESSED, "missing entries"),
    "a fork": (
        lambda: _told((*PLAN_STORY[:5], settled(2, 5, outcome="failed"))),
        LedgerCheck.WITNESSED,
        "another history: head 6",
    ),
    "heads that fall": (
        lambda: with_heads(HONEST, [*HEADS, replace(HEADS[0], round=3)]),
        LedgerCheck.WITNESSED,
        'site "north" went back from entry 6 (round 2) to entry 4 (round 3)',
    ),
    "a head that never was": (
        lambda: with_heads(HONEST, [*HEADS, WitnessedHead(2, "north", shifted(HEADS[2].head, 4))]),
        LedgerCheck.WITNESSED,
        "missing entries: head 10",
    ),
    "a head at another coordinator": (
        lambda: replace(
            NAMED, witnesses=(Witness("other", (WitnessedHead(1, "north", Head(sequence=5, hash="e" * 64)),)),)
        ),
        LedgerCheck.WITNESSED,
        "another history: head 5",
    ),
    "an update without a reservation": (
        lambda: _told(PLAN_STORY[:4]),
        LedgerCheck.RECORDED,
        "has no reservation",
    ),
    "an update never settled": (lambda: _told(PLAN_STORY[:5]), LedgerCheck.RECORDED, "was never settled"),
    "more released than reserved": (
        lambda: _rounds_with(1, mechanism=SampledGaussian(0.02, 1.0, 51)),
        LedgerCheck.RECORDED,
        "entry 3 holds less",
    ),
    "less noise than reserved": (
        lambda: _rounds_with(1, mechanism=SampledGaussian(0.02, 0.9, 50)),
        LedgerCheck.RECORDED,
        "entry 3 holds less",
    ),
    "not private, with a ledger": (
        lambda: _rounds_with(2, mechanism=NotPrivate("privacy.enabled = false")),
        LedgerCheck.RECORDED,
        "entry 5 holds less",
    ),
    "a round not recorded": (lambda: with_rounds(HONEST, ROUNDS[:1]), LedgerCheck.LEDGERED, "entry 5"),
    "a site not recorded": (
        lambda: with_heads(
            with_rounds(HONEST, [replace(each, sites=each.sites[1:]) for each in ROUNDS]), HEADS[1::2]
        ),
        LedgerCheck.LEDGERED,
        "a site that the record does not name",
    ),
    "an epsilon raised": (lambda: _added((lowered(8.5),)), LedgerCheck.POLICY, "O7"),
    "reserved after the close": (lambda: _told((PLAN_STORY[0], CLOSED, PLAN_STORY[1])), LedgerCheck.POLICY, "O2"),
    "reserved after an approval's end": (lambda: _told(_approved("2026-11-23")), LedgerCheck.POLICY, "entry 3"),
    "reserved beyond a lowered limit": (
        lambda: _told((PLAN_STORY[0], lowered(0.5), PLAN_STORY[1])),
        LedgerCheck.POLICY,
        "entry 3 brought budget 1 to",
    ),
    "overspent": (lambda: _told((PLAN_STORY[0], OVER)), LedgerCheck.BUDGET, "charged"),
    "no noise": (
        lambda: _told((PLAN_STORY[0], reserved(None, NotPrivate("a test")))),
        LedgerCheck.BUDGET,
        "charged inf",
    ),
    "too small an epsilon recorded": (lambda: _rounds_with(2, epsilon=0.9), LedgerCheck.FIGURES, "cost"),
    "an epsilon that falls": (lambda: _rounds_with(1, epsilon=7.0), LedgerCheck.FIGURES, "epsilon fell"),
}


@pytest.mark.parametrize("name", FRAUDS)
def test_p01_a_fraud_fails_at_its_check(name: str) -> None:
    build, check, words = FRAUDS[name]
    audit = audited(build())
    found = next(each for each in audit.checks if each.check is check)
    assert found.verdict == "failed", verdicts(audit)
    violations = [str(each) for each in found.findings if each.severity is Severity.VIOLATION]
    assert any(words in each for each in violations), violations


@pytest.mark.parametrize(
    "name", ["fewer steps", "a stranger's ledger", "heads that fall", "too small an epsilon recorded", "overspent"]
)
def test_a_fraud_at_one_site_is_not_laid_on_the_other(name: str) -> None:
    audit = audited(FRAUDS[name][0]())
    violations = [each for check in audit.checks for each in check.findings if each.severity is Severity.VIOLATION]
    assert violations
    assert not any("south" in str(each) for each in violations)


def test_p08_the_newest_head_alone_finds_a_truncation_and_no_head_finds_none() -> None:
    cut = _told(PLAN_STORY[:4])
    assert "WITNESSED" in _failed(audited(with_heads(cut, HEADS[2:])))
    unseen = verdicts(audited(with_heads(cut, ())))
    assert unseen["WITNESSED"] == "not-possible"


def test_p08_a_ledger_replaced_whole_is_found_though_it_knows_no_head() -> None:
    other = (opened(PLANNED, "others"), *PLAN_STORY)
    story = tuple(replace(each, note="again") for each in PLAN_STORY)
    for told in (story, other[:1]):
        assert "WITNESSED" in _failed(audited(_told(told)))


def test_p08_two_ledgers_replaced_need_names_to_be_told_apart() -> None:
    story = tuple(replace(each, note="again") for each in PLAN_STORY)
    both = evidence(dict.fromkeys(NAMES, story))
    assert verdicts(audited(both))["WITNESSED"] == "not-possible"
    assert "WITNESSED" in _failed(audited(replace(both, keys=NAMED.keys)))


def test_p08_a_loss_made_up_for_passes_with_a_warning() -> None:
    lost = HEADS[2].head
    story = (*PLAN_STORY[:4], Draft(dataset=DATA, details=Closed(why="written-off", lost=lost)))
    audit = audited(with_heads(_told(story), HEADS))
    witnessed = next(check for check in audit.checks if check.check is LedgerCheck.WITNESSED)
    assert witnessed.verdict == "passed"
    assert {str(each.severity) for each in witnessed.findings} >= {"warning"}
    assert any("made up for" in each.what for each in witnessed.findings)


def test_p08_a_coordinator_that_the_ledger_names_must_have_given_its_heads() -> None:
    first = PLAN_STORY[1]
    named = replace(first, run="s", details=first.details.model_copy(update={"coordinator": "hub"}))
    rounds = [replace(each, run="s") for each in PLAN_STORY[2:]]
    other = _told((PLAN_STORY[0], named, *rounds))
    said = [f.what for c in audited(other).checks if c.check is LedgerCheck.WITNESSED for f in c.findings]
    assert any('coordinator "hub"' in each for each in said)
    hub = replace(other, witnesses=(Witness("w", (), "hub"),))
    said = [f.what for c in audited(hub).checks if c.check is LedgerCheck.WITNESSED for f in c.findings]
    assert not any('coordinator "hub"' in each for each in said)


def test_an_older_copy_does_not_count_twice() -> None:
    older = Bundle("older.jsonl", bundle("north", written("north", PLAN_STORY[:4])).data)
    audit = audited(replace(HONEST, bundles=(older, *HONEST.bundles)))
    assert set(verdicts(audit).values()) == {"passed"}
    assert audit.figures == audited(HONEST).figures


def test_a_refused_round_needs_no_reservation() -> None:
    rounds = [
        replace(ROUNDS[0]),
        replace(ROUNDS[1], sites=(recorded("north", 2, replied=False), ROUNDS[1].sites[1])),
    ]
    given = with_heads(with_rounds(_told(PLAN_STORY[:4]), rounds), HEADS[:2])
    assert verdicts(audited(given))["RECORDED"] == "passed"


@pytest.mark.parametrize(
    ("started", "finished", "verdict"), [(2, False, "passed"), (2, True, "failed"), (1, False, "failed")]
)
def test_only_the_round_in_which_a_run_was_cut_off_may_lack_a_record(
    started: int, finished: bool, verdict: str
) -> None:
    run = replace(HONEST.runs[0], rounds=ROUNDS[:1], started=started, finished=finished)
    assert verdicts(audited(replace(HONEST, runs=(run,))))["LEDGERED"] == verdict


def test_another_run_s_record_is_missed() -> None:
    other = replace(HONEST, runs=(RunEvidence("run", "another", (), None),))
    found = audited(other)
    assert verdicts(found)["LEDGERED"] == "not-possible"
    assert any("run r was not given" in f.what for c in found.checks for f in c.findings)


def test_p19_a_release_to_a_trusted_coordinator_is_the_round_s_entry() -> None:
    terms = PLANNED.model_copy(update={"unit": "institution"})
    given_away = NotPrivate("given to the coordinator, who adds the noise")
    story = [opened(terms)]
    for number in (1, 2):
        details = Released(budget=1, why="trusted-coordinator", plan=None, lost=None)
        story.append(
            Draft(dataset=DATA, study=STUDY, run="r", round=number, mechanism=given_away, details=details)
        )
    entries = written("north", story)
    heads = [WitnessedHead(number, "north", entries[number].head) for number in (1, 2)]
    rounds = [
        RecordedRound(number, (replace(recorded("north", number), mechanism=given_away),)) for number in (1, 2)
    ]
    honest = replace(HONEST, bundles=(bundle("north", entries),))
    found = audited(with_heads(with_rounds(honest, rounds), heads))
    assert verdicts(found) == dict.fromkeys(verdicts(found), "passed") | {"FIGURES": "not-possible"}
    assert found.figures == ()
    cut = replace(honest, bundles=(bundle("north", entries[:2]),))
    assert _failed(audited(with_heads(with_rounds(cut, rounds), heads))) == {"WITNESSED", "RECORDED"}


def test_a_filter_s_record_is_read_at_its_order() -> None:
    story = (opened(FILTER), reserved(1), settled(1, 2))
    entries = written("north", story)
    reading = filter_reading(rdp_at_order(ROUND, 6), 6, FILTER.delta)
    site = replace(recorded("north", 1), epsilon=reading)
    given = replace(HONEST, bundles=(bundle("north", entries),))
    given = with_heads(
        with_rounds(given, [RecordedRound(1, (site,))]), [WitnessedHead(1, "north", entries[2].head)]
    )
    assert set(verdicts(audited(given)).values()) == {"passed"}
    low = with_rounds(given, [RecordedRound(1, (replace(site, epsilon=reading * 0.99),))])
    assert _failed(audited(low)) == {"FIGURES"}


@given(st.binary(max_size=400), st.booleans())
def test_p01_no_bytes_raise_anything(data: bytes, after_header: bool) -> None:
    header = HONEST.bundles[0].data.partition(b"\n")[0] + b"\n"
    audit = audit_ledgers(
        [Bundle("x", header + data if after_header else data)], HONEST.keys, second_opinion=False
    )
    assert audit.failed
