"""Noise tests: correct noise passes at the stated rate; each planted fault is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.audit.hypothesis_tests import StatisticalTest
from common.audit.noise_tests import independence_tests, scale_tests
from common.errors import BadInput
from common.privacy.randomness import SystemRandomness

STANDARD_DEVIATION = 0.7
SHAPES = {"encoder": (40, 50), "lora.A": (8, 64), "head.bias": (3,), "head.weight": (64, 3)}
Tensors = dict[str, np.ndarray]


def _noise(draw: np.random.Generator, by: float = 1.0) -> Tensors:
    return {name: draw.normal(0, STANDARD_DEVIATION * by, shape) for name, shape in SHAPES.items()}


def _failed(tests: tuple[StatisticalTest, ...]) -> set[str]:
    return {test.name for test in tests if not test.passed}


def test_correct_noise_fails_as_often_as_stated() -> None:
    """2,000 runs at a family rate of 2 %: expected 40; over 62 happens once in 1,000 (binomial)."""
    draw = np.random.default_rng(1)
    alarms = sum(bool(_failed(scale_tests(_noise(draw), STANDARD_DEVIATION, 0.02))) for _ in range(2000))
    assert 10 < alarms <= 62
    alarms = sum(
        bool(_failed(independence_tests({"a": draw.normal(size=50), "b": draw.normal(size=50)}, 0.02)))
        for _ in range(2000)
    )
    assert 10 < alarms <= 62


def test_the_product_s_own_noise_passes() -> None:
    """From the operating system's randomness: fails once in 1,000 runs of this test."""
    randomness = SystemRandomness()
    drawn = {
        name: randomness.noisy_sum(torch.zeros(shape), STANDARD_DEVIATION).numpy()
        for name, shape in SHAPES.items()
    }
    assert not _failed(scale_tests(drawn, STANDARD_DEVIATION, 5e-4))
    rounds = {
        str(number): randomness.noisy_sum(torch.zeros(5000), STANDARD_DEVIATION).numpy() for number in range(4)
    }
    assert not _failed(independence_tests(rounds, 5e-4))


def _without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda noise: noise | {name: np.zeros_like(noise[name])}


FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "10 % too little": (lambda noise: {n: v * 0.9 for n, v in noise.items()}, "scale of encoder"),
    "10 % too much": (lambda noise: {n: v * 1.1 for n, v in noise.items()}, "scale of encoder"),
    "noise for the wrong batch": (lambda noise: {n: v / 256 for n, v in noise.items()}, "scale of head.bias"),
    "noise on every physical batch": (lambda noise: {n: v * 2 for n, v in noise.items()}, "scale of lora.A"),
    "none on LoRA A": (_without("lora.A"), "scale of lora.A"),
    "none on three numbers": (_without("head.bias"), "scale of head.bias"),
    "not a number": (lambda noise: noise | {"head.bias": np.full(3, np.nan)}, "scale of head.bias"),
    "infinite": (lambda noise: noise | {"head.bias": np.full(3, np.inf)}, "mean of head.bias"),
    "off centre": (lambda noise: noise | {"encoder": noise["encoder"] + 0.1}, "mean of encoder"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_in_its_tensor(name: str) -> None:
    plant, where = FAULTS[name]
    for seed in range(10):
        noise = plant(_noise(np.random.default_rng(seed)))
        assert where in _failed(scale_tests(noise, STANDARD_DEVIATION))


def test_every_tensor_is_named_and_the_false_alarm_rate_is_shared() -> None:
    tests = scale_tests(_noise(np.random.default_rng(1)), STANDARD_DEVIATION, 0.008)
    assert len(tests) == 2 * len(SHAPES)
    assert {test.false_alarm_rate for test in tests} == {0.001}
    assert tests[0].expected == STANDARD_DEVIATION


def _rounds(draw: np.random.Generator) -> Tensors:
    return {f"round {number}": draw.normal(size=10_000) for number in range(5)}


@pytest.mark.parametrize(
    "second",
    [lambda one, other: one, lambda one, other: -3 * one, lambda one, other: 0.1 * one + other],
    ids=["the same", "turned", "a tenth"],
)
def test_noise_used_again_is_found(second: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """A correlation of 0.1 at d = 10,000 lies 10 deviations off: certain."""
    for seed in range(5):
        rounds = _rounds(np.random.default_rng(seed))
        rounds["round 3"] = second(rounds["round 1"], rounds["round 3"])
        assert _failed(independence_tests(rounds)) == {"correlation of round 1 and round 3"}


def test_no_noise_twice_is_no_independence() -> None:
    assert _failed(independence_tests({"a": np.zeros(10), "b": np.zeros(10)}))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: scale_tests({}, 1.0),
        lambda: scale_tests({"a": []}, 1.0),
        lambda: scale_tests({"a": [1.0]}, 0.0),
        lambda: scale_tests({"a": [1.0]}, 1.0, 1.0),
        lambda: independence_tests({"a": [1.0, 2.0, 3.0]}),
        lambda: independence_tests({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0]}),
    ],
)
def test_what_cannot_be_tested_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        wrong()
