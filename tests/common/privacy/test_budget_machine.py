"""The budget against a model of ten lines: whatever happens, it never counts less than the model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from common.errors import BadInput, BudgetExceeded, PolicyRefusal
from common.privacy.accounting import filter_cap, rdp_at_order
from common.privacy.budget import PrivacyBudget, Refund, RoundRequest, StudyUse
from common.privacy.ledger.history import Reservation
from common.privacy.ledger.rules import verified_entries
from common.privacy.mechanism import SampledGaussian
from tests.common.privacy.ledger.samples import DATA, FILTER, KEY, PLAN, STUDY, site_ledger

ORDER = 6
CAP = filter_cap(3.0, 1e-5, ORDER)
ONE_STEP = rdp_at_order(SampledGaussian(0.02, 1.0, 1), ORDER)


class Model:
    """Steps that count, and rounds that were tried: all that the budget has to remember."""

    def __init__(self) -> None:
        self.settled, self.open, self.tried = 0, {}, {}  # type: ignore[var-annotated]

    def steps(self) -> int:
        return self.settled + sum(self.open.values())

    def grants(self, number: int, steps: int, retry: bool) -> bool:
        fresh = number not in self.tried or (retry and self.tried[number] not in self.open)
        return fresh and (self.steps() + steps) * ONE_STEP <= CAP


class BudgetMachine(RuleBasedStateMachine):
    """Reserve, settle, crash (what was in memory is gone), reopen, close by the operator."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hanse-"))
        self.model = Model()
        self.budget = PrivacyBudget(site_ledger(self.folder), DATA)
        self.budget.open(FILTER)

    def teardown(self) -> None:
        verified_entries(self.budget.ledger.bundle(), KEY.public_hex, [self.budget.heads()])
        shutil.rmtree(self.folder)

    @rule(target=held, number=st.integers(1, 6), steps=st.integers(0, 200), retry=st.booleans())
    def reserve(self, number: int, steps: int, retry: bool) -> Reservation | None:
        request = RoundRequest(number, PLAN, SampledGaussian(0.02, 1.0, steps), retry)
        wanted = self.model.grants(number, steps, retry)
        try:
            found = self.budget.reserve(StudyUse(STUDY, "r", 1e-5), request)
        except (BudgetExceeded, PolicyRefusal):
            assert not wanted
            return None
        assert wanted
        self.model.open[found.sequence] = steps
        self.model.tried[number] = found.sequence
        return found

    @rule(found=consumes(held), kept=st.floats(0, 1))
    def settle_with_refund(self, found: Reservation | None, kept: float) -> None:
        if found is None:
            return
        ran = int(kept * self.model.open.get(found.sequence, 0))
        refund = Refund(SampledGaussian(0.02, 1.0, ran), "public-fact", "the coordinator ended the round")
        try:
            self.budget.settle(found, "completed", refund)
        except BadInput:
            assert found.sequence not in self.model.open  # the operator closed it
            return
        del self.model.open[found.sequence]
        self.model.settled += ran

    @rule(found=consumes(held))
    def settle_after_failure(self, found: Reservation | None) -> None:
        if found is not None and found.sequence in self.model.open:
            self.budget.settle(found, "failed")
            self.model.settled += self.model.open.pop(found.sequence)

    @rule(found=consumes(held))
    def crash_and_reopen(self, found: Reservation | None) -> None:
        self.budget = PrivacyBudget(site_ledger(self.folder), DATA)

    @rule()
    def operator_settles(self) -> None:
        self.budget.settle_open()
        self.model.settled += sum(self.model.open.values())
        self.model.open.clear()

    @invariant()
    def never_under_counts(self) -> None:
        (found,) = self.budget.spending()
        counted, true = found.spent + found.reserved, self.model.steps() * ONE_STEP
        assert counted >= true * (1 - 1e-12)
        assert abs(counted - true) <= 1e-9
        assert counted <= found.cap


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
