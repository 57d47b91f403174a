"""Verify a Hanse ledger without Hanse: this one file, Python 3.11 and `cryptography` (any recent version).

    python verify_ledger.py BUNDLE PUBLIC_KEY [SEQUENCE:HASH ...]

`hanse audit verify-only` calls :func:`main` of this very file.

BUNDLE is a ledger as a site exported it, PUBLIC_KEY the site's Ed25519 key in hexadecimal, from a source that
you trust and not from the bundle. Each SEQUENCE:HASH is a head that somebody else witnessed, such as a
coordinator in its file witness.jsonl; without one, entries cut off the end go unseen.

It makes the nine checks of ledger-format.md, which is the specification, in the order of that page, and then
adds up what was charged. Exit code 0: nothing wrong was found; 4: a violation, named by check and entry; 2:
the arguments cannot be used. What it cannot show is that a recorded mechanism is what ran.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["Violation", "main", "verify"]

Test = Callable[[Any], bool]
FORMAT = "hanse-ledger/1"
NO_HASH = "0" * 64
LARGEST_WHOLE = 2**53 - 1
CHECKS = ("", "framing", "key", "form", "hash", "signature", "chain", "end", "order", "completeness", "budget")


class Violation(Exception):
    """The ledger fails a check. ``entry`` is 0 where it is no single entry's fault."""

    def __init__(self, check: int, entry: int, what: str) -> None:
        where = f"entry {entry}: " if entry else ""
        super().__init__(f"check {check} ({CHECKS[check]}): {where}{what}")
        self.check, self.entry = check, entry


# --- canonical JSON (RFC 8785): one value, one sequence of bytes -----------------------------------------------


def canonical(value: Any, depth: int = 0) -> str:
    if depth > 64:
        raise ValueError("nested too deep")
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return canonical_number(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ",".join(canonical(item, depth + 1) for item in value) + "]"
    keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(f"{canonical(key)}:{canonical(value[key], depth + 1)}" for key in keys) + "}"


def canonical_number(value: float) -> str:
    """As ECMAScript writes it: the shortest digits, a plain decimal from 1e-6 to below 1e21."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    _, figures, exponent = Decimal(repr(abs(value))).normalize().as_tuple()
    digits, point = "".join(map(str, figures)), int(exponent) + len(figures)
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def parsed(line: bytes) -> Any:
    """The value of a line; ``ValueError`` unless the line is exactly that value's canonical JSON."""

    def whole(digits: str) -> int | float:
        return int(digits) if abs(float(digits)) <= LARGEST_WHOLE else float(digits)

    def no_constant(name: str) -> float:
        raise ValueError(f"{name} is no JSON")

    if len(line) > 65536:
        raise ValueError("longer than 65,536 bytes")
    try:
        value = json.loads(line.decode("utf-8"), parse_int=whole, parse_constant=no_constant)
        if canonical(value).encode("utf-8") == line:  # a key that stands twice is gone by now, and differs
            return value
    except (RecursionError, OverflowError, ArithmeticError) as error:
        raise ValueError("no JSON that can be read") from error
    raise ValueError("not in canonical form")


# --- the form of an entry (check 3) ---------------------------------------------------------------------------


def is_hex(digits: int) -> Test:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(f"[0-9a-f]{{{digits}}}", value))


def is_text(longest: int) -> Test:
    return lambda value: isinstance(value, str) and len(value) <= longest


def is_whole(least: int, most: int = LARGEST_WHOLE) -> Test:
    return lambda value: type(value) is int and least <= value <= most


def is_number(least: float, most: float) -> Test:
    return lambda value: type(value) in (int, float) and least <= value <= most


