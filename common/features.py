"""Features of a site's texts from the frozen encoder: computed once, only for texts that are drawn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from common.model import Classifier
from common.text import TokenizedTexts, batches

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
        """Features ``(len(indexes), width)`` on the classifier's device, computing those still missing."""
        missing = np.unique(indexes[~self._known[indexes]])
        device = next(classifier.parameters()).device
        was_training = classifier.training
        classifier.eval()
        for batch in batches(self._texts, missing, physical_batch_size):
            inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
            with torch.inference_mode(), precision():
                features = classifier.features(**inputs).float().cpu()
            if self._features is None:
                self._features = torch.empty(len(self._texts), features.shape[1])
            self._features[torch.from_numpy(batch.indexes)] = features
            self._known[batch.indexes] = True
        classifier.train(was_training)
        if self._features is None:
            return torch.empty(0, 1, device=device)
        return self._features[torch.from_numpy(indexes)].to(device)
