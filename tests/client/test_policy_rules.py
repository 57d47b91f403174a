"""What a policy says to a study: every code, in a fixed order, from plan, policy and ledger alone."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy import Policy
from client.policy_rules import CODES, PolicyRequest, check_policy, policy_request, refusals
from common.errors import PolicyRefusal
from common.privacy.accounting import epsilon, rdp_at_order
from common.privacy.granting import Refusal
from common.privacy.ledger.details import Refused
from common.privacy.mechanism import SampledGaussian
from common.privacy.spending import filter_reading
from common.study import Study
from tests.client.samples import policy_of

DIGEST = "ab" * 32
TODAY = date(2027, 1, 31)


def study_of(**changes: dict[str, Any]) -> Study:
    """A study that the sample policy agrees to; ``changes`` by section."""
    sections: dict[str, Any] = {
        "study": {"name": "reviews"},
        "task": {"labels": ["negative", "positive"]},
        "privacy": {"batch_size": 8},
        "federation": {"min_sites": 2},
    }
    for section, values in changes.items():
        sections[section] = sections.get(section, {}) | values
    return Study.model_validate(sections)


def request_of(study: Study | None = None, **changes: Any) -> PolicyRequest:
    """A request that the sample policy agrees to."""
    study = study or study_of()
    request = PolicyRequest(
        study=study,
        study_digest=DIGEST,
        noise_multiplier=1.0 if study.privacy.enabled else 0.0,
        study_epsilon=study.epsilon_of("north"),
        round_epsilon=0.5,
        approved=True,
        today=TODAY,
    )
    return replace(request, **changes)


GROUP = {"unit": "group", "one_row_per_person": False, "group_column": "person"}

REFUSED: list[tuple[str, Policy, PolicyRequest, str]] = [
    (
        "not-approved",
        policy_of(allow={"approval": "required"}),
        request_of(approved=False),
        'study.name = "reviews": policy allows approved studies only; the officer approves it with '
        f"`hanse policy approve {DIGEST}`",
    ),
    (
        "policy-expired",
        policy_of(allow={"expires": date(2027, 1, 30)}),
        request_of(),
        "today = 2027-01-31: policy allows studies up to 2027-01-30; the officer moves allow.expires",
    ),
    (
        "unit-differs",
        policy_of(dataset=GROUP),
        request_of(),
        'privacy.unit = "example": policy allows "group" alone; set the study\'s unit to it',
    ),
    (
        "unit-differs",
        policy_of(),
        request_of(study_of(privacy={"unit": "institution"})),
        'privacy.unit = "institution": policy allows "example" alone; set the study\'s unit to it',
    ),
    (
        "group-column-differs",
        policy_of(dataset=GROUP),
        request_of(study_of(privacy={"unit": "group", "group_column": "ward"})),
        'privacy.group_column = "ward": policy allows "person" alone; set the study\'s column to it',
    ),
    (
        "delta-differs",
        policy_of(budget={"delta": 1e-6}),
        request_of(),
        "privacy.delta = 1e-05: policy allows 1e-06 alone; set the study's delta to it",
    ),
    (
        "not-private",
        policy_of(),
        request_of(study_of(privacy={"enabled": False})),
        "privacy.enabled = false: policy allows true alone, the dataset is not public; set privacy.enabled = true",
    ),
    (
        "task-not-allowed",
        policy_of(),
        request_of(study_of(task={"kind": "token-classification"})),
        'task.kind = "token-classification": policy allows "sequence-classification"; '
        "choose one of these, or ask the officer to add it to allow.tasks",
    ),
    (
        "model-not-allowed",
        policy_of(allow={"models": ["minilm-l6", "a/b@c"]}),
        request_of(study_of(model={"base": "a/b@d"})),
        'model.base = "a/b@d": policy allows "minilm-l6", "a/b@c"; '
        "choose one of these, or ask the officer to add it to allow.models",
    ),
    (
        "trainable-not-allowed",
        policy_of(),
        request_of(study_of(model={"trainable": "full"})),
        'model.trainable = "full": policy allows "lora"; '
        "choose one of these, or ask the officer to add it to allow.trainable",
    ),
    (
        "strategy-not-allowed",
        policy_of(allow={"strategies": ["fedadam", "krum"]}),
        request_of(),
        'federation.strategy = "fedavg": policy allows "fedadam", "krum"; '
        "choose one of these, or ask the officer to add it to allow.strategies",
    ),
    (
        "too-few-sites",
        policy_of(),
        request_of(study_of(federation={"min_sites": 1})),
        "federation.min_sites = 1: policy allows 2 or more; raise it to 2",
    ),
    (
        "labels-differ",
        policy_of(),
        request_of(study_of(task={"labels": ["negative", "neutral", "positive"]})),
        "task.labels = ['negative', 'neutral', 'positive']: policy allows ['negative', 'positive']; "
        "name exactly these, in any order",
    ),
    (
        "batch-too-large",
        policy_of(),
        request_of(study_of(privacy={"batch_size": 61}), noise_multiplier=0.0),
        "privacy.batch_size = 61: policy allows its declared size 60 at most; lower it",
    ),
    (
        "noise-too-small",
        policy_of(),
        request_of(noise_multiplier=0.0999),
        "noise_multiplier = 0.0999 as calibrated: policy allows 0.1 or more; "
        "lower privacy.epsilon, which takes more noise",
    ),
    (
        "epsilon-per-study",
        policy_of(budget={"epsilon_per_study": 4.0}),
        request_of(),
        "privacy.epsilon = 8.0: policy allows 4.0 at most for one study; "
        "lower it, for this site alone with [[site]] epsilon",
    ),
    (
        "epsilon-per-round",
        policy_of(budget={"epsilon_per_round": 0.25}),
        request_of(),
        "epsilon of the dearest round = 0.5: policy allows 0.25 at most; "
        "lower federation.steps_per_round or spread the warm start over more rounds",
    ),
]


class TestCodes:
    """Every reason has a word, a field, a value, what is allowed, and a mend."""

    @pytest.mark.parametrize(("code", "policy", "request_", "message"), REFUSED, ids=[case[0] for case in REFUSED])
    def test_each_is_reached_alone(self, code: str, policy: Policy, request_: PolicyRequest, message: str) -> None:
        assert [refusal.code for refusal in refusals(policy, request_)] == [code]
        with pytest.raises(Refusal) as caught:
            check_policy(policy, request_)
        assert caught.value.code == code
        assert str(caught.value) == message
        assert isinstance(caught.value.error, PolicyRefusal)
        assert str(caught.value.error) == message

    def test_all_are_reached_in_the_table_and_fit_the_ledger(self) -> None:
        assert {case[0] for case in REFUSED} == set(CODES)
        assert len(set(CODES)) == len(CODES)
        for code in CODES:
            assert re.fullmatch(r"[a-z][a-z0-9-]{0,39}", code)
            Refused(code=code)

    def test_the_order_is_fixed_and_the_first_decides(self) -> None:
        policy = policy_of(
            allow={"approval": "required", "expires": date(2027, 1, 30), "strategies": ["krum"], "min_sites": 3},
            budget={"delta": 1e-6, "epsilon_per_study": 4.0, "epsilon_per_round": 0.25},
        )
        request = request_of(study_of(task={"labels": ["a", "b"]}), approved=False, noise_multiplier=0.01)
        found = [refusal.code for refusal in refusals(policy, request)]
        assert found == [code for code in CODES if code in found]
        assert len(found) == 9
        with pytest.raises(Refusal) as caught:
            check_policy(policy, request)
        assert caught.value.code == "not-approved"

    @given(st.text(min_size=1), st.lists(st.text(min_size=1), min_size=2, max_size=30))
    def test_a_message_is_one_line_whatever_the_study_holds(self, base: str, labels: list[str]) -> None:
        study = study_of()
        study = study.model_copy(
            update={
                "model": study.model.model_copy(update={"base": base + "\n"}),
                "task": study.task.model_copy(update={"labels": [label + "\u2028" for label in labels]}),
            }
        )
        found = refusals(policy_of(allow={"models": ["minilm-l6"]}), request_of(study))
        assert [refusal.code for refusal in found] == ["model-not-allowed", "labels-differ"]
        assert all(len(str(refusal).splitlines()) == 1 and len(str(refusal)) < 400 for refusal in found)


AGREED: list[tuple[str, Policy, PolicyRequest]] = [
    ("the sample", policy_of(), request_of()),
    ("an approved study", policy_of(allow={"approval": "required"}), request_of()),
    ("the last day", policy_of(allow={"expires": TODAY}), request_of()),
    ("labels in another order", policy_of(disclose={"labels": ["positive", "negative"]}), request_of()),
    ("just enough noise", policy_of(), request_of(noise_multiplier=0.1)),
    ("just as many sites", policy_of(allow={"min_sites": 2}), request_of()),
    ("a batch of all units", policy_of(), request_of(study_of(privacy={"batch_size": 60}))),
    ("just the epsilons", policy_of(budget={"epsilon_per_study": 8.0, "epsilon_per_round": 0.5}), request_of()),
    ("any model", policy_of(), request_of(study_of(model={"base": "a/b@c"}))),
    (
        "persons",
        policy_of(dataset=GROUP),
        request_of(study_of(privacy={"unit": "group", "group_column": "person"})),
    ),
    ("the same delta, typed", policy_of(budget={"delta": 1e-6}), request_of(study_of(privacy={"delta": 1e-6}))),
]


@pytest.mark.parametrize(("name", "policy", "request_"), AGREED, ids=[case[0] for case in AGREED])
def test_a_policy_agrees_at_its_bounds(name: str, policy: Policy, request_: PolicyRequest) -> None:
    assert refusals(policy, request_) == ()
    check_policy(policy, request_)


def test_p15_sites_with_one_policy_say_the_same_whatever_their_data() -> None:
    """All that a rule can see is policy and request; neither has a place for data, and equal ones say the same."""
    assert set(PolicyRequest.__dataclass_fields__) == {
        "study", "study_digest", "noise_multiplier", "study_epsilon", "round_epsilon", "approved", "today",
    }  # fmt: skip
    for _, policy, request, message in REFUSED:
        other_site = Policy.model_validate(policy.model_dump())
        same_request = replace(request, study=Study.from_json(request.study.to_json()))
        assert [str(refusal) for refusal in refusals(other_site, same_request)] == [message]


def test_p15_a_policy_elsewhere_in_the_ledger_says_the_same() -> None:
    """Neither the dataset's name nor the ledger's place is told."""
    for _, policy, request, message in REFUSED:
        tree = policy.model_dump()
        tree["dataset"]["name"], tree["ledger"]["url"] = "patients-2027", "postgresql://me@secret-host/name"
        assert [str(refusal) for refusal in refusals(Policy.model_validate(tree), request)] == [message]


class TestApproval:
    """The digest that was approved, and no other study (P18)."""

    def test_p18_a_study_without_approval_is_refused_by_default(self) -> None:
        tree = policy_of().model_dump()
        del tree["allow"]["approval"]
        with pytest.raises(Refusal) as caught:
            check_policy(Policy.model_validate(tree), request_of(approved=False))
        assert caught.value.code == "not-approved"
        assert DIGEST in str(caught.value)

    def test_p18_privacy_off_only_where_the_dataset_is_public(self) -> None:
        plain = request_of(study_of(privacy={"enabled": False}))
        with pytest.raises(Refusal) as caught:
            check_policy(policy_of(), plain)
        assert caught.value.code == "not-private"
        check_policy(policy_of(dataset={"public": True}), plain)

    def test_p18_a_public_dataset_still_has_its_other_rules(self) -> None:
        plain = request_of(study_of(privacy={"enabled": False}, federation={"min_sites": 1}), approved=False)
        public = policy_of(dataset={"public": True}, allow={"approval": "required"})
        assert [refusal.code for refusal in refusals(public, plain)] == ["not-approved", "too-few-sites"]


def test_p19_where_the_coordinator_adds_the_noise_the_site_asks_for_none_of_its_own() -> None:
    trusting = policy_of(
        dataset={"unit": "institution", "one_row_per_person": False},
        budget={"delta": 1e-7, "epsilon_per_study": 1.0, "epsilon_per_round": 0.1},
    )
    central = request_of(study_of(privacy={"unit": "institution"}), noise_multiplier=0.0)
    check_policy(trusting, central)


class TestPolicyRequest:
    """What the study asks is worked out from plan and policy."""

    def test_p05_the_dearest_round_is_priced_by_the_budgets_own_accountant(self) -> None:
        study = study_of(federation={"steps_per_round": 3})  # the warm start's rounds take 10 steps each
        release = SampledGaussian(8 / 60, 1.5, 10)
        plan = policy_of(budget={"epsilon_per_round": 1.0})
        asked = policy_request(plan, study, DIGEST, 1.5, True, TODAY)
        assert asked.round_epsilon == pytest.approx(epsilon(release, 1e-5), rel=1e-9)
        by_filter = policy_of(budget={"epsilon_per_round": 1.0, "kind": "filter", "order": 8})
        asked = policy_request(by_filter, study, DIGEST, 1.5, True, TODAY)
        assert asked.round_epsilon == pytest.approx(filter_reading(rdp_at_order(release, 8), 8, 1e-5), rel=1e-9)

    def test_it_is_not_priced_where_nothing_bounds_it_or_no_noise_is_added(self) -> None:
        assert policy_request(policy_of(), study_of(), DIGEST, 1.5, True, TODAY).round_epsilon == 0.0
        bounded = policy_of(budget={"epsilon_per_round": 1.0})
        assert policy_request(bounded, study_of(), DIGEST, 0.0, True, TODAY).round_epsilon == 0.0

    def test_the_sites_own_epsilon_and_approval(self) -> None:
        own = Study.model_validate(study_of().model_dump() | {"site": [{"name": "north", "epsilon": 3.0}]})
        strict = policy_of(allow={"approval": "required"})
        asked = policy_request(strict, own, DIGEST, 1.5, False, TODAY)
        assert (asked.study_epsilon, asked.approved) == (3.0, False)
        assert policy_request(policy_of(), own, DIGEST, 1.5, False, TODAY).approved
