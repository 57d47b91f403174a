"""Words with a tag each, as rows hold them: two lists of the same length.

A word has no space in it, so that a row's text is its words with single spaces between them.
"""

from __future__ import annotations

from collections.abc import Callable

from common.shown import shown

__all__ = ["WordFault", "words_and_tags", "words_of"]


class WordFault(ValueError):
    """What keeps two values from being words and their tags; never shows a word."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


def words_of(text: str) -> list[str]:
    """The words of a text that :func:`words_and_tags` put together."""
    return text.split(" ")


def words_and_tags(
    words: object, tags: object, read_tag: Callable[[object], int | None]
) -> tuple[str, tuple[int, ...]]:
    """The text of a row's words, and the position of each word's tag among the labels.

    Args:
        words: as the row has them.
        tags: as the row has them.
        read_tag: position of a tag among the labels, None for one that is no label.

    Raises:
        WordFault: they are not such lists.
    """
    if not isinstance(words, list | tuple) or not isinstance(tags, list | tuple):
        raise WordFault("words and tags are not two lists", 'give lists, as in "tokens": [...], "tags": [...]')
    if not words or len(words) != len(tags):
        what = f"{len(words)} words and {len(tags)} tags"
        raise WordFault(what, "give every row a word, and every word a tag")
    if not all(isinstance(word, str) and _is_word(word) for word in words):
        raise WordFault("a word is empty, no text in UTF-8, or has a space in it", "give single words")
    found: list[int] = []
    for tag in tags:
        position = read_tag(tag)
        if position is None:
            raise WordFault(f"{shown(tag)} is none of the labels", "correct the tag or add it to task.labels")
        found.append(position)
    return " ".join(words), tuple(found)


def _is_word(word: str) -> bool:
    if not word.strip() or " " in word:
        return False
    try:
        word.encode()
    except UnicodeEncodeError:  # half a character
        return False
    return True
