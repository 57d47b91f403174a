"""Epsilon recomputed from the mechanisms that ledgers hold, by three accountants, at every scope.

Scopes are a study at a site, a dataset, a site (its datasets together), and a person at all sites. The sums of
the claims' epsilons and deltas are what may be claimed (PRIVACY P2, P6); the three accountants' figures are
information, since none of them may follow choices that were made after seeing outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.audit.ledger_files import OpenedLedger
from common.errors import HanseError
from common.privacy.accounting import epsilon
from common.privacy.coverage import together
from common.privacy.ledger.details import Opened, Released, Reserved, Settled
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.mechanism import Composition, Gaussian, Laplace, Mechanism, NotPrivate, SampledGaussian, merge
from common.privacy.spending import Claim, claim

__all__ = ["SCOPES", "RecomputedEpsilon", "charged_mechanisms", "in_words", "recompute"]


SCOPES = ("person", "site", "dataset", "study")
"""From the widest to the narrowest, the order in which figures are shown (PRIVACY P2)."""


@dataclass(frozen=True, slots=True)
class RecomputedEpsilon:
    """What was charged in one scope, and what it costs. Adjacency is add or remove one unit."""

    scope: str
    """``study``, ``dataset``, ``site`` or ``person``."""
    name: str
    unit: str
    """``example``, ``group`` (a person with all rows), or both."""
    mechanism: Mechanism
    delta: float
    """At which the three accountants answer: the sum of the budgets' deltas."""
    claimed: float | None
    """The sum of the budgets' epsilons; None for a study, which has no claim of its own."""
    pld: float
    rdp: float
    prv: float | None = None
    """None where Opacus' accountant did not answer, or was not asked."""


def recompute(ledgers: Sequence[OpenedLedger], second_opinion: bool = True) -> tuple[RecomputedEpsilon, ...]:
    """Every scope of every ledger, and a person at all sites last, where there are several.

    A dataset under unit "institution" has no guarantee of its own at the site and is left out. With
    ``second_opinion`` Opacus is asked for PRV in a process of its own, which takes seconds; where it fails,
    its figures are missing.
    """
    found: list[RecomputedEpsilon] = []
    sites: list[_Scope] = []
    for ledger in ledgers:
        own = _scopes(ledger)
        found += [_priced(scope) for scope in own]
        sites += [scope for scope in own if scope.scope == "site"]
    if len(sites) > 1:
        found.append(_priced(_joined("person", "a person at all sites", sites)))
    return _with_prv(found) if second_opinion else tuple(found)


def charged_mechanisms(entries: Iterable[LedgerEntry]) -> Mapping[tuple[str, str], Mechanism]:
    """What counts, by dataset and study, straight from the entries as docs/ledger-format.md says.

    Under a plan the entry that holds the study, whole; under a filter settled rounds at what they settled
    for, unsettled and re-entered rounds whole.
    """
    written = list(entries)
    filters = {e.sequence for e in written if isinstance(e.details, Opened) and e.details.terms.kind == "filter"}
    budgets = {e.sequence: e.details.budget for e in written if isinstance(e.details, Reserved)}
    settled = {e.details.reservation for e in written if isinstance(e.details, Settled)}

    def counts(entry: LedgerEntry) -> bool:
        match entry.details:
            case Reserved(budget=budget):
                return entry.sequence not in settled if budget in filters else entry.round is None
            case Settled(reservation=reservation):
                return budgets[reservation] in filters
            case Released(budget=budget, why="re-entered"):
                return budget in filters or entry.round is None
            case _:
                return False

    charged: dict[tuple[str, str], list[Mechanism]] = {}
    for entry in filter(counts, written):
        mechanism = entry.mechanism or Composition(())
        charged.setdefault((entry.dataset, entry.study or ""), []).append(mechanism)
    return {key: together(*mechanisms) for key, mechanisms in charged.items()}


def in_words(mechanism: Mechanism) -> str:
    """The releases of a mechanism, in a line: how units were sampled, how much noise, how often."""
    said = []
    for part in merge(mechanism):
        match part:
            case SampledGaussian(rate, noise, steps):
                said.append(f"{steps} steps, Poisson sampling at rate {rate:.6g}, noise multiplier {noise:.6g}")
            case Gaussian(noise, count):
                said.append(f"{count} Gaussian releases over all units, noise multiplier {noise:.6g}")
            case Laplace(scale, count):
                said.append(f"{count} Laplace releases, scale {scale:.6g}")
            case NotPrivate(reason):
                said.append(f"not private: {reason}")
    return "; ".join(said) or "nothing"


@dataclass(frozen=True, slots=True)
class _Scope:
    """A scope before it is priced."""

    scope: str
    name: str
    units: frozenset[str]
    mechanism: Mechanism
    delta: float
    claimed: float | None


def _scopes(ledger: OpenedLedger) -> list[_Scope]:
    history = ledger.ledger.history
    charged = charged_mechanisms(ledger.ledger.entries)
    datasets = []
    studies = []
    for dataset in sorted({budget.dataset for budget in history.budgets.values()}):
        budgets = history.of(dataset)
        units = frozenset(budget.terms.unit for budget in budgets)
        if "institution" in units:
            continue
        own = {study: mechanism for (name, study), mechanism in charged.items() if name == dataset}
        said: Claim = claim(history, dataset)
        name = f"{ledger.name}: {dataset}"
        datasets.append(_Scope("dataset", name, units, together(*own.values()), said.delta, said.epsilon))
        for study, mechanism in sorted(own.items()):
            used = {budget for key, budget in history.runs.items() if key[:2] == (dataset, study)}
            delta = math.fsum(history.budgets[budget].terms.delta for budget in used)
            studies.append(_Scope("study", f"{name}, study {study[:16]}", units, mechanism, delta, None))
    return [*studies, *datasets, *([_joined("site", ledger.name, datasets)] if datasets else [])]


def _joined(scope: str, name: str, parts: Sequence[_Scope]) -> _Scope:
    """One person in all parts: mechanisms compose, claims add up."""
    return _Scope(
        scope=scope,
        name=name,
        units=frozenset().union(*(part.units for part in parts)),
        mechanism=together(*(part.mechanism for part in parts)),
        delta=math.fsum(part.delta for part in parts),
        claimed=math.fsum(part.claimed or 0.0 for part in parts),
    )


def _priced(scope: _Scope) -> RecomputedEpsilon:
    void = scope.delta >= 1  # a delta of 1 promises nothing
    return RecomputedEpsilon(
        scope=scope.scope,
        name=scope.name,
        unit=" and ".join(sorted(scope.units)),
        mechanism=scope.mechanism,
        delta=scope.delta,
        claimed=scope.claimed,
        pld=math.inf if void else epsilon(scope.mechanism, scope.delta, "pld"),
        rdp=math.inf if void else epsilon(scope.mechanism, scope.delta, "rdp"),
    )


def _with_prv(figures: Sequence[RecomputedEpsilon]) -> tuple[RecomputedEpsilon, ...]:
    from common.privacy import prv

    askable = [
        figure
        for figure in figures
        if figure.delta < 1 and not any(isinstance(part, Laplace) for part in merge(figure.mechanism))
    ]
    try:
        answers = prv.bounds([(figure.mechanism, figure.delta) for figure in askable])
    except HanseError:  # a second opinion that fails is no finding
        return tuple(figures)
    said = {id(figure): answer.upper for figure, answer in zip(askable, answers, strict=True)}
    return tuple(replace(figure, prv=said.get(id(figure))) for figure in figures)
