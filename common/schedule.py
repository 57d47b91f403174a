"""Which rounds a study has, and how many steps each takes. Decided before the first round, from the plan alone."""

from __future__ import annotations

from dataclasses import dataclass

from common.study import Study
from common.wire import Phase

__all__ = ["PlannedRound", "planned_steps", "schedule"]


@dataclass(frozen=True)
class PlannedRound:
    """One round of a study, before it runs."""

    number: int
    """1 is the first."""
    phase: Phase
    steps: int
    server_learning_rate: float
    """What the coordinator multiplies the round's mean change with."""


def schedule(study: Study) -> tuple[PlannedRound, ...]:
    """Warm-start rounds first, then the study's rounds."""
    model, federation = study.model, study.federation
    planned: list[PlannedRound] = []
    if model.warm_start_steps:
        each, more = divmod(model.warm_start_steps, model.warm_start_rounds)
        for index in range(model.warm_start_rounds):
            # The head alone is a convex problem: plain averaging at full rate suits it.
            planned.append(PlannedRound(index + 1, Phase.WARM_START, each + (index < more), 1.0))
    for index in range(federation.rounds):
        rate = federation.server_learning_rate
        if federation.server_learning_rate_decay == "linear":
            rate *= 1 - index / federation.rounds
        planned.append(PlannedRound(len(planned) + 1, Phase.TRAIN, federation.steps_per_round, rate))
    return tuple(planned)


def planned_steps(study: Study) -> int:
    """DP steps a site takes over the whole study."""
    return sum(planned.steps for planned in schedule(study))
