"""Token attributions by integrated gradients, with their completeness checked.

Sundararajan et al. 2017 (arXiv 1703.01365): the attributions of all inputs add up to the difference between what
the model says of the text and of a baseline. What the model says is here the margin of a label: its logit less the
log-sum-exp of the others'. The baseline is the text with every token masked but the special ones. The integral is
a sum over points of a path (captum, Gauss-Legendre); points are doubled until the sum misses the difference by
less than :data:`LARGEST_ERROR` of it. Everything is computed in float64 on the CPU.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput, RunFailed
from deploy.open_model import OpenModel

__all__ = ["LARGEST_ERROR", "Attributions", "Explainer"]

LARGEST_ERROR = 0.01
"""Largest completeness error that passes, as a share of the difference to be explained."""

_FEWEST_POINTS, _MOST_POINTS = 32, 2048
_POINTS_AT_ONCE = 64
_FLOOR = 1e-6
"""A difference smaller than this counts as this: the rounding of logits is not explained."""


@dataclass(frozen=True)
class Attributions:
    """What each token of a text did for the predicted label."""

    text: str = field(repr=False)
    label: int
    """Predicted label, by position."""
    probability: float
    tokens: tuple[str, ...] = field(repr=False)
    values: tuple[float, ...]
    """Share of each token in the margin (logits); positive speaks for the label."""
    margin: float
    """Of the text."""
    baseline_margin: float
    """Of the text with all its tokens masked."""
    completeness_error: float
    """``|sum of values - (margin - baseline margin)| / |margin - baseline margin|``."""
    points: int
    """Points of the path that were needed."""


class Explainer:
    """A model, ready to explain what it says."""

    def __init__(self, model: OpenModel) -> None:
        """Take a copy of the model; raises :class:`BadInput` where captum is not installed."""
        try:
            from captum.attr import IntegratedGradients
        except ImportError as error:
            raise BadInput("captum: not installed; run: pip install 'hanse[explain]'") from error
        self.model = model
        self.network: Any = copy.deepcopy(model.network).to("cpu", torch.float64).eval()
        self.network.set_attn_implementation("eager")  # the only one that hands out attention weights
        self._integrated = IntegratedGradients(self._margins)

    def attributions(self, text: str, largest_error: float = LARGEST_ERROR) -> Attributions:
        """Explain the predicted label of one text.

        Raises:
            RunFailed: the completeness error is too large even with 2,048 points.
        """
        ids = torch.tensor([self._ids(text)])
        embedded = self._embedded(ids)
        with torch.no_grad():
            logits = self.network(inputs_embeds=embedded, attention_mask=torch.ones_like(ids)).logits[0]
        label = int(logits.argmax())
        baseline = self._embedded(self._masked(ids))
        mask = torch.ones_like(ids)
        with torch.no_grad():
            margin = float(self._margins(embedded, mask, label))
            from_margin = float(self._margins(baseline, mask, label))
        values, error, points = self._integral(embedded, baseline, label, margin - from_margin, largest_error)
        return Attributions(
            text=text,
            label=label,
            probability=float(torch.softmax(logits, 0)[label]),
            tokens=tuple(self.model.tokenizer.convert_ids_to_tokens(ids[0].tolist())),
            values=tuple(values.tolist()),
            margin=margin,
            baseline_margin=from_margin,
            completeness_error=error,
            points=points,
        )

    def attention(self, text: str) -> NDArray[np.float64]:
        """Attention weights, mean over heads: ``(layers, tokens, tokens)``, each row adds up to 1."""
        ids = torch.tensor([self._ids(text)])
        with torch.no_grad():
            out = self.network(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
        return np.stack([layer[0].mean(dim=0).numpy() for layer in out.attentions])

    def _integral(
        self, embedded: torch.Tensor, baseline: torch.Tensor, label: int, difference: float, largest_error: float
    ) -> tuple[NDArray[np.float64], float, int]:
        points = _FEWEST_POINTS
        while True:
            found = self._integrated.attribute(
                embedded,
                baselines=baseline,
                additional_forward_args=(torch.ones(embedded.shape[:2], dtype=torch.int64), label),
                n_steps=points,
                internal_batch_size=_POINTS_AT_ONCE,
            )
            values = found.sum(dim=-1)[0].detach().numpy()
            error = abs(float(values.sum()) - difference) / max(abs(difference), _FLOOR)
            if error < largest_error:
                return values, error, points
            if points >= _MOST_POINTS:
                raise RunFailed(
                    f"completeness error {error:.2%} with {points} points: must be below {largest_error:.0%}; "
                    "this text's attributions cannot be trusted"
                )
            points *= 2

    def _margins(self, embedded: torch.Tensor, mask: torch.Tensor, label: int) -> torch.Tensor:
        """Margin of ``label`` for each row of embeddings: ``(rows,)``."""
        logits = self.network(inputs_embeds=embedded, attention_mask=mask).logits
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        margins: torch.Tensor = logits[:, label] - torch.logsumexp(others, dim=1)
        return margins

    def _ids(self, text: str) -> list[int]:
        return list(self.model.tokenizer(text, truncation=True, max_length=self.model.longest)["input_ids"])

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.network.get_input_embeddings().weight[ids].detach()
        return embedded

    def _masked(self, ids: torch.Tensor) -> torch.Tensor:
        tokenizer = self.model.tokenizer
        hidden = next((t for t in (tokenizer.mask_token_id, tokenizer.pad_token_id) if t is not None), 0)
        special = torch.tensor(sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}))
        return torch.where(torch.isin(ids, special), ids, torch.full_like(ids, hidden))
