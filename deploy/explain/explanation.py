"""The whole explanation of a model: single texts, and what many texts show; as data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.explain.attributions import Attributions, Explainer
from deploy.explain.influence import InfluentialToken, influential_tokens
from deploy.explain.projection import Projection, pooled_features, projection
from deploy.explain.surrogate import Surrogate, surrogates
from deploy.open_model import OpenModel

__all__ = ["Explanation", "Limits", "explain_model"]

_WORDS_OF_A_LABEL = 15


@dataclass(frozen=True)
class Limits:
    """How much of the data is looked at."""

    attributed: int = 30
    """Texts of the data that get attributions, drawn under the seed."""
    imitated: int = 2000
    """Texts of the data that surrogates learn from and that are drawn as points."""
    seed: int = 7
    least_occurrences: int = 2


@dataclass(frozen=True)
class Explanation:
    """What was found; ``texts`` are those that were asked for, in order."""

    labels: tuple[str, ...]
    texts: tuple[Attributions, ...] = field(repr=False)
    attention: tuple[NDArray[np.float64], ...] = field(repr=False)
    """For each of ``texts``, ``(layers, tokens, tokens)``."""
    influential: tuple[InfluentialToken, ...] = field(repr=False)
    attributed: int
    """Texts of the data behind ``influential``."""
    worst_completeness_error: float
    """Over every text that got attributions."""
    surrogates: tuple[Surrogate, ...]
    projection: Projection | None = field(repr=False)
    """Of ``texts`` first, then of the data."""
    answers: NDArray[np.int64] = field(repr=False)
    """Predicted label of every projected text."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary; pictures' data left out but for the projection's two axes."""
        return {
            "labels": list(self.labels),
            "texts": [asdict(each) | {"label": self.labels[each.label]} for each in self.texts],
            "influential": [asdict(each) for each in self.influential],
            "attributed_texts": self.attributed,
            "worst_completeness_error": self.worst_completeness_error,
            "surrogates": [each.to_json() for each in self.surrogates],
            "projection": None
            if self.projection is None
            else {"points": len(self.projection.points), "explained_variance": list(self.projection.explained)},
        }


def explain_model(model: OpenModel, texts: Sequence[str], data: Sequence[str], limits: Limits) -> Explanation:
    """Explain single ``texts``, and the model on the whole over ``data`` (either may be empty)."""
    explainer = Explainer(model)
    asked = [explainer.attributions(text) for text in texts]
    chooser = random.Random(limits.seed)
    imitated = list(data) if len(data) <= limits.imitated else chooser.sample(list(data), limits.imitated)
    drawn = imitated if len(imitated) <= limits.attributed else chooser.sample(imitated, limits.attributed)
    many = [explainer.attributions(text) for text in drawn]
    special = {model.tokenizer.convert_ids_to_tokens(i) for i in model.tokenizer.all_special_ids}
    everything = [*texts, *imitated]
    answers = model.logits(everything).argmax(axis=1)
    return Explanation(
        labels=tuple(model.labels),
        texts=tuple(asked),
        attention=tuple(explainer.attention(text) for text in texts),
        influential=tuple(
            influential_tokens(
                many, model.labels, special - {"[UNK]", "<unk>"}, limits.least_occurrences, _WORDS_OF_A_LABEL
            )
        ),
        attributed=len(many),
        worst_completeness_error=max(each.completeness_error for each in (*asked, *many)),
        surrogates=surrogates(imitated, answers[len(texts) :], model.labels, limits.seed),
        projection=projection(pooled_features(model, everything)),
        answers=answers,
    )
