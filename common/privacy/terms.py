"""The terms of a privacy budget: what its first entry fixes for good (PRIVACY P5)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, model_validator

from common.errors import BadInput
from common.privacy.accounting import LARGEST_EPSILON, SMALLEST_DELTA, best_filter_order, filter_cap
from common.privacy.mechanism import Mechanism
from common.privacy.rdp import CONVERSION, LARGEST_ORDER

__all__ = ["BudgetKind", "BudgetTerms", "Unit", "accountant_name", "cap", "check_cap"]

Unit: TypeAlias = Literal["example", "group", "institution"]
"""What one neighbour has more than the other: a row, a person with all rows, a site."""

BudgetKind: TypeAlias = Literal["plan", "filter"]
"""``plan``: one study fixed in advance, by PLD. ``filter``: adaptive studies, by RDP at one order."""

LARGEST_SIZE = 10**12


class BudgetTerms(BaseModel):
    """(epsilon, delta) for one dataset, and how it is counted. Frozen; adjacency is add or remove one unit.

    A filter is the Rényi filter at one integer ``order`` (Feldman, Zrnic 2021, arXiv 2008.11193); a plan has
    none. ``declared_size`` counts units, typed by the officer before any data is loaded (P3).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    epsilon: float
    delta: float
    unit: Unit
    declared_size: int
    kind: BudgetKind = "plan"
    order: int | None = None

    @model_validator(mode="after")
    def _check(self) -> BudgetTerms:
        if not 0 < self.epsilon <= LARGEST_EPSILON:
            raise BadInput(f"budget: epsilon = {self.epsilon!r}: must be above 0 and at most {LARGEST_EPSILON:g}")
        if not SMALLEST_DELTA <= self.delta < 1:
            raise BadInput(f"budget: delta = {self.delta!r}: must be at least {SMALLEST_DELTA:g} and below 1")
        if not 1 <= self.declared_size <= LARGEST_SIZE:
            raise BadInput(f"budget: declared_size = {self.declared_size}: must be from 1 to {LARGEST_SIZE}")
        if self.kind == "plan" and self.order is not None:
            raise BadInput(f'budget: order = {self.order}: belongs to kind = "filter"; leave it out')
        if self.kind == "filter" and (self.order is None or not 2 <= self.order <= LARGEST_ORDER):
            raise BadInput(f"budget: order = {self.order}: a filter needs one from 2 to {LARGEST_ORDER}")
        return self


def cap(terms: BudgetTerms, epsilon: float) -> float:
    """What a budget may grant at ``epsilon``: under a plan epsilon itself, under a filter RDP at its order."""
    if terms.order is None:
        return epsilon
    return filter_cap(epsilon, terms.delta, terms.order)


def check_cap(terms: BudgetTerms, forecast: Mechanism | None = None) -> None:
    """Refuse a filter that can never grant anything, and name an order that could.

    Order 2 can never grant epsilon 8 at delta 1e-5: its cap there is negative. With a ``forecast`` study the
    order proposed is the one at which that study takes the smallest share.
    """
    if terms.order is None or cap(terms, terms.epsilon) > 0:
        return
    where = f"budget: order = {terms.order}: can never grant anything at epsilon {terms.epsilon:g}, "
    where += f"delta {terms.delta:g}"
    if forecast is not None:
        best = best_filter_order(forecast, terms.epsilon, terms.delta)
        raise BadInput(f"{where}; the forecast study costs least at order {best}")
    orders = (order for order in range(2, LARGEST_ORDER + 1) if filter_cap(terms.epsilon, terms.delta, order) > 0)
    smallest = next(orders, None)
    mend = "raise epsilon" if smallest is None else f"the smallest order that can is {smallest}"
    raise BadInput(f"{where}; {mend}")


def accountant_name(terms: BudgetTerms) -> str:
    """How a budget is counted, in the words that its first entry records (ACCOUNTING traps 2 and 12)."""
    if terms.order is None:
        return "pld, connect the dots, add or remove one unit"
    return f"rdp at order {terms.order}, {CONVERSION}, add or remove one unit"
