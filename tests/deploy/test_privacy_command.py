"""`hanse privacy`: the figure first, by accountants that are tested elsewhere; here options reach them unmixed.

Golden values are those of the accounting tables (tests/common/privacy/golden_values.py), computed once by
dp_accounting 0.6.0 and Opacus 1.6.0; five significant digits, so that 1e-4 relative is what they can say.
"""

from __future__ import annotations

import json

import pytest

from common.privacy.accounting import epsilon, filter_cap, rdp_at_order
from common.privacy.mechanism import Composition, SampledGaussian, from_json
from tests.common.privacy.golden_values import ROWS, Row
from tests.deploy.running import Ended, Hanse, assert_one_line, runner

QUICK = [row for row in ROWS if row.name in {"S01", "S03", "S05"}]
S05 = ("--sample-rate", "0.04", "--noise-multiplier", "0.8", "--steps", "125")
TWO_PHASES = ("--sample-rate", "0.01", "--steps", "1000", "--sample-rate", "0.04", "--steps", "125")


@pytest.fixture
def hanse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hanse:
    """Runs a command."""
    return runner(monkeypatch, capsys)


def first_figure(ended: Ended) -> float:
    assert (ended.code, ended.err) == (0, "")
    figure, meaning = ended.out.splitlines()
    assert "per unit added or removed" in meaning
    return float(figure)


def options(row: Row) -> tuple[str, ...]:
    return (
        *("--sample-rate", str(row.sample_rate), "--noise-multiplier", str(row.noise)),
        *("--steps", str(row.steps)),
    )


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_golden_epsilon_by_pld_and_rdp(hanse: Hanse, row: Row) -> None:
    by_pld = hanse("privacy", "epsilon", *options(row), "--delta", str(row.delta))
    assert first_figure(by_pld) == pytest.approx(row.pld, rel=1e-4)
    by_rdp = hanse("privacy", "epsilon", *options(row), "--delta", str(row.delta), "--accountant", "rdp")
    assert first_figure(by_rdp) == pytest.approx(row.rdp, rel=1e-4)


def test_golden_epsilon_by_prv(hanse: Hanse) -> None:
    ended = hanse("privacy", "epsilon", *S05, "--delta", "1e-5", "--accountant", "prv")
    assert first_figure(ended) == pytest.approx(5.1285, rel=1e-4)


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_delta_at_the_golden_epsilon_is_the_golden_delta(hanse: Hanse, row: Row) -> None:
    found = first_figure(hanse("privacy", "delta", "--epsilon", str(row.pld), *options(row)))
    assert found == pytest.approx(row.delta, rel=2e-3)  # five digits of epsilon say no more


def test_phases_compose_each_with_its_own_steps_and_noise(hanse: Hanse) -> None:
    """H1 of the tables: A then B."""
    ended = hanse(
        *("privacy", "epsilon", *TWO_PHASES, "--noise-multiplier", "1", "--noise-multiplier", "0.8"),
        *("--delta", "1e-5", "--json"),
    )
    found = json.loads(ended.out)
    assert found["epsilon"] == pytest.approx(5.4255, rel=1e-4)
    parts = (SampledGaussian(0.01, 1.0, 1000), SampledGaussian(0.04, 0.8, 125))
    assert from_json(found["mechanism"]) == Composition(parts)


def test_one_noise_multiplier_is_that_of_every_phase(hanse: Hanse) -> None:
    found = first_figure(hanse("privacy", "epsilon", *TWO_PHASES, "--noise-multiplier", "1", "--delta", "1e-5"))
    parts = (SampledGaussian(0.01, 1.0, 1000), SampledGaussian(0.04, 1.0, 125))
    assert found == pytest.approx(epsilon(Composition(parts), 1e-5), rel=1e-5)


def test_what_is_printed_is_never_below_what_was_computed(hanse: Hanse) -> None:
    """Rounded up at the sixth digit: an epsilon or a noise multiplier may not be too small."""
    for arguments, key in (
        (("privacy", "epsilon", *S05, "--delta", "1e-5"), "epsilon"),
        (("privacy", "delta", *S05, "--epsilon", "5"), "delta"),
        (("privacy", "noise", "--epsilon", "8", *S05[:2], *S05[4:], "--delta", "1e-5"), "noise_multiplier"),
    ):
        exact = json.loads(hanse(*arguments, "--json").out)[key]
        assert exact <= first_figure(hanse(*arguments)) <= exact * (1 + 1e-5)


