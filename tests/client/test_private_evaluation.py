"""A site's validation set is looked at only when its ledger has paid, once for each thing that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.private_evaluation
from client.private_evaluation import ValidationSet, release_validation, validation_apart
from common.errors import BudgetExceeded, HanseError, NotYet, PolicyRefusal
from common.evaluation.private_counts import ReleasePlan
from common.examples import Example
from common.model import Classifier, build_classifier
from common.privacy.budget import PrivacyBudget, StudyUse
from common.privacy.terms import BudgetTerms
from common.study import Study
from common.text import load_tokenizer, tokenize
from tests.client.samples import ROWS, budget_of

USE = StudyUse("a" * 64, "0123456789abcdef" * 2, 1e-5)
PLAN = ReleasePlan(("negative", "positive"), ("all",), 4.0)


@pytest.fixture
def budget(tmp_path: Path) -> PrivacyBudget:
    found = budget_of(tmp_path / "site")
    found.open(BudgetTerms(kind="filter", epsilon=2.0, delta=1e-5, unit="example", declared_size=50, order=16))
    return found


@pytest.fixture
def classifier(tiny_study: Study) -> Classifier:
    return build_classifier(tiny_study)


@pytest.fixture
def validation(tiny_base: Path) -> ValidationSet:
    labels = [int(label == "positive") for _, label, _ in ROWS]
    texts = tokenize(load_tokenizer(tiny_base), [text for text, _, _ in ROWS], labels, 16)
    return ValidationSet(texts, np.zeros(len(texts), np.int64))


def test_p16_a_release_is_reserved_before_it_is_computed_and_settled_before_it_leaves(
    budget: PrivacyBudget, classifier: Classifier, validation: ValidationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    exact = client.private_evaluation._histogram

    def watched(*given: Any) -> Any:
        seen.append(len(budget.open_reservations()))
        return exact(*given)

    monkeypatch.setattr(client.private_evaluation, "_histogram", watched)
    found = release_validation(budget, USE, 1, PLAN, classifier, validation)
    assert seen == [1]
    assert budget.open_reservations() == ()
    assert budget.spending()[0].spent > 0
    assert abs(found.units() - 50) < 5 * found.uncertainty()
    assert not np.array_equal(found.counts, np.rint(found.counts))


def test_p16_a_budget_that_does_not_hold_it_refuses_and_nothing_is_looked_at(
    budget: PrivacyBudget, classifier: Classifier, validation: ValidationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.private_evaluation, "_histogram", lambda *_: pytest.fail("the data was looked at"))
    loud = ReleasePlan(PLAN.labels, PLAN.slices, 0.05)
    with pytest.raises(BudgetExceeded):
        release_validation(budget, USE, 1, loud, classifier, validation)


def test_p07_a_release_that_fails_counts_in_full(
    budget: PrivacyBudget, classifier: Classifier, validation: ValidationSet
) -> None:
    astray = ValidationSet(validation.texts, validation.parts + 1)
    with pytest.raises(HanseError, match="none of the plan's slices"):
        release_validation(budget, USE, 1, PLAN, classifier, astray)
    assert budget.open_reservations() == ()
    failed = budget.spending()[0].spent
    release_validation(budget, StudyUse("b" * 64, USE.run, 1e-5), 1, PLAN, classifier, validation)
    assert failed > 0
    assert budget.spending()[0].spent > failed


def test_p09_the_same_release_is_not_made_twice(
    budget: PrivacyBudget, classifier: Classifier, validation: ValidationSet
) -> None:
    release_validation(budget, USE, 1, PLAN, classifier, validation)
    with pytest.raises(PolicyRefusal):
        release_validation(budget, USE, 1, PLAN, classifier, validation)
    release_validation(budget, USE, 2, PLAN, classifier, validation)


def test_p16_validation_units_never_train() -> None:
    rows = [Example("a", 0), Example("b", 1, group="Ann"), Example("c", 0, group="Bo")]
    validation_apart(rows[:2], rows[2:])
    validation_apart(rows[1:2], [Example("b", 1, group="Cy")])  # two persons may write the same
    for shared in (Example("a", 1), Example("z", 0, group="Ann")):
        with pytest.raises(HanseError, match="keep them apart") as caught:
            validation_apart(rows, [shared])
        assert "Ann" not in str(caught.value)


def test_another_task_is_refused_before_anything_is_paid(
    budget: PrivacyBudget, classifier: Classifier, validation: ValidationSet
) -> None:
    classifier.kind = "token-classification"
    with pytest.raises(NotYet, match="not yet"):
        release_validation(budget, USE, 1, PLAN, classifier, validation)
    assert budget.spending()[0].spent == 0
