"""What each site added to a run's model, from the run record alone (ECONOMICS, section 1).

Each round is a game: a coalition is worth what the public validation set says of the round's start plus the
coalition's updates, under the weights of the full round. Values are summed over the rounds. Up to ten sites a
round's game is played out whole; above that Shapley values are estimated with an interval, and Banzhaf values
without one. Under privacy by example or person this is post-processing of what the sites released and costs no
epsilon; under central DP it rests on updates without privacy of their own and stays with the coordinator (P19).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from common.errors import BadInput
from server.economics.banzhaf_estimate import estimate_banzhaf
from server.economics.coalition_score import CoalitionUtility
from server.economics.games import Coalition, Game, subsets
from server.economics.over_rounds import total_estimate
from server.economics.owen import owen
from server.economics.sampling import Estimate, Sampling, estimate_shapley
from server.economics.shapley import MOST_EXACT_SITES, banzhaf, leave_one_out, shapley
from server.kept_run import KeptRun, validation_digest

__all__ = ["Contribution", "Question", "Valuation", "contributions", "planned_evaluations"]

_FEWEST_BLOCKS = 4
_CAP = 1000
"""Evaluations of an estimate, where four blocks of permutations need no more."""
_PAIRS_PER_SITE = 5
"""Pairs of coalitions for Banzhaf values above ten sites."""


@dataclass(frozen=True)
class Question:
    """What is asked of a run."""

    figure: str = "loss"
    """Which figure of the shared evaluation module is the utility; costs count negative."""
    unions: tuple[tuple[str, ...], ...] = ()
    """Nodes of one institution, paid as one player (Owen value)."""
    whole_run: bool = False
    """One game for the whole run, replayed with each coalition's updates, instead of one a round."""
    evaluations: int | None = None
    """Most evaluations of one game that is estimated; None: a quarter of all coalitions or about a thousand."""
    seed: int = 0
    """Of the permutations of an estimate."""


@dataclass(frozen=True)
class Contribution:
    """One site."""

    site: str
    shapley: float
    half_width: float | None
    """Half of the interval of an estimate; None where the value is exact."""
    owen: float | None
    """Its value where its institution counts as one; None without unions."""
    banzhaf: float
    leave_one_out: float
    by_round: tuple[float, ...]
    """Shapley value in each game; 0 where the site was absent."""
    games: int
    """In how many it took part."""


@dataclass(frozen=True)
class Valuation:
    """All sites of a run."""

    figure: str
    base: float
    """Utility of the public model before the first round."""
    final: float
    """Utility after the last round, as rebuilt."""
    rounds: tuple[tuple[int, ...], ...]
    """The rounds of each game."""
    sites: tuple[Contribution, ...]
    exact: bool
    confidence: float | None
    """Of the intervals, all sites at once; None where exact."""
    evaluations: int
    """Coalitions scored now; those on disk from before are not among them."""
    unattributed: float
    """``final - base`` less all Shapley values: noise that the coordinator added, steps without any update, and
    what an estimate misses."""

    def values(self) -> dict[str, float]:
        """What a pot is shared by: Owen values where there are unions, else Shapley values."""
        return {each.site: each.shapley if each.owen is None else each.owen for each in self.sites}


@dataclass
class _Sums:
    """Values summed over games, by site."""

    shapley: dict[str, list[float]] = field(default_factory=dict)
    owen: dict[str, list[float]] = field(default_factory=dict)
    banzhaf: dict[str, list[float]] = field(default_factory=dict)
    leave_one_out: dict[str, list[float]] = field(default_factory=dict)
    estimates: list[Estimate] = field(default_factory=list)

    @staticmethod
    def add(to: dict[str, list[float]], sites: Sequence[str], values: Mapping[str, float]) -> None:
        for site in sites:
            to.setdefault(site, []).append(values.get(site, 0.0))


def planned_evaluations(run: KeptRun, question: Question) -> int:
    """At most how many coalitions will be scored; tell it before the start."""
    return sum(_most(len(sites), question) for _, sites in _games(run, question))


def contributions(
    run: KeptRun,
    question: Question,
    executor: Executor | None = None,
    evaluated: Callable[[], None] | None = None,
) -> Valuation:
    """Value every site of a run. What is scored is kept in the run directory, so that a second call goes on.

    Args:
        run: with kept updates.
        question: what utility, and how.
        executor: scores several coalitions at a time; processes, since a scorer holds one model.
        evaluated: called after each evaluation.

    Raises:
        BadInput: a union names a site that is none, or two unions one site, or too few evaluations are allowed.
    """
    _check_unions(run.sites, question.unions)
    folder = run.directory.path / "contribution"
    folder.mkdir(mode=0o700, exist_ok=True)
    validated = validation_digest(run.study)
    sums, evaluations = _Sums(), 0
    worths: list[tuple[float, float]] = []
    for rounds, present in _games(run, question):
        name = f"{question.figure}-{'run' if question.whole_run else rounds[0]}.json"
        game = Game(
            present,
            CoalitionUtility(run.directory.path, rounds, question.figure),
            identity=f"{run.digest} {run.run} {list(rounds)} {question.figure} {validated}",
            store=folder / name,
            executor=executor,
            evaluated=evaluated,
        )
        if len(present) <= MOST_EXACT_SITES:
            _play(game, run.sites, question, sums)
        else:
            _estimate(game, run.sites, question, sums)
        evaluations += game.evaluations
        worths.append((game(()), game(game.everybody)))
    return _valuation(run, question, sums, worths, evaluations)


