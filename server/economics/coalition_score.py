"""Scores the model that a coalition would have made, with the shared evaluation module on the public set.

A worker process rebuilds study, model and validation set once and keeps them; what travels is a coalition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.device import choose_device
from common.errors import BadInput
from common.evaluation import Evaluation
from common.model import build_classifier
from common.study import Study
from common.study_file import read_study
from common.virtual_sites import public_sets
from common.weights import Weights
from common.wire import Phase
from server.economics.games import Coalition
from server.economics.reconstruction import coalition_change, coalition_model
from server.kept_updates import KeptUpdates, read_kept_updates
from server.optimizer import ServerState
from server.run_directory import RunDirectory
from server.scoring import PublicSet

__all__ = ["FIGURES", "CoalitionUtility", "figure_of", "moves_the_encoder"]

FIGURES = ("loss", "accuracy", "macro_f1", "matthews_correlation", "expected_calibration_error")
"""Figures that a utility may be. Loss and calibration error are costs and count negative."""

_COSTS = {"loss", "expected_calibration_error"}


@dataclass(frozen=True)
class CoalitionUtility:
    """The utility of a coalition's model after some rounds; a function that may travel to a worker process."""

    run: Path
    rounds: tuple[int, ...]
    """One round: of its start, with the coalition's updates. Several: all replayed from the first one's start."""
    figure: str

    def __call__(self, coalition: Coalition) -> float:
        """Score the coalition's model."""
        scorer = _scorer(self.run)
        weights, encoder_moves = scorer.rebuilt(self.rounds, coalition)
        return figure_of(scorer.score(weights, encoder_moves), self.figure)


def figure_of(evaluation: Evaluation, figure: str) -> float:
    """A figure as a utility: more is better.

    Raises:
        BadInput: there is no such figure.
    """
    if figure not in FIGURES:
        raise BadInput(f"--utility {figure}: must be one of {', '.join(FIGURES)}")
    value = getattr(evaluation.overall, figure, None)
    if value is None:
        raise BadInput(f"--utility {figure}: this task's score has no such figure; use loss")
    return -float(value) if figure in _COSTS else float(value)


def moves_the_encoder(study: Study, phase: Phase) -> bool:
    """Whether a round of that phase changes features, so that each coalition must be run through the network."""
    return phase is Phase.TRAIN and study.model.trainable != "head"


class _Scorer:
    """Model, validation set and kept rounds of a run, in one process."""

    def __init__(self, run: Path) -> None:
        self._study = read_study(run / "study.toml")
        self._updates = RunDirectory(run).updates
        self._classifier = build_classifier(self._study).place(choose_device(self._study.training.device))
        self._validation = PublicSet(self._study, public_sets(self._study).validation)
        self._moved = False
        self._kept: dict[tuple[int, ...], list[KeptUpdates]] = {}

    def score(self, weights: Weights, encoder_moves: bool) -> Evaluation:
        self._classifier.load(self._classifier.initial)
        self._classifier.load(weights)
        changed, self._moved = encoder_moves or self._moved, encoder_moves
        return self._validation.score(self._classifier, encoder_changed=changed)

    def rebuilt(self, rounds: tuple[int, ...], coalition: Coalition) -> tuple[Weights, bool]:
        kept = self._rounds(rounds)
        moves = any(moves_the_encoder(self._study, each.phase) for each in kept)
        if len(kept) == 1:
            return coalition_model(kept[0].kept, coalition, kept[0].step(self._study)), moves
        return _replayed(self._study, kept, coalition), moves

    def _rounds(self, rounds: tuple[int, ...]) -> list[KeptUpdates]:
        if rounds not in self._kept:
            # One game at a time in memory: a round holds a model for each site.
            self._kept = {rounds: [read_kept_updates(self._updates, each, self._study) for each in rounds]}
        return self._kept[rounds]


def _replayed(study: Study, rounds: Sequence[KeptUpdates], coalition: Coalition) -> Weights:
    """One-round reconstruction: every round's step with the coalition's changes, as they were in the whole run."""
    weights: Weights = {}
    state = ServerState()
    for each in rounds:
        start = {name: weights.get(name, value) for name, value in each.kept.start.items()}
        moved, state = each.step_from(study, state, start, coalition_change(each.kept, coalition))
        weights |= moved
    return weights


@lru_cache(maxsize=1)
def _scorer(run: Path) -> _Scorer:
    return _Scorer(run)
