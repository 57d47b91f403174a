"""deploy/verify_ledger.py: alone, and of one mind with Hanse on vectors, attacks and random ledgers."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import AuditFailure
from common.privacy.accounting import epsilon, rdp_at_order
from common.privacy.ledger.canonical import canonical
from common.privacy.ledger.details import Approved, Closed, Head, Refused, Released
from common.privacy.ledger.entry import Draft
from common.privacy.ledger.rules import verified_entries
from common.privacy.mechanism import (
    Composition,
    Gaussian,
    Laplace,
    Mechanism,
    NotPrivate,
    SampledGaussian,
    to_json,
)
from tests.common.audit.samples import PLAN_STORY
from tests.common.privacy.ledger.samples import (
    CLOSED,
    DATA,
    FILTER,
    KEY,
    PLANNED,
    ROUND,
    STORY,
    STUDY,
    bundled,
    chained,
    lowered,
    opened,
    reserved,
    settled,
)
from tests.common.privacy.ledger.test_format import KEYS
from tests.common.privacy.ledger.test_rules import ATTACKS
from tests.common.privacy.ledger.write_vectors import FOLDER, LOST

SCRIPT = FOLDER.parents[1] / "deploy" / "verify_ledger.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_ledger", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verify_ledger"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


alone: Any = _load()


def _said(bundle: bytes, key: str = KEY.public_hex, heads: Sequence[Head] = ()) -> tuple[int, int, str] | None:
    """Check, entry and order rule of the violation that the script finds."""
    try:
        alone.verify(bundle, key, [(head.sequence, head.hash) for head in heads])
    except alone.Violation as violation:
        rule = re.search(r"rule (O[0-9])", str(violation))
        return violation.check, violation.entry, rule[1] if rule else ""
    return None


def _hanse(bundle: bytes, key: str = KEY.public_hex, heads: Sequence[Head] = ()) -> tuple[int, int, str] | None:
    """The same of Hanse's own verification."""
    try:
        verified_entries(bundle, key, heads)
    except AuditFailure as error:
        found = re.match(r"ledger check (\d)", str(error))
        assert found is not None
        entry = re.search(r"entry (\d+)", str(error)) if found[1] in "34568" else None
        rule = re.search(r"order rule (O[0-9])", str(error))
        return int(found[1]), int(entry[1]) if entry else 0, rule[1] if rule else ""
    return None


@pytest.mark.parametrize("name", KEYS)
def test_p01_the_vectors_are_accepted_from_a_shell(name: str, tmp_path: Path) -> None:
    """Run in a folder from which nothing of Hanse can be imported, with the interpreter's isolated mode."""
    heads = [f"9:{LOST.hash}"] if name == "plan.jsonl" else []
    command = [sys.executable, "-I", str(SCRIPT), str(FOLDER / name), KEYS[name], *heads]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Not shown: that the recorded mechanisms are what ran" in done.stdout
    assert ("No witnessed head was given" in done.stdout) == (not heads)
    assert ("was lost and made up for" in done.stdout) == bool(heads)


def test_it_needs_only_the_standard_library_and_cryptography() -> None:
    imported = re.findall(r"^(?:from|import) (\w+)", SCRIPT.read_text(encoding="utf-8"), re.M)
    assert set(imported) - sys.stdlib_module_names == {"cryptography"}


@pytest.mark.parametrize("name", ATTACKS)
def test_p01_each_kind_of_tampering_is_found_at_its_check_and_its_entry(name: str) -> None:
    build, check = ATTACKS[name]
    bundle = build()
    found = _said(bundle)
    assert found is not None
    assert found == _hanse(bundle)
    assert found[0] == check
    assert found[1] > 0 or check in (1, 2, 7)


def test_p01_there_are_at_least_20_kinds_that_name_an_entry() -> None:
    named = [name for name, (build, _) in ATTACKS.items() if (found := _said(build())) and found[1] > 0]
    assert len(named) >= 20


