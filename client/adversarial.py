"""Adversarial training in embedding space: each example moves its own input embeddings against itself.

One step of fixed length (Miyato et al. 2017, arXiv 1605.07725): the embeddings ``(tokens, width)`` of an example
move by ``r g / ||g||``, ``g`` being the gradient of its own loss by them and ``||.||`` the Euclidean norm over all
its tokens; an example without gradient does not move. The loss trained on is that of the moved example.

The move depends on the example and the weights alone, so the loss stays a function of one example (PRIVACY P11),
its gradient is clipped as any other and the cost in epsilon is the same. The preflight compares gradients of this
very loss. It costs one more forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["moved_embeddings"]

Losses = Callable[[], torch.Tensor]
"""Runs the network on the batch and gives each example's loss, ``(batch,)``."""


@contextmanager
def moved_embeddings(embedding: nn.Module, losses: Losses, radius: float) -> Iterator[None]:
    """Within the context the output of ``embedding`` is moved against the examples of one batch.

    Args:
        embedding: the network's input embeddings; its output is ``(batch, tokens, width)``.
        losses: called once on the way in, without the move.
        radius: r, the length of each example's move.
    """
    move = _move(embedding, losses, radius)
    hook = embedding.register_forward_hook(lambda _, __, output: output + move.to(output.dtype))
    try:
        yield
    finally:
        hook.remove()


def _move(embedding: nn.Module, losses: Losses, radius: float) -> torch.Tensor:
    seen: list[torch.Tensor] = []

    def watch(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    hook = embedding.register_forward_hook(watch)
    try:
        with torch.enable_grad():
            total = losses().sum()
        (gradient,) = torch.autograd.grad(total, seen, materialize_grads=True)
    finally:
        hook.remove()
    finite: torch.Tensor = torch.nan_to_num(gradient.float(), nan=0.0, posinf=0.0, neginf=0.0)
    norms = finite.flatten(1).norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    move: torch.Tensor = (
        finite * radius / norms.view(-1, 1, 1)
    )  # not radius / norms, which overflows at a norm of 0
    return move
