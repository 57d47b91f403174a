"""Where randomness comes from: the operating system in a private run, a seed in one that is not.

The two are different types, so that a seeded source cannot slip into a private run (PRIVACY P13). Poisson
sampling of a private run draws from the operating system's generator. Its Gaussian noise comes, for now, from
torch's generator keyed from the operating system: not a cryptographic generator, and results say so.
"""

from __future__ import annotations

import hashlib
import os
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput

__all__ = ["Randomness", "SeededRandomness", "SystemRandomness"]


class Randomness(Protocol):
    """Draws Poisson batches and noise."""

    private: ClassVar[bool]
    """Whether draws are secret and never repeat."""

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        """Each of ``population`` units independently with probability ``sample_rate``: sorted indexes."""
        ...

    def noise_generator(self, device: torch.device) -> torch.Generator:
        """A torch generator on ``device`` for Gaussian noise."""
        ...


class SystemRandomness:
    """The operating system's generator: secret, never repeated, and so never reproducible."""

    private: ClassVar[bool] = True

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        """See :class:`Randomness`; 64 random bits decide about each unit."""
        bits = np.frombuffer(os.urandom(8 * population), dtype=np.uint64)
        return _below(bits, sample_rate)

    def noise_generator(self, device: torch.device) -> torch.Generator:
        """See :class:`Randomness`; a new generator, keyed anew, at every call."""
        generator = torch.Generator(device=device)
        generator.manual_seed(int.from_bytes(os.urandom(8), "little", signed=True))
        return generator


class SeededRandomness:
    """Reproducible draws from public integers. Never private: whoever knows the seed knows the draws."""

    private: ClassVar[bool] = False

    def __init__(self, *parts: int) -> None:
        """Key the source by ``parts``, such as the study's seed, the site and the round."""
        digest = hashlib.sha256(",".join(str(part) for part in parts).encode()).digest()
        self._seed = int.from_bytes(digest[:8], "little", signed=True)
        self._numpy = np.random.Generator(np.random.PCG64(int.from_bytes(digest[8:24], "little")))

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        """See :class:`Randomness`."""
        bits = self._numpy.integers(0, 2**64, size=population, dtype=np.uint64)
        return _below(bits, sample_rate)

    def noise_generator(self, device: torch.device) -> torch.Generator:
        """See :class:`Randomness`; the same generator state at every call."""
        generator = torch.Generator(device=device)
        generator.manual_seed(self._seed)
        return generator


def _below(bits: NDArray[np.uint64], sample_rate: float) -> NDArray[np.int64]:
    if not 0 <= sample_rate <= 1:
        raise BadInput(f"sample_rate = {sample_rate}: must be between 0 and 1")
    if sample_rate == 1:
        return np.arange(len(bits), dtype=np.int64)
    # Rounding the threshold down keeps the true rate at or below the accounted one.
    threshold = np.uint64(int(sample_rate * 2.0**64))
    return np.flatnonzero(bits < threshold).astype(np.int64)
