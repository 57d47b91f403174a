"""What policy and ledger add to a site's rounds: `Site.train` against its trainer alone, interleaved."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.study import Study

__all__ = ["ledger_overhead"]


class _Stopwatch:
    """Adds up the time spent in the functions that it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def ledger_overhead(study: Study) -> dict[str, Any]:
    """The rounds of ``study``'s first site, each with and without policy, reservation and settlement, in turn.

    ``share`` is the time within policy and ledger over the time of training. ``ratio_of_sums`` compares the two
    ways as a whole; batches are drawn anew in each, so it scatters by some percent.
    """
    from client.virtual import virtual_site
    from common.environment import STATE_VARIABLE
    from common.model import build_classifier
    from common.schedule import schedule
    from common.wire import Phase, RoundPlan

    weights = build_classifier(study).weights()
    with tempfile.TemporaryDirectory() as name:
        os.environ[STATE_VARIABLE] = str(Path(name) / "state")
        site = virtual_site(study, 0)
        consent, trainer = site._consent, site._trainer
        plans = [
            RoundPlan(study, each.number, each.phase, each.steps, "1" * 32)
            for each in schedule(study)
            if each.phase is Phase.TRAIN
        ]
        site.describe(plans[0])  # as the coordinator asks first; accountants are warm from here on
        trainer.train(plans[0], weights)
        watch = _Stopwatch()
        consent.reserve, consent.settle = watch.wrap(consent.reserve), watch.wrap(consent.settle)  # type: ignore[method-assign]
        seconds: dict[str, list[float]] = {"with": [], "without": []}
        for index, plan in enumerate(plans):
            ways = [("with", site.train), ("without", trainer.train)]
            for way, work in ways if index % 2 else reversed(ways):
                started = time.perf_counter()
                work(plan, weights)
                seconds[way].append(time.perf_counter() - started)
    training = sum(seconds["with"]) - watch.seconds
    return {
        "rounds": len(plans),
        "ledger_seconds_per_round": round(watch.seconds / len(plans), 4),
        "training_seconds_per_round": round(statistics.mean(seconds["without"]), 4),
        "share": round(watch.seconds / training, 4),
        "ratio_of_sums": round(sum(seconds["with"]) / sum(seconds["without"]), 4),
    }
