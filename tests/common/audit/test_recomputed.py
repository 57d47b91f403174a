"""Recomputed epsilons: what counts is what the history counts; golden values; a person's sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from common.audit.ledger_files import open_bundles
from common.audit.recomputed import RecomputedEpsilon, charged_mechanisms, in_words, recompute
from common.privacy import prv
from common.privacy.coverage import together
from common.privacy.ledger.details import Closed, Released
from common.privacy.ledger.entry import Draft
from common.privacy.ledger.history import History
from common.privacy.ledger.order import advance
from common.privacy.mechanism import Composition, Gaussian, Laplace, NotPrivate, SampledGaussian
from tests.common.audit.samples import HONEST, KEYS, PLAN_STORY, bundle, written
from tests.common.privacy.ledger.samples import (
    DATA,
    FILTER,
    PLANNED,
    ROUND,
    STORY,
    STUDY,
    lowered,
    opened,
    reserved,
    settled,
)
from tests.common.privacy.ledger.write_vectors import LOST

TEXTBOOK = SampledGaussian(0.01, 1.0, 1000)
"""ACCOUNTING S03: PLD 1.8282, RDP 2.1014, PRV upper 1.8384 at delta 1e-5."""
REENTERED = Draft(
    dataset=DATA,
    study=STUDY,
    run="r",
    round=9,
    mechanism=ROUND,
    details=Released(budget=1, why="re-entered", plan=None, lost=LOST),
)
STORIES: dict[str, Sequence[Draft]] = {
    "filter": STORY,
    "plan": PLAN_STORY,
    "open round": STORY[:2],
    "refund": (*STORY[:2], settled(1, 2, SampledGaussian(0.02, 1.0, 10), refund="public-fact")),
    "re-entered": (*STORY, REENTERED),
    "re-entered under a plan": (*PLAN_STORY[:2], replace(REENTERED, round=1)),
    "written off": (*STORY, Draft(dataset=DATA, details=Closed(why="written-off", lost=LOST))),
    "two budgets": (*PLAN_STORY, opened(PLANNED), lowered(3.0, 7)),
    "nothing": (opened(),),
}


def _figures(*stories: Sequence[Draft], second_opinion: bool = False) -> dict[tuple[str, str], RecomputedEpsilon]:
    bundles = [bundle(site, written(site, story)) for site, story in zip(KEYS, stories, strict=False)]
    opened_ledgers, findings = open_bundles(bundles, HONEST.keys)
    assert not findings
    return {(each.scope, each.name): each for each in recompute(opened_ledgers, second_opinion)}


@pytest.mark.parametrize("name", STORIES)
def test_what_counts_is_what_the_history_charges(name: str) -> None:
    entries, history = written("north", STORIES[name]), History()
    for entry in entries:
        advance(history, entry)
    expected = together(*(budget.charged() for budget in history.budgets.values()))
    assert together(*charged_mechanisms(entries).values()) == expected


def test_the_textbook_example_by_three_accountants() -> None:
    """Golden: ACCOUNTING S03, made by dp-accounting 0.6.0 and Opacus 1.6.0."""
    found = _figures((opened(PLANNED), reserved(None, TEXTBOOK)), second_opinion=True)
    dataset = found[("dataset", f"north.jsonl: {DATA}")]
    assert dataset.pld == pytest.approx(1.8282, abs=5e-5)
    assert 2.09 < dataset.rdp < 2.1015
    assert dataset.prv == pytest.approx(1.8384, abs=1e-3)
    assert (dataset.claimed, dataset.delta, dataset.unit) == (8.0, 1e-5, "group")
    study = found[("study", f"north.jsonl: {DATA}, study {STUDY[:16]}")]
    assert (study.claimed, study.pld, study.delta) == (None, dataset.pld, 1e-5)


def test_p02_a_person_at_two_sites_has_the_sum_and_the_composition() -> None:
    found = _figures((opened(PLANNED), reserved(None, TEXTBOOK)), (opened(FILTER), reserved(1)))
    person = found[("person", "a person at all sites")]
    assert person.claimed == 8.0 + 3.0
    assert person.delta == pytest.approx(2e-5)
    assert person.mechanism == together(TEXTBOOK, ROUND)
    alone = [each.pld for key, each in found.items() if key[0] == "site"]
    assert max(alone) < person.pld < sum(alone)


def test_p02_one_site_alone_has_no_person_across_sites() -> None:
    assert {scope for scope, _ in _figures(PLAN_STORY)} == {"study", "dataset", "site"}


def test_datasets_of_one_site_compose() -> None:
    other = replace(
        PLAN_STORY[1], dataset="others", details=PLAN_STORY[1].details.model_copy(update={"budget": 2})
    )
    story = (PLAN_STORY[0], opened(PLANNED, "others"), PLAN_STORY[1], other)
    found = _figures(story)
    site = found[("site", "north.jsonl")]
    assert (site.claimed, site.delta) == (16.0, 2e-5)
    assert site.mechanism == SampledGaussian(0.02, 1.0, 200)


def test_no_noise_costs_infinity_and_a_delta_of_one_promises_nothing() -> None:
    found = _figures((opened(PLANNED), reserved(None, NotPrivate("a test"))))
    assert found[("site", "north.jsonl")].pld == math.inf
    loose = PLANNED.model_copy(update={"delta": 0.6})
    found = _figures((opened(loose), opened(loose), reserved(None, TEXTBOOK)))
    assert found[("site", "north.jsonl")].rdp == math.inf


def test_a_second_opinion_that_fails_is_missing_and_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prv, "TIME_LIMIT", 1e-3)
    monkeypatch.setattr(prv.bounds, "__defaults__", (1e-3,))
    found = _figures(PLAN_STORY, second_opinion=True)
    assert {each.prv for each in found.values()} == {None}


def test_the_releases_in_words() -> None:
    mechanism = Composition((ROUND, Gaussian(2.0, 3), Laplace(0.5, 1), NotPrivate("why")))
    assert in_words(mechanism) == (
        "50 steps, Poisson sampling at rate 0.02, noise multiplier 1; 3 Gaussian releases over all units, noise "
        "multiplier 2; 1 Laplace releases, scale 0.5; not private: why"
    )
    assert in_words(Composition(())) == "nothing"
