"""Real processes on one ledger: together they never overspend, and no entry is lost."""

from __future__ import annotations

import multiprocessing
from collections import Counter

import pytest

from common.errors import BudgetExceeded
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.details import Kind
from common.privacy.ledger.rules import verified_entries
from common.privacy.ledger.store import LedgerStore
from common.privacy.mechanism import SampledGaussian
from common.privacy.spending import overspent
from tests.common.privacy.ledger.samples import DATA, FILTER, KEY, PLAN, STUDY

PROCESSES, ATTEMPTS = 8, 25
EACH = SampledGaussian(0.02, 1.0, 5)
"""1.23809 / (0.83031 / 300 * 5) = 89 of 200 attempts fit (ACCOUNTING.md section 5)."""
GRANTED = 89


def attempt(database: str, worker: int) -> Counter[str]:
    """One process: its own store, 25 rounds of its own run."""
    budget = PrivacyBudget(Ledger(LedgerStore(database), KEY), DATA)
    told: Counter[str] = Counter()
    for number in range(1, ATTEMPTS + 1):
        try:
            held = budget.reserve(StudyUse(STUDY, f"run-{worker}", 1e-5), RoundRequest(number, PLAN, EACH))
        except BudgetExceeded:
            told["refused"] += 1
            continue
        told["granted"] += 1
        if number % 3:
            budget.settle(held, "completed")
            told["settled"] += 1
    return told


@pytest.mark.slow
def test_eight_processes_cannot_overspend_together(database: str) -> None:
    ledger = Ledger(LedgerStore(database), KEY)
    PrivacyBudget(ledger, DATA).open(FILTER)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        jobs = [pool.apply_async(attempt, (database, worker)) for worker in range(PROCESSES)]
        told = sum((job.get(timeout=300) for job in jobs), Counter())
    verified = verified_entries(ledger.bundle(), KEY.public_hex)
    kinds = Counter(entry.kind for entry in verified.entries)
    assert told["granted"] + told["refused"] == PROCESSES * ATTEMPTS
    assert kinds[Kind.RESERVE] == told["granted"] == GRANTED
    assert kinds[Kind.SETTLE] == told["settled"]
    assert kinds[Kind.REFUSE] == told["refused"]
    assert overspent(verified.history) == ()


def create(database: str) -> str:
    """One process opens a ledger that may not exist yet."""
    return LedgerStore(database).name


@pytest.mark.slow
def test_processes_may_create_a_ledger_together(database: str) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        jobs = [pool.apply_async(create, (database,)) for _ in range(8)]
        assert len({job.get(timeout=120) for job in jobs}) == 1