def is_above_zero(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def is_one_of(*words: str | None) -> Test:
    return lambda value: value in words if isinstance(value, str) else value is None and None in words


def is_object(**fields: Test) -> Test:
    return lambda value: (
        isinstance(value, dict) and set(value) == set(fields) and all(fields[key](value[key]) for key in fields)
    )


def or_null(test: Test) -> Test:
    return lambda value: value is None or test(value)


def is_name(value: Any) -> bool:
    return is_text(100)(value) and value.isprintable() and value == value.strip() != ""


def is_hour(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:00:00Z", value, re.ASCII):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def is_day(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII))


def is_terms(value: Any) -> bool:
    form = is_object(
        epsilon=lambda e: is_above_zero(e) and e <= 10_000,
        delta=lambda d: is_number(1e-12, 1)(d) and d < 1,
        unit=is_one_of("example", "group", "institution"),
        declared_size=is_whole(1, 10**12),
        kind=is_one_of("plan", "filter"),
        order=or_null(is_whole(2, 1024)),
    )
    return form(value) and (value["order"] is None) == (value["kind"] == "plan")


def is_mechanism(value: Any, depth: int = 0) -> bool:
    if depth > 32 or not isinstance(value, dict) or not isinstance(value.get("mechanism"), str):
        return False
    if value["mechanism"] == "composition":
        parts = value.get("parts")
        return len(value) == 2 and isinstance(parts, list) and all(is_mechanism(part, depth + 1) for part in parts)
    form = MECHANISMS.get(value["mechanism"])
    return form is not None and form(value)


MECHANISMS = {
    "sampled_gaussian": is_object(
        mechanism=is_text(20),
        sample_rate=is_number(0, 1),
        noise_multiplier=is_number(0, 1e6),
        steps=is_whole(0, 10**9),
    ),
    "gaussian": is_object(mechanism=is_text(20), noise_multiplier=is_number(0, 1e6), count=is_whole(0, 10**9)),
    "laplace": is_object(mechanism=is_text(20), scale=is_number(0, 1e6), count=is_whole(0, 10**9)),
    "not_private": is_object(mechanism=is_text(20), reason=lambda text: is_text(500)(text) and text.strip() != ""),
}
digest, place, short = is_hex(64), is_whole(1), is_text(200)
is_head = is_object(sequence=is_whole(0), hash=digest)
DETAILS = {
    "open": is_object(terms=is_terms, accountant=short, build=short),
    "policy": is_object(policy=or_null(digest), lower=or_null(is_object(budget=place, epsilon=is_above_zero))),
    "approve": is_object(expires=or_null(is_day)),
    "reserve": is_object(budget=place, plan=or_null(digest), coordinator=short, retry_of=or_null(place)),
    "settle": is_object(
        reservation=place,
        outcome=is_one_of("completed", "failed", "deadline", "cancelled", "operator"),
        refund=is_one_of(None, "public-fact", "earlier-output"),
    ),
    "refuse": is_object(code=lambda c: isinstance(c, str) and bool(re.fullmatch("[a-z][a-z0-9-]{0,39}", c))),
    "release": is_object(
        budget=place,
        why=is_one_of("re-entered", "trusted-coordinator"),
        plan=or_null(digest),
        lost=or_null(is_head),
    ),
    "close": is_object(why=is_one_of("finished", "written-off"), lost=or_null(is_head)),
}
FIELDS: dict[str, Test] = {
    "format": is_one_of(FORMAT),
    "sequence": place,
    "time": is_hour,
    "kind": is_one_of(*DETAILS),
    "dataset": is_name,
    "commitment": or_null(digest),
    "study": or_null(digest),
    "run": or_null(is_text(100)),
    "round": or_null(place),
    "mechanism": or_null(is_mechanism),
    "details": lambda value: isinstance(value, dict),
    "note": is_text(1000),
    "random": is_hex(32),
    "previous": digest,
    "hash": digest,
    "signature": is_hex(128),
}


def read_entry(line: bytes, number: int) -> dict[str, Any]:
    """Check 3: the entry that a line holds, every field in its bounds."""
    try:
        entry = parsed(line)
    except ValueError as error:
        raise Violation(3, number, str(error)) from error
    if not isinstance(entry, dict) or set(entry) != set(FIELDS):
        raise Violation(3, number, "must have exactly the 16 fields of the format")
    for name, test in FIELDS.items():
        if not test(entry[name]):
            raise Violation(3, number, f"{name} is out of its bounds")
    if not DETAILS[entry["kind"]](entry["details"]):
        raise Violation(3, number, f"details are not those of {entry['kind']}")
    return entry


# --- mechanisms: what is released, and what covers what -------------------------------------------------------

Releases = Counter[tuple[Any, ...]]
"""How often each release (its name and parameters) happened."""


def releases(mechanism: dict[str, Any] | None) -> Releases:
    """A mechanism flattened; equal parts added up; parts that release nothing left out."""
    found: Releases = Counter()
    if mechanism is None:
        return found
    match mechanism["mechanism"]:
        case "composition":
            found = together(*(releases(part) for part in mechanism["parts"]))
        case "sampled_gaussian" if mechanism["sample_rate"] == 1:
            found["gaussian", mechanism["noise_multiplier"]] = mechanism["steps"]
        case "sampled_gaussian" if mechanism["sample_rate"] > 0:
            rate, noise = mechanism["sample_rate"], mechanism["noise_multiplier"]
            found["sampled_gaussian", rate, noise] = mechanism["steps"]
        case "gaussian":
            found["gaussian", mechanism["noise_multiplier"]] = mechanism["count"]
        case "laplace":
            found["laplace", mechanism["scale"]] = mechanism["count"]
        case "not_private":
            found["not_private", mechanism["reason"]] = 1
    return +found


def together(*parts: Releases) -> Releases:
    """All of them; what is not private counts once for each reason."""
    found: Releases = Counter()
    for part in parts:
        found.update(part)
    return Counter({key: 1 if key[0] == "not_private" else times for key, times in found.items()})


def covers(whole: Releases, part: Releases) -> bool:
    """Whether every release of ``part`` is one of ``whole``."""
    return all(times <= whole[key] for key, times in part.items())


# --- what the entries add up to, and the order rules (check 8) -------------------------------------------------


@dataclass
class Budget:
    """An ``open`` entry and what was charged to it."""

    place: int
    dataset: str
    terms: dict[str, Any]
    limit: float
    closed: bool = False
    study: dict[str, Any] | None = None
    """Under a plan: the entry that holds the study."""
    rounds: dict[int, Releases] = field(default_factory=dict)
    """By the place of the entry that reserved or re-entered a round: what it counts for."""

    def charged(self) -> Releases:
        """All that counts: under a plan the study, whole; under a filter every round."""
        if self.terms["kind"] == "plan":
            return releases(self.study["mechanism"]) if self.study else Counter()
        return together(*self.rounds.values())


@dataclass
class Ledger:
    """Everything so far."""

    hashes: list[str] = field(default_factory=lambda: [NO_HASH])
    budgets: dict[int, Budget] = field(default_factory=dict)
    last_tries: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    """By dataset, study, run and round: the last entry that reserved or re-entered it."""
    unsettled: dict[int, dict[str, Any]] = field(default_factory=dict)
    mended: dict[tuple[int, str], set[str]] = field(default_factory=dict)
    """Heads that were lost, and the datasets for which an entry makes up for it."""
    concerned: dict[tuple[int, str], set[str]] = field(default_factory=dict)
    """The same heads, and the datasets that had a budget when they were first named."""


def round_of(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (entry["dataset"], entry["study"], entry["run"], entry["round"])


def take(ledger: Ledger, entry: dict[str, Any]) -> None:
    """Check the order rules for the next entry, then add it."""
    number, kind, details, dataset = entry["sequence"], entry["kind"], entry["details"], entry["dataset"]

    def rule(name: str, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(8, number, f"rule {name}: {what}")

    check_fields(entry, rule)
    if kind == "open":
        units, terms = {b.terms["unit"] for b in ledger.budgets.values() if b.dataset == dataset}, details["terms"]
        rule("O1", units <= {terms["unit"]}, "the unit is another than the dataset's earlier budgets'")
        rule("O1", terms["kind"] == "plan" or cap(terms) > 0, "the filter can never grant anything")
        ledger.budgets[number] = Budget(number, dataset, terms, terms["epsilon"])
    elif kind == "policy" and details["lower"]:
        budget = budget_of(ledger, entry, details["lower"]["budget"], "O7")
        rule("O7", details["lower"]["epsilon"] <= budget.limit, "raises the budget's epsilon")
        budget.limit = details["lower"]["epsilon"]
    elif kind == "reserve":
        take_reserve(ledger, entry, rule)
    elif kind == "settle":
        take_settle(ledger, entry, rule)
    elif kind == "release":
        take_release(ledger, entry, rule)
    elif kind == "close":
        rule("O8", (details["why"] == "written-off") == (details["lost"] is not None), "lost does not suit why")
        for budget in ledger.budgets.values():
            budget.closed = budget.closed or budget.dataset == dataset
        mend(ledger, dataset, details["lost"])
    ledger.hashes.append(entry["hash"])


def check_fields(entry: dict[str, Any], rule: Any) -> None:
    """O9."""
    kind = entry["kind"]
    if kind in ("approve", "reserve", "settle", "refuse"):
        rule("O9", entry["study"] is not None, "needs a study")
    if kind != "refuse":
        released = kind in ("reserve", "settle", "release")
        rule("O9", released == (entry["mechanism"] is not None), "mechanism does not suit its kind")
    if kind in ("reserve", "settle"):
        rule("O9", entry["run"] is not None, "needs a run")


def take_reserve(ledger: Ledger, entry: dict[str, Any], rule: Any) -> None:
    details = entry["details"]
    budget = budget_of(ledger, entry, details["budget"], "O2")
    rule("O2", not budget.closed, "its budget was closed")
    check_place(budget, entry, rule)
    last, retry_of = ledger.last_tries.get(round_of(entry)), details["retry_of"]
    if entry["round"] is None:
        rule("O5", retry_of is None, "a whole study is never a retry")
    elif last is not None or retry_of is not None:
        rule("O5", last is not None, "a retry of what was never reserved")
        assert last is not None
        legal = budget.terms["kind"] == "filter" and last["sequence"] == retry_of
        legal = legal and last["details"]["plan"] == details["plan"] and retry_of not in ledger.unsettled
        rule("O5", legal, "the round was reserved before")
    charge(ledger, budget, entry)
    if entry["round"] is not None:
        ledger.unsettled[entry["sequence"]] = entry


def take_settle(ledger: Ledger, entry: dict[str, Any], rule: Any) -> None:
    details = entry["details"]
    held = ledger.unsettled.get(details["reservation"])
    rule("O6", held is not None, "settles no open reservation")
    assert held is not None
    rule("O6", round_of(held) == round_of(entry), "is of another round than its reservation")
    reserved, counted = releases(held["mechanism"]), releases(entry["mechanism"])
    rule("O6", covers(reserved, counted), "counts more than was reserved")
    budget = ledger.budgets[held["details"]["budget"]]
    if details["refund"] is None:
        rule("O6", covers(counted, reserved), "counts less than was reserved, without a reason")
    else:
        rule("O6", budget.terms["kind"] == "filter", "refunds under a plan")
        rule("O6", details["outcome"] == "completed", "refunds a round that was not completed")
    budget.rounds[held["sequence"]] = counted
    del ledger.unsettled[held["sequence"]]


def take_release(ledger: Ledger, entry: dict[str, Any], rule: Any) -> None:
    details = entry["details"]
    budget = budget_of(ledger, entry, details["budget"], "O2")
    reentered = details["why"] == "re-entered"
    rule("O8", reentered == (details["lost"] is not None), "lost does not suit why")
    if not reentered:
        rule("O2", not budget.closed, "its budget was closed")
        rule("O8", budget.terms["unit"] == "institution", "a trusted coordinator needs unit institution")
        return
    rule("O9", entry["study"] is not None and entry["run"] is not None, "needs a study and a run")
    check_place(budget, entry, rule)
    known = entry["round"] is not None and round_of(entry) in ledger.last_tries
    rule("O5", not known or budget.terms["kind"] == "filter", "the round was reserved before")
    charge(ledger, budget, entry)
    mend(ledger, entry["dataset"], details["lost"])


def check_place(budget: Budget, entry: dict[str, Any], rule: Any) -> None:
    """O3 and O4: whether a reservation suits the kind of its budget."""
    if budget.terms["kind"] == "filter":
        rule("O4", entry["round"] is not None, "a filter's reservation needs a round")
        return
    study = budget.study
    if entry["round"] is None:
        rule("O3", study is None, "the plan holds a study already")
        return
    same = study is not None and (study["study"], study["run"]) == (entry["study"], entry["run"])
    rule("O3", same, "the plan holds no such study and run")
    assert study is not None
    whole = together(*budget.rounds.values(), releases(entry["mechanism"]))
    rule("O3", covers(releases(study["mechanism"]), whole), "more than what is left of the plan")


def charge(ledger: Ledger, budget: Budget, entry: dict[str, Any]) -> None:
    if entry["round"] is None:
        budget.study = entry
    else:
        budget.rounds[entry["sequence"]] = releases(entry["mechanism"])
        ledger.last_tries[round_of(entry)] = entry


def mend(ledger: Ledger, dataset: str, lost: dict[str, Any] | None) -> None:
    if lost is not None:
        head = (lost["sequence"], lost["hash"])
        ledger.concerned.setdefault(head, {budget.dataset for budget in ledger.budgets.values()})
        ledger.mended.setdefault(head, set()).add(dataset)


def budget_of(ledger: Ledger, entry: dict[str, Any], number: int, rule: str) -> Budget:
    budget = ledger.budgets.get(number)
    if budget is None or budget.dataset != entry["dataset"]:
        raise Violation(8, entry["sequence"], f"rule {rule}: no budget {number} of its dataset")
    return budget


# --- the nine checks ------------------------------------------------------------------------------------------


def verify(bundle: bytes, public_key: str, witnessed: list[tuple[int, str]]) -> Ledger:
    """Make checks 1 to 9; raises :class:`Violation`."""
    if not bundle.endswith(b"\n"):
        raise Violation(1, 0, "empty, or the last line has no end")
    header_line, *lines = bundle[:-1].split(b"\n")
    try:
        header = parsed(header_line)
    except ValueError as error:
        raise Violation(1, 0, f"header: {error}") from error
    if not is_object(format=is_one_of(f"{FORMAT} bundle"), public_key=lambda _: True, head=lambda _: True)(header):
        raise Violation(1, 0, "the first line is no header of this format")
    if header["public_key"] != public_key:
        raise Violation(2, 0, "the header names another key")
    if not is_head(header["head"]):
        raise Violation(1, 0, "header: head is malformed")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))

    ledger = Ledger()
    for number, line in enumerate(lines, start=1):
        entry = read_entry(line, number)
        check_entry(entry, number, ledger.hashes[-1], key)
        take(ledger, entry)
    if header["head"] != {"sequence": len(lines), "hash": ledger.hashes[-1]}:
        raise Violation(7, 0, "the header's head is not the last entry's")
    for sequence, value in witnessed:
        known = sequence < len(ledger.hashes) and ledger.hashes[sequence] == value
        mended = ledger.mended.get((sequence, value))
        if not known and (mended is None or not ledger.concerned[sequence, value] <= mended):
            raise Violation(9, sequence, f"was witnessed as {value[:16]}..., and the ledger does not have it")
    return ledger


def check_entry(entry: dict[str, Any], number: int, previous: str, key: Ed25519PublicKey) -> None:
    """Checks 4 to 6."""
    body = {name: value for name, value in entry.items() if name not in ("hash", "signature")}
    if hashlib.sha256(canonical(body).encode("utf-8")).hexdigest() != entry["hash"]:
        raise Violation(4, number, "its hash is another")
    try:
        key.verify(bytes.fromhex(entry["signature"]), f"{FORMAT}:{entry['hash']}".encode("ascii"))
    except InvalidSignature:
        raise Violation(5, number, "not signed by the site's key") from None
    if entry["sequence"] != number:
        raise Violation(6, number, f"numbered {entry['sequence']}")
    if entry["previous"] != previous:
        raise Violation(6, number, "follows another entry")


# --- what it cost: Rényi divergence at whole orders ------------------------------------------------------------


def cap(terms: dict[str, Any]) -> float:
    """What a filter may grant (Canonne, Kamath, Steinke 2020, Proposition 12)."""
    order = terms["order"]
    return float(terms["epsilon"] - math.log1p(-1 / order) + math.log(order * terms["delta"]) / (order - 1))


def renyi(charged: Releases, order: int) -> float:
    """Rényi divergence of all releases at a whole order, one unit removed."""
    return math.fsum(times * one_renyi(key, order) for key, times in charged.items())


def one_renyi(release: tuple[Any, ...], order: int) -> float:
    kind, *parameters = release
    if kind == "not_private" or parameters[-1] < 1e-100:  # below it 64 bits overflow
        return math.inf
    noise = float(parameters[-1])
    if kind == "gaussian":
        return order / (2 * noise**2)
    if kind == "laplace":  # Mironov 2017, Table II
        terms = [
            math.log(order / (2 * order - 1)) + (order - 1) / noise,
            math.log((order - 1) / (2 * order - 1)) - order / noise,
        ]
    else:  # Mironov, Talwar, Zhang 2019, section 3.3
        rate = parameters[0]
        terms = [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * noise**2)
            for k in range(order + 1)
        ]  # fmt: skip
    largest = max(terms)
    return (largest + math.log(math.fsum(math.exp(term - largest) for term in terms))) / (order - 1)


def epsilon(charged: Releases, delta: float) -> float:
    """Epsilon by RDP, the best whole order to 256: an upper bound, not the tightest."""
    if not charged:
        return 0.0
    return max(
        0.0,
        min(
            renyi(charged, order) + math.log1p(-1 / order) - math.log(order * delta) / (order - 1)
            for order in range(2, 257)
        ),
    )


def spent(budget: Budget) -> str:
    """A sentence on a budget; raises :class:`Violation` where a filter is overspent or noise is missing."""
    terms, charged = budget.terms, budget.charged()
    said = f'budget {budget.place}, dataset "{budget.dataset}", unit {terms["unit"]}, {terms["kind"]} of epsilon '
    said += f"{terms['epsilon']:g} at delta {terms['delta']:g}: "
    bound = epsilon(charged, terms["delta"])
    if bound == math.inf:
        raise Violation(10, budget.place, "was charged with a release that has no noise")
    if terms["kind"] == "filter":
        used, available = renyi(charged, terms["order"]), cap(terms)
        if used > available * (1 + 1e-9):
            raise Violation(10, budget.place, f"was charged with {used:.6g} of {available:.6g}")
        return f"{said}used {used:.4g} of {available:.4g} at order {terms['order']}; epsilon by RDP {bound:.4f}"
    within = "within it" if bound <= terms["epsilon"] else "more than it, which only PLD, the tight one, can judge"
    return f"{said}epsilon by RDP {bound:.4f}, {within}"


def main(arguments: list[str]) -> int:
    """Verify, print, and give the exit code."""
    heads = [re.fullmatch(r"(\d{1,15}):([0-9a-f]{64})", text, re.ASCII) for text in arguments[2:]]
    if len(arguments) < 2 or not digest(arguments[1]) or None in heads:
        print(__doc__.split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    try:
        bundle = Path(arguments[0]).read_bytes()
    except OSError as error:
        print(f"{arguments[0]}: {error.strerror}", file=sys.stderr)
        return 2
    try:
        ledger = verify(bundle, arguments[1], [(int(head[1]), head[2]) for head in heads if head])
        lines = [spent(budget) for budget in ledger.budgets.values()]
    except Violation as violation:
        print(f"VIOLATION {violation}")
        return 4
    print(f"{len(ledger.hashes) - 1} entries, head {ledger.hashes[-1]}")
    print("\n".join(lines))
    for sequence, value in ledger.mended:
        print(f"head {sequence} ({value[:16]}...) was lost and made up for: ask how")
    if not heads:
        print("No witnessed head was given: entries cut off the end would not be missed.")
    print("Not shown: that the recorded mechanisms are what ran, and that nobody is in two datasets.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
