"""A Flower client that trains a tiny BERT for a few plain steps, the same work under every engine."""

from __future__ import annotations

from functools import lru_cache

import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from common.weights import Weights

__all__ = ["app", "start_weights"]

_STEPS = 2
_ROWS, _TOKENS = 16, 16
_WORDS = 23

app = ClientApp()


@lru_cache(maxsize=1)
def _network() -> nn.Module:
    """As large as the tiny base of the tests; one for each process, as engines keep clients' processes."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(vocab_size=_WORDS, **size)).train()


def start_weights() -> Weights:
    """The weights that the first round begins with."""
    return {name: value.detach().numpy() for name, value in _network().named_parameters()}


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take the steps from the weights that came, on texts of random tokens."""
    network = _network()
    given = message.content["arrays"]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(given[name].numpy()))  # type: ignore[union-attr, index]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        tokens = torch.randint(_WORDS, (_ROWS, _TOKENS))
        network(input_ids=tokens, labels=torch.randint(2, (_ROWS,))).loss.backward()
        optimizer.step()
    arrays = ArrayRecord({name: Array(value.detach().numpy()) for name, value in network.named_parameters()})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": _STEPS * _ROWS})})
    return Message(content, reply_to=message)
