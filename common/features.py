"""Features of a site's texts from the frozen encoder: computed once, only for texts that are drawn.

A text has one vector, or where its words have tags one for each tagged word.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from common.model import Classifier
from common.text import TokenizedTexts, batches
from common.token_targets import UNLABELLED

__all__ = ["FrozenFeatures"]


class FrozenFeatures:
    """Features by text, kept in memory while the encoder stays as it is (never on disk, PRIVACY P22)."""

    def __init__(self, texts: TokenizedTexts) -> None:
        self._texts = texts
        self._known = np.zeros(len(texts), dtype=bool)
        self._features: torch.Tensor | None = None

    def of(
        self,
        indexes: NDArray[np.int64],
        classifier: Classifier,
        physical_batch_size: int,
        precision: Callable[[], AbstractContextManager[None]],
    ) -> torch.Tensor:
        """Features on the classifier's device, computing those still missing.

        ``(len(indexes), width)``, or ``(len(indexes), most tagged, width)`` where words have tags.
        """
        missing = np.unique(indexes[~self._known[indexes]])
        device = next(classifier.parameters()).device
        was_training = classifier.training
        classifier.eval()
        for batch in batches(self._texts, missing, physical_batch_size):
            inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
            with torch.inference_mode(), precision():
                features = classifier.features(**inputs).float().cpu()
            if self._texts.tags is not None:
                features = features[batch.labels != UNLABELLED]
            if self._features is None:
                self._features = torch.empty(self._vectors, features.shape[1])
            self._features[self._rows(batch.indexes)] = features
            self._known[batch.indexes] = True
        classifier.train(was_training)
        if self._features is None:
            return torch.empty(0, 1, device=device)
        found = self._features[self._rows(indexes)].to(device)
        if self._texts.tags is None:
            return found
        tagged = self._texts.labels_of(indexes).to(device) != UNLABELLED
        padded = found.new_zeros(*tagged.shape, found.shape[1])
        padded[tagged] = found
        return padded

    @property
    def _vectors(self) -> int:
        return len(self._texts) if self._texts.tags is None else len(self._texts.tags.labels)

    def _rows(self, indexes: NDArray[np.int64]) -> torch.Tensor:
        """Where the vectors of these texts are kept, one text after the other."""
        tags = self._texts.tags
        return torch.from_numpy(indexes if tags is None else tags.rows(indexes))
