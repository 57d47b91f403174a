"""Run directories that kept updates, written without any training: what contributions are computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from common.model import build_classifier
from common.schedule import schedule
from common.study import Study
from common.study_file import parse_study, write_study
from common.study_mechanism import round_mechanism
from common.weights import Weights
from server.economics.reconstruction import coalition_change
from server.kept_updates import UpdateKeeper, read_kept_updates
from server.optimizer import ServerState
from server.records import RoundRecord, SiteRound
from server.run_directory import RunDirectory
from tests.tiny import tiny_study_text

__all__ = ["head_study", "made_run"]

Move = Callable[[Weights, np.random.Generator], Weights]
"""A site's update from the round's start."""


def head_study(base: Path, data: Path, *overrides: str) -> Study:
    """The tiny study, its head alone, privacy off, updates kept."""
    chosen = [
        "model.trainable=head",
        "model.warm_start_steps=0",
        "privacy.enabled=false",
        "federation.min_sites=1",
    ]
    return parse_study(tiny_study_text(base, data), "tiny", [*chosen, "federation.keep_updates=true", *overrides])


def somewhere(start: Weights, chooser: np.random.Generator) -> Weights:
    """A random change of a tenth."""
    return {name: np.asarray(v + 0.1 * chooser.normal(size=v.shape), np.float32) for name, v in start.items()}


def made_run(
    path: Path,
    study: Study,
    moves: Mapping[str, Move],
    absent: Mapping[int, set[str]] | None = None,
    seed: int = 0,
) -> Path:
    """Write a run of ``study`` in which sites answer by their moves; ``absent`` are missing from a round."""
    path.mkdir(parents=True, exist_ok=True)
    write_study(study, path / "study.toml")
    directory, chooser = RunDirectory(path), np.random.default_rng(seed)
    directory.run_identifier()
    weights, optimizer = build_classifier(study).weights(), ServerState()
    for planned in schedule(study):
        here = [site for site in moves if site not in (absent or {}).get(planned.number, set())]
        keeper = UpdateKeeper(directory.updates, planned)
        for site in here:
            keeper.add(site, moves[site](weights, chooser), 1 / len(moves))
        keeper.finish(weights, optimizer)
        found = read_kept_updates(directory.updates, planned.number, study)
        weights, optimizer = found.step_from(study, optimizer, weights, coalition_change(found.kept, here))
        mechanism = round_mechanism(study, 64, 0.0, planned.steps)
        sites = tuple(
            SiteRound(site, mechanism, None, site in here, 0.0, "" if site in here else "late") for site in moves
        )
        directory.add_round(RoundRecord(planned.number, planned.phase.value, planned.steps, sites, None, 0, 0))
    return path
