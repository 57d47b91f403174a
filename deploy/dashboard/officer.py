"""What a site's officer sees: the budgets in the site's own ledger, and what a study would take of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import BadInput
from common.privacy.ledger.details import kind_of
from deploy.budget_forecast import DatasetReading, read_dataset
from deploy.default_study import load_study
from deploy.own_ledger import chosen_datasets, open_own_ledger, policy_name
from deploy.report.charts import Bar, Chart, bar_chart

if TYPE_CHECKING:
    from common.study import Study

__all__ = ["LARGEST_FORECAST", "LedgerRow", "OfficerView", "read_officer"]

LARGEST_FORECAST = 32.0
"""Where the slider of the asked epsilon ends."""
_LAST = 30


@dataclass(frozen=True)
class LedgerRow:
    """One entry, in words."""

    sequence: int
    time: str
    """Rounded to the hour (P17)."""
    kind: str
    dataset: str
    round: str


@dataclass(frozen=True)
class OfficerView:
    """One site's ledger."""

    site: str
    datasets: tuple[DatasetReading, ...]
    """With a forecast each."""
    bars: Chart | None
    entries: tuple[LedgerRow, ...]
    """The newest, newest first."""
    total: int
    study: Study
    """What is forecast."""
    epsilon: float


def read_officer(site: Path, study_file: Path | None, epsilon: float | None) -> OfficerView:
    """Read the site's verified ledger; forecast the study at ``epsilon``, else at what it asks. Charges nothing.

    Raises:
        BadInput: no ledger there, or ``epsilon`` is out of range.
    """
    if epsilon is not None and not 0 < epsilon <= LARGEST_FORECAST:
        raise BadInput(f"epsilon = {epsilon:g}: must be above 0 and at most {LARGEST_FORECAST:g}")
    name = policy_name(site)
    study = load_study(study_file, [] if epsilon is None else [f"privacy.epsilon={epsilon!r}"])
    if epsilon is not None:  # the slider speaks for this site as well, whatever its section says
        study = study.model_copy(update={"site": []})
    ledger = open_own_ledger(site)
    with ledger.reading() as history:
        readings = tuple(read_dataset(history, each, study, name) for each in chosen_datasets(history, None))
    entries = ledger.entries()
    rows = tuple(
        LedgerRow(e.sequence, e.time, kind_of(e.details), e.dataset, "" if e.round is None else str(e.round))
        for e in reversed(entries[-_LAST:])
    )
    asked = study.privacy.epsilon if epsilon is None else epsilon
    return OfficerView(name or site.resolve().name, readings, _bars(readings), rows, len(entries), study, asked)


def _bars(readings: tuple[DatasetReading, ...]) -> Chart | None:
    bars = []
    for reading in readings:
        for each in reading.budgets:
            found = each.spending
            told = f"{found.spent + found.reserved:.4g} of {found.cap:.4g}"
            bars.append(
                Bar(f"{reading.dataset}, budget {found.budget}", found.spent + found.reserved, found.cap, told)
            )
    return bar_chart("Spent and reserved of each budget", "in the budget's own measure", bars)
