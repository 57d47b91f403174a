"""From clipped sums to the optimizer's step: noise at the declared scale, once (P12)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from client.noisy_sum import NoisyClippedSum
from common.errors import HanseError
from common.privacy.gaussian_noise import grid_step
from common.privacy.randomness import SeededRandomness, SystemRandomness

SHAPES = ((3, 2), (5,), (1,))


def clipper(max_grad_norm: float = 1.0, noise_multiplier: float = 0.0, **options: float) -> NoisyClippedSum:
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    return NoisyClippedSum(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=noise_multiplier,
        max_grad_norm=max_grad_norm,
        expected_batch_size=options.get("expected_batch_size", 1.0),
        noise=SeededRandomness(1),
    )


def add(noisy: NoisyClippedSum, total: float) -> None:
    """Add ``total`` to every entry of the sum, as a physical batch does."""
    for parameter in noisy.params:
        more = torch.full_like(parameter, total)
        parameter.summed_grad = more if parameter.summed_grad is None else parameter.summed_grad + more


class TestNoisyStep:
    """From the sum to the optimizer."""

    def test_the_expected_batch_size_divides_whatever_came(self) -> None:
        for count in (1, 3):
            noisy = clipper(expected_batch_size=4.0)
            add(noisy, count * 0.1)
            noisy.noisy_step()
            assert torch.allclose(noisy.params[1].detach(), torch.full((5,), -0.1 * count / 4))

    def test_nothing_is_carried_into_the_next_step(self) -> None:
        noisy = clipper()
        add(noisy, 1 * 0.1)
        noisy.noisy_step()
        before = [parameter.detach().clone() for parameter in noisy.params]
        noisy.noisy_step()  # an empty batch
        assert all(torch.equal(one, two) for one, two in zip(before, noisy.params, strict=True))

    def test_p12_every_sum_is_noised_once_at_the_declared_scale(self) -> None:
        """One call of the source for each parameter and step, with sigma C, whatever the physical batches."""
        asked: list[tuple[torch.Size, float]] = []

        class Recording(SystemRandomness):
            def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
                asked.append((total.shape, standard_deviation))
                return super().noisy_sum(total, standard_deviation)

        noisy = clipper(max_grad_norm=0.5, noise_multiplier=3.0)
        noisy._noise_source = Recording()
        for _ in range(3):
            add(noisy, 2 * 0.1)
        noisy.noisy_step()
        assert asked == [(torch.Size(shape), 1.5) for shape in SHAPES]

    def test_p12_a_sum_is_never_noised_twice(self) -> None:
        noisy = clipper(noise_multiplier=1.0)
        add(noisy, 1 * 0.1)
        noisy.add_noise()
        with pytest.raises(HanseError, match="each is noised once"):
            noisy.add_noise()

    def test_p12_noisy_gradients_lie_on_the_grid(self) -> None:
        noisy = clipper(noise_multiplier=1.7)
        add(noisy, 3 * 0.1234)
        noisy.add_noise()
        for parameter in noisy.params:
            steps = parameter.grad.double() / grid_step(1.7)
            assert torch.equal(steps, steps.round())

    def test_every_step_draws_new_noise(self) -> None:
        noisy = clipper(noise_multiplier=1.0)
        noisy.noisy_step()
        first = noisy.params[0].detach().clone()
        noisy.noisy_step()
        assert not torch.allclose(noisy.params[0].detach() - first, first)

    def test_fedprox_pulls_towards_the_start_of_the_round(self) -> None:
        """An empty batch without noise moves by ``- rate * mu * (w - start)`` (Li et al. 2020, eq. 2)."""
        noisy = clipper()
        start = [torch.full_like(parameter, 3.0) for parameter in noisy.params]
        with torch.no_grad():
            for parameter in noisy.params:
                parameter.fill_(1.0)
        noisy.noisy_step(pull=0.25, towards=start)
        for parameter in noisy.params:
            assert torch.allclose(parameter.detach(), torch.full_like(parameter, 1.0 - 0.25 * (1.0 - 3.0)))
