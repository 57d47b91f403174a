"""A saved model, ready to score texts. Loads any sequence classifier in Hugging Face format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.device import choose_device
from common.evaluation import predict_logits
from common.model import load_saved_classifier
from common.text import batches, load_tokenizer, tokenize

__all__ = ["SavedModel"]

_BATCH_SIZE = 64
_LONGEST = 512


class SavedModel:
    """A sequence classifier and its tokenizer."""

    def __init__(self, path: Path) -> None:
        """Load from a folder; raises :class:`BadInput` if it does not hold a model."""
        network, self.labels = load_saved_classifier(path)
        self._device = choose_device("auto")
        self._network: Any = network.to(self._device)
        self._tokenizer = load_tokenizer(path)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits ``(texts, labels)``."""
        longest = min(_LONGEST, int(getattr(self._network.config, "max_position_embeddings", _LONGEST)))
        tokenized = tokenize(self._tokenizer, texts, [0] * len(texts), longest)
        ordered = batches(tokenized, np.arange(len(texts)), _BATCH_SIZE)
        return predict_logits(self._network, ordered, self._device)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities ``(texts, labels)``."""
        return np.asarray(torch.softmax(torch.from_numpy(self.logits(texts)), dim=1).numpy())
