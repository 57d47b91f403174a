"""A site's budgets as its ledger says, and what a study would take of each. Charges nothing.

The figures that bind are those of the budget's own accountant (PRIVACY P5, P6). PLD and PRV are recomputed beside
them as information: what the same releases would cost, had all of them been fixed in advance.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from common.errors import BadInput, HanseError
from common.privacy.accounting import epsilon
from common.privacy.coverage import together
from common.privacy.ledger.history import Budget, History
from common.privacy.mechanism import Mechanism
from common.privacy.spending import Claim, Spending, claim, fits, gauge, price, spending_of
from common.privacy.terms import BudgetTerms, cap
from common.schedule import planned_steps
from common.study import Study
from common.study_mechanism import calibrated_noise_multiplier, sample_rate, study_mechanism

__all__ = ["BudgetReading", "DatasetReading", "StudyForecast", "forecast_study", "read_dataset"]

_ANY_SITE = "site"


@dataclass(frozen=True, slots=True)
class StudyForecast:
    """What a study would take of one budget, at the budget's declared size."""

    study: str
    sample_rate: float
    steps: int
    delta: float
    epsilon: float
    """What the study asks for at this site, over all its rounds."""
    noise_multiplier: float | None
    """By the budget's accountant and order; None where none can be found."""
    asked: float | None
    """Cost in the budget's measure; None where nothing can be, or is, charged."""
    faults: tuple[str, ...]
    """Every reason why the budget would not hold it; none: it fits."""

    @property
    def fits(self) -> bool:
        """Whether the budget would hold it now. The policy has a word of its own: `hanse policy check`."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """One budget: its figures, and what is recomputed beside them."""

    terms: BudgetTerms
    spending: Spending
    pld: float
    """Information: epsilon at the budget's delta, had all that was charged been fixed in advance."""
    prv: float | None
    """Information: the same by Opacus' PRV, an upper bound; None where it was not asked or did not answer."""
    forecast: StudyForecast | None


@dataclass(frozen=True, slots=True)
class DatasetReading:
    """The budgets of a dataset, and what may be claimed for it."""

    dataset: str
    claim: Claim
    budgets: tuple[BudgetReading, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; an infinite figure is null."""
        return {
            "dataset": self.dataset,
            "claim": {"epsilon": _finite(self.claim.epsilon), "delta": self.claim.delta},
            "budgets": [_budget_json(reading) for reading in self.budgets],
        }


def read_dataset(
    history: History,
    dataset: str,
    study: Study | None = None,
    site: str | None = None,
    second_opinion: bool = False,
) -> DatasetReading:
    """Every budget of a dataset, with what ``study`` would take of it.

    Args:
        history: the ledger's.
        dataset: its name.
        study: to forecast, if any.
        site: the name by which the study knows the site; None where that is not known.
        second_opinion: ask Opacus for PRV, which takes seconds.
    """
    readings = []
    for budget in history.of(dataset):
        charged = budget.charged()
        readings.append(
            BudgetReading(
                terms=budget.terms,
                spending=spending_of(budget),
                pld=epsilon(charged, budget.terms.delta, "pld"),
                prv=_prv(charged, budget.terms.delta) if second_opinion else None,
                forecast=None if study is None else forecast_study(budget, study, site),
            )
        )
    return DatasetReading(dataset, claim(history, dataset), tuple(readings))


def forecast_study(budget: Budget, study: Study, site: str | None) -> StudyForecast:
    """What a study would take of a budget, and every reason why it would not be held."""
    if site is None:  # nobody is named, so nobody's section is meant
        study, site = study.model_copy(update={"site": []}), _ANY_SITE
    terms = budget.terms
    faults = _faults_of_plan(terms, study)
    noise, asked = None, None
    if study.privacy.noised_at_sites and _batch_fault(terms, study) is None:
        try:
            noise = _noise(terms, study, site)
        except BadInput as error:
            faults.append(f"privacy.epsilon = {study.epsilon_of(site):g}: no noise will do: {error}")
        else:
            mechanism = study_mechanism(study, terms.declared_size, noise)
            asked = price(terms, mechanism)
            faults += _faults_of_budget(budget, mechanism)
    return StudyForecast(
        study=study.study.name,
        sample_rate=sample_rate(study, terms.declared_size),
        steps=planned_steps(study),
        delta=study.delta_of(terms.declared_size),
        epsilon=study.epsilon_of(site),
        noise_multiplier=noise,
        asked=asked,
        faults=tuple(faults),
    )


def _noise(terms: BudgetTerms, study: Study, site: str) -> float:
    smallest = -cap(terms, 0.0)  # epsilon of a filter that grants just nothing; 0 under a plan
    if study.epsilon_of(site) <= smallest:
        raise BadInput(f"order {terms.order} grants nothing up to epsilon {smallest:.4g}")
    return calibrated_noise_multiplier(study, site, terms.declared_size, terms.order)


def _faults_of_plan(terms: BudgetTerms, study: Study) -> list[str]:
    """What keeps the study from this kind of budget, whatever is left of it."""
    if not study.privacy.enabled:
        return ["privacy.enabled = false: no budget holds a study without privacy"]
    faults = []
    delta = study.delta_of(terms.declared_size)
    if study.privacy.unit != terms.unit:
        faults.append(f'privacy.unit = "{study.privacy.unit}": the budget counts "{terms.unit}"')
    if study.privacy.unit == "institution":  # the coordinator adds the noise; nothing is charged at the site (P19)
        return faults
    if delta != terms.delta:
        faults.append(f"privacy.delta = {delta:g}: differs from the budget's {terms.delta:g}")
    return faults + [fault for fault in [_batch_fault(terms, study)] if fault]


def _batch_fault(terms: BudgetTerms, study: Study) -> str | None:
    batch, size = study.privacy.batch_size, terms.declared_size
    return None if batch <= size else f"privacy.batch_size = {batch}: more than the {size} units declared"


def _faults_of_budget(budget: Budget, mechanism: Mechanism) -> list[str]:
    """What keeps the budget from holding it now."""
    if budget.closed:
        return ["the budget was closed"]
    if budget.terms.kind == "plan" and budget.study_plan is not None:
        return [f"the plan holds a study already (entry {budget.study_plan.sequence})"]
    if fits(budget, mechanism):
        return []
    found = spending_of(budget)
    whole = price(budget.terms, together(budget.charged(), mechanism))
    return [f"it would bring the budget to {whole:.6g} of {found.cap:.6g} ({found.measure})"]


def _prv(mechanism: Mechanism, delta: float) -> float | None:
    try:
        return epsilon(mechanism, delta, "prv")
    except HanseError:  # a second opinion that fails is no finding
        return None


def _budget_json(reading: BudgetReading) -> dict[str, Any]:
    figures = asdict(reading.spending)
    for name in ("spent", "reserved", "gauge"):
        figures[name] = _finite(figures[name])
    found = reading.forecast
    return figures | {
        "gauge_is_guarantee": reading.terms.kind == "plan",
        "unit": reading.terms.unit,
        "declared_size": reading.terms.declared_size,
        "order": reading.terms.order,
        "information": {"pld": _finite(reading.pld), "prv": None if reading.prv is None else _finite(reading.prv)},
        "forecast": None
        if found is None
        else asdict(found)
        | {
            "asked": None if found.asked is None else _finite(found.asked),
            "asked_epsilon": None if found.asked is None else _finite(gauge(reading.terms, found.asked)),
            "faults": list(found.faults),
            "fits": found.fits,
        },
    }


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
