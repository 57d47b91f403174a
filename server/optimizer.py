"""What the coordinator does with a round's change: add it, or take it as a gradient for its own optimizer.

Pure functions over explicit state (so that resuming is saving the state): Reddi et al. 2021, "Adaptive
federated optimization", Algorithm 2; momentum after Hsu et al. 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.study import FederationSection
from common.weights import Weights

__all__ = ["ServerState", "server_step"]

_BETA_1 = 0.9
_BETA_2 = 0.99
_TAU = 1e-8
"""Reddi et al.'s degree of adaptivity; under DP noise no coordinate's second moment comes near it."""


@dataclass(frozen=True)
class ServerState:
    """State of the coordinator's optimizer between rounds."""

    steps: int = 0
    first_moment: Weights = field(default_factory=dict)
    second_moment: Weights = field(default_factory=dict)


def server_step(
    federation: FederationSection, state: ServerState, weights: Weights, change: Weights, learning_rate: float
) -> tuple[Weights, ServerState]:
    """The global weights after a round, and the state for the next.

    Args:
        federation: names the strategy; FedAvg and the robust rules add ``learning_rate * change``.
        state: what this function returned in the round before.
        weights: global weights that the round began with.
        change: the round's combined change.
        learning_rate: the round's server learning rate.
    """
    if federation.strategy == "fedavgm":
        return _momentum(federation.server_momentum, state, weights, change, learning_rate)
    if federation.strategy in {"fedadam", "fedyogi"}:
        return _adaptive(federation.strategy, state, weights, change, learning_rate)
    return _moved(weights, change, learning_rate), ServerState(state.steps + 1)


def _moved(weights: Weights, step: Weights, learning_rate: float) -> Weights:
    rate = np.float32(learning_rate)
    return {name: value + rate * step[name] for name, value in weights.items()}


def _momentum(
    beta: float, state: ServerState, weights: Weights, change: Weights, learning_rate: float
) -> tuple[Weights, ServerState]:
    first = {
        name: np.float32(beta) * state.first_moment[name] + value if state.first_moment else value.copy()
        for name, value in change.items()
    }
    return _moved(weights, first, learning_rate), ServerState(state.steps + 1, first)


def _adaptive(
    strategy: str, state: ServerState, weights: Weights, change: Weights, learning_rate: float
) -> tuple[Weights, ServerState]:
    zeros = {name: np.zeros_like(value) for name, value in change.items()}
    before, spread = state.first_moment or zeros, state.second_moment or zeros
    steps = state.steps + 1
    first = {name: _BETA_1 * before[name] + (1 - _BETA_1) * value for name, value in change.items()}
    second: Weights = {}
    for name, value in change.items():
        square = value**2
        if strategy == "fedadam":
            second[name] = _BETA_2 * spread[name] + (1 - _BETA_2) * square
        else:
            second[name] = spread[name] - (1 - _BETA_2) * square * np.sign(spread[name] - square)
    # Bias correction as in Kingma and Ba 2015, section 2; FedYogi is published without it.
    rate = learning_rate
    if strategy == "fedadam":
        rate *= float(np.sqrt(1 - _BETA_2**steps) / (1 - _BETA_1**steps))
    step: Weights = {name: np.asarray(first[name] / (np.sqrt(second[name]) + _TAU), np.float32) for name in change}
    return _moved(weights, step, rate), ServerState(steps, first, second)
