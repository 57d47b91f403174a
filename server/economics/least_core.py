"""The least core: a sharing that no coalition could improve on by more than the smallest possible e.

Where e is above 0 the core is empty: some coalition could do better alone whatever the sharing. Shown beside
Shapley values, not used to pay (Yan & Procaccia 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

from common.errors import BadInput, RunFailed
from server.economics.games import Game, subsets
from server.economics.shapley import MOST_EXACT_SITES

__all__ = ["LeastCore", "least_core"]

_SLACK = 1e-10
"""By which the second program may miss the first's optimum, relative to the game's size."""


@dataclass(frozen=True)
class LeastCore:
    """A sharing of ``v(N) - v(nobody)`` and how far coalitions may fall short in it."""

    excess: float
    """e: least number such that every coalition S gets at least ``v(S) - v(nobody) - e``."""
    values: Mapping[str, float]
    """Of all sharings that reach e, the one of least sum of squares, which is unique."""


def least_core(game: Game, most_sites: int = MOST_EXACT_SITES) -> LeastCore:
    """The least core's smallest member, by a linear program over ``2^n - 2`` coalitions and a least-norm problem.

    Raises:
        BadInput: fewer than two sites (there is nothing to improve on), or more than ``most_sites``.
        RunFailed: the solver gave up.
    """
    n = len(game.sites)
    if not 2 <= n <= most_sites:
        raise BadInput(f"sites = {n}: the least core needs between 2 and {most_sites}")
    worth = np.array(game.values(subsets(game.sites)))
    worth -= worth[0]
    size = float(np.abs(worth).max()) or 1.0
    members = np.array([[float(mask >> i & 1) for i in range(n)] for mask in range(1, 2**n - 1)])
    excess = _excess(members, worth / size)
    values = _smallest(members, worth / size, excess + _SLACK)
    return LeastCore(excess * size, {site: float(v) * size for site, v in zip(game.sites, values, strict=True)})


def _excess(members: NDArray[np.float64], worth: NDArray[np.float64]) -> float:
    n = members.shape[1]
    solved = linprog(
        [0.0] * n + [1.0],
        A_ub=np.column_stack([-members, -np.ones(len(members))]),
        b_ub=-worth[1:-1],
        A_eq=[[1.0] * n + [0.0]],
        b_eq=[worth[-1]],
        bounds=(None, None),
        method="highs",
    )
    if solved.status != 0:
        raise RunFailed(f"least core: the linear program was not solved ({solved.message})")
    return float(solved.fun)


def _smallest(members: NDArray[np.float64], worth: NDArray[np.float64], excess: float) -> NDArray[np.float64]:
    """Least ``|x|`` with ``G x >= h``, as non-negative least squares (Lawson & Hanson 1974, chapter 23)."""
    everybody = np.ones((1, members.shape[1]))
    g = np.vstack([members, everybody, -everybody])
    h = np.concatenate([worth[1:-1] - excess, [worth[-1], -worth[-1]]])
    columns = np.vstack([g.T, h])
    target = np.zeros(len(columns))
    target[-1] = 1.0
    factors, _ = nnls(columns, target, maxiter=100 * columns.shape[1])
    residual = columns @ factors - target
    if abs(residual[-1]) < 1e-14:
        raise RunFailed("least core: no sharing was found at the excess of the linear program")
    return np.asarray(-residual[:-1] / residual[-1])
