"""The part of a network behind its encoder, by task and architecture: from what the encoder gives to logits.

A masked language model's output layer is tied to the table of word embeddings: one matrix in two places, whose
gradient does not separate by example. It never trains, in private runs and others alike; what lies between encoder
and output layer does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from common.errors import NotYet
from common.study import TaskKind

__all__ = ["Head", "head_of", "tied_parameters", "zero_last_layer"]

Head: TypeAlias = Callable[[Any, torch.Tensor], torch.Tensor]
"""A network and its features, ``(batch, width)`` or ``(batch, tokens, width)``, to logits with as many rows."""


def head_of(kind: TaskKind, architecture: str) -> Head:
    """The head of a task; raises :class:`NotYet` where the architecture has none that is known here."""
    head = _HEADS[kind].get(architecture)
    if head is None:
        raise NotYet(f'task.kind = "{kind}": not yet for {architecture}; use one of {", ".join(_HEADS[kind])}')
    return head


def zero_last_layer(network: Any, kind: TaskKind, architecture: str) -> None:
    """Let a new classifier start undecided.

    From random weights it would spend its first noisy steps unlearning them. A masked language model keeps its
    output layer.
    """
    if kind == "masked-language-modeling":
        return
    whole = kind == "sequence-classification"
    last = network.classifier.out_proj if whole and architecture == "roberta" else network.classifier
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def tied_parameters(network: Any, kind: TaskKind) -> list[nn.Parameter]:
    """The parameters of a masked language model's output layer, none in other tasks."""
    return list(network.get_output_embeddings().parameters()) if kind == "masked-language-modeling" else []


def _distilbert(network: Any, features: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, network.classifier(network.dropout(torch.relu(network.pre_classifier(features)))))


def _deberta(network: Any, features: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, network.classifier(network.dropout(network.pooler(features.unsqueeze(1)))))


def _modernbert(network: Any, features: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, network.classifier(network.drop(network.head(features))))


def _each_token(network: Any, features: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, network.classifier(network.dropout(features)))


def _masked_distilbert(network: Any, features: torch.Tensor) -> torch.Tensor:
    hidden = network.vocab_layer_norm(network.activation(network.vocab_transform(features)))
    return cast(torch.Tensor, network.vocab_projector(hidden))


_HEADS: Mapping[TaskKind, Mapping[str, Head]] = {
    "sequence-classification": {
        "bert": _each_token,  # the same two layers, on one vector for each text
        "roberta": lambda network, features: network.classifier(features.unsqueeze(1)),
        "distilbert": _distilbert,
        "deberta-v2": _deberta,
        "modernbert": _modernbert,
    },
    "token-classification": {
        "bert": _each_token,
        "roberta": _each_token,
        "distilbert": _each_token,
        "deberta-v2": _each_token,
        "modernbert": _modernbert,
    },
    "masked-language-modeling": {
        "bert": lambda network, features: network.cls(features),
        "roberta": lambda network, features: network.lm_head(features),
        "distilbert": _masked_distilbert,
        "modernbert": lambda network, features: network.decoder(network.head(features)),
    },
}
