"""What a legal sequence of entries adds up to: budgets, reservations, rounds, approvals. Pure.

``take`` trusts its entry. Only ``common.privacy.ledger.order.advance`` calls it, which checks first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from common.privacy.coverage import together
from common.privacy.ledger.details import (
    GENESIS,
    Approved,
    Closed,
    Head,
    Opened,
    Policy,
    Refused,
    Released,
    Reserved,
    Settled,
)
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.mechanism import Composition, Mechanism
from common.privacy.terms import BudgetTerms

__all__ = ["Budget", "History", "Reservation", "RoundName", "reservation_of"]

RoundName: TypeAlias = tuple[str, str, str, int | None]
"""A dataset, a study's digest, a run, a round."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A round that was reserved, or a whole study under a plan (no round)."""

    sequence: int
    """Its entry's place; what ``settle`` names."""
    dataset: str
    budget: int
    """The ``open`` entry's place."""
    study: str
    run: str
    round: int | None
    plan: str | None
    """Digest of what the coordinator asked for."""
    mechanism: Mechanism

    @property
    def name(self) -> RoundName:
        """Where it belongs; a name is reserved once."""
        return (self.dataset, self.study, self.run, self.round)


@dataclass(slots=True)
class Budget:
    """One budget of a dataset, as its entries leave it."""

    sequence: int
    dataset: str
    terms: BudgetTerms
    limit: float
    """Epsilon up to which it still grants; lowered, never raised (P6)."""
    claim: float
    """Epsilon that is claimed: as opened, or as lowered before the dataset's first release. A limit lowered
    later may have been chosen after seeing outputs, and a claim may not."""
    closed: bool = False
    study_plan: Reservation | None = None
    """Under a plan: the study that was reserved."""
    settled: Mechanism = field(default_factory=lambda: Composition(()))
    """What has ended, at what it counts for; under a plan the rounds reserved so far."""
    unsettled: dict[int, Reservation] = field(default_factory=dict)

    def charged(self) -> Mechanism:
        """All that counts: under a plan the whole study; under a filter also every unsettled round, whole."""
        if self.terms.kind == "plan":
            return self.study_plan.mechanism if self.study_plan else Composition(())
        return together(self.settled, *(held.mechanism for held in self.unsettled.values()))

    def rounds(self) -> Mechanism:
        """Every round that was reserved, settled or not."""
        return together(self.settled, *(held.mechanism for held in self.unsettled.values()))


class History:
    """What the entries so far add up to."""

    def __init__(self) -> None:
        """Before the first entry."""
        self.head: Head = GENESIS
        self.hashes: list[str] = [GENESIS.hash]
        """Hash of every entry by its place; the first is that of the empty ledger."""
        self.budgets: dict[int, Budget] = {}
        self.rounds: dict[RoundName, Reservation] = {}
        """The last try of each round."""
        self.open_reservations: dict[int, Reservation] = {}
        self.runs: dict[tuple[str, str, str], int] = {}
        """By dataset, study and run: the budget that holds it."""
        self.used: set[str] = set()
        """Datasets about which anything was released."""
        self.coordinators: set[str] = set()
        self.approved: dict[str, dict[str, str | None]] = {}
        """By dataset: studies approved, and when each approval ends."""
        self.refused: set[tuple[str, str | None, str | None, int | None, str]] = set()
        """(dataset, study, run, round, code) of every refusal."""
        self.refusals_by_hour: dict[str, int] = {}
        """How many refusals carry the newest time of a refusal; it alone is kept."""
        self.restored: dict[Head, set[str]] = {}
        """Heads that were lost, and the datasets for which that was mended (P8)."""
        self.concerned: dict[Head, set[str]] = {}
        """Heads that were lost, and the datasets that had a budget when the mending began."""

    def of(self, dataset: str) -> list[Budget]:
        """The dataset's budgets in order of opening."""
        return [budget for budget in self.budgets.values() if budget.dataset == dataset]

    def knows(self, head: Head) -> bool:
        """Whether ``head`` was this ledger's head at some time."""
        return head.sequence < len(self.hashes) and self.hashes[head.sequence] == head.hash

    def take(self, entry: LedgerEntry) -> None:
        """Take in an entry that the order rules allow."""
        match entry.details:
            case Opened(terms=terms):
                self.budgets[entry.sequence] = Budget(
                    entry.sequence, entry.dataset, terms, terms.epsilon, terms.epsilon
                )
            case Policy(lower=lower) if lower is not None:
                self._lower(self.budgets[lower.budget], lower.epsilon)
            case Approved(expires=expires):
                self.approved.setdefault(entry.dataset, {})[entry.study or ""] = expires
            case Reserved():
                self._reserve(reservation_of(entry, entry.details), entry.details.coordinator)
            case Settled():
                self._settle(entry, entry.details)
            case Refused(code=code):
                self.refused.add((entry.dataset, entry.study, entry.run, entry.round, code))
                self.refusals_by_hour = {entry.time: self.refusals_by_hour.get(entry.time, 0) + 1}
            case Released():
                self._release(entry, entry.details)
            case Closed(lost=lost):
                for budget in self.of(entry.dataset):
                    budget.closed = True
                self._restore(entry.dataset, lost)
            case _:
                pass
        self.head = entry.head
        self.hashes.append(entry.hash)

    def _lower(self, budget: Budget, epsilon: float) -> None:
        budget.limit = epsilon
        if budget.dataset not in self.used:
            budget.claim = epsilon

    def _reserve(self, held: Reservation, coordinator: str) -> None:
        budget = self.budgets[held.budget]
        self.used.add(held.dataset)
        if coordinator:
            self.coordinators.add(coordinator)
        self.runs[held.name[:3]] = held.budget
        if held.round is None:
            budget.study_plan = held
            return
        budget.unsettled[held.sequence] = held
        self.open_reservations[held.sequence] = held
        self.rounds[held.name] = held

    def _settle(self, entry: LedgerEntry, details: Settled) -> None:
        held = self.open_reservations.pop(details.reservation)
        budget = self.budgets[held.budget]
        del budget.unsettled[held.sequence]
        budget.settled = together(budget.settled, entry.mechanism or Composition(()))

    def _release(self, entry: LedgerEntry, details: Released) -> None:
        self.used.add(entry.dataset)
        if details.why == "trusted-coordinator":
            return
        held = reservation_of(entry, details)
        budget = self.budgets[held.budget]
        self.runs[held.name[:3]] = held.budget
        if held.round is None:
            budget.study_plan = held
        else:
            budget.settled = together(budget.settled, held.mechanism)
            self.rounds[held.name] = held
        self._restore(entry.dataset, details.lost)

    def _restore(self, dataset: str, lost: Head | None) -> None:
        if lost is not None:
            self.concerned.setdefault(lost, {budget.dataset for budget in self.budgets.values()})
            self.restored.setdefault(lost, set()).add(dataset)


def reservation_of(entry: LedgerEntry, details: Reserved | Released) -> Reservation:
    """What an entry reserves, or re-enters."""
    return Reservation(
        sequence=entry.sequence,
        dataset=entry.dataset,
        budget=details.budget,
        study=entry.study or "",
        run=entry.run or "",
        round=entry.round,
        plan=details.plan,
        mechanism=entry.mechanism or Composition(()),
    )
