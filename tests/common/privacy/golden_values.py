"""Golden values for privacy accounting, computed once by code that shares nothing with Hanse.

Sources: dp_accounting 0.6.0 (PLD, interval 1e-4), an independent FFT of mean-matched cells ("own PLD"),
Opacus 1.6.0 (RDP with the orders of ``common.privacy.rdp``; PRV with eps_error 0.01, delta_error delta/1000).
Adjacency is add or remove one unit. They are literals on purpose: never regenerate them with the code under
test.
"""

from __future__ import annotations

from typing import NamedTuple

from common.privacy.mechanism import Composition, Gaussian, Laplace, Mechanism, SampledGaussian


class Row(NamedTuple):
    """One phase and what five accountants say about it (five significant digits)."""

    name: str
    sample_rate: float
    noise: float
    steps: int
    delta: float
    pld: float
    own_pld: float
    rdp: float
    rdp_order: float | None
    prv_estimate: float
    prv_upper: float

    @property
    def mechanism(self) -> SampledGaussian:
        """The phase as a mechanism."""
        return SampledGaussian(self.sample_rate, self.noise, self.steps)


ROWS = (
    Row("S01", 1, 1, 1, 1e-5, 4.3772, 4.3772, 4.7285, 5.4, 4.3772, 4.3874),
    Row("S02", 1, 4, 16, 1e-6, 4.8866, 4.8866, 5.2215, 5.9, 4.8866, 4.8968),
    Row("S03", 0.01, 1, 1000, 1e-5, 1.8282, 1.8282, 2.1014, 7.8, 1.8282, 1.8384),
    Row("S04", 256 / 60000, 1.1, 14062, 1e-5, 2.3817, 2.3816, 2.5966, 8.1, 2.3816, 2.3917),
    Row("S05", 0.04, 0.8, 125, 1e-5, 5.1181, 5.1181, 5.9619, 3.4, 5.1181, 5.1285),
    Row("S06", 0.001, 0.6, 10000, 1e-6, 3.1522, 3.1522, 3.9991, 4.4, 3.1522, 3.1625),
    Row("S07", 0.0005, 0.8, 100000, 1e-7, 1.5321, 1.5321, 2.1191, 8.9, 1.5321, 1.5421),
    Row("S08", 0.25, 2, 100, 1e-5, 6.4492, 6.4492, 7.0334, 3.9, 6.4492, 6.4595),
    Row("S09", 0.5, 5, 500, 1e-6, 12.789, 12.789, 13.597, 3.2, 12.789, 12.799),
    Row("S10", 0.9, 1, 10, 1e-5, 16.525, 16.525, 17.719, 2.5, 16.525, 16.536),
    Row("S11", 0.02, 0.5, 200, 1e-5, 12.204, 12.204, 14.352, 2.1, 12.204, 12.215),
    Row("S12", 0.01, 0.3, 10, 1e-5, 14.828, 14.828, 18.429, 1.7, 14.828, 14.839),
    Row("S13", 0.05, 20, 1000, 1e-6, 0.30990, 0.30986, 0.33633, 57, 0.30987, 0.31989),
)

_A = SampledGaussian(0.01, 1.0, 1000)
_B = SampledGaussian(0.04, 0.8, 125)
_C = SampledGaussian(0.02, 1.5, 400)


class Mixed(NamedTuple):
    """A heterogeneous composition at delta 1e-5: PLD, RDP, PRV estimate and upper (None: inexpressible)."""

    name: str
    parts: tuple[Mechanism, ...]
    pld: float
    rdp: float
    prv: tuple[float, float] | None


MIXED = (
    Mixed("H1", (_A, _B), 5.4255, 6.2652, (5.4255, 5.4359)),
    Mixed("H2", (_A, _B, _C), 5.5814, 6.4202, (5.5814, 5.5919)),
    Mixed("H3", (_A, Gaussian(5, 1)), 1.9925, 2.2560, (1.9925, 2.0026)),
    Mixed("H4", (_A, Laplace(2, 1)), 2.2439, 2.5087, None),
    Mixed("H5", (_A, _B, Gaussian(5, 1), Laplace(20, 10)), 5.5359, 6.3776, None),
    Mixed("H6", (SampledGaussian(0.01, 1.0, 100),) * 10, 1.8282, 2.1014, (1.8282, 1.8384)),
    Mixed(
        "H7",
        tuple(SampledGaussian(0.02, noise, 300) for noise in (1.2, 1.0, 0.8)),
        4.5300,
        5.1885,
        (4.5300, 4.5403),
    ),
)


class Calibrated(NamedTuple):
    """Smallest noise for a budget by PLD, RDP, dp_accounting's looser RDP, and PLD's epsilon at the last."""

    epsilon: float
    delta: float
    sample_rate: float
    steps: int
    by_pld: float
    by_rdp: float
    by_loose_rdp: float
    pld_at_loose_rdp: float


CALIBRATED = (
    Calibrated(1, 1e-5, 0.01, 1000, 1.4146, 1.5131, 1.5131, 0.9061),
    Calibrated(8, 1e-5, 0.04, 125, 0.66772, 0.70939, 0.70961, 6.8661),
    Calibrated(3, 1e-6, 0.001, 10000, 0.60748, 0.65645, 0.65645, 2.1717),
    Calibrated(2, 1e-5, 1, 20, 8.9166, 9.6111, 9.6111, 1.8395),
)


def whole(mixed: Mixed) -> Composition:
    """Composition that a row describes."""
    return Composition(mixed.parts)