def _games(run: KeptRun, question: Question) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """The rounds of each game and who plays it; who was absent would be a null player and is left out."""
    if question.whole_run:
        everybody = tuple(sorted({site for sites in run.present.values() for site in sites}))
        return [(tuple(run.present), everybody)]
    return [((number,), sites) for number, sites in run.present.items()]


def _play(game: Game, sites: Sequence[str], question: Question, sums: _Sums) -> None:
    game.values(subsets(game.sites))  # all at once, for the executor
    values = shapley(game)
    sums.add(sums.shapley, sites, values)
    sums.add(sums.banzhaf, sites, banzhaf(game))
    sums.add(sums.leave_one_out, sites, leave_one_out(game))
    if question.unions:
        sums.add(sums.owen, sites, owen(game, _unions(game.sites, question.unions)))


def _estimate(game: Game, sites: Sequence[str], question: Question, sums: _Sums) -> None:
    n, before = len(game.sites), game.evaluations
    sums.add(sums.leave_one_out, sites, leave_one_out(game))
    sums.add(sums.banzhaf, sites, estimate_banzhaf(game, _PAIRS_PER_SITE * n, question.seed))
    spent = game.evaluations - before
    sampling = Sampling(
        seed=question.seed + len(sums.estimates),
        within_round=0.0,  # truncation flatters late harm, and money is tied to these values
        most_permutations=max(1000, 2 * n * _FEWEST_BLOCKS),
        most_evaluations=_most(n, question) - spent,
    )
    found = estimate_shapley(game, sampling)
    sums.add(sums.shapley, sites, found.values)
    if question.unions:
        unions = _unions(game.sites, question.unions)
        if len(unions) > MOST_EXACT_SITES:
            raise BadInput(f"--union: {len(unions)} institutions are too many for Owen values; at most 10")
        sums.add(sums.owen, sites, owen(game, unions))
    absent = dict.fromkeys(sites, 0.0)
    sums.estimates.append(
        Estimate(
            values={**absent, **found.values},
            sampling_half_widths={**absent, **found.sampling_half_widths},
            truncation_allowances={**absent, **found.truncation_allowances},
            confidence=found.confidence,
            permutations=found.permutations,
            evaluations=found.evaluations,
            settled=found.settled,
        )
    )


def _most(n: int, question: Question) -> int:
    """At most how many coalitions of a game of n sites are scored, unions apart."""
    if n <= MOST_EXACT_SITES:
        return int(2**n)
    if question.evaluations is not None:
        return question.evaluations
    blocks = _FEWEST_BLOCKS * (n * (n - 1) + 2)
    return min(int(2**n) // 4, max(_CAP, blocks + 2 * _PAIRS_PER_SITE * n + n))


def _unions(present: Sequence[str], unions: Sequence[Sequence[str]]) -> dict[str, Coalition]:
    """Institution to its nodes that are present; a site in no union is one of its own."""
    joined = {"+".join(union): frozenset(union) & frozenset(present) for union in unions}
    named = {site for members in joined.values() for site in members}
    alone = {site: frozenset({site}) for site in present if site not in named}
    return {name: members for name, members in {**joined, **alone}.items() if members}


def _check_unions(sites: Sequence[str], unions: Sequence[Sequence[str]]) -> None:
    named = [site for union in unions for site in union]
    strangers = sorted(set(named) - set(sites))
    if strangers:
        raise BadInput(f"--union: {', '.join(strangers)}: no site of the run; they are {', '.join(sites)}")
    if len(named) != len(set(named)) or any(len(union) < 2 for union in unions):
        raise BadInput("--union: each names two sites or more, and no site stands in two")


def _valuation(
    run: KeptRun, question: Question, sums: _Sums, worths: Sequence[tuple[float, float]], evaluations: int
) -> Valuation:
    whole = total_estimate(sums.estimates) if sums.estimates else None

    def of(site: str) -> Contribution:
        games = sum(site in present for _, present in _games(run, question))
        return Contribution(
            site=site,
            shapley=math.fsum(sums.shapley[site]),
            half_width=None if whole is None else whole.half_width(site),
            owen=math.fsum(sums.owen[site]) if question.unions else None,
            banzhaf=math.fsum(sums.banzhaf[site]),
            leave_one_out=math.fsum(sums.leave_one_out[site]),
            by_round=tuple(sums.shapley[site]),
            games=games,
        )

    found = tuple(of(site) for site in run.sites)
    base, final = worths[0][0], worths[-1][1]
    return Valuation(
        figure=question.figure,
        base=base,
        final=final,
        rounds=tuple(rounds for rounds, _ in _games(run, question)),
        sites=found,
        exact=whole is None,
        confidence=None if whole is None else whole.confidence,
        evaluations=evaluations,
        unattributed=final - base - math.fsum(each.shapley for each in found),
    )
