"""The coordinator's state after a round, in one file that is either the old one or the new one.

Weights, optimizer state and what has been decided so far; never noise state (PRIVACY P13).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from common.errors import BadInput
from common.files import atomically
from common.weights import Weights
from server.optimizer import ServerState

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rounds after it depend on."""

    round: int
    """The last finished round; 0 before the first."""
    weights: Weights
    """Global trainable weights after it."""
    optimizer: ServerState = field(default_factory=ServerState)
    best: Weights = field(default_factory=dict)
    """Weights of the round that scored best on the validation set."""
    best_round: int = 0
    best_loss: float = float("inf")
    """Validation loss of that round."""
    best_accuracy: float = -1.0
    """Its figure by which rounds are compared (``Evaluation.headline``): accuracy, where texts have labels."""
    consumed: tuple[int, ...] = ()
    """Private rounds that were interrupted: paid for, never aggregated."""
    study_digest: str = ""
    """Names the study that these weights belong to."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint in place of the one before, synced to disk."""
    groups = {
        "weights": checkpoint.weights,
        "best": checkpoint.best,
        "first": checkpoint.optimizer.first_moment,
        "second": checkpoint.optimizer.second_moment,
    }
    tensors = {
        f"{group}/{name}": np.asarray(value, order="C")
        for group, named in groups.items()
        for name, value in named.items()
    }
    facts = {
        "format": _FORMAT,
        "round": checkpoint.round,
        "optimizer_steps": checkpoint.optimizer.steps,
        "best_round": checkpoint.best_round,
        "best_loss": checkpoint.best_loss,
        "best_accuracy": checkpoint.best_accuracy,
        "consumed": list(checkpoint.consumed),
        "study_digest": checkpoint.study_digest,
    }
    with atomically(path) as temporary:
        save_file(tensors, temporary, metadata={"hanse": json.dumps(facts)})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        BadInput: there is none, or the file is not one.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no checkpoint to resume from; start the study anew without --resume")
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["hanse"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if facts["format"] != _FORMAT:
            raise BadInput(f"{path}: written by another version of Hanse (format {facts['format']})")
        groups: dict[str, Weights] = {"weights": {}, "best": {}, "first": {}, "second": {}}
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value
        return Checkpoint(
            round=facts["round"],
            weights=groups["weights"],
            optimizer=ServerState(facts["optimizer_steps"], groups["first"], groups["second"]),
            best=groups["best"],
            best_round=facts["best_round"],
            best_loss=facts["best_loss"],
            best_accuracy=facts["best_accuracy"],
            consumed=tuple(facts["consumed"]),
            study_digest=facts["study_digest"],
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: is not a checkpoint of Hanse, or is damaged ({error})") from error