def test_p08_truncation_fork_and_mended_losses() -> None:
    entries = chained(STORY)
    cut = bundled(entries[:4])
    assert _said(cut) is None
    assert _said(cut, heads=[entries[5].head]) == (9, 6, "")
    assert _said(bundled(entries), heads=[Head(sequence=3, hash="e" * 64)]) == (9, 3, "")
    mended = bundled(chained([*STORY, Draft(dataset=DATA, details=Closed(why="written-off", lost=LOST))]))
    assert _said(mended, heads=[LOST]) is None
    half = [opened(), opened(dataset="others"), Draft(dataset=DATA, details=Closed(why="written-off", lost=LOST))]
    assert _said(bundled(chained(half)), heads=[LOST]) == (9, 9, "")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found_where_hanse_finds_it(data: st.DataObject) -> None:
    bundle = bundled(chained(STORY))
    place = data.draw(st.integers(0, len(bundle) - 1))
    changed = bytearray(bundle)
    changed[place] ^= data.draw(st.integers(1, 255))
    found = _said(bytes(changed))
    assert found is not None
    assert found == _hanse(bytes(changed))


# --- random ledgers, each entry well formed and well signed ---------------------------------------------------

GAUSS, MANY = Gaussian(2.0, 3), SampledGaussian(0.02, 1.0, 100)
MIXED = Composition((ROUND, Laplace(0.5, 2), SampledGaussian(1.0, 2.0, 3), SampledGaussian(0.0, 1.0, 9)))
mechanisms: st.SearchStrategy[Mechanism] = st.sampled_from(
    [ROUND, MANY, SampledGaussian(0.02, 1.0, 10), GAUSS, MIXED, NotPrivate("a"), Composition((GAUSS, ROUND))]
)
places = st.integers(1, 6)
rounds = st.integers(1, 2)


def _released(budget: int, number: int | None, mechanism: Mechanism, lost: bool, reentered: bool) -> Draft:
    details = Released(
        budget=budget,
        why="re-entered" if reentered else "trusted-coordinator",
        plan=None,
        lost=LOST if lost else None,
    )
    return Draft(dataset=DATA, study=STUDY, run="r", round=number, mechanism=mechanism, details=details)


drafts = st.one_of(
    st.sampled_from(
        [
            opened(),
            opened(PLANNED),
            opened(PLANNED.model_copy(update={"unit": "institution"})),
            opened(FILTER.model_copy(update={"order": 2})),
            opened(dataset="others"),
            CLOSED,
            Draft(dataset=DATA, details=Closed(why="finished", lost=LOST)),
            Draft(dataset=DATA, details=Closed(why="written-off", lost=LOST)),
            Draft(dataset=DATA, study=STUDY, details=Approved(expires="2026-12-01")),
            Draft(dataset=DATA, details=Approved(expires=None)),
            Draft(dataset=DATA, study=STUDY, details=Refused(code="x"), mechanism=ROUND),
        ]
    ),
    st.builds(reserved, st.none() | rounds, mechanisms, places, st.none() | places),
    st.builds(settled, rounds, places, mechanisms),
    st.builds(settled, rounds, places, mechanisms, refund=st.just("public-fact")),
    st.builds(settled, rounds, places, mechanisms, refund=st.just("public-fact"), outcome=st.just("failed")),
    st.builds(lowered, st.sampled_from([2.0, 3.0, 9.0]), places),
    st.builds(_released, places, st.none() | rounds, mechanisms, st.booleans(), st.booleans()),
)
stories = st.one_of(
    st.lists(drafts, max_size=6),
    st.builds(lambda some, more: [*STORY[:some], *more], st.integers(1, 6), st.lists(drafts, max_size=4)),
    st.builds(lambda some, more: [*PLAN_STORY[:some], *more], st.integers(1, 6), st.lists(drafts, max_size=4)),
)


