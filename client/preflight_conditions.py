"""The conditions under which a model's gradients can be compared, and the way back from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from common.model import Classifier

__all__ = ["comparable"]

_SEED = 14


@contextmanager
def comparable(classifier: Classifier) -> Iterator[None]:
    """Within the context two passes agree and every gradient counts: no dropout, no parameter of zeros alone.

    Afterwards weights, buffers, modes, dropout rates and torch's random state are those of before.
    """
    device = next(classifier.parameters()).device
    changing = [*classifier.trainable().values(), *classifier.buffers()]
    saved = [tensor.detach().clone() for tensor in changing]
    modes = [(module, module.training, _dropout_rates(module)) for module in classifier.modules()]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            _switch_dropout_off(classifier)
            _fill_zeros(classifier)
            yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(changing, saved, strict=True):
                tensor.copy_(value)
        for module, training, rates in modes:
            module.training = training
            for name, rate in rates.items():
                setattr(module, name, rate)


def _fill_zeros(classifier: Classifier) -> None:
    """Give random values to parameters that begin at zero, as half of LoRA and the head do.

    Behind a matrix of zeros every gradient vanishes, and zeros agree with everything.
    """
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            if not bool(parameter.any()):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def _switch_dropout_off(classifier: Classifier) -> None:
    for module in classifier.modules():
        for name in _dropout_rates(module):
            setattr(module, name, 0.0)


def _dropout_rates(module: nn.Module) -> dict[str, float]:
    """Dropout rates that a module holds, by attribute (ModernBERT's attention keeps one as a plain number)."""
    names = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else ("attention_dropout",)
    return {name: rate for name in names if isinstance(rate := getattr(module, name, None), float)}
