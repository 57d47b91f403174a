"""Measured noise and measured sampling are those on record; each test also rejects a wrong mechanism.

Draws come from the operating system, so each test states its false-alarm rate: how often it fails though all
is right. Every statistic is approximately normal at these sample sizes and is accepted within ``LIMIT``
standard deviations: 6.1 give a rate of 1e-9 for each statistic, and below 1e-7 for the whole module.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from client.noisy_sum import NoisyClippedSum
from client.training import LocalOptimizer, StepPlan, Trainee, TrainingBatch, train_privately
from common.privacy.randomness import SystemRandomness

LIMIT = 6.1
COORDINATES = 100_000
POPULATION, RATE, ROUNDS = 1000, 0.1, 1000

Sampler = Callable[[int, float], NDArray[np.int64]]


def noise_of_one_step(plan: StepPlan) -> NDArray[np.float64]:
    """What one step on an empty batch subtracts from the parameters, at learning rate 1."""
    parameters = [nn.Parameter(torch.zeros(COORDINATES // 2, 1)), nn.Parameter(torch.zeros(COORDINATES // 2))]
    noisy = NoisyClippedSum(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        expected_batch_size=plan.expected_batch_size,
        noise=SystemRandomness(),
    )
    noisy.noisy_step()
    return -torch.cat([parameter.detach().flatten() for parameter in parameters]).double().numpy()


def noise_faults(noise: NDArray[np.float64], deviation: float) -> dict[str, float]:
    """Mean, variance and fourth moment in standard deviations from those of N(0, deviation^2), where too far."""
    scaled, count = noise / deviation, len(noise)
    scores = {
        "mean": scaled.mean() * count**0.5,
        "variance": ((scaled**2).mean() - 1) * (count / 2) ** 0.5,
        "fourth moment": ((scaled**4).mean() - 3) * (count / 96) ** 0.5,
        "neighbours": (scaled[:-1] * scaled[1:]).mean() * (count - 1) ** 0.5,
    }
    return {name: float(score) for name, score in scores.items() if abs(score) > LIMIT}


def sampling_faults(draw: Sampler) -> dict[str, float]:
    """What tells batches from independent coins: inclusions, batch sizes, and overlaps of two batches in a row."""
    batches = np.zeros((ROUNDS, POPULATION), dtype=bool)
    for row in batches:
        row[draw(POPULATION, RATE)] = True
    variance = RATE * (1 - RATE)
    inclusions = (batches.sum(axis=0) - ROUNDS * RATE) ** 2 / (ROUNDS * variance)
    sizes = (batches.sum(axis=1) - POPULATION * RATE) ** 2 / (POPULATION * variance)
    pairs = (batches[:-1] & batches[1:]).sum()
    trials, square = (ROUNDS - 1) * POPULATION, RATE**2
    # Overlaps of neighbouring pairs share a batch: covariance q^3 - q^4 between them.
    spread = (trials * square * (1 - square) + 2 * (trials - POPULATION) * (RATE**3 - RATE**4)) ** 0.5
    scores = {
        "rate": (batches.sum() - batches.size * RATE) / (batches.size * variance) ** 0.5,
        "inclusion counts": (inclusions.mean() - 1) * (POPULATION / 2) ** 0.5,
        "batch sizes": (sizes.mean() - 1) * (ROUNDS / 2) ** 0.5,
        "overlaps": (pairs - trials * square) / spread,
    }
    return {name: float(score) for name, score in scores.items() if abs(score) > LIMIT}


class TestNoise:
    """Gaussian noise of a step."""

    @pytest.mark.parametrize(
        "plan", [StepPlan(0.1, 1.3, 1.0, 8.0, 1), StepPlan(0.01, 0.7, 0.05, 128.0, 1), StepPlan(1, 40, 3, 0.5, 1)]
    )
    def test_p12_noise_of_an_empty_batch_has_the_recorded_scale(self, plan: StepPlan) -> None:
        """noise_multiplier * max_grad_norm / expected_batch_size, Gaussian. False alarms: 4e-9 a case."""
        deviation = plan.noise_multiplier * plan.max_grad_norm / plan.expected_batch_size
        assert noise_faults(noise_of_one_step(plan), deviation) == {}

    @pytest.mark.parametrize("factor", [0.97, 1.03])
    def test_p12_a_scale_wrong_by_three_percent_is_rejected(self, factor: float) -> None:
        """Negative control: 13 standard deviations away. Missed once in 1e12."""
        plan = StepPlan(0.1, 1.3 * factor, 1.0, 8.0, 1)
        assert "variance" in noise_faults(noise_of_one_step(plan), 1.3 / 8)

    def test_p12_noise_of_another_kind_is_rejected(self) -> None:
        """Negative control: Laplace noise of the same variance, and noise repeated in pairs."""
        random = np.random.Generator(np.random.PCG64(1))
        assert "fourth moment" in noise_faults(random.laplace(0, 0.5**0.5, COORDINATES), 1.0)
        assert "neighbours" in noise_faults(np.repeat(random.normal(size=COORDINATES // 2), 2), 1.0)

    def test_p13_noise_of_two_rounds_is_uncorrelated(self) -> None:
        """False alarms: 1e-9."""
        plan = StepPlan(0.1, 1.0, 1.0, 1.0, 1)
        first, second = noise_of_one_step(plan), noise_of_one_step(plan)
        assert abs((first * second).mean()) * COORDINATES**0.5 < LIMIT

    def test_p13_noise_of_two_steps_of_a_round_is_uncorrelated(self) -> None:
        """Through the whole loop, with empty batches. False alarms: 4e-9 and 1e-9."""
        steps = [
            self._after(count, SystemRandomness()) for count in (1, 2)
        ]  # each run draws afresh, so the second run's two steps are compared through their variance
        assert noise_faults(steps[0], 0.5) == {}
        assert noise_faults(steps[1], 0.5 * 2**0.5) == {}

    @staticmethod
    def _after(steps: int, randomness: SystemRandomness) -> NDArray[np.float64]:
        network = nn.Linear(COORDINATES, 1, bias=False)
        nn.init.zeros_(network.weight)

        def nothing(indexes: NDArray[np.int64]) -> list[TrainingBatch]:
            assert len(indexes) == 0
            return []

        trainee = Trainee(network, [network.weight], lambda indexes: iter(nothing(indexes)))
        plan = StepPlan(0.1, 2.0, 1.0, 4.0, steps)
        draws = [np.empty(0, np.int64)] * steps
        train_privately(trainee, plan, LocalOptimizer("sgd", 1.0, 0.0, 0.0), draws, randomness)
        return network.weight.detach().flatten().double().numpy()


class TestPoissonSampling:
    """Which units enter a step."""

    def test_p03_batches_are_independent_coins(self) -> None:
        """Inclusions binomial, batch sizes of binomial variance, overlaps as by chance. False alarms: 4e-9."""
        assert sampling_faults(SystemRandomness().poisson_batch) == {}

    def test_p03_a_shuffling_sampler_fails_the_same_test(self) -> None:
        """Negative control: epochs of shuffled batches include everyone equally often, in equal batches."""
        random = np.random.Generator(np.random.PCG64(2))
        queue: list[int] = []

        def shuffled(population: int, rate: float) -> NDArray[np.int64]:
            if not queue:
                queue.extend(random.permutation(population).tolist())
            taken = [queue.pop() for _ in range(round(population * rate))]
            return np.array(taken, dtype=np.int64)

        assert sampling_faults(shuffled).keys() >= {"inclusion counts", "batch sizes", "overlaps"}

    def test_p03_batches_of_fixed_size_fail_the_same_test(self) -> None:
        """Negative control: sampling without replacement, each time anew."""
        random = np.random.Generator(np.random.PCG64(3))
        found = sampling_faults(lambda n, q: random.choice(n, round(n * q), replace=False))
        assert "batch sizes" in found

    def test_p03_a_rate_wrong_by_three_percent_is_rejected(self) -> None:
        """Negative control: the accountant would be told 0.1."""
        randomness = SystemRandomness()
        assert "rate" in sampling_faults(lambda n, q: randomness.poisson_batch(n, 1.03 * q))

    def test_p13_a_sampler_that_repeats_itself_is_rejected(self) -> None:
        """Negative control: every batch drawn twice, as a copied random state would."""
        randomness, kept = SystemRandomness(), []

        def repeating(population: int, rate: float) -> NDArray[np.int64]:
            if kept:
                return kept.pop()
            kept.append(randomness.poisson_batch(population, rate))
            return kept[0]

        assert "overlaps" in sampling_faults(repeating)


def test_the_limit_gives_the_stated_false_alarm_rate() -> None:
    assert 2 * stats.norm.sf(LIMIT) < 1.1e-9
