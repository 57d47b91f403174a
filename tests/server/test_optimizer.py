"""The coordinator's optimizers against torch's and Flower's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvgM, FedYogi
from flwr.serverapp.strategy.fedopt import FedOpt
from flwr.supercore.task_identity import TaskIdentity

from common.study import FederationSection
from common.weights import Weights
from server.optimizer import ServerState, server_step

ROUNDS = 12
RATE = 0.3


def start_and_changes() -> tuple[Weights, list[Weights]]:
    """Weights and a change for each round, some of them large, some tiny, one zero."""
    chooser = np.random.default_rng(5)
    start = {"a": chooser.normal(size=(3, 4)).astype(np.float32), "b": chooser.normal(size=5).astype(np.float32)}
    scales = [10.0 ** float(chooser.uniform(-2, 1)) for _ in range(ROUNDS)]
    changes = [
        {name: (scale * chooser.normal(size=value.shape)).astype(np.float32) for name, value in start.items()}
        for scale in scales
    ]
    changes[4] = {name: np.zeros_like(value) for name, value in start.items()}
    return start, changes


def stepped(strategy: str, momentum: float = 0.9) -> list[Weights]:
    """Our weights after every round."""
    federation = FederationSection.model_validate({"strategy": strategy, "server_momentum": momentum})
    weights, changes = start_and_changes()
    state, path = ServerState(), []
    for change in changes:
        weights, state = server_step(federation, state, weights, change, RATE)
        path.append(weights)
    assert state.steps == ROUNDS
    return path


def by_torch(optimizer: type[torch.optim.Optimizer], **settings: object) -> list[Weights]:
    """Weights after every round by a torch optimizer fed with the negative change as gradient."""
    start, changes = start_and_changes()
    parameters = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    built = optimizer(list(parameters.values()), lr=RATE, **settings)  # type: ignore[call-arg]
    path = []
    for change in changes:
        for name, parameter in parameters.items():
            parameter.grad = -torch.from_numpy(change[name])
        built.step()
        path.append({name: p.detach().numpy().copy() for name, p in parameters.items()})
    return path


def by_flower(strategy: FedOpt | FedAvgM, first_round: int) -> list[Weights]:
    """Weights after every round by a Flower strategy that gets one site's reply a round."""
    weights, changes = start_and_changes()
    path = []
    for number, change in enumerate(changes, start=first_round):
        if isinstance(strategy, FedOpt):
            strategy.current_arrays = weights
        else:
            strategy.current_arrays = _record(weights)
        reply = _reply({name: weights[name] + change[name] for name in weights})
        arrays, _ = strategy.aggregate_train(number, [reply])
        assert arrays is not None
        weights = {name: np.asarray(array.numpy(), np.float32) for name, array in arrays.items()}
        path.append(weights)
    return path


def assert_same_path(found: list[Weights], expected: list[Weights], rtol: float = 2e-4) -> None:
    """Each round's weights agree, up to the rounding of float32."""
    for ours, theirs in zip(found, expected, strict=True):
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=rtol)


def test_fedadam_is_torchs_adam_on_the_negative_change() -> None:
    expected = by_torch(torch.optim.Adam, betas=(0.9, 0.99), eps=1e-8)
    assert_same_path(stepped("fedadam"), expected)


def test_fedadam_is_flowers_whose_bias_correction_is_one_round_ahead() -> None:
    # Flower corrects round r with r + 1, so its rounds are counted from 0 here
    assert_same_path(stepped("fedadam"), by_flower(FedAdam(eta=RATE, tau=1e-8), first_round=0))


def test_fedyogi_is_flowers() -> None:
    assert_same_path(stepped("fedyogi"), by_flower(FedYogi(eta=RATE, tau=1e-8), first_round=1))


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_fedavgm_is_torchs_sgd_with_momentum_and_flowers(momentum: float) -> None:
    ours = stepped("fedavgm", momentum)
    assert_same_path(ours, by_torch(torch.optim.SGD, momentum=momentum), rtol=2e-5)
    flower = FedAvgM(server_learning_rate=RATE, server_momentum=momentum)
    assert_same_path(ours, by_flower(flower, first_round=1), rtol=2e-5)


def test_the_optimizers_differ_so_that_a_mix_up_would_show() -> None:
    ends = [stepped(name)[-1]["a"] for name in ("fedavg", "fedavgm", "fedadam", "fedyogi")]
    for i, one in enumerate(ends):
        for other in ends[:i]:
            assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "median", "trimmed-mean", "krum"])
def test_the_others_add_the_change_times_the_rate(strategy: str) -> None:
    weights, changes = start_and_changes()
    for change, found in zip(changes, stepped(strategy), strict=True):
        weights = {name: value + np.float32(RATE) * change[name] for name, value in weights.items()}
        for name, value in weights.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadam", "fedyogi"])
def test_a_step_changes_nothing_that_it_was_given_and_stays_float32(strategy: str) -> None:
    federation = FederationSection.model_validate({"strategy": strategy})
    weights, changes = start_and_changes()
    _, state = server_step(federation, ServerState(), weights, changes[0], RATE)
    given = (weights, changes[1], state.first_moment, state.second_moment)
    before = [{name: value.copy() for name, value in group.items()} for group in given]
    moved, after = server_step(federation, state, weights, changes[1], RATE)
    for group, kept in zip(given, before, strict=True):
        for name, value in kept.items():
            np.testing.assert_array_equal(group[name], value)
    for group in (moved, after.first_moment, after.second_moment):
        assert {value.dtype for value in group.values()} <= {np.dtype(np.float32)}


def _record(weights: Weights) -> ArrayRecord:
    return ArrayRecord({name: Array(value) for name, value in weights.items()})


def _reply(weights: Weights) -> Message:
    content = RecordDict({"arrays": _record(weights), "metrics": MetricRecord({"num-examples": 1})})
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    question = Message(RecordDict(), 2, "train")
    question.metadata.__dict__["_message_id"] = "1"
    return Message(content, reply_to=question)
