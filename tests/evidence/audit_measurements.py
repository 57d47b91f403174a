"""The measurements of the empirical audit: how often it blames a correct pipeline, and how much it can show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from common.privacy.mechanism import SampledGaussian
from common.study_file import parse_study
from deploy.audit.registration import guessing_for
from deploy.audit.site_copy import SiteCopy, chosen_site, site_copy
from deploy.audit.white_box import observe, white_box_bounds
from tests.tiny import tiny_study_text, write_tiny_base, write_tiny_data

__all__ = ["MEASUREMENTS", "small_copy"]

DECLARED, BATCH, STEPS = 200, 8, 125
"""q = 0.04 over 125 steps, as in the table of targets."""

CANARIES = 1000
CONFIDENCE = 0.95
TARGETS: dict[str, dict[float, float]] = {
    "component": {1.0: 0.80, 2.0: 0.85, 4.0: 0.85, 8.0: 0.85},
    "one run": {1.0: 0.10, 2.0: 0.15, 4.0: 0.18, 8.0: 0.15},
    "one run, curve": {1.0: 0.20, 2.0: 0.28, 4.0: 0.25, 8.0: 0.22},
    "Gaussian": {2.0: 0.20, 4.0: 0.22, 8.0: 0.28},
}
"""Median shares of the claim that a working auditor reaches."""


def small_copy(folder: Path, epsilon: float) -> SiteCopy:
    """A site with a tiny BERT and LoRA, whose one round takes all 125 steps."""
    base, data = folder / "base", folder / "rows.csv"
    if not base.exists():
        write_tiny_base(base)
        write_tiny_data(data)
    more = [
        "model.warm_start_steps=0",
        "federation.rounds=1",
        f"federation.steps_per_round={STEPS}",
        f"privacy.batch_size={BATCH}",
        f"privacy.epsilon={epsilon}",
        "privacy.delta=1e-5",
        "training.learning_rate=0.05",
        "training.physical_batch_size=64",
    ]
    study = parse_study(tiny_study_text(base, data), "audit", more)
    virtual, place = chosen_site(study)
    return site_copy(study, replace(virtual, declared_size=DECLARED), place)


def _bounds(copy: SiteCopy, canaries: int, seed: int) -> dict[str, tuple[float | None, bool]]:
    seen = observe(copy, canaries, seed)
    guessing = guessing_for(canaries, copy.epsilon)
    found = white_box_bounds(seen, copy.claimed, (copy.epsilon, copy.delta), guessing, CONFIDENCE)
    above = {bound.method for bound in found if bound.exceeds or (bound.epsilon or 0.0) > copy.epsilon}
    return {bound.method: (bound.epsilon, bound.method in above) for bound in found}


def repetitions(times: int = 100, canaries: int = CANARIES, epsilon: float = 4.0) -> dict[str, Any]:
    """How often each bound contradicts a correct pipeline; each is allowed 5 in 100 on average."""
    with tempfile.TemporaryDirectory() as name:
        copy = small_copy(Path(name), epsilon)
        runs = [_bounds(copy, canaries, seed) for seed in range(times)]
    methods = runs[0].keys()
    return {
        "repetitions": times,
        "canaries": canaries,
        "confidence": CONFIDENCE,
        "claimed_epsilon": epsilon,
        "mechanism": _mechanism(copy.claimed),
        "passed_the_claim": {method: sum(run[method][1] for run in runs) for method in methods},
        "median_epsilon": {method: _median([run[method][0] for run in runs]) for method in methods},
        "allowed": max(1, times // 10),
    }


def power(
    seeds: int = 9, canaries: int = CANARIES, epsilons: Sequence[float] = (1.0, 2.0, 4.0, 8.0)
) -> dict[str, Any]:
    """Median share of the claim that each bound reaches, against its target."""
    shares: dict[str, dict[str, Any]] = {method: {} for method in TARGETS}
    above: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for epsilon in epsilons:
            copy = small_copy(Path(name), epsilon)
            runs = [_bounds(copy, canaries, 1000 + seed) for seed in range(seeds)]
            above.update(method for run in runs for method, (_, exceeds) in run.items() if exceeds)
            for method, targets in TARGETS.items():
                reached = [run[method][0] or 0.0 for run in runs]
                shares[method][f"{epsilon:g}"] = {
                    "median_share": round(median(reached) / epsilon, 3),
                    "lowest_share": round(min(reached) / epsilon, 3),
                    "target": targets.get(epsilon),
                }
    return {
        "canaries": canaries,
        "seeds": seeds,
        "confidence": CONFIDENCE,
        "sample_rate": BATCH / DECLARED,
        "steps": STEPS,
        "shares": shares,
        "below_target": [
            f"{method} at epsilon {epsilon}"
            for method, found in shares.items()
            for epsilon, each in found.items()
            if each["target"] is not None and each["median_share"] < each["target"]
        ],
        "runs": seeds * len(epsilons),
        "runs_above_the_claim": dict(above),
    }


def embedded() -> dict[str, Any]:
    """Every check of `hanse audit run` on the first site of the default study; minutes on two cores."""
    with tempfile.TemporaryDirectory() as name:
        command = [
            str(Path(sys.executable).with_name("hanse")),
            "audit",
            "run",
            "--out",
            f"{name}/audit",
            "--json",
        ]
        environment = os.environ | {"HANSE_STATE": f"{name}/state"}
        started = time.perf_counter()
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if ended.returncode not in (0, 4):
            raise RuntimeError(ended.stderr)
    found = json.loads(ended.stdout)
    return {
        "command_wall_seconds": round(seconds, 1),
        "claim": found["registration"]["claim"],
        "findings": found["findings"],
        "checks": [
            {
                "check": check["check"],
                "seconds": check["seconds"],
                "tests_passed": f"{sum(test['passed'] for test in check['tests'])} of {len(check['tests'])}",
                "bounds": check["bounds"],
                "facts": check["facts"],
            }
            for check in found["checks"]
        ],
    }


def _mechanism(claimed: SampledGaussian) -> dict[str, float]:
    return {
        "sample_rate": claimed.sample_rate,
        "noise_multiplier": round(claimed.noise_multiplier, 4),
        "steps": claimed.steps,
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "empirical-audit-repetitions": repetitions,
    "empirical-audit-power": power,
    "empirical-audit-embedded": embedded,
}
"""Name in docs/evidence/ to what measures it."""
