"""Terms of a budget: bounds, and filters that can never grant anything."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from common.errors import BadInput
from common.privacy.mechanism import SampledGaussian
from common.privacy.terms import BudgetTerms, accountant_name, cap, check_cap

GOOD = {"epsilon": 3.0, "delta": 1e-5, "unit": "group", "declared_size": 5000}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": -3.0}, "epsilon"),
        ({"epsilon": 1e5}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1e-13}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"declared_size": 0}, "declared_size"),
        ({"order": 6}, "order"),
        ({"kind": "filter"}, "order"),
        ({"kind": "filter", "order": 1}, "order"),
        ({"kind": "filter", "order": 5000}, "order"),
    ],
)
def test_p05_a_bound_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=f"budget: {said} = "):
        BudgetTerms.model_validate(GOOD | change)


@pytest.mark.parametrize("change", [{"unit": "row"}, {"epsilon": float("nan")}, {"extra": 1}, {"unit": None}])
def test_p02_a_unit_is_one_of_three_and_has_no_default(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BudgetTerms.model_validate(GOOD | change)
    with pytest.raises(ValidationError, match="unit"):
        BudgetTerms.model_validate({key: value for key, value in GOOD.items() if key != "unit"})


def test_p05_the_default_is_a_plan() -> None:
    terms = BudgetTerms.model_validate(GOOD)
    assert terms.kind == "plan"
    assert cap(terms, 2.0) == 2.0
    assert accountant_name(terms).startswith("pld")


def test_p05_the_worked_example_s_cap() -> None:
    """ACCOUNTING.md section 5: B(6) = 1.23809 at epsilon 3, delta 1e-5."""
    terms = BudgetTerms.model_validate(GOOD | {"kind": "filter", "order": 6})
    assert cap(terms, 3.0) == pytest.approx(1.23809, abs=5e-6)
    assert "Canonne" in accountant_name(terms)


def test_p05_an_order_without_a_cap_is_refused_and_the_best_for_a_forecast_proposed() -> None:
    """Order 2 can never grant epsilon 8 at delta 1e-5 (PRIVACY P5)."""
    terms = BudgetTerms.model_validate(GOOD | {"epsilon": 8.0, "kind": "filter", "order": 2})
    with pytest.raises(BadInput, match=r"order = 2: can never grant anything .* smallest order that can is 3"):
        check_cap(terms)
    with pytest.raises(BadInput, match="forecast study costs least at order 3"):
        check_cap(terms, SampledGaussian(0.04, 0.8, 125))
    with pytest.raises(BadInput, match=r"costs least at order 4"):
        check_cap(terms, SampledGaussian(0.04, 1.2, 125))
