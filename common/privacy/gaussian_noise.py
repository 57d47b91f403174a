"""Gaussian noise whose low-order bits say nothing: noise and sum meet on one power-of-two grid.

Floating-point noise has gaps and values of uneven probability that depend on the sum it is added to, and an
observer of the exact bits can tell two sums apart by them (Mironov 2012, "On significance of the least
significant bits for differential privacy"; Jin, McMurtry, Rubinstein, Ohrimenko 2022, "Are we there yet?
Timing and floating-point attacks on differential privacy systems"; Haney et al. 2022, "Precision-based
attacks and interval refining"). Here draws of 2^-49 relative error are added and the result is rounded to a
grid 2^8 to 2^9 times finer than their standard deviation (Mironov's rounding, as in his snapping mechanism).
Rounding an exact Gaussian's sum would be mere post-processing; ``docs/decisions/0004`` bounds what is left.

The sum splits without error into a multiple of the grid and a remainder, so the law of ``result - multiple``
depends on the remainder alone, and sums of every size are treated alike. The result is the multiple of the
grid nearest to ``total + noise``; where a float32 sum is more than 2^24 steps large, it is rounded once more
to its type, which stays on the grid.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput, HanseError
from common.privacy.keystream import WordSource

__all__ = [
    "GRID_BITS",
    "LARGEST_DRAW",
    "add_noise",
    "grid_step",
    "standard_normal",
]

GRID_BITS = 8
"""Steps of the grid per standard deviation: from 2^8 up to 2^9. The variance grows by at most
``2^-16 / 12 = 1.3e-6`` of itself; the mean does not move."""

LARGEST_DRAW = math.sqrt(2 * math.log(2) * 129)
"""No draw is larger, in standard deviations (13.37): the smallest uniform is 2^-129. A true Gaussian passes it
with probability 8.5e-41, which over 2.3e10 draws (22.7e6 parameters, 1,000 steps) adds 2e-30 to delta."""

_SMALLEST, _LARGEST = 2.0**-100, 2.0**100
_PAIRS = 2**14  # a chunk's arrays stay in a processor's second-level cache
_EDGE = np.uint64(2**48)
# sin(x) = x + x^3 (S[0] + x^2 (S[1] + ...)) for |x| <= pi/4 within 2^-58 (FreeBSD msun, k_sin.c).
_SINE = (
    -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
    2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip

Real = TypeVar("Real", np.float32, np.float64)


def grid_step(standard_deviation: float) -> float:
    """The power of two that noised sums are multiples of: ``2^(floor(log2 standard_deviation) - GRID_BITS)``.

    Raises:
        BadInput: the standard deviation is not between 2^-100 and 2^100.
    """
    if not _SMALLEST <= standard_deviation <= _LARGEST:
        raise BadInput(
            f"standard_deviation = {standard_deviation}: must be between 2^-100 and 2^100 (8e-31 and 1.2e30)"
        )
    return math.ldexp(1.0, math.frexp(standard_deviation)[1] - 1 - GRID_BITS)


def add_noise(
    total: NDArray[Real], standard_deviation: float, source: WordSource, threads: int = 1
) -> NDArray[Real]:
    """``total`` plus independent N(0, standard_deviation^2), each entry on the grid; a new array.

    Args:
        total: one-dimensional and finite.
        standard_deviation: of the noise, in the units of ``total``.
        source: of the random words; with more than one thread each thread calls it.
        threads: at most so many share the work.

    Raises:
        BadInput: the standard deviation is out of range.
        HanseError: ``total`` holds NaN or an infinity; the message holds no values.
    """
    step = grid_step(standard_deviation)
    if not np.isfinite(total).all():
        raise HanseError("the sum to be noised is not finite; nothing of it is released")
    noised = np.empty_like(total)
    parts = min(threads, math.ceil(len(total) / (2 * _PAIRS)))
    bounds = [len(total) * part // max(parts, 1) for part in range(parts + 1)]

    def work(part: int) -> None:
        inside = slice(bounds[part], bounds[part + 1])
        _add_noise(total[inside], noised[inside], standard_deviation / step, step, source)

    if parts > 1:
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(work, range(parts)))
    elif parts == 1:
        work(0)
    return noised


def standard_normal(count: int, source: WordSource) -> NDArray[np.float64]:
    """Independent N(0, 1), not yet on any grid: for tests and benchmarks, never to be released as they are."""
    drawn = np.empty(count)
    chunk = _Chunk(count, source)
    for start in range(0, count, chunk.size):
        part = drawn[start : start + chunk.size]
        part[:] = chunk.draw(len(part))
    return drawn


def _add_noise(
    total: NDArray[Real], noised: NDArray[Real], deviation: float, step: float, source: WordSource
) -> None:
    # deviation: in steps of the grid. Multiplying and dividing by the step, a power of two, is exact.
    chunk = _Chunk(len(total), source)
    for start in range(0, len(total), chunk.size):
        part = total[start : start + chunk.size]
        draws = chunk.draw(len(part))
        exact, whole = chunk.spare[: len(part)], chunk.other[: len(part)]
        exact[:] = part
        exact *= 1 / step
        np.rint(exact, out=whole)
        exact -= whole  # the remainder, without error
        draws *= deviation
        draws += exact
        np.rint(draws, out=draws)
        draws += whole
        draws *= step
        noised[start : start + chunk.size] = draws


class _Chunk:
    """Draws of N(0, 1) by Box and Muller (1958), in arrays that are used again and again.

    No step depends on a drawn value but for the two ends of the radius (once in 2^15), so the time taken says
    nothing about the noise.
    """

    def __init__(self, count: int, source: WordSource) -> None:
        pairs = min(_PAIRS, (count + 1) // 2)
        self.size = max(2 * pairs, 1)
        self._source = source
        self._words = np.empty(2 * pairs, np.uint64)
        self._flags = np.empty(pairs, np.bool_)
        self._draws = np.empty(2 * pairs)
        self.spare, self.other = np.empty(2 * pairs), np.empty(2 * pairs)

    def draw(self, count: int) -> NDArray[np.float64]:
        """The next ``count`` draws, at most ``size``: valid until the next call, and free to be overwritten."""
        pairs = (count + 1) // 2
        words = self._words[: 2 * pairs]
        self._source.fill(words)
        radius = self.spare[:pairs]
        self._log_uniform(words[:pairs], radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        draws = self._draws[: 2 * pairs]
        self._direction(words[pairs:], draws[:pairs], draws[pairs:])
        draws[:pairs] *= radius
        draws[pairs:] *= radius
        return draws[:count]

    def _log_uniform(self, bits: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
        # ln u for u = bits / 2^64. Within 2^-16 of 0 or of 1, where 64 bits are coarse, 64 more are drawn.
        np.multiply(bits, 2.0**-64, out=out)
        shifted, flags = self.other.view(np.uint64)[: len(bits)], self._flags[: len(bits)]
        np.add(bits, _EDGE, out=shifted)  # modulo 2^64: both ends come to lie below 2^49
        np.less(shifted, 2 * _EDGE, out=flags)
        ends = np.flatnonzero(flags)
        out[ends] = 0.5
        np.log(out, out=out)
        if len(ends):
            out[ends] = self._log_at_the_ends(bits[ends])

    def _log_at_the_ends(self, bits: NDArray[np.uint64]) -> NDArray[np.float64]:
        more = np.empty_like(bits)
        self._source.fill(more)
        low = bits < _EDGE
        # The distance from the nearer end, at least 2^-129: log and log1p of it are exact to a few 2^-53.
        distance = (np.where(low, bits, ~bits) + (more + 0.5) * 2.0**-64) * 2.0**-64
        logarithm: NDArray[np.float64] = np.where(low, np.log(distance), np.log1p(-distance))
        return logarithm

    def _direction(self, bits: NDArray[np.uint64], sine: NDArray[np.float64], cosine: NDArray[np.float64]) -> None:
        # The upper 53 bits are an angle of up to pi/4; doubled, a right angle; the lowest is the cosine's sign.
        pairs = len(bits)
        whole, square = self.other.view(np.int64)[:pairs], self.other[pairs : 2 * pairs]
        signed = bits.view(np.int64)
        np.right_shift(signed, 11, out=whole)
        np.multiply(whole, math.pi / 4 * 2.0**-52, out=cosine)
        np.multiply(cosine, cosine, out=square)
        np.multiply(square, _SINE[-1], out=sine)
        for coefficient in reversed(_SINE[:-1]):
            sine += coefficient
            sine *= square
        sine *= cosine
        sine += cosine
        np.multiply(sine, sine, out=square)
        np.subtract(1.0, square, out=cosine)
        np.sqrt(cosine, out=cosine)
        sine *= cosine
        sine *= 2.0  # sin 2x = 2 sin x cos x
        np.multiply(square, -2.0, out=cosine)
        cosine += 1.0  # cos 2x = 1 - 2 sin^2 x, at least 0
        np.left_shift(signed, 63, out=whole)
        np.bitwise_xor(cosine.view(np.int64), whole, out=cosine.view(np.int64))
