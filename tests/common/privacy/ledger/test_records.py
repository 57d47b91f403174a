"""Entries that cost nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from common.errors import AuditFailure, BadInput
from common.privacy.budget import PrivacyBudget
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.details import Kind, Refused
from common.privacy.ledger.entry import Draft
from common.privacy.ledger.records import (
    MOST_REFUSALS,
    adopt_policy,
    approval_holds,
    approve_study,
    close_dataset,
    record_refusal,
    record_trusted_release,
)
from common.privacy.ledger.store import LedgerStore
from common.privacy.mechanism import NotPrivate
from common.privacy.terms import BudgetTerms
from tests.common.privacy.ledger.samples import DATA, FILTER, KEY, OTHER_STUDY, STUDY, opened, site_ledger


def test_p18_an_approval_holds_until_its_day(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    approve_study(ledger, DATA, STUDY, date(2026, 12, 1))
    approve_study(ledger, DATA, OTHER_STUDY)
    assert approval_holds(ledger, DATA, STUDY, date(2026, 12, 1))
    assert not approval_holds(ledger, DATA, STUDY, date(2026, 12, 2))
    assert approval_holds(ledger, DATA, OTHER_STUDY, date(2099, 1, 1))
    assert not approval_holds(ledger, "other", STUDY, date(2026, 12, 1))


def test_a_refusal_is_recorded_once(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    for code in ("task", "task", "model"):
        record_refusal(ledger, Draft(dataset=DATA, study=STUDY, run="r", round=1, details=Refused(code=code)))
    assert [entry.kind for entry in ledger.entries()] == [Kind.REFUSE, Kind.REFUSE]
    with pytest.raises(BadInput, match="Refused"):
        record_refusal(ledger, opened())


def test_refusals_without_end_do_not_fill_the_disk(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 24, 10, 59, tzinfo=UTC)]
    ledger = Ledger(LedgerStore(tmp_path / "ledger.db"), KEY, clock=lambda: now[0])

    def refuse(number: int) -> None:
        record_refusal(ledger, Draft(dataset=DATA, study=STUDY, run=f"r{number}", details=Refused(code="task")))

    for number in range(MOST_REFUSALS + 50):
        refuse(number)
    assert len(list(ledger.entries())) == MOST_REFUSALS
    now[0] += timedelta(minutes=1)
    refuse(0)  # known already
    refuse(MOST_REFUSALS + 1)
    assert len(list(ledger.entries())) == MOST_REFUSALS + 1


def test_a_policy_and_the_end_are_recorded(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    adopt_policy(ledger, DATA, "f" * 64)
    PrivacyBudget(ledger, DATA).open(FILTER)
    close_dataset(ledger, DATA)
    assert [entry.kind for entry in ledger.entries()] == [Kind.POLICY, Kind.OPEN, Kind.CLOSE]


def test_p19_an_update_for_a_trusted_coordinator_is_recorded_and_charged_to_nothing(tmp_path: Path) -> None:
    ledger = site_ledger(tmp_path)
    with pytest.raises(BadInput, match="no open budget"):
        record_trusted_release(ledger, DATA, NotPrivate("central"), STUDY, "r", 1)
    budget = PrivacyBudget(ledger, DATA)
    budget.open(BudgetTerms(epsilon=5.0, delta=1e-5, unit="institution", declared_size=1))
    record_trusted_release(ledger, DATA, NotPrivate("central"), STUDY, "r", 1)
    assert budget.spending()[0].spent == 0.0
    assert ledger.entries()[-1].kind == Kind.RELEASE
    PrivacyBudget(ledger, "rows").open(FILTER)
    with pytest.raises(AuditFailure, match="O8"):
        record_trusted_release(ledger, "rows", NotPrivate("central"), STUDY, "r", 1)
