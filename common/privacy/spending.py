"""What a ledger's entries cost, recomputed by the accountant of each budget. Pure; a site and an auditor agree.

Under a plan the measure is epsilon by PLD at the budget's delta. Under a filter it is the Rényi divergence at
the budget's one order, and the epsilon beside it is a gauge: what is claimed is the cap (PRIVACY P6; Rogers,
Roth, Ullman, Vadhan 2016 on filters and odometers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from common.privacy.accounting import epsilon as epsilon_of
from common.privacy.accounting import rdp_at_order
from common.privacy.coverage import merged, together
from common.privacy.ledger.history import Budget, History
from common.privacy.mechanism import Composition, Mechanism
from common.privacy.terms import BudgetKind, BudgetTerms, cap

__all__ = [
    "Claim",
    "Spending",
    "claim",
    "filter_reading",
    "fits",
    "gauge",
    "overspent",
    "overspent_budgets",
    "price",
    "spending",
    "spending_of",
]


@dataclass(frozen=True, slots=True)
class Spending:
    """One budget: spent + reserved + left = cap, in ``measure``; left is never below 0."""

    dataset: str
    budget: int
    """The ``open`` entry's place."""
    kind: BudgetKind
    measure: str
    """What the four figures count: ``epsilon``, or ``RDP at order N``."""
    cap: float
    spent: float
    reserved: float
    """Under a filter: rounds not settled yet, in full. Under a plan always 0: it is spent when reserved."""
    left: float
    epsilon: float
    """Epsilon up to which it grants."""
    delta: float
    gauge: float
    """Epsilon of all that was charged. Under a plan a guarantee, under a filter a reading and no claim."""
    closed: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """The (epsilon, delta) that a dataset's releases keep per unit: the sums over its budgets (P6)."""

    epsilon: float
    delta: float


def price(terms: BudgetTerms, mechanism: Mechanism) -> float:
    """What a mechanism costs under ``terms``, in the budget's measure; infinity where no guarantee holds.

    Equal releases cost the same to the last bit, whatever their order or nesting. Cached: PLD may take a
    second at the first use.
    """
    return _price(terms.order, terms.delta, merged(mechanism))


def spending_of(budget: Budget) -> Spending:
    """The figures of one budget."""
    terms = budget.terms
    available = max(0.0, 0.0 if budget.closed else cap(terms, budget.limit))
    charged = price(terms, budget.charged())
    spent = charged if terms.kind == "plan" else price(terms, budget.settled)
    whole = terms.kind == "plan" and budget.study_plan is not None
    return Spending(
        dataset=budget.dataset,
        budget=budget.sequence,
        kind=terms.kind,
        measure="epsilon" if terms.order is None else f"RDP at order {terms.order}",
        cap=available,
        spent=spent,
        reserved=max(0.0, charged - spent) if charged < math.inf else charged,
        left=0.0 if whole or charged > available else available - charged,
        epsilon=budget.limit,
        delta=terms.delta,
        gauge=gauge(terms, charged),
        closed=budget.closed,
    )


def spending(history: History, dataset: str) -> tuple[Spending, ...]:
    """The figures of every budget of a dataset, in order of opening."""
    return tuple(spending_of(budget) for budget in history.of(dataset))


def gauge(terms: BudgetTerms, charged: float) -> float:
    """Epsilon of what was charged, in the budget's measure; 0 for nothing.

    The conversion at order a is epsilon = rho + ln(1 - 1/a) - ln(delta a) / (a - 1) (Canonne, Kamath, Steinke
    2020, Proposition 12).
    """
    return charged if terms.order is None else filter_reading(charged, terms.order, terms.delta)


def filter_reading(charged: float, order: int, delta: float) -> float:
    """Epsilon of a Rényi divergence ``charged`` at ``order``, by the conversion of :func:`gauge`."""
    if charged in (0.0, math.inf):
        return charged
    return max(0.0, charged + math.log1p(-1 / order) - math.log(delta * order) / (order - 1))


def claim(history: History, dataset: str) -> Claim:
    """What may be claimed for a dataset: per budget the epsilon opened, or more where more was charged.

    More is charged only where entries were lost and re-entered (P8). A limit lowered after the first release
    stops spending and lowers no claim.
    """
    budgets = history.of(dataset)
    charged = [gauge(budget.terms, price(budget.terms, budget.charged())) for budget in budgets]
    epsilons = [max(budget.claim, reading) for budget, reading in zip(budgets, charged, strict=True)]
    return Claim(math.fsum(epsilons), math.fsum(budget.terms.delta for budget in budgets))


def overspent(history: History) -> tuple[str, ...]:
    """A sentence for each budget that was charged with more than its terms hold; none: all within."""
    return tuple(overspent_budgets(history).values())


def overspent_budgets(history: History) -> dict[int, str]:
    """The sentences of :func:`overspent` by the place of the budget's ``open`` entry."""
    found = {}
    for budget in history.budgets.values():
        charged, available = price(budget.terms, budget.charged()), cap(budget.terms, budget.terms.epsilon)
        if charged > available:
            found[budget.sequence] = (
                f'dataset "{budget.dataset}", budget {budget.sequence}: charged {charged:.6g} of {available:.6g}'
            )
    return found


def fits(budget: Budget, mechanism: Mechanism) -> bool:
    """Whether a budget may grant a mechanism on top of what it is charged with."""
    if budget.closed:
        return False
    whole = together(budget.charged(), mechanism)
    return price(budget.terms, whole) <= cap(budget.terms, budget.limit)


@lru_cache(maxsize=4096)
def _price(order: int | None, delta: float, mechanism: Mechanism) -> float:
    if mechanism == Composition(()):
        return 0.0
    if order is None:
        return epsilon_of(mechanism, delta, "pld")
    return rdp_at_order(mechanism, order)
