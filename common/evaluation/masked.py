"""How well hidden tokens are guessed: three integers, since a vocabulary is too large for a confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput, RunFailed
from common.evaluation.counts import FIXED_POINT_ONE

__all__ = ["MaskedScore"]


@dataclass(frozen=True)
class MaskedScore:
    """Guesses of masked tokens; scores of parts add up."""

    examples: int
    """Tokens that were hidden."""
    correct: int
    """Of them those whose likeliest guess was right."""
    loss_sum: int
    """Sum of the log losses, in units of ``1 / FIXED_POINT_ONE`` nats; each rounded once, so sums are exact."""

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.examples or self.loss_sum < 0 or not self.examples:
            raise BadInput("masked score: counts that no hidden tokens have; at least one must be hidden")

    @classmethod
    def of(cls, losses: NDArray[np.float64], correct: NDArray[np.bool_]) -> MaskedScore:
        """From each hidden token's log loss and whether it was guessed; ``RunFailed`` where one is not finite."""
        if not np.isfinite(losses).all():
            raise RunFailed(
                "model output: non-finite logits: the model cannot be scored; try a smaller learning rate"
            )
        rounded = np.rint(np.maximum(losses, 0.0) * FIXED_POINT_ONE)
        return cls(len(losses), int(correct.sum()), sum(map(int, rounded.tolist())))

    def __add__(self, other: MaskedScore) -> MaskedScore:
        """The score of both sets of tokens together."""
        return MaskedScore(
            self.examples + other.examples, self.correct + other.correct, self.loss_sum + other.loss_sum
        )

    @property
    def accuracy(self) -> float:
        """Share of the hidden tokens whose likeliest guess is right."""
        return self.correct / self.examples

    @property
    def loss(self) -> float:
        """Mean log loss of a hidden token, in nats."""
        return self.loss_sum / (self.examples * FIXED_POINT_ONE)

    @property
    def perplexity(self) -> float:
        """``exp(loss)``: among how many tokens the model seems to choose; infinite beyond float64."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def likelihood(self) -> float:
        """``exp(-loss)``: the probability given to a hidden token, by its geometric mean."""
        return math.exp(-self.loss)

    def to_json(self) -> dict[str, object]:
        """Figures for the reader, and the counts that prove them."""
        return {
            "examples": self.examples,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "perplexity": min(self.perplexity, 1e300),
            "masked_counts": asdict(self),
        }

    @classmethod
    def from_json(cls, value: object) -> MaskedScore:
        """Restore a score from :meth:`to_json`'s dictionary: its counts, from which the figures follow."""
        counts = value.get("masked_counts") if isinstance(value, Mapping) else None
        names = ("examples", "correct", "loss_sum")
        if not isinstance(counts, Mapping) or any(type(counts.get(name)) is not int for name in names):
            raise BadInput("masked score: must be an object with masked_counts of three integers")
        return cls(*(counts[name] for name in names))
