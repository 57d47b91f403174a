"""A round's updates on disk, for contributions that are computed after the run (`federation.keep_updates`).

One folder a round. Each update is written as it arrives, so memory does not grow with the number of sites; the
round counts once its ``start.safetensors`` stands there, which is written last. What privacy the updates have is
that of the study: under unit "example" or "group" they are private already, and looking at them again is
post-processing; under unit "institution" they are not, and stay with the coordinator (PRIVACY P19). The folders
are the coordinator's alone (0700).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from common.errors import BadInput
from common.files import atomically
from common.schedule import PlannedRound
from common.study import Study
from common.weights import Weights
from common.wire import Phase
from server.economics.reconstruction import KeptRound, ServerStep, kept_round
from server.optimizer import ServerState, server_step

__all__ = [
    "MOST_BYTES",
    "KeptUpdates",
    "UpdateKeeper",
    "check_room",
    "forget_rounds_after",
    "kept_rounds",
    "read_kept_updates",
]

MOST_BYTES = 64 * 2**30
"""Most that one run keeps."""

_FORMAT = 1
_START = "start.safetensors"


@dataclass(frozen=True)
class KeptUpdates:
    """One round as it was kept, and the coordinator's step that followed it."""

    kept: KeptRound
    """Starting weights, updates and their shares in the mean."""
    phase: Phase
    server_learning_rate: float
    optimizer: ServerState
    """The coordinator's optimizer before the step."""

    def step(self, study: Study) -> ServerStep:
        """What the coordinator did with the round's change, for any other change."""
        return lambda weights, change: self.step_from(study, self.optimizer, weights, change)[0]

    def step_from(
        self, study: Study, state: ServerState, weights: Weights, change: Weights
    ) -> tuple[Weights, ServerState]:
        """The same from another state of its optimizer; during the warm start updates are simply added."""
        rate = self.server_learning_rate
        if self.phase is Phase.WARM_START:
            averaged = study.federation.model_copy(update={"strategy": "fedavg"})
            return server_step(averaged, ServerState(), weights, change, rate)[0], state
        return server_step(study.federation, state, weights, change, rate)


class UpdateKeeper:
    """Writes one round. Nothing counts before :meth:`finish`."""

    def __init__(self, updates: Path, planned: PlannedRound) -> None:
        """Begin the round's folder anew under ``updates``, the run's folder of kept rounds."""
        self._folder = updates / _name(planned.number)
        self._planned = planned
        self._sites: list[dict[str, Any]] = []
        shutil.rmtree(self._folder, ignore_errors=True)
        updates.mkdir(mode=0o700, exist_ok=True)
        self._folder.mkdir(mode=0o700)

    def add(self, site: str, weights: Weights, share: float) -> None:
        """Keep one site's weights; ``share`` is what the mean took it with, of all sites that were asked."""
        file = f"{len(self._sites):05d}.safetensors"
        _write(self._folder / file, weights, {"site": site})
        self._sites.append({"site": site, "file": file, "share": share})

    def finish(self, start: Weights, optimizer: ServerState) -> None:
        """Make the round count: on disk when this returns."""
        facts = {
            "format": _FORMAT,
            "round": self._planned.number,
            "phase": self._planned.phase.value,
            "server_learning_rate": self._planned.server_learning_rate,
            "optimizer_steps": optimizer.steps,
            "sites": self._sites,
        }
        groups = {"start": start, "first": optimizer.first_moment, "second": optimizer.second_moment}
        tensors = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
        _write(self._folder / _START, tensors, facts)


def check_room(study: Study, updates: Path, weights: Weights, rounds: int) -> None:
    """Refuse, before any site is asked, a study whose updates would not fit.

    Raises:
        BadInput: more than :data:`MOST_BYTES`, or than the disk has free.
    """
    asked = study.federation.sites_per_round or study.data.sites
    needed = rounds * (asked + 3) * sum(value.nbytes for value in weights.values())  # with start and moments
    free = shutil.disk_usage(updates.parent).free
    if needed > min(MOST_BYTES, free):
        raise BadInput(
            f"federation.keep_updates = true: {rounds} rounds of {asked} sites may need {needed / 2**30:.1f} GiB, "
            f"at most {MOST_BYTES / 2**30:.0f} are kept and {free / 2**30:.1f} are free; use fewer rounds, or "
            'model.trainable = "lora" or "head"'
        )


def kept_rounds(updates: Path) -> list[int]:
    """The rounds that count, ascending."""
    return sorted(int(start.parent.name) for start in updates.glob(f"[0-9]*/{_START}"))


def forget_rounds_after(updates: Path, last: int) -> None:
    """Remove what was kept of rounds after ``last``: they were interrupted and no model has their updates."""
    for folder in updates.glob("[0-9]*"):
        if int(folder.name) > last:
            shutil.rmtree(folder)


def read_kept_updates(updates: Path, number: int, study: Study) -> KeptUpdates:
    """Read a round back, with the shares that its mean gave: normalised over the sites that replied.

    Under unit "institution" updates come clipped as they were summed, and shares stay those of all institutions;
    the noise is in none of them.

    Raises:
        BadInput: the round was not kept, or a file is damaged.
    """
    folder = updates / _name(number)
    tensors, facts = _read(folder / _START)
    if facts.get("format") != _FORMAT:
        raise BadInput(f"{folder}: written by another version of Hanse")
    groups: dict[str, Weights] = {"start": {}, "first": {}, "second": {}}
    for key, value in tensors.items():
        group, _, name = key.partition("/")
        groups[group][name] = value
    start = groups["start"]
    shares = {str(each["site"]): float(each["share"]) for each in facts["sites"]}
    received = {str(each["site"]): _read(folder / each["file"])[0] for each in facts["sites"]}
    if study.privacy.noised_centrally:
        bound = study.privacy.max_grad_norm
        clipped = {site: _clipped(update, start, bound) for site, update in received.items()}
        kept = KeptRound(number, start, clipped, shares)
    else:
        kept = kept_round(number, start, received, shares)
    state = ServerState(facts["optimizer_steps"], groups["first"], groups["second"])
    return KeptUpdates(kept, Phase(facts["phase"]), float(facts["server_learning_rate"]), state)


def _clipped(update: Weights, start: Weights, bound: float) -> Weights:
    changes = {name: update[name].astype(np.float64) - value for name, value in start.items()}
    norm = math.sqrt(sum(float(np.square(change).sum()) for change in changes.values()))
    factor = min(1.0, bound / norm) if 0 < norm < math.inf else 0.0
    return {name: np.asarray(start[name] + factor * change, np.float32) for name, change in changes.items()}


def _name(number: int) -> str:
    return f"{number:06d}"


def _write(path: Path, tensors: Weights, facts: Mapping[str, object]) -> None:
    ordered = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in tensors.items()}
    with atomically(path) as temporary:
        save_file(ordered, temporary, metadata={"hanse": json.dumps(facts, sort_keys=True)})


def _read(path: Path) -> tuple[Weights, dict[str, Any]]:
    if not path.is_file():
        raise BadInput(f"{path}: no such file; the round was not kept")
    try:
        with safe_open(path, framework="numpy") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["hanse"])
            return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118 - not a dict
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: is not a kept round of Hanse, or is damaged") from error
