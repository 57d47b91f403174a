"""Everything that crosses the network: Flower records on one side, typed messages on the other.

Weights travel as raw float32 tensors, never pickle. What comes in is checked once, here: names, shapes,
dtypes and finiteness against what was asked for. What a site sends is a function of plan and declared facts
alone, updates apart (PRIVACY P15).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import ValidationError

from common.errors import BadInput, BudgetExceeded, HanseError, PolicyRefusal, RunFailed
from common.privacy.ledger.details import Head
from common.privacy.mechanism import Mechanism
from common.privacy.mechanism import from_json as mechanism_from_json
from common.privacy.mechanism import to_json as mechanism_to_json
from common.study import Study
from common.study_rules import check_study
from common.weights import Weights

__all__ = [
    "DESCRIBE",
    "TRAIN",
    "Phase",
    "RoundPlan",
    "SiteDescription",
    "Update",
    "pack_description",
    "pack_plan",
    "pack_refusal",
    "pack_update",
    "raise_refusal",
    "unpack_description",
    "unpack_plan",
    "unpack_update",
]

TRAIN = "train"
"""Flower message type of a round's work."""
DESCRIBE = "query"
"""Flower message type that asks a site who it is."""

_NUMPY_MAGIC = b"\x93NUMPY"
_RUN = re.compile(r"[0-9a-f]{32}")

_REFUSALS: dict[str, type[HanseError]] = {
    error.__name__: error for error in (BadInput, BudgetExceeded, PolicyRefusal, RunFailed)
}


class Phase(StrEnum):
    """What trains in a round."""

    WARM_START = "warm-start"
    """The head alone, on frozen features."""
    TRAIN = "train"
    """Everything that ``[model] trainable`` says."""


@dataclass(frozen=True)
class RoundPlan:
    """What the coordinator asks every site to do in one round."""

    study: Study
    round: int
    """1 is the first round of the study."""
    phase: Phase
    steps: int
    """Local steps to take."""
    run: str
    """Names this run of the study, for ledgers: 32 hexadecimal digits that the coordinator drew."""


@dataclass(frozen=True)
class SiteDescription:
    """What a site says of itself: declared facts, nothing computed from its data."""

    name: str
    partition: int
    """Position among the sites of a simulation."""
    declared_size: int
    """Units that its officer declared."""
    weight: float
    """Its weight in the mean."""
    epsilon: float
    """Its budget for this study."""
    delta: float
    noise_multiplier: float
    """Calibrated to that budget over the planned steps; 0 with privacy off."""
    order: int = 0
    """Order of the Rényi filter that its budget is; 0 for a plan, which PLD judges."""
    nonce: str = ""
    """What the site's guard drew at its start, for the coordinator's receipt (PRIVACY P8); "" without a guard."""


@dataclass(frozen=True)
class Update:
    """A site's answer to a round."""

    site: str
    round: int
    weights: Weights
    """The trainable parameters after its local steps."""
    mechanism: Mechanism
    """What the round released."""
    head: Head | None = None
    """The site's ledger after the round, for the coordinator to witness (PRIVACY P8); None without a ledger."""


def pack_plan(plan: RoundPlan, weights: Weights) -> RecordDict:
    """A round's plan and the global weights, as Flower sends them; pack once, send to every site."""
    config = ConfigRecord(
        {
            "study": plan.study.to_json(),
            "run": plan.run,
            "round": plan.round,
            "phase": plan.phase.value,
            "steps": plan.steps,
        }
    )
    return RecordDict({"plan": config, "weights": _pack_weights(weights)})


def unpack_plan(content: RecordDict) -> tuple[RoundPlan, Weights]:
    """The plan and the global weights of a message; raises :class:`BadInput` if it is not one."""
    config = _config(content, "plan")
    plan = RoundPlan(
        study=_study(config),
        round=_whole(config, "round"),
        phase=_phase(config),
        steps=_whole(config, "steps"),
        run=_run(config),
    )
    return plan, _unpack_weights(content)


def pack_description(description: SiteDescription) -> RecordDict:
    """A site's description as Flower sends it."""
    return RecordDict({"description": ConfigRecord(dict(vars(description)))})


def unpack_description(content: RecordDict) -> SiteDescription:
    """The description in a reply; raises :class:`BadInput` if it is not one."""
    config = _config(content, "description")
    return SiteDescription(
        name=_text(config, "name"),
        partition=_whole(config, "partition", least=0),
        declared_size=_whole(config, "declared_size"),
        weight=_number(config, "weight", zero=False),
        epsilon=_number(config, "epsilon"),
        delta=_number(config, "delta"),
        noise_multiplier=_number(config, "noise_multiplier"),
        order=_whole(config, "order", least=0),
        nonce=_nonce(config),
    )


def pack_update(update: Update) -> RecordDict:
    """A site's update as Flower sends it."""
    config = ConfigRecord(
        {
            "site": update.site,
            "round": update.round,
            "mechanism": json.dumps(mechanism_to_json(update.mechanism), sort_keys=True),
        }
    )
    if update.head is not None:
        config["head_sequence"] = update.head.sequence
        config["head_hash"] = update.head.hash
    return RecordDict({"update": config, "weights": _pack_weights(update.weights)})


