"""Hints in single texts: how long, in what script and language, and what looks like personal data.

All of it is by rule of thumb and counts rows; a text is never kept or shown. Personal data that follows no
pattern, such as a name, is not seen: no hit is no proof.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["PERSONAL", "Lengths", "Rows", "languages", "lengths", "personal_data", "scripts"]

_ROWS_NAMED = 10
_FEWEST_WORDS = 5
_MARKERS: Mapping[str, frozenset[str]] = {
    "English": frozenset(
        {"the", "and", "of", "to", "is", "was", "it", "that", "this", "with", "for", "not", "you"}
    ),
    "German": frozenset({"der", "die", "das", "und", "ist", "nicht", "ein", "eine", "mit", "ich", "auf", "sich"}),
    "French": frozenset({"le", "la", "les", "et", "est", "une", "des", "pas", "que", "dans", "pour", "qui"}),
    "Spanish": frozenset({"el", "los", "las", "y", "es", "una", "que", "por", "con", "para", "del", "muy"}),
    "Dutch": frozenset({"het", "een", "en", "van", "niet", "dat", "op", "voor", "met", "zijn", "ik", "ook"}),
    "Italian": frozenset({"il", "gli", "che", "di", "non", "per", "una", "sono", "del", "della", "con", "è"}),
}
"""A few of the commonest words of each language; several texts of five words hold none."""


@dataclass(frozen=True)
class Rows:
    """Rows that have something in common: how many, and the numbers of the first ten."""

    count: int
    first: tuple[int, ...] = field(repr=False)

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Rows:
        """From all their row numbers."""
        return cls(len(numbers), tuple(sorted(numbers)[:_ROWS_NAMED]))


@dataclass(frozen=True)
class Lengths:
    """Words of a text: smallest, median, 95th percentile, largest."""

    smallest: int
    median: float
    percentile_95: float
    largest: int


def lengths(texts: Sequence[str]) -> Lengths | None:
    """Lengths in words, split at blanks; None without texts."""
    if not texts:
        return None
    words = np.array([len(text.split()) for text in texts])
    return Lengths(int(words.min()), float(np.median(words)), float(np.quantile(words, 0.95)), int(words.max()))


def scripts(texts: Sequence[str]) -> dict[str, int]:
    """Texts by the script of most of their letters, as Unicode names it; "none" without letters."""
    return dict(Counter(_script(text) for text in texts).most_common())


def languages(texts: Sequence[str]) -> dict[str, int]:
    """Texts of five words or more by the language whose commonest words they hold most; "unclear" on a tie."""
    found: Counter[str] = Counter()
    for text in texts:
        words = [word.strip(".,;:!?\"'()") for word in text.lower().split()]
        if len(words) >= _FEWEST_WORDS:
            hits = {name: sum(word in markers for word in words) for name, markers in _MARKERS.items()}
            best = max(hits.values())
            winners = [name for name, count in hits.items() if count == best]
            found[winners[0] if best and len(winners) == 1 else "unclear"] += 1
    return dict(found.most_common())


def personal_data(texts: Sequence[str], numbers: Sequence[int]) -> dict[str, Rows]:
    """Rows by what in them looks like personal data; kinds without a hit are left out."""
    hits: dict[str, list[int]] = {}
    for text, number in zip(texts, numbers, strict=True):
        for kind, looks in PERSONAL.items():
            if looks(text):
                hits.setdefault(kind, []).append(number)
    return {kind: Rows.of(rows) for kind, rows in sorted(hits.items())}


def _script(text: str) -> str:
    names = Counter(unicodedata.name(letter, "?").split()[0] for letter in text[:500] if letter.isalpha())
    return names.most_common(1)[0][0].capitalize() if names else "none"


_EMAIL = re.compile(r"\b[\w.+-]{1,64}@(?:[\w-]+\.)+[a-zA-Z]{2,}\b")
_PHONE = re.compile(r"(?<![\w.])(?:\+\d{1,3}[ ./-]?|\(?0\d{1,5}\)?[ ./-])(?:\d[ ./-]?){6,12}(?!\w)")
_NORTH_AMERICAN = re.compile(r"(?<!\w)\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\w)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")
_ADDRESS = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])")
_SOCIAL = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_BIRTH = re.compile(
    r"\b(?:born|birth|dob|geboren|geb\.)\W{1,4}(?:on |am )?\d{1,4}[./-]\d{1,2}[./-]\d{1,4}", re.IGNORECASE
)


def _iban(text: str) -> bool:
    """Whether an account number with a right checksum is there (ISO 13616, modulo 97)."""
    for match in _IBAN.finditer(text):
        written = match[0].replace(" ", "")
        turned = "".join(str(int(letter, 36)) for letter in written[4:] + written[:4])
        if int(turned) % 97 == 1:
            return True
    return False


def _card(text: str) -> bool:
    """Whether a card number with a right check digit is there (Luhn)."""
    for match in _CARD.finditer(text):
        digits = [int(letter) for letter in match[0] if letter.isdigit()]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
        if len(set(digits)) > 1 and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0:
            return True
    return False


PERSONAL: Mapping[str, Callable[[str], bool]] = {
    "e-mail address": lambda text: bool(_EMAIL.search(text)),
    "telephone number": lambda text: bool(_PHONE.search(text) or _NORTH_AMERICAN.search(text)),
    "bank account (IBAN)": _iban,
    "payment card": _card,
    "IP address": lambda text: bool(_ADDRESS.search(text)),
    "US social security number": lambda text: bool(_SOCIAL.search(text)),
    "date of birth": lambda text: bool(_BIRTH.search(text)),
}
"""What is looked for, by name."""
