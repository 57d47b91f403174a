"""The policy: what the officer must say, what follows from it, and what names it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from client.policy import AllowSection, DatasetSection, Policy
from common.errors import BadInput, NotYet
from common.privacy.terms import BudgetTerms
from common.study import FederationSection, ModelSection, PrivacySection, Study, StudySection, TaskSection
from tests.client.samples import policy_of

SAMPLE_DIGEST = "aa7a01e11e1a00f0276336db8fd46b7bac64dfbb2e4262fbd5f16ee5a3c9c929"
"""Of ``policy_of()``. Ledgers hold it: another value means that every site's policy counts as changed."""


def sections() -> dict[str, dict[str, Any]]:
    """The sample policy as an officer would type it."""
    return policy_of().model_dump(exclude_none=True)


def missing_of(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate(tree)
    return [".".join(map(str, item["loc"])) for item in caught.value.errors() if item["type"] == "missing"]


class TestWhatTheOfficerMustSay:
    """Nothing that describes the data has a default, and nothing is worked out."""

    @pytest.mark.parametrize(
        "key",
        [
            "site.name",
            "dataset.name",
            "dataset.unit",
            "dataset.declared_size",
            "budget.epsilon",
            "disclose.labels",
        ],
    )
    def test_p02_p03_no_default_stands_in_for_the_officer(self, key: str) -> None:
        tree = sections()
        section, name = key.split(".")
        del tree[section][name]
        assert missing_of(tree) == [key]

    def test_p02_unit_example_needs_the_statement_and_the_others_do_not(self) -> None:
        with pytest.raises(BadInput, match=r"dataset\.one_row_per_person = false.*unit = \"group\""):
            policy_of(dataset={"one_row_per_person": False})
        assert not DatasetSection(name="a", unit="institution", declared_size=3).one_row_per_person
        policy_of(dataset={"unit": "group", "one_row_per_person": False, "group_column": "person"})
        policy_of(dataset={"unit": "institution", "one_row_per_person": False})

    def test_p02_a_group_has_a_column_and_nothing_else_has(self) -> None:
        with pytest.raises(BadInput, match=r'dataset\.group_column = "": unit = "group" needs'):
            policy_of(dataset={"unit": "group"})
        for unit in ("example", "institution"):
            with pytest.raises(BadInput, match=r'dataset\.group_column = "person": belongs to unit = "group"'):
                policy_of(dataset={"unit": unit, "group_column": "person"})

    @pytest.mark.parametrize("size", [0, -1, 60.0, "60", True, 10**12 + 1, None])
    def test_p03_the_declared_size_is_a_whole_number_that_was_typed(self, size: object) -> None:
        with pytest.raises(ValidationError):
            policy_of(dataset={"declared_size": size})

    def test_p18_by_default_studies_need_approval_and_privacy(self) -> None:
        policy = policy_of(allow={"approval": "required"})
        assert AllowSection().approval == "required"
        assert not policy.dataset.public

    def test_all_contradictions_are_told_at_once(self) -> None:
        with pytest.raises(BadInput) as caught:
            policy_of(
                dataset={"one_row_per_person": False, "group_column": "person"},
                budget={"epsilon_per_study": 9.0, "order": 3},
                ledger={"url": "mysql://host/name"},
            )
        assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [
            "dataset.one_row_per_person",
            "dataset.group_column",
            "budget.epsilon_per_study",
            "budget.order",
            "ledger.url:",
        ]


class TestTerms:
    """What the budget is opened with (P5)."""

    def test_p05_a_plan(self) -> None:
        assert policy_of().terms == BudgetTerms(
            epsilon=8.0, delta=1e-5, unit="example", declared_size=60, kind="plan", order=None
        )

    def test_p05_a_filter_keeps_its_one_order(self) -> None:
        terms = policy_of(budget={"kind": "filter", "order": 8, "delta": 1e-6}).terms
        assert (terms.kind, terms.order, terms.delta) == ("filter", 8, 1e-6)

    @pytest.mark.parametrize(
        ("budget", "part"),
        [
            ({"kind": "filter"}, "budget.order: a filter needs one from 2"),
            ({"kind": "filter", "order": 1}, "budget.order = 1: a filter needs one from 2"),
            ({"order": 8}, 'budget.order = 8: belongs to kind = "filter"'),
            ({"kind": "filter", "order": 2}, "budget.order = 2: can never grant anything"),
        ],
    )
    def test_p05_an_order_that_cannot_be(self, budget: dict[str, Any], part: str) -> None:
        with pytest.raises(BadInput) as caught:
            policy_of(budget=budget)
        assert part in str(caught.value)

    @given(st.integers(1, 10**10))
    def test_auto_delta_is_that_of_a_study(self, size: int) -> None:
        study = Study(study=StudySection(name="a"), task=TaskSection(labels=["a", "b"]))
        policy = policy_of(dataset={"declared_size": size})
        assert policy.delta == policy.terms.delta == study.delta_of(size)

    def test_an_auto_delta_too_small_for_the_accountant_is_refused(self) -> None:
        with pytest.raises(BadInput, match=r"budget\.delta = .*: must be at least 1e-12"):
            policy_of(dataset={"declared_size": 10**12})


class TestDigest:
    """SHA-256 of what was agreed to."""

    def test_it_is_what_ledgers_hold(self) -> None:
        assert policy_of().digest() == SAMPLE_DIGEST

    def test_it_does_not_say_where_the_ledger_lies(self) -> None:
        elsewhere = policy_of(ledger={"url": "postgresql://officer@host/ledgers"})
        assert elsewhere.digest() == policy_of().digest()
        assert "officer@host" not in repr(elsewhere)

    def test_spelling_out_defaults_changes_nothing(self) -> None:
        assert Policy.model_validate(sections()).digest() == policy_of().digest()
        assert Policy.model_validate_json(policy_of().model_dump_json()).digest() == policy_of().digest()

    @pytest.mark.parametrize(
        "change",
        [
            {"site": {"name": "south"}},
            {"dataset": {"name": "notes"}},
            {"dataset": {"declared_size": 61}},
            {"dataset": {"public": True}},
            {"budget": {"epsilon": 7.0}},
            {"budget": {"delta": 1e-5}},
            {"budget": {"epsilon_per_round": 1.0}},
            {"allow": {"approval": "required"}},
            {"allow": {"min_sites": 3}},
            {"allow": {"expires": date(2027, 1, 31)}},
            {"disclose": {"labels": ["negative", "neutral", "positive"]}},
        ],
        ids=str,
    )
    def test_any_other_key_changes_it(self, change: dict[str, Any]) -> None:
        assert policy_of(**change).digest() != policy_of().digest()


def test_a_policy_cannot_be_changed() -> None:
    policy = policy_of()
    with pytest.raises(ValidationError, match="frozen"):
        policy.dataset.declared_size = 61


@pytest.mark.parametrize("moment", [datetime(2027, 1, 31, 12, 0), "2027-01-31", 20270131])
def test_an_end_is_a_day(moment: object) -> None:
    with pytest.raises(ValidationError):
        policy_of(allow={"expires": moment})


def test_validation_metrics_wait_for_their_release() -> None:
    with pytest.raises(NotYet, match="validation metrics of a site come with its evaluation release"):
        policy_of(disclose={"validation_epsilon": 0.5})


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:hush@host/name", "postgresql://me@host/name?password=hush", "postgresql://me:@host/name"],
)
def test_p22_a_password_in_the_ledgers_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match=r"ledger\.url: holds a password.*PGPASSFILE") as caught:
        policy_of(ledger={"url": url})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "postgresql://me@host:5432/name", "postgresql:///name"])
def test_a_url_that_a_ledger_takes(url: str) -> None:
    assert policy_of(ledger={"url": url}).ledger.url == url


def test_what_may_be_allowed_is_what_a_study_may_ask() -> None:
    """The lists here are written out; a study's new choice must be added."""

    def choices(model: Any, field: str) -> set[str]:
        return set(get_args(model.model_fields[field].annotation))

    def entries(field: str) -> set[str]:
        (entry,) = get_args(AllowSection.model_fields[field].annotation)
        return set(get_args(entry))

    assert entries("tasks") == choices(TaskSection, "kind")
    assert entries("trainable") == choices(ModelSection, "trainable")
    assert entries("strategies") == choices(FederationSection, "strategy") == set(AllowSection().strategies)
    assert choices(DatasetSection, "unit") == choices(PrivacySection, "unit")
