"""Mean pooling: over a text's own tokens, and the same through the exported uniform layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.pooling import (
    MEAN_POOLING_TEMPERATURE,
    bert_with_uniform_layer,
    mean_over_tokens,
    normalised_mean,
)

HIDDEN = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(2)) + 0.5
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])


def test_the_mean_is_over_the_marked_tokens() -> None:
    means = mean_over_tokens(HIDDEN, MASK)
    for row, length in enumerate((7, 4, 1)):
        assert torch.allclose(means[row], HIDDEN[row, :length].mean(dim=0), atol=1e-6)


def test_no_token_at_all_gives_zero() -> None:
    assert torch.equal(mean_over_tokens(HIDDEN, torch.zeros_like(MASK)), torch.zeros(3, 16))


def test_p10_padding_and_other_texts_do_not_show() -> None:
    """A text's features are the same bits alone, among others, and with garbage in its padding."""
    together = normalised_mean(HIDDEN, MASK)
    noisy = torch.where(MASK.bool().unsqueeze(-1), HIDDEN, torch.full_like(HIDDEN, 1e6))
    assert torch.equal(normalised_mean(noisy, MASK), together)
    for row, length in enumerate((7, 4, 1)):
        alone = normalised_mean(HIDDEN[row : row + 1, :length], MASK[row : row + 1, :length])
        assert torch.allclose(alone[0], together[row], atol=1e-6)


def test_features_are_normalised_vector_by_vector() -> None:
    features = torch.atanh(normalised_mean(HIDDEN, MASK)) * MEAN_POOLING_TEMPERATURE
    assert torch.allclose(features.mean(dim=1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(features.std(dim=1, unbiased=False), torch.ones(3), atol=1e-4)


def test_features_are_float32_under_any_precision() -> None:
    assert normalised_mean(HIDDEN.bfloat16(), MASK).dtype == torch.float32


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_the_uniform_layer_pools_the_same_for_small_and_large_activations(tiny_base: Path, scale: float) -> None:
    """The layer's value matrix must drown the residual at every scale, without losing precision."""
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(tiny_base).eval()
    with torch.no_grad():
        norm = network.bert.encoder.layer[-1].output.LayerNorm
        norm.weight.mul_(scale)
        norm.bias.add_(0.3 * scale)
        exported = bert_with_uniform_layer(network)
        ids = torch.randint(5, 20, (3, 7), generator=torch.Generator().manual_seed(3))
        hidden = network.bert(input_ids=ids, attention_mask=MASK).last_hidden_state
        wanted = network.classifier(normalised_mean(hidden, MASK))
        found = exported(input_ids=ids, attention_mask=MASK).logits
    assert (wanted - found).abs().max() < 1e-3
    assert exported.config.num_hidden_layers == network.config.num_hidden_layers + 1
