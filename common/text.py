"""Texts as tokens: tokenized once, padded to the longest of a batch, batched by length.

Nothing here lets one example change another's tensors beyond padding, which the attention mask hides
(PRIVACY P10). Where texts belong to persons, a batch for training holds whole persons.

A text has one label, or labels of single tokens (``common.token_targets``): tags of its words, or what a mask
hides. A batch of the latter names the labelled tokens of each text, so that a head computes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput, HanseError
from common.token_targets import UNLABELLED, Masking, TextTargets, WordTags, first_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Batch",
    "TokenizedTexts",
    "batches",
    "load_tokenizer",
    "tokenize",
    "tokenize_words",
    "unit_batches",
]


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as token ids, ragged, in the order they came."""

    tokens: NDArray[np.int32]
    """All token ids, one text after the other: ``(total tokens,)``."""
    offsets: NDArray[np.int64]
    """Text ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``: ``(texts + 1,)``."""
    labels: NDArray[np.int64]
    """``(texts,)``."""
    pad_token: int
    persons: NDArray[np.int64] | None = None
    """Whose each text is, ``(texts,)``: persons numbered from 0. None: each text is a unit of its own."""
    tags: WordTags | None = None
    """Labels of words; None where a text has a label as a whole, or is masked."""
    masking: Masking | None = None
    """How tokens are hidden that are to be guessed; None where nothing is."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text: ``(texts,)``."""
        return np.diff(self.offsets)

    @property
    def units(self) -> int:
        """How many units there are to sample: persons, or texts."""
        return len(self) if self.persons is None else int(self.persons.max(initial=-1)) + 1

    def of_units(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indexes of the texts of these units, each person's together."""
        if self.persons is None:
            return units
        theirs = np.flatnonzero(np.isin(self.persons, units))
        return theirs[np.argsort(self.persons[theirs], kind="stable")]

    def in_round(self, number: int) -> TokenizedTexts:
        """The same texts as round ``number`` sees them: masked anew, where they are masked at all."""
        return self if self.masking is None else replace(self, masking=replace(self.masking, round=number))

    def labels_of(self, indexes: NDArray[np.int64]) -> torch.Tensor:
        """Labels of these texts: ``(texts,)``, or ``(texts, most labelled)`` with padding for words.

        Masked texts have none before they are in a batch.
        """
        if self.tags is None:
            return torch.from_numpy(self.labels[indexes])
        targets = [self.tags.text(int(index)) for index in indexes]
        return _ragged([each.labels for each in targets], UNLABELLED)

    def units_among(self, indexes: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Person of each of these texts, numbered from 0 among them; None where each is a unit of its own."""
        return None if self.persons is None else np.unique(self.persons[indexes], return_inverse=True)[1]


@dataclass(frozen=True)
class Batch:
    """Some texts as padded tensors, ready for a forward pass."""

    indexes: NDArray[np.int64]
    """Which texts these are: ``(batch,)``."""
    inputs: dict[str, torch.Tensor]
    """``input_ids`` and ``attention_mask``, each ``(batch, longest)``. Where tokens have labels also
    ``positions``, ``(batch, most labelled)``: which tokens they are, padded with 0."""
    labels: torch.Tensor
    """``(batch,)``, or ``(batch, most labelled)`` where tokens have labels, padded with ``UNLABELLED``."""


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the model in folder ``path``; raises :class:`BadInput` if there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: no tokenizer can be loaded from this folder ({error})") from error


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[int],
    max_length: int,
    groups: Sequence[str] | None = None,
) -> TokenizedTexts:
    """Tokenize every text once, cut at ``max_length`` tokens including the special ones.

    ``groups`` names the person of each text, under unit "group"; None: each text is a unit of its own.
    """
    limit = min(max_length, int(getattr(tokenizer, "model_max_length", max_length)))
    encoded = tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"] if texts else []
    lengths = np.fromiter((len(ids) for ids in encoded), dtype=np.int64, count=len(encoded))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    flat = np.fromiter((token for ids in encoded for token in ids), dtype=np.int32, count=int(offsets[-1]))
    pad = tokenizer.pad_token_id
    known = np.asarray(labels, dtype=np.int64)
    return TokenizedTexts(flat, offsets, known, 0 if pad is None else int(pad), _numbered(groups, len(texts)))


def tokenize_words(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    tags: Sequence[Sequence[int]],
    max_length: int,
    groups: Sequence[str] | None = None,
) -> TokenizedTexts:
    """Tokenize texts of words that are separated by single spaces; ``tags`` has one label for each word.

    A word's label stands at its first token. Raises :class:`BadInput` for a tokenizer that does not tell which
    characters a token comes from.
    """
    if not tokenizer.is_fast:
        raise BadInput(
            "model.base: token-classification needs a fast tokenizer (tokenizer.json); this base has none"
        )
    whole = tokenize(tokenizer, texts, [0] * len(texts), max_length, groups)
    limit = min(max_length, int(getattr(tokenizer, "model_max_length", max_length)))
    given = list(texts)
    encoded = (
        tokenizer(given, truncation=True, max_length=limit, return_offsets_mapping=True)["offset_mapping"]
        if given
        else []
    )
    first = [first_tokens(text, spans) for text, spans in zip(given, encoded, strict=True)]
    return replace(whole, tags=WordTags.of(first, tags))


def _numbered(groups: Sequence[str] | None, texts: int) -> NDArray[np.int64] | None:
    """Persons by number, in the order in which they come.

    Raises:
        HanseError: a text has no person; it would be protected as if it were somebody's only one (PRIVACY P2).
    """
    if groups is None:
        return None
    if len(groups) != texts or not all(groups):
        raise HanseError("texts and persons do not match: every text needs the id of its person")
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(group, len(numbers)) for group in groups), np.int64, texts)


def unit_batches(texts: TokenizedTexts, units: NDArray[np.int64], size: int) -> Iterator[Batch]:
    """Yield the texts of ``units`` in physical batches of whole persons, as :func:`batches` does single texts.

    A batch holds at most ``size`` texts, or one person who has more. Persons come by their longest text.
    """
    if texts.persons is None:
        yield from batches(texts, units, size)
        return
    indexes, lengths = texts.of_units(units), texts.lengths
    borders = np.flatnonzero(np.diff(texts.persons[indexes])) + 1
    held = [theirs for theirs in np.split(indexes, borders) if len(theirs)]
    gathered: list[NDArray[np.int64]] = []
    for theirs in sorted(held, key=lambda theirs: int(lengths[theirs].max())):
        if gathered and sum(map(len, gathered)) + len(theirs) > size:
            yield _padded(texts, np.concatenate(gathered))
            gathered = []
        gathered.append(theirs)
    if gathered:
        yield _padded(texts, np.concatenate(gathered))


def batches(texts: TokenizedTexts, indexes: NDArray[np.int64], size: int) -> Iterator[Batch]:
    """Yield ``indexes`` in physical batches of at most ``size``, texts of similar length together."""
    ordered = indexes[np.argsort(texts.lengths[indexes], kind="stable")]
    for start in range(0, len(ordered), size):
        yield _padded(texts, ordered[start : start + size])


def _padded(texts: TokenizedTexts, indexes: NDArray[np.int64]) -> Batch:
    rows = [texts.tokens[texts.offsets[i] : texts.offsets[i + 1]] for i in indexes]
    targets: list[TextTargets] | None = None
    if texts.masking is not None:
        hidden = [texts.masking.hide(row) for row in rows]
        rows, targets = [row for row, _ in hidden], [each for _, each in hidden]
    elif texts.tags is not None:
        targets = [texts.tags.text(int(index)) for index in indexes]
    lengths = texts.lengths[indexes]
    columns = np.arange(int(lengths.max(initial=1)))
    mask = columns[None, :] < lengths[:, None]
    ids = np.full(mask.shape, texts.pad_token, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    if targets is None:
        return Batch(indexes, inputs, torch.from_numpy(texts.labels[indexes]))
    inputs["positions"] = _ragged([each.positions for each in targets], 0)
    return Batch(indexes, inputs, _ragged([each.labels for each in targets], UNLABELLED))


def _ragged(rows: Sequence[NDArray[np.int64]], padding: int) -> torch.Tensor:
    """Rows of unequal lengths as one tensor, at least one column wide."""
    padded = np.full((len(rows), max([1, *map(len, rows)])), padding, dtype=np.int64)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return torch.from_numpy(padded)
