"""The institution's policy: what its officer agrees to, typed before any data is loaded.

Bytes become a :class:`Policy` only by passing every check here. Nothing that describes the data has a default,
and nothing is worked out from the data (PRIVACY P2, P3): what the officer has not said is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from common.errors import BadInput, NotYet
from common.privacy.accounting import LARGEST_EPSILON, SMALLEST_DELTA
from common.privacy.ledger.entry import check_name
from common.privacy.terms import LARGEST_SIZE, BudgetKind, BudgetTerms, Unit, check_cap
from common.study import Name, NonNegative

__all__ = [
    "AllowSection",
    "BudgetSection",
    "DatasetSection",
    "DiscloseSection",
    "LedgerSection",
    "Policy",
    "SiteSection",
]


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) != len(values) or not all(value.strip() for value in values):
        raise ValueError("entries must be distinct and not empty")
    return values


_Epsilon = Annotated[float, Field(gt=0, le=LARGEST_EPSILON, allow_inf_nan=False)]
_Names = Annotated[list[str], Field(min_length=1, max_length=1000), AfterValidator(_distinct)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SiteSection(_Section):
    """Who agrees."""

    name: Name
    """What a study calls the site; told to the coordinator."""


class DatasetSection(_Section):
    """What is protected, in the officer's words. No key that describes the data has a default."""

    name: str
    """What the ledger calls the dataset. Changed content under one name continues its budget (P4)."""
    unit: Unit
    """Whom the guarantee protects: a row, a person with all rows, or the institution as a whole (P2)."""
    one_row_per_person: bool = False
    """The officer's statement that no person has two rows; ``unit = "example"`` needs it (P2)."""
    declared_size: Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
    """How many units, typed by the officer and told to the coordinator; never counted from data (P3)."""
    group_column: str = ""
    """Column that holds a person's id; under ``unit = "group"`` alone."""
    public: bool = False
    """Whether anyone may read the data; only then may a study train without privacy (P18)."""

    @field_validator("name")
    @classmethod
    def _fit_for_the_ledger(cls, name: str) -> str:
        try:
            return check_name(name)
        except BadInput as error:
            raise ValueError("must be 1 to 100 printable characters, no blank at the ends") from error


class BudgetSection(_Section):
    """What all studies together may cost a unit, and how it is counted (P5)."""

    epsilon: _Epsilon
    delta: Literal["auto"] | Annotated[float, Field(ge=SMALLEST_DELTA, lt=1)] = "auto"
    """``auto``: declared size ** -1.1, at most 1e-5, as in a study."""
    kind: BudgetKind = "plan"
    """``plan``: one study, fixed in advance. ``filter``: several studies, chosen as they come."""
    order: int | None = None
    """Rényi order of a filter; a plan has none."""
    epsilon_per_study: _Epsilon | None = None
    """Most that one study may ask for; without it, whatever the budget holds."""
    epsilon_per_round: _Epsilon | None = None
    """Most that a round may cost, taken alone."""


