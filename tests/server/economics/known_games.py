"""Games whose values are known, from ECONOMICS section 1 and from counting by hand."""

from __future__ import annotations

from hypothesis import strategies as st

from server.economics.games import Coalition, Game

SIZES = (500, 1000, 2000, 4000, 8000, 4000)
MISLABELLED = 5


def glove(coalition: Coalition) -> float:
    """Worth 1 with site 0 and one of the others."""
    return float("0" in coalition and len(coalition) > 1)


def synergy(coalition: Coalition) -> float:
    """10, 20, 30, 40 on their own; some pairs and a triple are worth more or less together."""
    return (
        sum(10.0 * (int(site) + 1) for site in coalition)
        + 12 * (coalition >= {"0", "1"})
        - 8 * (coalition >= {"2", "3"})
        + 6 * (coalition >= {"0", "1", "2"})
    )


def federated(coalition: Coalition) -> float:
    """Six sites that learn with diminishing returns; the last has shuffled labels."""
    sites = {int(site) for site in coalition}
    good = sum(SIZES[site] for site in sites if site != MISLABELLED)
    bad = SIZES[MISLABELLED] / sum(SIZES[site] for site in sites) if MISLABELLED in sites else 0.0
    return 0.5 + 0.4 * (1 - (1 + good / 1000) ** -0.5) - 0.06 * bad


TWELVE = "abcdefghijkl"


def twelve(coalition: Coalition) -> float:
    """Twelve sites of 500, 1000, ... 6000 examples, none bad."""
    examples = sum(500 * (TWELVE.index(site) + 1) for site in coalition)
    return 0.5 + 0.4 * (1 - (1 + examples / 1000) ** -0.5)


KNOWN = {"glove": ("012", glove), "synergy": ("0123", synergy), "federated": ("012345", federated)}


def known(name: str) -> Game:
    """A fresh game, nothing evaluated."""
    sites, utility = KNOWN[name]
    return Game(sites, utility)


@st.composite
def tables(draw: st.DrawFn, sites: str | None = None) -> tuple[str, list[float]]:
    """Names of up to five sites and a worth for every subset, by bit mask."""
    names = sites or "abcde"[: draw(st.integers(1, 5))]
    worth = st.floats(-1000, 1000, allow_subnormal=False)
    size = 2 ** len(names)
    return names, draw(st.lists(worth, min_size=size, max_size=size))


def tabled(names: str, worth: list[float]) -> Game:
    """The game with that worth for every subset."""
    return Game(names, lambda coalition: worth[sum(1 << names.index(site) for site in coalition)])
