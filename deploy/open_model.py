"""A saved classifier with its insides open: embeddings, gradients, words and where they stand in a text.

What robustness checks and explanations need beyond the answers of :class:`deploy.inference.SavedModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from common.device import choose_device
from common.errors import BadInput
from common.evaluation import predict_logits
from common.model import load_saved_classifier
from common.text import batches, load_tokenizer, tokenize

__all__ = ["Encoded", "OpenModel", "Word"]

_BATCH_SIZE = 32
_LONGEST = 512


@dataclass(frozen=True)
class Word:
    """A word of a text that the tokenizer keeps in one piece."""

    position: int
    """Its token, from 0, special tokens counted."""
    start: int
    """First character in the text."""
    end: int
    """One past its last character."""
    token: int
    """Its id in the vocabulary."""


@dataclass(frozen=True)
class Encoded:
    """Some texts as padded tensors on the model's device."""

    ids: torch.Tensor
    """``(texts, tokens)``."""
    mask: torch.Tensor
    """1 where there is a token, ``(texts, tokens)``."""


class OpenModel:
    """A sequence classifier in Hugging Face format, its tokenizer and its labels."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        """Load from a folder to ``device``; raises :class:`BadInput` if it holds no model or no fast tokenizer."""
        network, self.labels = load_saved_classifier(path)
        self.device = choose_device(device)
        self.network: Any = network.to(self.device)
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.tokenizer: Any = load_tokenizer(path)
        if not self.tokenizer.is_fast:
            raise BadInput(f"{path}: its tokenizer does not tell where words stand; save a fast tokenizer")
        self.longest = min(_LONGEST, int(getattr(network.config, "max_position_embeddings", _LONGEST)))
        if network.config.model_type == "roberta":
            self.longest = min(self.longest, int(network.config.max_position_embeddings) - 2)

    @property
    def embeddings(self) -> torch.Tensor:
        """Input embeddings of the vocabulary: ``(vocabulary, width)``."""
        return cast(torch.Tensor, self.network.get_input_embeddings().weight)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenize and pad, cut at the longest input of the model."""
        out = self.tokenizer(
            list(texts), truncation=True, max_length=self.longest, padding=True, return_tensors="pt"
        )
        return Encoded(out["input_ids"].to(self.device), out["attention_mask"].to(self.device))

    def tokens(self, text: str) -> list[str]:
        """The text's tokens as the vocabulary writes them."""
        ids = self.tokenizer(text, truncation=True, max_length=self.longest)["input_ids"]
        return list(self.tokenizer.convert_ids_to_tokens(ids))

    def words(self, text: str) -> list[Word]:
        """Words of letters that are one token each, in order."""
        encoding = self.tokenizer(text, truncation=True, max_length=self.longest)
        pieces: dict[int, list[int]] = {}
        for position, word in enumerate(encoding.word_ids()):
            if word is not None:
                pieces.setdefault(word, []).append(position)
        found = []
        for word, positions in pieces.items():
            span = encoding.word_to_chars(word)
            written = text[span.start : span.end]
            start = span.start + len(written) - len(written.lstrip())
            if len(positions) == 1 and written.strip().isalpha():
                token = int(encoding["input_ids"][positions[0]])
                found.append(Word(positions[0], start, span.end, token))
        return found

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits ``(texts, labels)``, in the order of the texts."""
        tokenized = tokenize(self.tokenizer, texts, [0] * len(texts), self.longest)
        return predict_logits(self.network, batches(tokenized, np.arange(len(texts)), _BATCH_SIZE), self.device)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Probabilities ``(texts, labels)``."""
        logits = torch.from_numpy(self.logits(texts)).double()
        return np.asarray(torch.softmax(logits, dim=1).numpy())

    def embedding_gradients(self, texts: Sequence[str], labels: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """For each text the gradient of its own cross-entropy by its input embeddings, ``(tokens, width)``.

        The tokens are padded to the longest text of a batch.
        """
        for start in range(0, len(texts), _BATCH_SIZE):
            encoded = self.encode(texts[start : start + _BATCH_SIZE])
            wanted = torch.tensor(labels[start : start + _BATCH_SIZE], device=self.device)
            embedded = self.embeddings[encoded.ids].detach().requires_grad_()
            logits = self.network(inputs_embeds=embedded, attention_mask=encoded.mask).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, [embedded])
            yield from gradient.float().cpu().numpy()
