"""The few English words that the edits need; made for Hanse, in the public domain.

Small on purpose: a swap must keep the meaning whatever the sentence, so only pairs that nearly always do are here.
"""

from __future__ import annotations

__all__ = ["BLAME", "FUNCTION_WORDS", "NEGATABLE", "NEGATIONS", "NEUTRAL_ENDINGS", "PRAISE", "SYNONYMS"]

_GROUPS = (
    ("film", "movie", "picture"),
    ("begin", "start"),
    ("begins", "starts"),
    ("began", "started"),
    ("big", "large"),
    ("small", "little"),
    ("fast", "quick"),
    ("buy", "purchase"),
    ("bought", "purchased"),
    ("nearly", "almost"),
    ("maybe", "perhaps"),
    ("really", "truly"),
    ("often", "frequently"),
    ("happy", "glad"),
    ("sad", "unhappy"),
    ("awful", "terrible", "dreadful"),
    ("great", "excellent", "superb"),
    ("good", "fine"),
    ("bad", "poor"),
    ("dull", "boring"),
    ("funny", "amusing"),
    ("smart", "clever"),
    ("beautiful", "lovely"),
    ("hard", "difficult"),
    ("easy", "simple"),
    ("help", "assist"),
    ("end", "finish"),
    ("kids", "children"),
    ("phone", "telephone"),
    ("answer", "reply"),
    ("whole", "entire"),
    ("wonderful", "marvelous"),
    ("firm", "company"),
    ("doctor", "physician"),
    ("student", "pupil"),
    ("car", "automobile"),
    ("photo", "photograph"),
    ("correct", "right"),
    ("wrong", "incorrect"),
    ("strange", "odd"),
)

SYNONYMS: dict[str, tuple[str, ...]] = {
    word: tuple(other for other in group if other != word) for group in _GROUPS for word in group
}
"""What may stand for a word, in lower case."""

FUNCTION_WORDS = frozenset(
    (
        *(
            "a",
            "an",
            "the",
            "of",
            "to",
            "in",
            "on",
            "at",
            "for",
            "with",
            "by",
            "from",
            "and",
            "as",
            "into",
            "than",
        ),
        *("this", "that", "these", "those", "it", "its", "then", "there", "here", "very", "just", "so", "also"),
        *("be", "been", "being", "has", "have", "had", "do", "does", "did", "will", "would"),
    )
)
"""Words without which a sentence still says the same; no negation and no ``but`` among them."""

NEGATIONS = frozenset(
    ("not", "no", "never", "nothing", "nobody", "none", "neither", "nor", "cannot", "without", "hardly", "barely")
)
"""Words that mark a text as negated already; so does an ending in n't."""

NEGATABLE = frozenset({"is", "are", "was", "were"})
"""Verbs after which ``not`` negates the clause."""

NEUTRAL_ENDINGS = (
    "I read this on a Tuesday.",
    "There are two pages.",
    "It was written in the spring.",
    "I do not know who sent it.",
    "The number is not listed.",
)
"""Sentences that say nothing of the matter; some hold a ``not`` of their own."""

PRAISE = ("I love it.", "It is wonderful.", "Excellent work.", "I am delighted.")
"""Sentences after which a text cannot sound worse."""

BLAME = ("I hate it.", "It is terrible.", "Awful work.", "I am disgusted.")
"""Sentences after which a text cannot sound better."""