@settings(max_examples=400, deadline=None)
@given(stories, st.booleans())
def test_it_judges_every_order_of_entries_as_hanse_does(story: list[Draft], witnessed: bool) -> None:
    bundle, heads = bundled(chained(story)), [LOST] if witnessed else []
    found, expected = _said(bundle, heads=heads), _hanse(bundle, heads=heads)
    if expected and expected[0] == 9:
        expected = (9, LOST.sequence, "")  # Hanse names the head's place in other words
    assert found == expected


RETRIES: dict[str, tuple[Sequence[Draft], tuple[int, int, str] | None]] = {
    "after its settlement": ((*STORY[:3], reserved(1, retry_of=2)), None),
    "before its settlement": ((*STORY[:2], reserved(1, retry_of=2)), (8, 3, "O5")),
    "of a try that is not the last": (
        (*STORY[:3], reserved(1, retry_of=2), settled(1, 4), reserved(1, retry_of=2)),
        (8, 6, "O5"),
    ),
    "of another round": ((*STORY[:3], reserved(2, retry_of=2)), (8, 4, "O5")),
    "after a re-entered release": (
        (*STORY[:3], _released(1, 1, ROUND, True, True), reserved(1, retry_of=4)),
        (8, 5, "O5"),  # the release names no digest, so it is another plan's
    ),
    "under a plan": ((*PLAN_STORY[:4], reserved(1, retry_of=3)), (8, 5, "O5")),
}


BROKEN_RULES: dict[str, tuple[Sequence[Draft], tuple[int, int, str]]] = {
    "another unit": ((opened(), opened(PLANNED.model_copy(update={"unit": "example"}))), (8, 2, "O1")),
    "a filter without a cap": ((opened(FILTER.model_copy(update={"order": 2})),), (8, 1, "O1")),
    "another dataset's budget": ((opened(dataset="others"), reserved(1)), (8, 2, "O2")),
    "after the close": ((opened(), CLOSED, reserved(1)), (8, 3, "O2")),
    "a second study in a plan": ((*PLAN_STORY[:2], PLAN_STORY[1]), (8, 3, "O3")),
    "a round before its study": ((PLAN_STORY[0], reserved(1)), (8, 2, "O3")),
    "more than the plan": ((*PLAN_STORY[:2], reserved(1, MANY), reserved(2)), (8, 4, "O3")),
    "a whole study in a filter": ((opened(), reserved(None)), (8, 2, "O4")),
    "the same round": ((*STORY[:3], reserved(1)), (8, 4, "O5")),
    "settled twice": ((*STORY[:3], settled(1, 2)), (8, 4, "O6")),
    "settled as another round": ((*STORY[:2], settled(2, 2)), (8, 3, "O6")),
    "settled for more": ((*STORY[:2], settled(1, 2, MANY)), (8, 3, "O6")),
    "settled for less": ((*STORY[:2], settled(1, 2, SampledGaussian(0.02, 1.0, 9))), (8, 3, "O6")),
    "a failed round refunded": (
        (*STORY[:2], settled(1, 2, refund="public-fact", outcome="failed")),
        (8, 3, "O6"),
    ),
    "a plan refunded": ((*PLAN_STORY[:3], settled(1, 3, refund="public-fact")), (8, 4, "O6")),
    "raised": ((opened(), lowered(2.0), lowered(2.5)), (8, 3, "O7")),
    "trusted with persons": ((opened(), _released(1, 1, ROUND, False, False)), (8, 2, "O8")),
    "re-entered, nothing lost": ((opened(), _released(1, 1, ROUND, False, True)), (8, 2, "O8")),
    "finished, but lost": ((Draft(dataset=DATA, details=Closed(why="finished", lost=LOST)),), (8, 1, "O8")),
    "approved, no study": ((Draft(dataset=DATA, details=Approved(expires=None)),), (8, 1, "O9")),
    "reserved, no run": ((opened(), replace(reserved(1), run=None)), (8, 2, "O9")),
    "reserved, no mechanism": ((opened(), replace(reserved(1), mechanism=None)), (8, 2, "O9")),
    "opened with a mechanism": ((replace(opened(), mechanism=ROUND),), (8, 1, "O9")),
}


