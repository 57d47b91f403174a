"""The final figures of a study, with everything needed to tell what they rest on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from common.base_model import resolve_base
from common.evaluation import Evaluation
from common.schedule import planned_steps, schedule
from common.study import Study
from common.study_mechanism import central_noise_multiplier, sample_rate
from common.wire import SiteDescription
from server.checkpoint import Checkpoint
from server.records import RoundRecord
from server.rounds import Coordinator
from server.spending import spent_epsilon

__all__ = ["study_result"]

_PACKAGES = ("hanse", "torch", "flwr", "opacus", "transformers", "peft", "dp-accounting", "numpy")
_NOISE = (
    "Gaussian noise and Poisson sampling from an AES-256 keystream keyed by the operating system; noised sums "
    "rounded to a power-of-two grid against floating-point attacks."
)
_STATEMENTS = {
    "example": (
        "Each site's epsilon is for adding or removing one example (one row) of its training data, "
        "over this whole run alone. A person with several rows is protected less."
    ),
    "group": (
        "Each site's epsilon is for adding or removing all rows of one person at that site, over this whole run "
        "alone. For a person with rows at several sites, the sites' epsilons and deltas add up."
    ),
    "institution": (
        "Epsilon is for adding or removing one whole institution, over this whole run alone, against everyone "
        "but the coordinator, which receives the updates without noise and adds it to their sum."
    ),
}
_SAMPLING = "Poisson, each unit independently in each step"
_TRUSTED = (
    "the coordinator: it saw every update; figures by site, contribution scores and the witness file stay with it"
)
_NOT_COVERED = (
    "the ledgers prove that their history is unaltered, complete against the witnessed heads, and within policy, "
    "not that the recorded mechanism is what ran",
    "other runs on the same rows: what they add up to is in each site's ledger (hanse budget)",
    "how long a site takes to answer may depend on its batches",
    "settings tuned on the sites' data cost budget that this run does not count",
)


def study_result(
    coordinator: Coordinator,
    records: list[RoundRecord],
    state: Checkpoint,
    test: Evaluation,
    seconds: float,
) -> dict[str, Any]:
    """The content of ``result.json``."""
    study = coordinator.study
    best = next(r.evaluation for r in records if r.round == state.best_round and r.evaluation)
    return {
        "study": study.study.name,
        "digest": study.digest(resolve_base(study.model.base).digest),
        "seed": study.study.seed,
        "private": study.privacy.enabled,
        "privacy": _privacy(study),
        "ledger": _ledger(coordinator),
        "sites": [_site(coordinator, site, records) for site in coordinator.sites.values()],
        "rounds": len(records),
        "rounds_consumed": list(state.consumed),
        "best_round": state.best_round,
        "validation": best.to_json(),
        "test": test.to_json(),
        "bytes_sent": sum(record.bytes_sent for record in records),
        "bytes_received": sum(record.bytes_received for record in records),
        "seconds": {
            "total": round(seconds, 2),
            **{
                part: round(sum(record.seconds.get(part, 0.0) for record in records), 2)
                for part in ("train", "evaluate", "round")
            },
        },
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    }


def _ledger(coordinator: Coordinator) -> dict[str, Any] | None:
    """The newest head of each site's ledger, as witnessed; None where no ledger was kept."""
    heads = coordinator.directory.witnessed()
    if not heads:
        return None
    return {"run": coordinator.run, "heads": {site: head.model_dump() for site, head in heads.items()}}


def _privacy(study: Study) -> dict[str, Any]:
    if not study.privacy.enabled:
        return {"statement": "This run was NOT private: no clipping, no noise. For comparison only."}
    central = study.privacy.unit == "institution"
    return {
        "statement": _STATEMENTS[study.privacy.unit],
        "unit": study.privacy.unit,
        "adjacency": "add or remove one unit",
        "sampling": "none: every institution in every round" if central else _SAMPLING,
        "accountant": "PLD; RDP at one order where a site's budget is a filter",
        "noise": _NOISE,
        "not_covered": [*_NOT_COVERED, *([_TRUSTED] if central else [])],
    }


def _spent(coordinator: Coordinator, site: SiteDescription, records: list[RoundRecord]) -> float | None:
    """Epsilon after the last round: under a plan of all rounds, under a filter of those that asked the site."""
    if coordinator.asked is None:
        mine = [entry for record in records for entry in record.sites if entry.site == site.name]
        return mine[-1].epsilon if mine else 0.0
    last = records[-1].round if records else 0
    return spent_epsilon(coordinator.study, site, last, coordinator.asked[site.name]) if last else 0.0


def _site(coordinator: Coordinator, site: SiteDescription, records: list[RoundRecord]) -> dict[str, Any]:
    study = coordinator.study
    mine = [entry for record in records for entry in record.sites if entry.site == site.name]
    facts: dict[str, Any] = {
        "name": site.name,
        "declared_size": site.declared_size,
        "weight": site.weight,
        **({} if coordinator.asked is None else {"rounds_asked": len(coordinator.asked[site.name])}),
        "rounds_replied": sum(entry.replied for entry in mine),
        "epsilon": None,
    }
    if study.privacy.enabled:
        facts |= {
            "epsilon": _spent(coordinator, site, records),
            "epsilon_budget": site.epsilon,
            **_mechanism_facts(study, site),
        }
    return facts


def _mechanism_facts(study: Study, site: SiteDescription) -> dict[str, Any]:
    if study.privacy.unit == "institution":
        return {
            "delta": study.delta_of(study.data.sites),
            "noise_multiplier": central_noise_multiplier(study),
            "sample_rate": 1.0,
            "steps": len(schedule(study)),
        }
    return {
        "delta": site.delta,
        "noise_multiplier": site.noise_multiplier,
        "sample_rate": sample_rate(study, site.declared_size),
        "steps": planned_steps(study),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
