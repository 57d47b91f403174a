"""Opacus' PRV accountant (Gopi, Lee, Wutschitz 2021, arXiv 2106.02848) as a second opinion.

Opacus imports torch, and its accountant has been seen to fail, to hang and to go below 0 (opacus issues 601,
844), so it runs in a process of its own, with a time limit, and what it says is checked. It knows Gaussian
noise only. Its figures stand beside a verdict and never are one.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import NotYet, RunFailed
from common.privacy.mechanism import Gaussian, Mechanism, SampledGaussian, merge

__all__ = ["DELTA_ERROR", "EPSILON_ERROR", "TIME_LIMIT", "Bounds", "bounds", "delta", "epsilon"]

EPSILON_ERROR = 0.01
"""Error in epsilon that the accountant may make (``eps_error`` in Opacus); added to the upper bound."""

DELTA_ERROR = 1e-10
"""Error in delta where a delta is asked for; for an epsilon at delta it is delta / 1000."""

TIME_LIMIT = 120.0
"""Seconds after which the process is ended; importing Opacus alone takes some of them."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What PRV says about epsilon: it lies between ``lower`` and ``upper``; ``upper`` is the guarantee."""

    lower: float
    estimate: float
    upper: float


def epsilon(mechanism: Mechanism, delta: float) -> float:
    """Upper bound of epsilon at ``delta`` by PRV, at least 0."""
    return bounds([(mechanism, delta)])[0].upper


def bounds(questions: Sequence[tuple[Mechanism, float]], time_limit: float = TIME_LIMIT) -> list[Bounds]:
    """Bounds of epsilon for each (mechanism, delta), all asked of one process.

    Raises ``NotYet`` for a mechanism with other than Gaussian noise and ``RunFailed`` where the accountant
    fails, takes longer than ``time_limit`` seconds, or answers with something that is no bound.
    """
    known = [_without_asking(mechanism) for mechanism, _ in questions]
    open_questions = [
        {"history": _history(mechanism), "delta": delta, "delta_error": delta / 1000}
        for (mechanism, delta), answer in zip(questions, known, strict=True)
        if answer is None
    ]
    answers = iter(_ask(open_questions, time_limit))
    return [Bounds(value, value, value) if value is not None else _checked(next(answers)) for value in known]


def delta(mechanism: Mechanism, epsilon: float, time_limit: float = TIME_LIMIT) -> float:
    """Upper bound of delta at ``epsilon``: the estimate at epsilon - EPSILON_ERROR, plus DELTA_ERROR.

    Theorem 5.5 of the paper: the computed curve is off by at most these two errors.
    """
    known = _without_asking(mechanism)
    if known is not None:
        return 0.0 if known == 0.0 else 1.0
    question = {
        "history": _history(mechanism),
        "epsilon": epsilon - EPSILON_ERROR,
        "delta_error": DELTA_ERROR,
    }
    (answer,) = _ask([question], time_limit)
    if len(answer) != 1 or not math.isfinite(answer[0]):
        raise RunFailed(f"prv: delta = {answer}: is no bound; ask 'pld' or 'rdp'")
    return min(1.0, max(0.0, answer[0]) + DELTA_ERROR)


def _without_asking(mechanism: Mechanism) -> float | None:
    """0 where nothing was released and infinity where there is no noise: Opacus divides by zero on both."""
    from common.privacy import rdp

    parts = merge(mechanism)
    if not parts:
        return 0.0
    return math.inf if math.isinf(rdp.rdp_at_order(mechanism, 2)) else None


def _history(mechanism: Mechanism) -> list[tuple[float, float, int]]:
    history = []
    for part in merge(mechanism):
        match part:
            case SampledGaussian(sample_rate, noise, steps):
                history.append((noise, sample_rate, steps))
            case Gaussian(noise, count):
                history.append((noise, 1.0, count))
            case _:
                raise NotYet(f"prv: {part}: only Gaussian noise can be expressed; ask 'pld' or 'rdp'")
    return history


def _ask(questions: list[dict[str, object]], time_limit: float) -> list[list[float]]:
    if not questions:
        return []
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "ignore", "-m", "common.privacy.prv_process"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps({"eps_error": EPSILON_ERROR, "questions": questions}),
            capture_output=True,
            text=True,
            timeout=time_limit,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"prv: took more than {time_limit:g} s; ask 'pld' or 'rdp'") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RunFailed(f"prv: the accountant failed ({last}); ask 'pld' or 'rdp'")
    answers: list[list[float]] = json.loads(done.stdout)
    return answers


def _checked(answer: list[float]) -> Bounds:
    lower, estimate, upper = answer
    if not lower <= estimate <= upper < math.inf:
        raise RunFailed(f"prv: epsilon = {answer}: are no bounds; ask 'pld' or 'rdp'")
    return Bounds(max(0.0, lower), max(0.0, estimate), max(0.0, upper))
