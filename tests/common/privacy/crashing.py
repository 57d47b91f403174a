"""A site that reserves, works and settles until it is killed. The parent kills it at random moments.

``kill_many(folder, kills)`` is the evidence: the ledger verifies after every kill, and what it counts is never
below the work that was done. ``python -m tests.common.privacy.crashing FOLDER KILLS`` runs it by hand.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from common.errors import BudgetExceeded
from common.files import append_line
from common.privacy.budget import PrivacyBudget, Refund, RoundRequest, StudyUse
from common.privacy.ledger.rules import verified_entries
from common.privacy.mechanism import SampledGaussian
from common.privacy.spending import price, spending
from common.privacy.terms import BudgetTerms
from tests.common.privacy.ledger.samples import DATA, KEY, PLAN, STUDY, site_ledger

__all__ = ["Outcome", "kill_many"]

TERMS = BudgetTerms(epsilon=50.0, delta=1e-5, unit="group", declared_size=5000, kind="filter", order=6)
STEPS = 4
SERIES = 20


@dataclass(frozen=True)
class Outcome:
    """What a series of kills showed; every kill that contradicted a claim raised an error."""

    kills: int
    entries: int
    steps_run: int
    steps_counted: int
    kills_with_an_open_reservation: int


def step(rate: int = STEPS) -> SampledGaussian:
    """A round's mechanism with ``rate`` steps."""
    return SampledGaussian(0.02, 1.0, rate)


def site(folder: Path) -> None:
    """Reserve, write down each step that touches data, settle; forever."""
    budget = PrivacyBudget(site_ledger(folder), DATA)
    run = f"run-{os.getpid()}-{time.time_ns()}"
    number = 0
    print("ready", flush=True)  # noqa: T201
    while True:
        number += 1
        try:
            held = budget.reserve(StudyUse(STUDY, run, 1e-5), RoundRequest(number, PLAN, step()))
        except BudgetExceeded:
            return
        run_steps = STEPS - number % 2
        for _ in range(run_steps):
            append_line(folder / "truth", held.sequence)
        if number % 3 == 0:
            budget.settle(held, "failed")
        elif run_steps == STEPS:
            budget.settle(held, "completed")
        else:
            budget.settle(held, "completed", Refund(step(run_steps), "public-fact", "the round was shorter"))


def kill_many(folder: Path, kills: int, seed: int = 7) -> Outcome:
    """Start the site, kill it at a random moment, check; ``kills`` times, with a new ledger after every 20."""
    dice = random.Random(seed)
    series = [min(SERIES, kills - done) for done in range(0, kills, SERIES)]
    found = [_kill(folder / str(place), each, dice) for place, each in enumerate(series)]
    return Outcome(*(sum(figures) for figures in zip(*map(astuple, found), strict=True)))


def _kill(folder: Path, kills: int, dice: random.Random) -> Outcome:
    PrivacyBudget(site_ledger(folder), DATA).ensure_open(TERMS)
    (folder / "truth").touch()
    caught = 0
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.common.privacy.crashing", str(folder)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(dice.uniform(0.0, 0.15))
        child.kill()
        child.wait()
        child.stdout.close()
        caught += _check(folder)
    ledger = site_ledger(folder)
    (found,) = PrivacyBudget(ledger, DATA).spending()
    return Outcome(
        kills=kills,
        entries=len(ledger.entries()),
        steps_run=len((folder / "truth").read_text().splitlines()),
        steps_counted=round((found.spent + found.reserved) / price(TERMS, step(1))),
        kills_with_an_open_reservation=caught,
    )


def _check(folder: Path) -> bool:
    """After a kill: the ledger verifies and counts enough; an operator closes what was left open."""
    ledger = site_ledger(folder)
    verified = verified_entries(ledger.bundle(), KEY.public_hex)
    lines = [line for line in (folder / "truth").read_text().splitlines(keepends=True) if line.endswith("\n")]
    (found,) = spending(verified.history, DATA)
    true = price(TERMS, step(len(lines)))
    assert found.spent + found.reserved >= true * (1 - 1e-12), (found, len(lines))
    reserved = {entry.sequence for entry in verified.entries if entry.kind == "reserve"}
    assert {int(line) for line in lines} <= reserved, "a step ran without its reservation on disk"
    return len(PrivacyBudget(ledger, DATA).settle_open()) > 0


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(kill_many(Path(sys.argv[1]), int(sys.argv[2])))  # noqa: T201
    else:
        site(Path(sys.argv[1]))
