"""Contributions to a whole run, as the sum over its rounds (multi-round reconstruction; Song et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from common.errors import BadInput
from server.economics.games import Game
from server.economics.sampling import Estimate
from server.economics.shapley import Contributions

__all__ = ["BETWEEN_ROUNDS", "RunContributions", "contributions_of_run", "total_estimate"]

BETWEEN_ROUNDS = 0.001
"""A round that moved the utility by no more than this pays nobody. The authors' code has 0.01, which loses
money."""


@dataclass(frozen=True)
class RunContributions:
    """What each site added over all rounds."""

    values: Contributions
    by_round: tuple[Contributions, ...]
    """In the order of the rounds; all zeros where the round was skipped."""
    skipped: tuple[int, ...]
    """Positions of the rounds that moved too little; two evaluations each."""
    lost: float
    """Gain of the skipped rounds, which no site gets."""


def contributions_of_run(
    rounds: Iterable[Game], value: Callable[[Game], Contributions], between_rounds: float = BETWEEN_ROUNDS
) -> RunContributions:
    """Sum a value over the rounds' games, each with v(S) = utility of the model after the round by S.

    If every game's v(nobody) is the utility of the round before and the value is efficient, then the values and
    ``lost`` sum to what the run gained. A site absent from a round should be a player of its game all the same: it
    gets 0 there, so sites that are alike but not always present are paid unlike.

    Args:
        rounds: a game for each round, over the same sites; read one by one.
        value: for instance ``shapley``, or ``lambda game: estimate_shapley(game, sampling).values``.
        between_rounds: between-round truncation of GTG-Shapley; 0 skips only rounds without any change.

    Raises:
        BadInput: two rounds have different sites.
    """
    by_round: list[Contributions] = []
    skipped: list[int] = []
    lost: list[float] = []
    sites: tuple[str, ...] | None = None
    for position, game in enumerate(rounds):
        if sites is not None and game.sites != sites:
            raise BadInput(
                f"round {position}: sites {list(game.sites)}, but {list(sites)} before; give all of them"
            )
        sites = game.sites
        gain = game(game.everybody) - game(())
        if abs(gain) <= between_rounds:
            skipped.append(position)
            lost.append(gain)
            by_round.append(dict.fromkeys(sites, 0.0))
        else:
            by_round.append(value(game))
    values = {site: math.fsum(found[site] for found in by_round) for site in sites or ()}
    return RunContributions(values, tuple(by_round), tuple(skipped), math.fsum(lost))


def total_estimate(estimates: Iterable[Estimate]) -> Estimate:
    """One estimate for the sum of several rounds' estimates, made with different seeds.

    Sampling errors are independent, so their half-widths add as squares; truncation's allowances add.

    Raises:
        BadInput: there is none, or they differ in sites or confidence.
    """
    parts = list(estimates)
    kinds = {(part.confidence, tuple(part.values)) for part in parts}
    if len(kinds) != 1:
        raise BadInput("estimates: at least one is needed, all of the same sites and confidence")

    def added(maps: list[Mapping[str, float]]) -> dict[str, float]:
        return {site: math.fsum(part[site] for part in maps) for site in maps[0]}

    squares = [{site: width**2 for site, width in part.sampling_half_widths.items()} for part in parts]
    return Estimate(
        values=added([part.values for part in parts]),
        sampling_half_widths={site: math.sqrt(total) for site, total in added(list(squares)).items()},
        truncation_allowances=added([part.truncation_allowances for part in parts]),
        confidence=parts[0].confidence,
        permutations=sum(part.permutations for part in parts),
        evaluations=sum(part.evaluations for part in parts),
        settled=all(part.settled for part in parts),
    )