def test_every_order_rule_is_broken_once() -> None:
    assert {expected[2] for _, expected in BROKEN_RULES.values()} == {f"O{n}" for n in range(1, 10)}


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_p01_each_broken_order_rule_is_named_with_its_entry(name: str) -> None:
    story, expected = BROKEN_RULES[name]
    bundle = bundled(chained(story))
    assert _said(bundle) == _hanse(bundle) == expected


@pytest.mark.parametrize("name", RETRIES)
def test_p09_retries_are_judged_as_hanse_does(name: str) -> None:
    story, expected = RETRIES[name]
    bundle = bundled(chained(story))
    assert _said(bundle) == _hanse(bundle) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False)
        | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    )
)
def test_canonical_bytes_are_hanse_s(value: object) -> None:
    try:
        expected = canonical(value)
    except Exception:  # noqa: BLE001 - whatever Hanse has no form for is not compared
        return
    assert alone.canonical(value).encode("utf-8") == expected
    assert alone.canonical(alone.parsed(expected)).encode("utf-8") == expected


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_end_as_a_violation(data: bytes, after_header: bool) -> None:
    header = bundled(chained(STORY)).partition(b"\n")[0] + b"\n"
    assert _said(header + data + b"\n" if after_header else data) is not None


# --- what it adds up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 6, 64])
@pytest.mark.parametrize("mechanism", [ROUND, MANY, GAUSS, Laplace(0.7, 2), MIXED])
def test_renyi_divergence_is_hanse_s(mechanism: Mechanism, order: int) -> None:
    found = alone.renyi(alone.releases(to_json(mechanism)), order)
    assert found == pytest.approx(rdp_at_order(mechanism, order), rel=1e-9)


def test_the_textbook_epsilon() -> None:
    """ACCOUNTING S03: RDP 2.1014 at the best real order; whole orders give at most 1 % more."""
    textbook = SampledGaussian(0.01, 1.0, 1000)
    found = alone.epsilon(alone.releases(to_json(textbook)), 1e-5)
    assert epsilon(textbook, 1e-5, "rdp") <= found + 1e-9
    assert 2.1013 < found < 2.1014 * 1.01
    assert alone.epsilon(alone.releases(None), 1e-5) == 0.0


def _run(tmp_path: Path, story: Sequence[Draft], *more: str) -> int:
    path = tmp_path / "x.jsonl"
    path.write_bytes(bundled(chained(story)))
    return int(alone.main([str(path), KEY.public_hex, *more]))


def test_charges_beyond_the_terms_are_a_violation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = [opened(), reserved(1, SampledGaussian(0.02, 0.4, 50))]
    assert _run(tmp_path, loud) == 4
    assert "VIOLATION check 10 (budget): entry 1: was charged with" in capsys.readouterr().out
    assert _run(tmp_path, [opened(PLANNED), reserved(None, NotPrivate("a"))]) == 4
    assert "no noise" in capsys.readouterr().out
    assert _run(tmp_path, [opened(), reserved(1, Gaussian(1e-200, 1))]) == 4
    capsys.readouterr()
    assert _run(tmp_path, [opened(PLANNED), reserved(None, SampledGaussian(0.02, 0.45, 100))]) == 0
    assert "only PLD" in capsys.readouterr().out


def test_arguments_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["x"], ["x", "abc"], ["x", KEY.public_hex, "1:2"], [str(tmp_path), KEY.public_hex]):
        assert alone.main(arguments) == 2
    assert "python verify_ledger.py BUNDLE PUBLIC_KEY" in capsys.readouterr().err
    assert _run(tmp_path, STORY, f"6:{chained(STORY)[5].hash}") == 0
    assert _run(tmp_path, STORY, f"7:{chained(STORY)[5].hash}") == 4