@pytest.mark.parametrize(("accountant", "golden"), [("pld", 0.66772), ("rdp", 0.70939)])
def test_golden_noise_keeps_within_epsilon_and_wastes_nothing(
    hanse: Hanse, accountant: str, golden: float
) -> None:
    """The calibration table: epsilon 8, delta 1e-5, q 0.04, 125 steps; 2e-4 relative."""
    phase = (*S05[:2], *S05[4:], "--delta", "1e-5", "--accountant", accountant)
    noise = first_figure(hanse("privacy", "noise", "--epsilon", "8", *phase))
    assert noise == pytest.approx(golden, rel=2e-4)
    at = (*phase, "--noise-multiplier", str(noise))
    assert json.loads(hanse("privacy", "epsilon", *at, "--json").out)["epsilon"] <= 8


def test_noise_for_a_filter_fits_its_cap(hanse: Hanse) -> None:
    phase = (*S05[:2], *S05[4:], "--delta", "1e-5", "--accountant", "rdp", "--order", "6")
    found = json.loads(hanse("privacy", "noise", "--epsilon", "3", *phase, "--json").out)
    assert found["order"] == 6
    cost = rdp_at_order(SampledGaussian(0.04, found["noise_multiplier"], 125), 6)
    assert 0.999 * filter_cap(3, 1e-5, 6) < cost <= filter_cap(3, 1e-5, 6)


def test_no_noise_is_infinity(hanse: Hanse) -> None:
    asked = ("privacy", "epsilon", *S05[:2], "--noise-multiplier", "0", *S05[4:], "--delta", "1e-5")
    assert hanse(*asked).out.splitlines()[0] == "infinity"
    assert json.loads(hanse(*asked, "--json").out)["epsilon"] is None


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--sample-rate", "1.5", "--sample-rate 1.5: must be above 0 and at most 1"),
        ("--sample-rate", "0", "--sample-rate 0: must be above 0 and at most 1"),
        ("--sample-rate", "nan", "--sample-rate nan: must be above 0 and at most 1"),
        ("--noise-multiplier", "-1", "--noise-multiplier -1: must be from 0 to 1e+06"),
        ("--noise-multiplier", "inf", "--noise-multiplier inf: must be from 0 to 1e+06"),
        ("--steps", "0", "--steps 0: must be from 1 to 1000000000"),
        ("--delta", "1", "--delta 1: must be at least 1e-12 and below 1"),
        ("--delta", "nan", "--delta nan: must be at least 1e-12 and below 1"),
        ("--accountant", "gdp", "--accountant gdp: must be pld or rdp or prv; gdp is no upper bound"),
    ],
)
def test_out_of_range_names_option_and_value(hanse: Hanse, option: str, value: str, said: str) -> None:
    given = {"--sample-rate": "0.04", "--noise-multiplier": "0.8", "--steps": "125", "--delta": "1e-5"}
    arguments = [part for pair in (given | {option: value}).items() for part in pair]
    assert_one_line(hanse("privacy", "epsilon", *arguments), 2, said)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--epsilon", "0"), "--epsilon 0: must be from 1e-06 to 10000"),
        (
            ("--epsilon", "8", "--accountant", "prv"),
            "--accountant prv: must be pld or rdp; PRV is a second",
        ),
        (("--epsilon", "8", "--order", "4"), "--order 4: belongs to a filter; add --accountant rdp"),
        (("--epsilon", "8", "--order", "1", "--accountant", "rdp"), "--order 1: must be from 2 to 1024"),
        (("--epsilon", "8", "--order", "2", "--accountant", "rdp"), "--order 2: grants nothing"),
    ],
)
def test_noise_that_cannot_be_found(hanse: Hanse, more: tuple[str, ...], said: str) -> None:
    assert_one_line(hanse("privacy", "noise", *S05[:2], *S05[4:], "--delta", "1e-5", *more), 2, said)


def test_phases_that_do_not_match(hanse: Hanse) -> None:
    fewer = hanse("privacy", "epsilon", *S05, "--sample-rate", "0.1", "--delta", "1e-5")
    assert_one_line(fewer, 2, "--steps: 1 given for 2 of --sample-rate")
    noises = [part for _ in range(3) for part in ("--noise-multiplier", "1")]
    more = hanse("privacy", "epsilon", *TWO_PHASES, *noises, "--delta", "1e-5")
    assert_one_line(more, 2, "--noise-multiplier: 3 given for 2 phases")
