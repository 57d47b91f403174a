"""Values under unions: several nodes of one institution are one player to the others.

Symmetry and efficiency together cannot resist replication: an institution that splits its data over two names,
or copies it, raises its Shapley value (Han et al. 2022). The answer is identity, not arithmetic: certificates
name the institution, its nodes form a union, and the union gets what it would get as one player (Owen 1977).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.errors import BadInput
from server.economics.games import Coalition, Game
from server.economics.shapley import MOST_EXACT_SITES, shapley

__all__ = ["owen", "quotient"]


def quotient(game: Game, unions: Mapping[str, Coalition]) -> Game:
    """The game between unions: a union's name stands for all its members.

    Evaluations go through ``game``, so none is made twice.
    """
    return Game(unions, lambda names: game(frozenset().union(*(unions[name] for name in names))))


def owen(game: Game, unions: Mapping[str, Coalition], most_sites: int = MOST_EXACT_SITES) -> dict[str, float]:
    """Owen value of each site; the members of a union together get its Shapley value between unions.

    Inside a union U, members share by the Shapley value of ``w(T)`` = what U would get between unions if it came
    as T only. Unions of one site each, or one union of all, give the Shapley value.

    Args:
        game: the game between sites.
        unions: institution to the names of its nodes; every site in exactly one union.
        most_sites: the largest number of unions, and of members in a union.

    Raises:
        BadInput: the unions do not cover every site exactly once, or there are too many.
    """
    _check(game, list(unions.values()))
    found: dict[str, float] = {}
    for name, members in unions.items():

        def as_part(part: Coalition, name: str = name) -> float:
            between = quotient(game, {**unions, name: part})
            return shapley(between, most_sites)[name]

        found |= shapley(Game(members, as_part), most_sites)
    return {site: found[site] for site in game.sites}


def _check(game: Game, unions: Sequence[Coalition]) -> None:
    listed = [site for union in unions for site in union]
    if not all(unions) or sorted(listed) != list(game.sites):
        raise BadInput(
            f"unions = {[sorted(union) for union in unions]}: must name each of {list(game.sites)} exactly once, "
            "and none may be empty"
        )
