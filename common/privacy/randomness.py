"""Where randomness comes from: a cipher keyed by the operating system in a private run, a seed in one that is not.

The two are different types, so that a seeded source cannot slip into a private run (PRIVACY P13). In a private
run Poisson sampling and Gaussian noise draw from the same :class:`~common.privacy.keystream.Keystream`. Noised
sums lie on a grid, whose step depends on the standard deviation alone (``gaussian_noise.py``).
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, Never, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import BadInput
from common.privacy.gaussian_noise import add_noise
from common.privacy.keystream import Keystream, WordSource

__all__ = ["NoiseSource", "Randomness", "SeededRandomness", "SystemRandomness"]


class NoiseSource(Protocol):
    """Adds Gaussian noise to sums."""

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        """``total`` plus independent Gaussian noise of mean 0, on the grid of ``standard_deviation``.

        A new tensor of the same shape, type and device; what is drawn is never drawn again. A standard deviation
        of 0 returns a copy of ``total``, which is not private.

        Args:
            total: any shape, finite, float32 or float64; drawn and rounded on the CPU wherever it lies.
            standard_deviation: of the noise, in the units of ``total``: 0, or between 2^-100 and 2^100.

        Raises:
            BadInput: the standard deviation or the type is not one of these.
            HanseError: ``total`` is not finite.
        """
        ...


class Randomness(NoiseSource, Protocol):
    """Draws Poisson batches and noise."""

    private: ClassVar[bool]
    """Whether draws are secret and never repeat."""

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        """Each of ``population`` units independently with probability ``sample_rate``: sorted indexes."""
        ...


class SystemRandomness:
    """A cipher keyed by the operating system: secret, never repeated, and so never reproducible.

    Each object, process and thread has a stream of its own, also after a fork. It cannot be copied or pickled.
    """

    private: ClassVar[bool] = True
    __slots__ = ("_stream",)

    def __init__(self) -> None:
        """Open a stream of its own."""
        self._stream = Keystream()

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        """See :class:`Randomness`; 64 random bits decide about each unit."""
        return _below(self._stream.words(population), sample_rate)

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        """See :class:`NoiseSource`; large sums use as many threads as torch does."""
        return _noisy_sum(total, standard_deviation, self._stream, torch.get_num_threads())

    def __reduce_ex__(self, protocol: object) -> Never:
        """Refuse: a copy would share or repeat the stream (PRIVACY P13).

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "SystemRandomness cannot be copied, pickled or saved: its draws must never repeat; make a new one"
        )


class SeededRandomness:
    """Reproducible draws from public integers. Never private: whoever knows the seed knows the draws."""

    private: ClassVar[bool] = False

    def __init__(self, *parts: int) -> None:
        """Key the source by ``parts``, such as the study's seed, the site and the round."""
        text = ",".join(str(part) for part in parts)
        digest = hashlib.sha256(text.encode()).digest()
        self._numpy = np.random.Generator(np.random.PCG64(int.from_bytes(digest[8:24], "little")))
        self._noise = _SeededWords(hashlib.sha256(f"noise,{text}".encode()).digest())

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        """See :class:`Randomness`."""
        bits = self._numpy.integers(0, 2**64, size=population, dtype=np.uint64)
        return _below(bits, sample_rate)

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        """See :class:`NoiseSource`; the same sequence of sums receives the same noise."""
        return _noisy_sum(total, standard_deviation, self._noise, 1)


class _SeededWords:
    """PCG64's words, in the order of a single thread."""

    def __init__(self, key: bytes) -> None:
        self._bits = np.random.PCG64(int.from_bytes(key, "little"))

    def fill(self, words: NDArray[np.uint64]) -> None:
        words[:] = self._bits.random_raw(len(words))


def _noisy_sum(total: torch.Tensor, standard_deviation: float, source: WordSource, threads: int) -> torch.Tensor:
    if total.dtype not in (torch.float32, torch.float64):
        raise BadInput(f"a sum of type {total.dtype}: must be float32 or float64 to be noised")
    if standard_deviation == 0:
        return total.detach().clone()
    flat = total.detach().reshape(-1).cpu().numpy()
    noised = torch.from_numpy(add_noise(flat, standard_deviation, source, threads))
    return noised.view(total.shape).to(total.device)


def _below(bits: NDArray[np.uint64], sample_rate: float) -> NDArray[np.int64]:
    if not 0 <= sample_rate <= 1:
        raise BadInput(f"sample_rate = {sample_rate}: must be between 0 and 1")
    if sample_rate == 1:
        return np.arange(len(bits), dtype=np.int64)
    # Rounding the threshold down keeps the true rate at or below the accounted one.
    threshold = np.uint64(int(sample_rate * 2.0**64))
    return np.flatnonzero(bits < threshold).astype(np.int64)
