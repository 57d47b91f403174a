"""Edits of a text: each takes a text and a source of chance and gives another text, or None if it does not apply.

The same text and the same state of the source give the same edit.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from deploy.robustness.words import FUNCTION_WORDS, NEGATABLE, NEGATIONS, SYNONYMS

__all__ = [
    "Edit",
    "appended",
    "dropped_word",
    "lower_case",
    "negated",
    "no_punctuation",
    "swapped_synonym",
    "two_typos",
    "typo",
    "upper_case",
]

Edit = Callable[[str, random.Random], str | None]

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_PUNCTUATION = re.compile(r"(?<!\w)[^\w\s]+|[^\w\s]+(?!\w)")
_SHORTEST_FOR_TYPO = 4


def typo(text: str, chance: random.Random) -> str | None:
    """Swap two neighbouring letters inside one word of four letters or more; the first letter stays."""
    places = [
        place
        for word in _WORD.finditer(text)
        if len(word[0]) >= _SHORTEST_FOR_TYPO
        for place in range(word.start() + 1, word.end() - 1)
        if text[place] != text[place + 1] and text[place : place + 2].isalpha()
    ]
    if not places:
        return None
    place = chance.choice(places)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def two_typos(text: str, chance: random.Random) -> str | None:
    """Make a typo twice."""
    once = typo(text, chance)
    twice = None if once is None else typo(once, chance)
    return None if twice == text else twice


def upper_case(text: str, chance: random.Random) -> str | None:
    """Write everything in capitals."""
    return _if_changed(text, text.upper())


def lower_case(text: str, chance: random.Random) -> str | None:
    """Write everything in small letters."""
    return _if_changed(text, text.lower())


def no_punctuation(text: str, chance: random.Random) -> str | None:
    """Leave out punctuation at the edges of words."""
    return _if_changed(text, " ".join(_PUNCTUATION.sub(" ", text).split()))


def dropped_word(text: str, chance: random.Random) -> str | None:
    """Leave out one function word."""
    places = [word for word in _WORD.finditer(text) if word[0].lower() in FUNCTION_WORDS]
    if not places:
        return None
    word = chance.choice(places)
    return _if_changed(text, " ".join((text[: word.start()] + text[word.end() :]).split()))


def swapped_synonym(text: str, chance: random.Random) -> str | None:
    """Write one word by a synonym, with the same capital."""
    places = [word for word in _WORD.finditer(text) if word[0].lower() in SYNONYMS]
    if not places:
        return None
    word = chance.choice(places)
    other = chance.choice(SYNONYMS[word[0].lower()])
    if word[0].isupper() and len(word[0]) > 1:
        other = other.upper()
    elif word[0][0].isupper():
        other = other.capitalize()
    return text[: word.start()] + other + text[word.end() :]


def negated(text: str, chance: random.Random) -> str | None:
    """Put ``not`` after the only is, are, was or were of a text that negates nothing yet.

    A text with several such verbs is left alone: it would be negated in part.
    """
    words = list(_WORD.finditer(text))
    if any(word[0].lower() in NEGATIONS or word[0].lower().endswith(("n't", "n’t")) for word in words):
        return None
    verbs = [word for word in words if word[0].lower() in NEGATABLE]
    if len(verbs) != 1:
        return None
    end = verbs[0].end()
    return f"{text[:end]} {'NOT' if verbs[0][0].isupper() else 'not'}{text[end:]}"


def appended(sentences: Sequence[str]) -> Edit:
    """Return an edit that adds one of ``sentences`` at the end."""

    def edit(text: str, chance: random.Random) -> str | None:
        stopped = text.rstrip()
        if not stopped.endswith((".", "!", "?")):
            stopped += "."
        return f"{stopped} {chance.choice(sentences)}"

    return edit


def _if_changed(before: str, after: str) -> str | None:
    return after if after.strip() and after != before else None
