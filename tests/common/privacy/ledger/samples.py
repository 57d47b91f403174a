"""Ledgers for tests, built in memory or in a folder, with fixed keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from common.privacy.ledger.book import Ledger
from common.privacy.ledger.details import GENESIS, Closed, Head, Lowering, Opened, Policy, Reserved, Settled
from common.privacy.ledger.entry import Draft, LedgerEntry, Stamp, seal_entry
from common.privacy.ledger.keys import SiteKey
from common.privacy.ledger.rules import header_line
from common.privacy.ledger.store import LedgerStore
from common.privacy.mechanism import Mechanism, SampledGaussian
from common.privacy.terms import BudgetTerms, accountant_name

KEY = SiteKey.from_seed(bytes(range(32)))
OTHER_KEY = SiteKey.from_seed(bytes(range(1, 33)))
NOON = datetime(2026, 11, 24, 12, 34, 56, tzinfo=UTC)
STUDY, OTHER_STUDY = "a" * 64, "b" * 64
PLAN, OTHER_PLAN = "c" * 64, "d" * 64
DATA = "patients"
FILTER = BudgetTerms(epsilon=3.0, delta=1e-5, unit="group", declared_size=5000, kind="filter", order=6)
PLANNED = BudgetTerms(epsilon=8.0, delta=1e-5, unit="group", declared_size=5000)
ROUND = SampledGaussian(0.02, 1.0, 50)


def fixed_entropy(first: int = 0) -> Callable[[int], bytes]:
    """16 bytes that count up: for vectors and comparisons alone."""
    numbers = count(first)
    return lambda size: next(numbers).to_bytes(size, "big")


def site_ledger(folder: Path, key: SiteKey = KEY, name: str = "ledger.db") -> Ledger:
    """A ledger in its own folder."""
    return Ledger(LedgerStore(folder / "site" / name), key)


def opened(terms: BudgetTerms = FILTER, dataset: str = DATA) -> Draft:
    """A budget is opened."""
    return Draft(dataset=dataset, details=Opened(terms=terms, accountant=accountant_name(terms), build=""))


def reserved(
    number: int | None, mechanism: Mechanism = ROUND, budget: int = 1, retry_of: int | None = None
) -> Draft:
    """A round is reserved."""
    details = Reserved(budget=budget, plan=PLAN if number else None, coordinator="", retry_of=retry_of)
    return Draft(dataset=DATA, study=STUDY, run="r", round=number, mechanism=mechanism, details=details)


def settled(number: int, reservation: int, mechanism: Mechanism = ROUND, **details: str) -> Draft:
    """A round is settled."""
    said = {"outcome": "completed", "refund": None} | details
    found = Settled.model_validate({"reservation": reservation} | said)
    return Draft(dataset=DATA, study=STUDY, run="r", round=number, mechanism=mechanism, details=found)


def lowered(epsilon: float, budget: int = 1) -> Draft:
    """A budget is lowered."""
    return Draft(dataset=DATA, details=Policy(policy=None, lower=Lowering(budget=budget, epsilon=epsilon)))


CLOSED = Draft(dataset=DATA, details=Closed(why="finished", lost=None))
STORY = (opened(), reserved(1), settled(1, 2), reserved(2), settled(2, 4, outcome="failed"), lowered(2.9))
"""A legal ledger of six entries."""


def chained(drafts: Iterable[Draft], key: SiteKey = KEY) -> list[LedgerEntry]:
    """Drafts sealed one after the other; no rule is asked."""
    head, found, entropy = GENESIS, [], fixed_entropy()
    for draft in drafts:
        entry = seal_entry(draft, head, Stamp(NOON, entropy(16), None), key)
        found.append(entry)
        head = entry.head
    return found


def bundled(entries: Sequence[LedgerEntry], public_key: str = KEY.public_hex, head: Head | None = None) -> bytes:
    """A bundle of entries as they are."""
    end = head or (entries[-1].head if entries else GENESIS)
    return b"".join(line + b"\n" for line in [header_line(public_key, end), *(e.line() for e in entries)])