def unpack_update(content: RecordDict, expected: Weights) -> Update:
    """The update in a reply, checked against the weights that were sent out.

    Raises:
        BadInput: another set of names, another shape or dtype, or a value that is not finite.
    """
    config = _config(content, "update")
    try:
        mechanism = mechanism_from_json(json.loads(str(config["mechanism"])))
    except (KeyError, ValueError) as error:
        raise BadInput(f"update: mechanism cannot be read ({error})") from error
    weights = _unpack_weights(content)
    if weights.keys() != expected.keys():
        odd = sorted(weights.keys() ^ expected.keys())
        raise BadInput(f"update: {len(odd)} tensors too many or missing, the first is {odd[0]}")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise BadInput(f"update: {name} has shape {value.shape}, expected {expected[name].shape}")
    return Update(str(config.get("site")), _whole(config, "round"), weights, mechanism, _head(config))


def pack_refusal(error: HanseError) -> RecordDict:
    """A refusal or fault that the coordinator is to know, kind and message alone."""
    kind = next((name for name, kind in _REFUSALS.items() if isinstance(error, kind)), "RunFailed")
    return RecordDict({"refusal": ConfigRecord({"error": kind, "message": str(error)})})


def raise_refusal(content: RecordDict) -> None:
    """Raise the error that a reply carries, if it carries one."""
    if "refusal" in content:
        config = _config(content, "refusal")
        raise _REFUSALS.get(str(config.get("error")), RunFailed)(str(config.get("message", "")))


def _pack_weights(weights: Weights) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(value, np.float32, order="C")) for name, value in weights.items()})


def _unpack_weights(content: RecordDict) -> Weights:
    record = content.get("weights")
    if not isinstance(record, ArrayRecord):
        raise BadInput("message: carries no weights")
    weights: Weights = {}
    for name, array in record.items():
        if array.dtype != "float32" or array.stype != "numpy.ndarray":
            raise BadInput(f"weights: {name} is {array.dtype}/{array.stype}, expected float32/numpy.ndarray")
        if not array.data.startswith(_NUMPY_MAGIC):  # neither a pickle nor an archive
            raise BadInput(f"weights: {name} is not a tensor (no NumPy header)")
        try:
            value = array.numpy()
        except (ValueError, TypeError, EOFError, MemoryError) as error:
            raise BadInput(f"weights: {name} is not a tensor ({error})") from error
        if value.dtype != np.float32:
            raise BadInput(f"weights: {name} holds {value.dtype}, its header says float32")
        if value.shape != tuple(array.shape):
            raise BadInput(f"weights: {name} has shape {value.shape}, its header says {tuple(array.shape)}")
        if not np.isfinite(value).all():
            raise BadInput(f"weights: {name} holds a value that is not finite")
        weights[name] = value
    return weights


def _config(content: RecordDict, key: str) -> ConfigRecord:
    record = content.get(key)
    if not isinstance(record, ConfigRecord):
        raise BadInput(f"message: carries no {key}")
    return record


def _study(config: ConfigRecord) -> Study:
    try:
        study = Study.from_json(str(config.get("study")))
    except ValidationError as error:
        raise BadInput(f"plan: study cannot be read ({error.error_count()} faults)") from error
    check_study(study, "plan")
    return study


def _phase(config: ConfigRecord) -> Phase:
    try:
        return Phase(str(config.get("phase")))
    except ValueError as error:
        raise BadInput(f"plan: phase {config.get('phase')!r} is not one of {[p.value for p in Phase]}") from error


def _run(config: ConfigRecord) -> str:
    value = config.get("run")
    if not isinstance(value, str) or not _RUN.fullmatch(value):
        raise BadInput(f"plan: run = {str(value)[:40]!r}: must be 32 lower-case hexadecimal digits")
    return value


def _nonce(config: ConfigRecord) -> str:
    value = config.get("nonce")
    if not isinstance(value, str) or not (value == "" or _RUN.fullmatch(value)):
        raise BadInput(f"message: nonce = {str(value)[:40]!r}: must be 32 lower-case hexadecimal digits")
    return value


def _head(config: ConfigRecord) -> Head | None:
    if "head_hash" not in config:
        return None
    try:
        return Head(sequence=_whole(config, "head_sequence", least=0), hash=str(config["head_hash"]))
    except ValidationError as error:
        raise BadInput("update: head_hash: must be 64 lower-case hexadecimal digits") from error


def _whole(config: ConfigRecord, key: str, least: int = 1) -> int:
    value: Any = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"message: {key} = {value!r}: must be a whole number of at least {least}")
    return value


def _number(config: ConfigRecord, key: str, zero: bool = True) -> float:
    value: Any = config.get(key)
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    if not fits or (value == 0 and not zero):
        least = "of at least 0" if zero else "above 0"
        raise BadInput(f"message: {key} = {value!r}: must be a finite number {least}")
    return float(value)


def _text(config: ConfigRecord, key: str) -> str:
    value: Any = config.get(key)
    if not isinstance(value, str) or not value:
        raise BadInput(f"message: {key} = {value!r}: must be a text")
    return value
