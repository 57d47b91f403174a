"""A saved model, ready to score texts: a classifier of texts, a tagger of words, or a masked language model.

Loads any of them in Hugging Face format. Every question is answered by one forward pass, in buckets of length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.device import choose_device
from common.errors import BadInput
from common.evaluation import predict_logits
from common.evaluation.evaluate import Evaluation
from common.evaluation.tokens import evaluate_masked, labelled_logits
from common.loading import SavedNetwork, load_saved_network
from common.model import Classifier
from common.study import TaskKind
from common.text import TokenizedTexts, batches, load_tokenizer, tokenize, tokenize_words
from common.token_targets import Masking

__all__ = ["SavedMaskedModel", "SavedModel", "SavedTagger"]

_BATCH_SIZE = 64
_MASKED_BATCH_SIZE = 16
_LONGEST = 512


class _Saved:
    """A network on its device, and its tokenizer."""

    kind: TaskKind = "sequence-classification"

    def __init__(self, path: Path, saved: SavedNetwork | None = None) -> None:
        """Load from a folder, or take over what was ``saved`` there.

        Raises:
            BadInput: the folder does not hold a model, or one of another kind.
        """
        saved = saved or load_saved_network(path)
        if saved.kind != self.kind:
            raise BadInput(f"{path}: is a model for {saved.kind}; this needs one for {self.kind}")
        self.labels = saved.labels
        self._device = choose_device("auto")
        self.network: Any = saved.network.to(self._device)
        """transformers' own model, in evaluation mode."""
        self.tokenizer: Any = load_tokenizer(path)

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is read whole, special ones counted."""
        return min(_LONGEST, int(getattr(self.network.config, "max_position_embeddings", _LONGEST)))

    def _by_token(self) -> Classifier:
        """The network as it answers for the tokens that are asked for, and no others."""
        return Classifier(self.network, self.network.config.model_type, "cls", self.kind).eval()


class SavedModel(_Saved):
    """A sequence classifier and its tokenizer."""

    def tokenized(self, texts: Sequence[str]) -> TokenizedTexts:
        """The texts as the model reads them."""
        return tokenize(self.tokenizer, texts, [0] * len(texts), self.longest)

    def logits(self, texts: Sequence[str] | TokenizedTexts) -> NDArray[np.float32]:
        """Logits ``(texts, labels)``."""
        tokens = texts if isinstance(texts, TokenizedTexts) else self.tokenized(texts)
        return predict_logits(self.network, batches(tokens, np.arange(len(tokens)), _BATCH_SIZE), self._device)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities ``(texts, labels)``."""
        return np.asarray(torch.softmax(torch.from_numpy(self.logits(texts)), dim=1).numpy())


class SavedTagger(_Saved):
    """A tagger of words and its tokenizer."""

    kind: TaskKind = "token-classification"

    def tokenized(self, texts: Sequence[str]) -> TokenizedTexts:
        """Texts of words between single spaces as the model reads them, every word at its first token."""
        nothing = [[0] * len(text.split(" ")) for text in texts]
        return tokenize_words(self.tokenizer, texts, nothing, self.longest)

    def logits(self, tokens: TokenizedTexts) -> NDArray[np.float32]:
        """Logits of the words that have a token, text after text, ``(words, labels)``."""
        ordered = batches(tokens, np.arange(len(tokens)), _BATCH_SIZE)
        return labelled_logits(self._by_token(), ordered, self._device)


class SavedMaskedModel(_Saved):
    """A masked language model and its tokenizer."""

    kind: TaskKind = "masked-language-modeling"

    def evaluate(self, texts: Sequence[str], seed: int, domains: Sequence[str] | None = None) -> Evaluation:
        """How it guesses tokens that are hidden after ``seed``."""
        tokens = tokenize(self.tokenizer, texts, [0] * len(texts), self.longest)
        tokens = replace(tokens, masking=Masking.of(self.tokenizer, seed))
        hidden = batches(tokens, np.arange(len(tokens)), _MASKED_BATCH_SIZE)
        return evaluate_masked(self._by_token(), hidden, self._device, domains=domains)

    def guesses(self, text: str, count: int) -> list[list[tuple[str, float]]]:
        """For each mask token in ``text`` its likeliest ``count`` fillings, with their probabilities."""
        encoded = self.tokenizer(text, truncation=True, max_length=self.longest, return_tensors="pt")
        ids, mask = (encoded[name].to(self._device) for name in ("input_ids", "attention_mask"))
        places = (ids[0] == self.tokenizer.mask_token_id).nonzero().T
        if not places.numel():
            raise BadInput(f"TEXT: holds no {self.tokenizer.mask_token}; put one where a word is to be guessed")
        with torch.inference_mode():
            logits = self._by_token()(input_ids=ids, attention_mask=mask, positions=places).logits[0]
        top = torch.softmax(logits, 1).topk(count, 1)
        words = [[self.tokenizer.decode([token]).strip() for token in row] for row in top.indices.tolist()]
        return [list(zip(*pair, strict=True)) for pair in zip(words, top.values.tolist(), strict=True)]
