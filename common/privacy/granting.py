"""Which budget grants a request, and why none does. Pure: a function of request and history alone (P15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import BadInput, BudgetExceeded, HanseError, PolicyRefusal
from common.privacy.coverage import covers, together
from common.privacy.ledger.details import RefundReason
from common.privacy.ledger.history import Budget, History
from common.privacy.mechanism import Mechanism
from common.privacy.spending import Spending, fits, price, spending_of

__all__ = [
    "Refund",
    "Refusal",
    "RoundRequest",
    "StudyUse",
    "budget_for_round",
    "budget_for_study",
    "budget_named",
    "budget_to_admit",
    "figures",
    "first_try",
    "held_study",
]


@dataclass(frozen=True, slots=True)
class StudyUse:
    """One run of one study on the dataset."""

    study: str
    """The study's digest."""
    run: str
    delta: float
    """The study's delta; must be that of the budget (P5)."""
    coordinator: str = ""
    """Who asks; its newest witnessed head is needed before the first reservation (P8). "" in a simulation."""


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """One round, before it runs."""

    round: int
    """1 is the first."""
    plan: str
    """SHA-256 of what the coordinator asked for in this round."""
    mechanism: Mechanism
    """The most that the round may release."""
    retry: bool = False
    """Charge the round again after its first try was settled; under a filter only (P9)."""


@dataclass(frozen=True, slots=True)
class Refund:
    """Steps of a completed round that were not run, and why that is no secret."""

    ran: Mechanism
    """What was run: a part of what was reserved."""
    reason: RefundReason
    note: str
    """The public fact or the earlier output, in words; it is exported."""


class Refusal(Exception):
    """A request that is turned down: the error that its maker sees, and the word that the ledger keeps."""

    def __init__(self, code: str, error: HanseError) -> None:
        """``code`` becomes that of a :class:`common.privacy.ledger.details.Refused`."""
        super().__init__(str(error))
        self.code = code
        self.error = error


def budget_for_study(history: History, dataset: str, use: StudyUse, mechanism: Mechanism) -> Budget:
    """The first budget, in order of opening, that holds the whole study; raises :class:`Refusal`."""
    candidates = _candidates(history, dataset, use)
    for budget in candidates:
        if _takes_study(budget) and fits(budget, mechanism):
            return budget
    raise _exceeded(candidates, mechanism)


def budget_to_admit(history: History, dataset: str, use: StudyUse, mechanism: Mechanism) -> Budget:
    """The budget that holds the run already, with just this mechanism, or else would hold the study."""
    known = held_study(history, dataset, use)
    if known is None:
        return budget_for_study(history, dataset, use, mechanism)
    plan = known.study_plan
    if plan and not (covers(plan.mechanism, mechanism) and covers(mechanism, plan.mechanism)):
        raise _policy("replay", f"run {use.run}: was admitted with another mechanism")
    return known


def budget_for_round(history: History, dataset: str, use: StudyUse, mechanism: Mechanism) -> Budget:
    """The budget that holds the run, or a filter that grants its first round; raises :class:`Refusal`."""
    known = held_study(history, dataset, use)
    if known is not None:
        candidates = [budget for budget in _candidates(history, dataset, use) if budget is known]
    else:
        candidates = [b for b in _candidates(history, dataset, use) if b.terms.kind == "filter"]
    if not candidates:
        raise _policy("not-admitted", f'dataset "{dataset}": no budget holds the run; admit the study first')
    for budget in candidates:
        if budget.terms.kind == "plan":
            _check_in_plan(budget, mechanism)
            return budget
        if fits(budget, mechanism):
            return budget
    raise _exceeded(candidates, mechanism)


def held_study(history: History, dataset: str, use: StudyUse) -> Budget | None:
    """The budget that the run was charged to before."""
    sequence = history.runs.get((dataset, use.study, use.run))
    return None if sequence is None else history.budgets[sequence]


def first_try(history: History, dataset: str, use: StudyUse, request: RoundRequest) -> int | None:
    """The entry that a retry follows; None for a round that was never reserved; else :class:`Refusal` (P9)."""
    last = history.rounds.get((dataset, use.study, use.run, request.round))
    if last is None:
        return None
    where = f'dataset "{dataset}": round {request.round} of run {use.run}'
    if last.plan != request.plan:
        raise _policy("replay", f"{where}: was reserved for another plan (entry {last.sequence})")
    if history.budgets[last.budget].terms.kind == "plan":
        raise _policy("replay", f"{where}: was consumed (entry {last.sequence}); the site sits it out")
    if not request.retry:
        raise _policy("replay", f"{where}: was reserved before (entry {last.sequence}); a retry is charged again")
    if last.sequence in history.open_reservations:
        raise _policy("replay", f"{where}: is not settled yet (entry {last.sequence}); settle it before a retry")
    return last.sequence


def budget_named(history: History, dataset: str, sequence: int | None) -> Budget:
    """The budget opened by an entry, or the newest; raises ``BadInput``."""
    for budget in reversed(history.of(dataset)):
        if sequence in (None, budget.sequence):
            return budget
    raise BadInput(f'dataset "{dataset}": has no budget{"" if sequence is None else f" {sequence}"}')


def figures(found: Spending, asked: float | None = None) -> str:
    """Spent, reserved, asked and left, in words."""
    wanted = "" if asked is None else f", asked {asked:.6g}"
    return (
        f"spent {found.spent:.6g}, reserved {found.reserved:.6g}{wanted}, left {found.left:.6g} "
        f"of {found.cap:.6g} ({found.measure}, delta {found.delta:g})"
    )


def _candidates(history: History, dataset: str, use: StudyUse) -> list[Budget]:
    budgets = history.of(dataset)
    if not budgets:
        raise _policy("no-budget", f'dataset "{dataset}": has no budget; the officer opens one first')
    same = [budget for budget in budgets if budget.terms.delta == use.delta]
    if not same:
        deltas = ", ".join(f"{budget.terms.delta:g}" for budget in budgets)
        raise _policy("delta-differs", f'dataset "{dataset}": delta = {use.delta:g}: its budget has {deltas}')
    return same


def _takes_study(budget: Budget) -> bool:
    return budget.terms.kind == "filter" or budget.study_plan is None


def _check_in_plan(budget: Budget, mechanism: Mechanism) -> None:
    plan = budget.study_plan
    if budget.closed:
        raise _policy("closed", f'dataset "{budget.dataset}": budget {budget.sequence} was closed')
    if plan is None or not covers(plan.mechanism, together(budget.rounds(), mechanism)):
        raise Refusal(
            "budget-exceeded",
            BudgetExceeded(
                f'dataset "{budget.dataset}", budget {budget.sequence}: the round is no part of what is left of '
                f"the plan; {figures(spending_of(budget), price(budget.terms, mechanism))}"
            ),
        )


def _exceeded(budgets: Sequence[Budget], mechanism: Mechanism) -> Refusal:
    """The refusal that names the budget with the most left."""
    best = max(budgets, key=lambda budget: spending_of(budget).left / max(budget.limit, 1e-12))
    asked = price(best.terms, mechanism)
    what = f'dataset "{best.dataset}", budget {best.sequence}: {figures(spending_of(best), asked)}'
    return Refusal("budget-exceeded", BudgetExceeded(f"{what}{'; it was closed' if best.closed else ''}"))


def _policy(code: str, message: str) -> Refusal:
    return Refusal(code, PolicyRefusal(message))
