"""A ledger for people: a table of its entries, and what a verification found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from common.audit.recomputed import in_words
from common.privacy.ledger.details import (
    Approved,
    Closed,
    Details,
    Head,
    Opened,
    Policy,
    Refused,
    Released,
    Reserved,
    Settled,
)
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.ledger.history import History, Reservation
from common.privacy.ledger.rules import VerifiedLedger
from common.privacy.mechanism import Mechanism, SampledGaussian, merge
from common.privacy.spending import claim, overspent
from deploy.console import wide_console
from deploy.own_ledger import chosen_datasets

__all__ = ["Verification", "entries_table", "head_in_words", "print_verification", "reservations_table"]

_STUDY_DIGITS = 12


@dataclass(frozen=True)
class Verification:
    """A ledger that passed every check, and whose word stands behind it."""

    ledger: VerifiedLedger
    name: str
    """The file or database, for people."""
    key_on_trust: bool
    """Whether the key was taken from the bundle's own header."""
    witnessed: tuple[Head, ...]
    """Heads that it was held against."""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        history = self.ledger.history
        return {
            "ledger": self.name,
            "public_key": self.ledger.public_key,
            "key_on_trust": self.key_on_trust,
            "entries": len(self.ledger.entries),
            "head": self.ledger.head.model_dump(),
            "witnessed": [head.model_dump() for head in self.witnessed],
            "restored": [head.model_dump() for head in self.ledger.restored],
            "datasets": [_dataset_json(history, name) for name in chosen_datasets(history, None)],
            "overspent": list(overspent(history)),
        }


def head_in_words(head: Head) -> str:
    """SEQUENCE:HASH, as `hanse ledger verify --head` takes it."""
    return f"{head.sequence}:{head.hash}"


def entries_table(entries: Sequence[LedgerEntry], title: str) -> Table:
    """Entries in order, one row each."""
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("dataset", overflow="fold")
    table.add_column("study", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("round", justify="right")
    table.add_column("mechanism", overflow="fold", ratio=1)
    table.add_column("note", overflow="fold", ratio=1)
    for entry in entries:
        said = "; ".join(part for part in (_details_in_words(entry.details), entry.note) if part)
        table.add_row(
            str(entry.sequence),
            f"{entry.time[:10]} {entry.time[11:13]}h",
            str(entry.kind),
            _plain(entry.dataset),
            (entry.study or "")[:_STUDY_DIGITS],
            _plain(entry.run or ""),
            "" if entry.round is None else str(entry.round),
            _plain("" if entry.mechanism is None else _in_short(entry.mechanism)),
            _plain(said),
        )
    return table


def reservations_table(held: Sequence[Reservation]) -> Table:
    """Reservations that were not settled."""
    table = Table(title="Open reservations", title_justify="left", box=None, pad_edge=False)
    for column in ("entry", "dataset", "budget", "study", "run", "round", "counts in full"):
        table.add_column(column, overflow="fold", no_wrap=column == "study")
    for each in held:
        table.add_row(
            str(each.sequence),
            _plain(each.dataset),
            str(each.budget),
            each.study[:_STUDY_DIGITS],
            _plain(each.run),
            "" if each.round is None else str(each.round),
            _plain(_in_short(each.mechanism)),
        )
    return table


def print_verification(found: Verification) -> None:
    """Print what was verified, on whose word, and what that does not show."""
    ledger, console = found.ledger, wide_console()
    lines = [
        f"{found.name}: verified, {len(ledger.entries)} entries",
        f"head {head_in_words(ledger.head)}",
        f"public key {ledger.public_key}",
    ]
    if found.key_on_trust:
        lines.append(
            "The key was taken on trust from the bundle's own header, so anyone may have signed this; "
            "get the site's key from the site and give it with --key."
        )
    if not found.witnessed:
        lines.append("No witnessed head was given (--head): entries cut off at the end would not show.")
    lines += [
        f"Lost and made up for: head {head_in_words(head)}; ask the site about it." for head in ledger.restored
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False)
    if ledger.history.budgets:
        console.print(_claims_table(ledger.history))
    for line in overspent(ledger.history) or ("No budget is overspent.",):
        console.print(line, markup=False, highlight=False)
    console.print(
        "Not shown by any ledger: that a recorded mechanism is what ran (docs/audit.md).", highlight=False
    )


def _claims_table(history: History) -> Table:
    table = Table(title="Claims, per unit added or removed", title_justify="left")
    table.add_column("dataset", overflow="fold")
    table.add_column("unit")
    for column in ("budgets", "epsilon", "delta"):
        table.add_column(column, justify="right")
    for name in chosen_datasets(history, None):
        budgets, said = history.of(name), claim(history, name)
        figures = (str(len(budgets)), f"{said.epsilon:.6g}", f"{said.delta:.6g}")
        table.add_row(_plain(name), budgets[0].terms.unit, *figures)
    return table


def _dataset_json(history: History, name: str) -> dict[str, Any]:
    budgets, said = history.of(name), claim(history, name)
    finite = None if said.epsilon == float("inf") else said.epsilon
    return {
        "dataset": name,
        "unit": budgets[0].terms.unit,
        "budgets": len(budgets),
        "claim": {"epsilon": finite, "delta": said.delta},
    }


def _plain(text: str) -> Text:
    """Text from a file on a terminal: no markup, and no character that would steer the terminal."""
    return Text("".join(char if char.isprintable() else "\ufffd" for char in text))


def _in_short(mechanism: Mechanism) -> str:
    """The releases of a mechanism in a few words; the noise is a multiplier of the clipping norm."""
    said = []
    for part in merge(mechanism):
        match part:
            case SampledGaussian(rate, noise, steps):
                said.append(f"{steps} steps, rate {rate:.6g}, noise {noise:.6g}")
            case _:
                said.append(in_words(part))
    return "; ".join(said) or "nothing"


def _details_in_words(details: Details) -> str:
    match details:
        case Opened(terms=terms):
            counted = "plan" if terms.order is None else f"filter at order {terms.order}"
            return f"{counted}: epsilon {terms.epsilon:g}, delta {terms.delta:g}"
        case Policy(policy=policy, lower=lower):
            adopted = "" if policy is None else f"policy {policy[:_STUDY_DIGITS]} adopted"
            lowered = "" if lower is None else f"budget {lower.budget} lowered to epsilon {lower.epsilon:g}"
            return ", ".join(part for part in (adopted, lowered) if part)
        case Approved(expires=expires):
            return "approved" if expires is None else f"approved until {expires}"
        case Reserved(budget=budget, retry_of=retry_of):
            return f"from budget {budget}" + ("" if retry_of is None else f", retry of entry {retry_of}")
        case Settled(reservation=reservation, outcome=outcome, refund=refund):
            counts = "" if refund is None else f", refunded for a {refund}"
            return f"entry {reservation}: {outcome}{counts}"
        case Refused(code=code):
            return code
        case Released(why=why) | Closed(why=why):
            return why
