"""From token vectors to one vector per text, and the layer that lets mean pooling be exported.

transformers' ``BertForSequenceClassification`` classifies ``tanh(W h_CLS + b)`` of the last layer. Frozen
mean-pooled features of a sentence encoder are far better than its CLS vector, so ``pooling = "mean"`` uses

    pooled = tanh(LayerNorm(mean over tokens of h) / MEAN_POOLING_TEMPERATURE)

and the exported model computes the same with stock BERT parts: one more encoder layer whose attention is
uniform (query and key zero, value a large multiple of the identity), whose feed-forward part is zero, and a
pooler whose matrix is the identity over the temperature. The large multiple drowns the layer's residual
connection; the layer's own normalisation undoes it. Logits agree within 1e-3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["MEAN_POOLING_TEMPERATURE", "bert_with_uniform_layer", "mean_over_tokens", "normalised_mean"]

MEAN_POOLING_TEMPERATURE = 4.0
"""Divides the normalised features (unit variance) before tanh; larger is more linear."""

_RESIDUAL_SUPPRESSION = float(2**14)
"""How much larger the attention's mean is made than the residual it is added to; a power of two is exact."""


def mean_over_tokens(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean of ``hidden`` ``(batch, tokens, width)`` over the tokens that ``attention_mask`` marks."""
    weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def normalised_mean(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean-pooled features as the classifier sees them, each vector normalised by itself alone (P10)."""
    mean = mean_over_tokens(hidden.float(), attention_mask)
    features = nn.functional.layer_norm(mean, mean.shape[-1:], eps=1e-12)
    return torch.tanh(features / MEAN_POOLING_TEMPERATURE)


def bert_with_uniform_layer(trained: Any) -> Any:
    """Return a stock ``BertForSequenceClassification`` that pools by the mean as ``trained`` does.

    Args:
        trained: a ``BertForSequenceClassification`` whose encoder and classifier are to be exported.
    """
    config = type(trained.config).from_dict(trained.config.to_dict())
    config.num_hidden_layers += 1
    exported = type(trained)(config)
    exported.load_state_dict(trained.state_dict(), strict=False)
    with torch.no_grad():
        _make_uniform(exported.bert.encoder.layer[-1])
        width = config.hidden_size
        exported.bert.pooler.dense.weight.copy_(torch.eye(width) / MEAN_POOLING_TEMPERATURE)
        exported.bert.pooler.dense.bias.zero_()
    return exported.eval()


def _make_uniform(layer: Any) -> None:
    attention, identity = layer.attention, torch.eye(layer.attention.self.value.in_features)
    for linear in (attention.self.query, attention.self.key, layer.intermediate.dense, layer.output.dense):
        linear.weight.zero_()
        linear.bias.zero_()
    attention.self.value.weight.copy_(identity * _RESIDUAL_SUPPRESSION)
    attention.self.value.bias.zero_()
    attention.output.dense.weight.copy_(identity)
    attention.output.dense.bias.zero_()
    for norm in (attention.output.LayerNorm, layer.output.LayerNorm):
        norm.weight.fill_(1.0)
        norm.bias.zero_()
