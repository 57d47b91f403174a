"""The model that is served: labels, calibrated probabilities, attributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import BadInput
from deploy.inference import SavedModel
from deploy.serving.attribution import WordAttribution, explain
from deploy.serving.batching import Batcher
from deploy.serving.calibration import softened, temperature_of_run

__all__ = ["Prediction", "ServedModel"]


@dataclass(frozen=True)
class Prediction:
    """What the model says of a text."""

    label: str
    confidence: float
    probabilities: dict[str, float]
    """By label, in the model's order; they add up to 1."""


class ServedModel:
    """A run's model, or a bare one, behind a batcher."""

    def __init__(self, path: Path, largest_batch: int = 64) -> None:
        """Load a run directory or a model folder.

        Raises:
            BadInput: neither is there.
        """
        is_run = (path / "model").is_dir()
        if not is_run and (path / "study.toml").is_file():
            raise BadInput(f"{path}: the run has no model yet; it is written at the end")
        self._model = SavedModel(path / "model" if is_run else path)
        self.labels: list[str] = list(self._model.labels)
        fitted = temperature_of_run(self._model, path) if is_run else None
        self.temperature = 1.0 if fitted is None else fitted
        self.calibrated = fitted is not None
        """Whether confidence was fitted on the run's validation set."""
        self.name = path.resolve().name
        self.batcher = Batcher(self._model.logits, largest_batch)

    async def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Predict texts, together with whatever others ask at the moment."""
        logits = await self.batcher.logits(texts)
        return [self._prediction(row) for row in softened(logits, self.temperature)]

    async def explain(self, text: str) -> tuple[Prediction, tuple[WordAttribution, ...]]:
        """Predict a text and attribute the prediction to its words."""
        (prediction,) = await self.predict([text])
        label = self.labels.index(prediction.label)
        words: Any = await self.batcher.run(lambda: explain(self._model, text, label))
        return prediction, words

    def _prediction(self, row: np.ndarray[Any, Any]) -> Prediction:
        best = int(row.argmax())
        named = {label: round(float(p), 6) for label, p in zip(self.labels, row, strict=True)}
        return Prediction(self.labels[best], named[self.labels[best]], named)
