"""The privacy budget of one dataset: reserve before any gradient touches data, settle afterwards.

Nothing is ever counted below what may have been released. A reservation is on disk before it is returned; it
counts in full until it is settled, and in full for good unless a filter's round was completed and steps were
left out for a reason that is public or an earlier DP output (PRIVACY P7). Processes that share a ledger take
turns, so that they cannot overspend together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from common.errors import BadInput, BudgetExceeded, PolicyRefusal
from common.privacy.coverage import covers
from common.privacy.granting import (
    Refund,
    Refusal,
    RoundRequest,
    StudyUse,
    budget_for_round,
    budget_named,
    budget_to_admit,
    figures,
    first_try,
    held_study,
)
from common.privacy.ledger.book import Ledger, Page
from common.privacy.ledger.commitment import DataSeal
from common.privacy.ledger.details import Head, Lowering, Opened, Outcome, Policy, Refused, Reserved, Settled
from common.privacy.ledger.entry import Draft, LedgerEntry, check_name
from common.privacy.ledger.heads import head_problem
from common.privacy.ledger.history import Reservation
from common.privacy.ledger.records import append_refusal
from common.privacy.mechanism import Mechanism
from common.privacy.spending import Claim, Spending, claim, price, spending, spending_of
from common.privacy.terms import BudgetTerms, accountant_name, cap, check_cap

__all__ = ["PrivacyBudget", "Refund", "RoundRequest", "StudyUse"]

_Answer = TypeVar("_Answer")


class PrivacyBudget:
    """The budgets of one named dataset in one site's ledger (P4: a name, never its content)."""

    def __init__(self, ledger: Ledger, dataset: str, seal: DataSeal | None = None) -> None:
        """With ``seal``, entries commit to the data under the site's secret key."""
        self._ledger = ledger
        self._dataset = check_name(dataset)
        self._seal = seal
        self._witnessed: dict[str, Head | None] = {}

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self._dataset

    @property
    def ledger(self) -> Ledger:
        """Where the entries lie."""
        return self._ledger

    def open(
        self, terms: BudgetTerms, forecast: Mechanism | None = None, build: str = "", note: str = ""
    ) -> LedgerEntry:
        """Open a budget; where the dataset has one, the new one adds to it (P5, P6).

        Raises ``BadInput`` for a filter that can never grant anything, with the order at which ``forecast``
        costs least. ``build`` is the digest of the guard's build.
        """
        check_cap(terms, forecast)
        details = Opened(terms=terms, accountant=accountant_name(terms), build=build)
        with self._ledger.writing() as page:
            units = {budget.terms.unit for budget in page.history.of(self._dataset)}
            if not units <= {terms.unit}:
                raise BadInput(
                    f'dataset "{self._dataset}": unit = "{terms.unit}": its budgets count {units.pop()}'
                )
            return page.append(Draft(dataset=self._dataset, details=details, note=note), self._seal)

    def ensure_open(self, terms: BudgetTerms, build: str = "") -> int:
        """The place of the budget with just these terms; opened if the dataset has none (P5).

        Raises ``PolicyRefusal`` where it has others: a policy file does not change what was opened.
        """
        check_cap(terms)
        details = Opened(terms=terms, accountant=accountant_name(terms), build=build)
        with self._ledger.writing() as page:
            budgets = page.history.of(self._dataset)
            for budget in budgets:
                if budget.terms == terms:
                    return budget.sequence
            if budgets:
                raise PolicyRefusal(
                    f'dataset "{self._dataset}": was opened with other terms, which stay; '
                    "lower that budget, or open a second one, which adds"
                )
            return page.append(Draft(dataset=self._dataset, details=details), self._seal).sequence

    def lower(self, epsilon: float, budget: int | None = None, note: str = "") -> LedgerEntry:
        """Lower a budget (the newest by default) to ``epsilon``; never raised, never below its charge (P6)."""
        with self._ledger.writing() as page:
            found = budget_named(page.history, self._dataset, budget)
            where = f'dataset "{self._dataset}", budget {found.sequence}: epsilon = {epsilon:g}'
            if not 0 < epsilon <= found.limit:
                raise PolicyRefusal(f"{where}: must be above 0 and at most the present {found.limit:g}")
            if price(found.terms, found.charged()) > max(0.0, cap(found.terms, epsilon)):
                raise BudgetExceeded(f"{where}: too low; {figures(spending_of(found))}")
            details = Policy(policy=None, lower=Lowering(budget=found.sequence, epsilon=epsilon))
            return page.append(Draft(dataset=self._dataset, details=details, note=note))

    def witness(self, heads: Mapping[str, Head | None]) -> str | None:
        """Take in the newest head that each coordinator witnessed, None for one that never saw any (P8).

        Returns why nothing may be reserved, or None. Call it after every start; a reservation is refused
        until every coordinator that the ledger names has been asked.
        """
        self._witnessed = dict(heads)
        with self._ledger.reading() as history:
            return head_problem(history, self._dataset, self._witnessed)

    def heads(self) -> Head:
        """The ledger's own head, for coordinators to witness."""
        return self._ledger.head()

    def check_study(self, use: StudyUse, mechanism: Mechanism) -> int:
        """The place of the budget that would hold a whole study; charges nothing. Raises as :meth:`reserve`.

        Coordinators that were not asked yet do not matter here: what is witnessed is only wanted to reserve.
        """

        def decide(page: Page) -> int:
            return budget_to_admit(page.history, self._dataset, use, mechanism).sequence

        self._price_before_the_lock(mechanism)
        return self._answer(use, None, mechanism, decide, reserves=False)

    def holds(self, use: StudyUse) -> bool:
        """Whether the run was admitted before."""
        with self._ledger.reading() as history:
            return held_study(history, self._dataset, use) is not None

    def admit_study(self, use: StudyUse, mechanism: Mechanism) -> int:
        """Admit a whole study before its first round; returns the place of the budget that holds it.

        Under a plan the study's whole mechanism is charged here. Under a filter nothing is: it is refused if
        it would not fit. Admitting the same run again, as after a restart, changes nothing.

        Raises as :meth:`reserve` does.
        """

        def decide(page: Page) -> int:
            budget = budget_to_admit(page.history, self._dataset, use, mechanism)
            if budget.terms.kind == "plan" and held_study(page.history, self._dataset, use) is None:
                details = Reserved(budget=budget.sequence, plan=None, coordinator=use.coordinator, retry_of=None)
                page.append(self._draft(use, None, mechanism, details), self._seal)
            return budget.sequence

        self._price_before_the_lock(mechanism)
        return self._answer(use, None, mechanism, decide)

    def reserve(self, use: StudyUse, request: RoundRequest) -> Reservation:
        """Reserve a round. When this returns, it is on disk; before that, no gradient may touch the data.

        Raises:
            BudgetExceeded: it does not fit; names spent, reserved, asked and left. Costs nothing.
            PolicyRefusal: the round was reserved before (P9), no budget holds it, or heads are missing (P8).
        """

        def decide(page: Page) -> Reservation:
            retry_of = first_try(page.history, self._dataset, use, request)
            budget = budget_for_round(page.history, self._dataset, use, request.mechanism)
            details = Reserved(
                budget=budget.sequence, plan=request.plan, coordinator=use.coordinator, retry_of=retry_of
            )
            entry = page.append(self._draft(use, request.round, request.mechanism, details), self._seal)
            return page.history.open_reservations[entry.sequence]

        return self._answer(use, request.round, request.mechanism, decide)

    def settle(self, held: Reservation, outcome: Outcome, refund: Refund | None = None) -> LedgerEntry:
        """End a round. All of the reservation counts, unless a filter's completed round has a ``refund`` (P7)."""
        if refund is not None and outcome != "completed":
            raise BadInput(f"settle: refund: after {outcome} the whole reservation counts")
        if refund is not None and not covers(held.mechanism, refund.ran):
            raise BadInput("settle: refund.ran: is no part of what was reserved")
        counted = held.mechanism if refund is None else refund.ran
        with self._ledger.writing() as page:
            if held.sequence not in page.history.open_reservations:
                raise BadInput(f"settle: reservation {held.sequence}: is not open; it counts as it was settled")
            if refund is not None and page.history.budgets[held.budget].terms.kind == "plan":
                raise BadInput("settle: refund: under a plan the whole plan counts")
            details = Settled(
                reservation=held.sequence, outcome=outcome, refund=None if refund is None else refund.reason
            )
            draft = Draft(
                dataset=held.dataset,
                study=held.study,
                run=held.run,
                round=held.round,
                mechanism=counted,
                details=details,
                note="" if refund is None else refund.note,
            )
            return page.append(draft, self._seal)

    def spending(self) -> tuple[Spending, ...]:
        """The figures of every budget of the dataset."""
        with self._ledger.reading() as history:
            return spending(history, self._dataset)

    def claim(self) -> Claim:
        """The (epsilon, delta) per unit that the dataset's budgets add up to."""
        with self._ledger.reading() as history:
            return claim(history, self._dataset)

    def open_reservations(self) -> tuple[Reservation, ...]:
        """Rounds that were not settled: they run now, or a crash left them; they count in full."""
        with self._ledger.reading() as history:
            held = [each for each in history.open_reservations.values() if each.dataset == self._dataset]
        return tuple(held)

    def settle_open(self) -> tuple[LedgerEntry, ...]:
        """Close whatever a crash left open, at full cost: all that an operator can do about it (P7)."""
        return tuple(self.settle(held, "operator") for held in self.open_reservations())

    def _answer(
        self,
        use: StudyUse,
        number: int | None,
        mechanism: Mechanism,
        decide: Callable[[Page], _Answer],
        reserves: bool = True,
    ) -> _Answer:
        """Let ``decide`` answer, alone with the ledger; a refusal is recorded once, then raised."""
        with self._ledger.writing() as page:
            problem = head_problem(page.history, self._dataset, self._witnessed, use.coordinator, reserves)
            if problem is not None:
                raise PolicyRefusal(
                    f'dataset "{self._dataset}": nothing is reserved: {problem}; '
                    "re-enter the missing entries at whole cost, or write the budget off"
                )
            try:
                return decide(page)
            except Refusal as refused:
                refusal = refused
                details = Refused(code=refused.code)
                append_refusal(page, self._draft(use, number, mechanism, details))
        raise refusal.error

    def _draft(
        self, use: StudyUse, number: int | None, mechanism: Mechanism, details: Reserved | Refused
    ) -> Draft:
        return Draft(
            dataset=self._dataset,
            study=use.study,
            run=use.run,
            round=number,
            mechanism=mechanism,
            details=details,
        )

    def _price_before_the_lock(self, mechanism: Mechanism) -> None:
        """An accountant may take a second; nobody else should wait for it."""
        with self._ledger.reading() as history:
            terms = [budget.terms for budget in history.of(self._dataset)]
        for each in terms:
            price(each, mechanism)