class AllowSection(_Section):
    """Which studies the institution takes part in."""

    approval: Literal["required", "none"] = "required"
    """``required``: only studies whose digest the officer approved (P18)."""
    tasks: Annotated[
        list[Literal["sequence-classification", "token-classification", "masked-language-modeling"]],
        Field(min_length=1),
    ] = ["sequence-classification"]
    models: _Names = ["minilm-l6"]
    """Bases as a study's ``model.base`` names them; ``*`` allows any."""
    trainable: Annotated[list[Literal["full", "lora", "bias", "head"]], Field(min_length=1)] = ["lora", "head"]
    strategies: Annotated[
        list[Literal["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "median", "trimmed-mean", "krum"]],
        Field(min_length=1),
    ] = ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "median", "trimmed-mean", "krum"]
    min_noise_multiplier: NonNegative = 0.3
    """Least noise of a step, whatever the accountant says."""
    min_sites: Annotated[int, Field(ge=1)] = 2
    """A study's own ``federation.min_sites`` must be at least this."""
    expires: date | None = None
    """Last day (UTC) on which the policy agrees to anything."""


class DiscloseSection(_Section):
    """What may be known about the data without costing anything."""

    labels: Annotated[list[str], Field(min_length=2, max_length=1000), AfterValidator(_distinct)]
    """Names of the labels: public. A study's ``task.labels`` must be the same set."""
    validation_epsilon: NonNegative = 0.0
    """What validation metrics of the site may cost; none in this version (P16)."""


class LedgerSection(_Section):
    """Where the ledger lies."""

    url: str = Field(default="", repr=False)
    """PostgreSQL database without a password, or "" for ``ledger.db`` in the site's folder."""


class Policy(_Section):
    """A whole policy, checked. Parse one with :func:`client.policy_file.read_policy`.

    Raises ``BadInput`` with a line for each contradiction between keys, and ``NotYet`` for a legal value that
    this version cannot carry out; a key at fault by itself is a ``pydantic.ValidationError``.
    """

    site: SiteSection
    dataset: DatasetSection
    budget: BudgetSection
    allow: AllowSection = AllowSection()
    disclose: DiscloseSection
    ledger: LedgerSection = LedgerSection()

    @model_validator(mode="after")
    def _check(self) -> Policy:
        faults = [*self._dataset_faults(), *self._budget_faults(), *self._ledger_faults()]
        if faults:
            raise BadInput("\n".join(faults))
        if self.disclose.validation_epsilon:
            raise NotYet(
                f"disclose.validation_epsilon = {self.disclose.validation_epsilon:g}: not yet: validation metrics "
                "of a site come with its evaluation release; set it to 0.0"
            )
        return self

    @property
    def delta(self) -> float:
        """The budget's delta, ``auto`` resolved from the declared size (ACCOUNTING, trap 11)."""
        if self.budget.delta == "auto":
            return float(min(1e-5, float(self.dataset.declared_size) ** -1.1))
        return self.budget.delta

    @property
    def terms(self) -> BudgetTerms:
        """What the dataset's budget is opened with (P5)."""
        return BudgetTerms(
            epsilon=self.budget.epsilon,
            delta=self.delta,
            unit=self.dataset.unit,
            declared_size=self.dataset.declared_size,
            kind=self.budget.kind,
            order=self.budget.order,
        )

    def digest(self) -> str:
        """SHA-256 (hex) of the policy's canonical JSON; where the ledger lies is left out.

        What the ledger records when a policy is adopted. Comments, the order of keys and defaults spelled out
        do not change it.
        """
        body = self.model_dump(mode="json", exclude={"ledger"})
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _dataset_faults(self) -> Iterator[str]:
        dataset = self.dataset
        if dataset.unit == "example" and not dataset.one_row_per_person:
            yield (
                'dataset.one_row_per_person = false: unit = "example" protects a row; state that nobody has two '
                'with one_row_per_person = true, or protect persons with unit = "group"'
            )
        if dataset.unit == "group" and not dataset.group_column.strip():
            yield 'dataset.group_column = "": unit = "group" needs the column that holds a person\'s id'
        if dataset.unit != "group" and dataset.group_column:
            yield (
                f'dataset.group_column = "{dataset.group_column}": belongs to unit = "group", '
                f'not "{dataset.unit}"; leave it out'
            )

    def _budget_faults(self) -> Iterator[str]:
        budget = self.budget
        if budget.epsilon_per_study is not None and budget.epsilon_per_study > budget.epsilon:
            yield (
                f"budget.epsilon_per_study = {budget.epsilon_per_study:g}: must be at most "
                f"budget.epsilon = {budget.epsilon:g}"
            )
        try:
            check_cap(self.terms)
        except BadInput as error:
            yield str(error).replace("budget: ", "budget.", 1).replace("order = None", "order", 1)

    def _ledger_faults(self) -> Iterator[str]:
        if not self.ledger.url:
            return
        from common.privacy.ledger.schema import database_url  # SQLAlchemy, for those who name a database

        try:
            url = database_url(self.ledger.url)
        except BadInput as error:
            yield str(error).replace("ledger: ", "ledger.url: ", 1)
            return
        if url.password is not None or {"password", "sslpassword"} & set(url.query):
            yield "ledger.url: holds a password; leave it out and keep it in the file that PGPASSFILE names"
