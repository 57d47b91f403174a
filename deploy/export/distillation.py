"""A model with fewer layers that learns the original's answers on public texts (Hinton et al. 2015).

The student takes evenly spaced layers of the original, its embeddings and its head (Sanh et al. 2019 begin so),
and then learns the original's softened probabilities; true labels are not used. It is computed from the model and
public texts alone, so it costs no privacy: what a private model says may be used in any way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.errors import BadInput, NotYet
from common.text import TokenizedTexts, batches
from deploy.export.measure import logits_of
from deploy.export.runners import TorchRunner

__all__ = ["Distillation", "distill", "kept_layers", "shallower"]


@dataclass(frozen=True)
class Distillation:
    """How the student learns."""

    layers: int = 0
    """Encoder layers of the student, pooling apart; 0: half of the original's, rounded up."""
    epochs: int = 3
    learning_rate: float = 1e-4
    temperature: float = 2.0
    """Divides the logits of both before they are compared."""
    batch_size: int = 32
    seed: int = 7


def distill(
    network: Any, texts: TokenizedTexts, plan: Distillation, told: Callable[[int, float], None] | None = None
) -> Any:
    """Return the student of ``network``, taught on ``texts``.

    Args:
        network: the original, on the CPU.
        texts: public; their labels are not read.
        plan: how.
        told: called after each epoch with its number and mean loss.

    Raises:
        BadInput: fewer layers are asked for than 1, or more than there are.
        NotYet: an architecture whose layers cannot be taken out.
    """
    wanted = plan.layers or -(-_own_layers(network) // 2)
    student = shallower(network, wanted)
    targets = torch.from_numpy(logits_of(TorchRunner(network), texts)).double()
    soft = torch.softmax(targets / plan.temperature, dim=1).float()
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.learning_rate)
    chooser = np.random.default_rng(plan.seed)
    student.train()
    for epoch in range(plan.epochs):
        losses = [
            _step(student, optimizer, (texts, rows, soft[torch.from_numpy(rows)]), plan.temperature)
            for rows in _shuffled(len(texts), plan.batch_size, chooser)
        ]
        if told is not None:
            told(epoch + 1, float(np.mean(losses)))
    return student.eval()


def kept_layers(layers: int, wanted: int) -> list[int]:
    """Evenly spaced layers, the last among them: of 6, three are 1, 3 and 5 (counted from 0)."""
    return [round((place + 1) * layers / wanted) - 1 for place in range(wanted)]


def shallower(network: Any, wanted: int) -> Any:
    """A copy of ``network`` with ``wanted`` of its encoder layers, not yet taught.

    A last layer of uniform attention, which is how Hanse saves mean pooling, is kept besides and does not train.
    """
    config = network.config
    if config.model_type not in {"bert", "roberta", "distilbert"}:
        raise NotYet(f"--format distilled: not yet for {config.model_type}; use onnx or int8")
    own = _own_layers(network)
    if not 1 <= wanted <= own:
        raise BadInput(f"--layers {wanted}: must be from 1 to {own}, the original's layers")
    kept = kept_layers(own, wanted)
    pools = _pools_uniformly(network)
    if pools:
        kept.append(own)
    student = copy.deepcopy(network)
    stack = _stack(student)
    layers = [stack[place] for place in kept]
    del stack[:]
    stack.extend(layers)
    student.config.num_hidden_layers = len(layers)
    for parameter in student.parameters():
        parameter.requires_grad_(True)
    if pools:
        for frozen in (stack[-1], student.base_model.pooler):
            for parameter in frozen.parameters():
                parameter.requires_grad_(False)
    return student


def _step(
    student: Any,
    optimizer: torch.optim.Optimizer,
    batch: tuple[TokenizedTexts, NDArray[np.int64], torch.Tensor],
    temperature: float,
) -> float:
    texts, rows, soft = batch
    (padded,) = batches(texts, rows, len(rows))
    order = torch.from_numpy(np.argsort(rows, kind="stable")[np.searchsorted(np.sort(rows), padded.indexes)])
    logits = student(**padded.inputs).logits / temperature
    # Times T squared, so that gradients keep their size whatever the temperature (Hinton et al. 2015, section 2).
    loss = nn.functional.cross_entropy(logits, soft[order]) * temperature**2
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return float(loss.detach())


def _shuffled(count: int, size: int, chooser: np.random.Generator) -> list[NDArray[np.int64]]:
    order = chooser.permutation(count).astype(np.int64)
    return [order[start : start + size] for start in range(0, count, size)]


def _stack(network: Any) -> nn.ModuleList:
    stack = network.base_model.transformer.layer if network.config.model_type == "distilbert" else None
    found: nn.ModuleList = network.base_model.encoder.layer if stack is None else stack
    return found


def _own_layers(network: Any) -> int:
    if network.config.model_type not in {"bert", "roberta", "distilbert"}:
        return int(network.config.num_hidden_layers)
    return len(_stack(network)) - int(_pools_uniformly(network))


def _pools_uniformly(network: Any) -> bool:
    """Whether the last layer is mean pooling in disguise (``common.pooling``): its query and key are zero."""
    if network.config.model_type != "bert":
        return False
    attention = cast(Any, _stack(network)[-1]).attention.self
    return not (bool(attention.query.weight.any()) or bool(attention.key.weight.any()))
