"""Texts as tokens: tokenized once, padded to the longest of a batch, batched by length.

Nothing here lets one example change another's tensors beyond padding, which the attention mask hides
(PRIVACY P10). Where texts belong to persons, a batch for training holds whole persons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput, HanseError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Batch", "TokenizedTexts", "batches", "load_tokenizer", "tokenize", "unit_batches"]


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

    def units_among(self, indexes: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Person of each of these texts, numbered from 0 among them; None where each is a unit of its own."""
        return None if self.persons is None else np.unique(self.persons[indexes], return_inverse=True)[1]


@dataclass(frozen=True)
class Batch:
    """Some texts as padded tensors, ready for a forward pass."""

    indexes: NDArray[np.int64]
    """Which texts these are: ``(batch,)``."""
    inputs: dict[str, torch.Tensor]
    """``input_ids`` and ``attention_mask``, each ``(batch, longest)``."""
    labels: torch.Tensor
    """``(batch,)``."""


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
    lengths = texts.lengths[indexes]
    columns = np.arange(int(lengths.max(initial=1)))
    mask = columns[None, :] < lengths[:, None]
    ids = np.full(mask.shape, texts.pad_token, dtype=np.int64)
    ids[mask] = np.concatenate([texts.tokens[texts.offsets[i] : texts.offsets[i + 1]] for i in indexes])
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    return Batch(indexes, inputs, torch.from_numpy(texts.labels[indexes]))
