"""Signs of copying, riding and harm show where they are, and not on honest sites. Rounds are made by a formula.

Honest sites: each round's change is a common direction plus the site's own lasting part plus batch noise; a
quarter of a site's examples is drawn in a round, so the noise's square is four times that of the lasting part.
"""

from __future__ import annotations

import numpy as np
import pytest

from common.weights import Weights
from server.economics.contribution import Contribution
from server.economics.reconstruction import KeptRound
from server.economics.signs import Draws, Sign, Signal, signals, sketch

SIZE, ROUNDS = 400, 12
SITES = ("a", "b", "c", "d", "e")
DRAWS = Draws(250.0, dict.fromkeys(SITES, 1000))


def rounds_of(seed: int, noise: float = 0.4, tamper: str = "", size: int = SIZE) -> list[KeptRound]:
    """Rounds of five sites; ``tamper`` says what the last one does."""
    chooser = np.random.default_rng(seed)
    common = chooser.normal(size=size) / size**0.5
    own = {site: 0.2 * chooser.normal(size=size) / size**0.5 for site in SITES}
    if tamper == "copy":
        own["e"] = own["d"]
    start, found, last = np.zeros(size), [], common
    for number in range(1, ROUNDS + 1):
        pull = common + 0.3 * chooser.normal(size=size) / size**0.5
        changes = {s: pull + own[s] + noise * chooser.normal(size=size) / size**0.5 for s in SITES}
        if tamper == "still":
            changes["e"] = np.zeros(size)
        if tamper == "echo":
            changes["e"] = last
        if tamper == "random":
            changes["e"] = chooser.normal(size=size) / size**0.5
        if tamper == "against":
            changes["e"] = -changes["e"]
        updates: dict[str, Weights] = {
            s: {"w": np.asarray(start + change, np.float32)} for s, change in changes.items()
        }
        found.append(KeptRound(number, {"w": np.asarray(start, np.float32)}, updates, dict.fromkeys(SITES, 0.2)))
        last = np.mean(list(changes.values()), axis=0)
        start = start + last
    return found


def worth(
    site: str, by_round: tuple[float, ...] = (0.1, 0.1, 0.1), half_width: float | None = None
) -> Contribution:
    """A site's value."""
    return Contribution(site, sum(by_round), half_width, None, 0.0, 0.0, by_round, len(by_round))


def signs_of(rounds: list[KeptRound], *contributions: Contribution) -> tuple[list[Signal], bool]:
    """The signs of rounds."""
    return signals([sketch(each) for each in rounds], contributions, DRAWS)


@pytest.mark.parametrize("seed", range(20))
def test_honest_sites_show_nothing(seed: int) -> None:
    assert signs_of(rounds_of(seed), *map(worth, SITES)) == ([], True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("tamper", "sign"),
    [("still", Sign.NO_CHANGE), ("echo", Sign.ECHO), ("random", Sign.UNLIKE), ("against", Sign.UNLIKE)],
)
def test_what_the_last_site_does_is_seen_there_alone(seed: int, tamper: str, sign: Sign) -> None:
    found, _ = signs_of(rounds_of(seed, tamper=tamper), *map(worth, SITES))
    assert [(each.site, each.sign) for each in found if each.sign is not Sign.SAME_DATA] == [("e", sign)]


@pytest.mark.parametrize("seed", range(10))
def test_copied_data_shows_at_both_names_and_nowhere_else(seed: int) -> None:
    found, told_apart = signs_of(rounds_of(seed, tamper="copy"))
    assert told_apart
    assert {(each.site, each.sign, each.with_site) for each in found} == {
        ("d", Sign.SAME_DATA, "e"),
        ("e", Sign.SAME_DATA, "d"),
    }


@pytest.mark.parametrize("seed", range(5))
def test_under_noise_no_copy_is_claimed_or_denied(seed: int) -> None:
    """DP noise would pass for the sampling of batches, so that honest sites would look like copies."""
    rounds = [sketch(each) for each in rounds_of(seed, noise=30.0)]
    assert signals(rounds, [worth(site) for site in SITES], None) == ([], False)


def test_a_site_that_harms_beyond_its_interval_is_named() -> None:
    rounds = rounds_of(0)
    found, _ = signs_of(rounds, worth("a", (-0.1, -0.1, 0.05)), worth("b", (-0.3, 0.1, 0.1)), worth("c"))
    assert [(each.site, each.sign) for each in found] == [("a", Sign.HARMS)]
    assert signs_of(rounds, worth("a", (-0.1, -0.1, 0.05), half_width=0.2))[0] == []


def test_large_models_are_sketched_and_inner_products_nearly_kept() -> None:
    rounds = rounds_of(3, size=200_000)
    small = sketch(rounds[0])
    exact = {s: np.asarray(u["w"], np.float64) - rounds[0].start["w"] for s, u in rounds[0].updates.items()}
    assert small.start.size == 1 << 16
    for one in SITES:
        for other in SITES:
            scale = np.linalg.norm(exact[one]) * np.linalg.norm(exact[other])
            error = abs(small.changes[one] @ small.changes[other] - exact[one] @ exact[other]) / scale
            assert error < 0.03  # 6 standard errors of 2^-8
    found, _ = signals([sketch(each) for each in rounds_of(3, size=200_000, tamper="echo")], (), DRAWS)
    assert [(each.site, each.sign) for each in found if each.sign is not Sign.SAME_DATA] == [("e", Sign.ECHO)]


def test_few_rounds_say_nothing_of_copies() -> None:
    _, told_apart = signs_of(rounds_of(0)[:3])
    assert not told_apart
    assert signs_of([]) == ([], False)
