"""An institution for tests: a policy that agrees to the tiny study, its folder, and a site over tiny rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.consent import StudyConsent
from client.policy import Policy
from client.site import Site
from client.site_directory import SiteDirectory
from client.trainer import LocalTrainer, SiteFacts
from common.model import build_classifier
from common.privacy.budget import PrivacyBudget
from common.schedule import schedule
from common.study import Study
from common.text import load_tokenizer, tokenize
from common.weights import Weights
from common.wire import RoundPlan
from tests.tiny import tiny_rows

NAME, DATASET, DECLARED = "north", "letters", 60
RUN = "0123456789abcdef" * 2
ROWS = tiny_rows(50, seed=12)


def policy_of(**changes: dict[str, Any]) -> Policy:
    """A policy that agrees to the tiny study without asking; ``changes`` by section."""
    sections: dict[str, dict[str, Any]] = {
        "site": {"name": NAME},
        "dataset": {
            "name": DATASET,
            "unit": "example",
            "one_row_per_person": True,
            "declared_size": DECLARED,
        },
        "budget": {"epsilon": 8.0, "delta": "auto"},
        "allow": {"approval": "none", "models": ["*"], "trainable": ["lora"], "min_noise_multiplier": 0.1},
        "disclose": {"labels": ["negative", "positive"]},
    }
    for section, values in changes.items():
        sections.setdefault(section, {}).update(values)
    return Policy.model_validate(sections)


def budget_of(folder: Path) -> PrivacyBudget:
    """The dataset's budget in a site's folder, made at the first use."""
    directory = SiteDirectory(folder)
    return PrivacyBudget(directory.ledger(), DATASET, directory.commitment_key().seal([b"rows"]))


def site_of(base: Path, study: Study, folder: Path, policy: Policy | None = None) -> Site:
    """A site over :data:`ROWS` with its ledger in ``folder``."""
    policy = policy or policy_of()
    budget = budget_of(folder) if study.privacy.enabled else None
    consent = StudyConsent(policy, budget, study)
    labels = [int(label == "positive") for _, label, _ in ROWS]
    texts = tokenize(load_tokenizer(base), [text for text, _, _ in ROWS], labels, 16)
    facts = SiteFacts(policy.site.name, 1, policy.dataset.declared_size)
    trainer = LocalTrainer(facts, study, texts, build_classifier(study), consent.noise_multiplier)
    return Site(consent, trainer, policy.terms.order)


def plan_of(study: Study, number: int = 1, run: str = RUN) -> RoundPlan:
    """The study's round of that number, as its coordinator asks for it."""
    planned = schedule(study)[number - 1]
    return RoundPlan(study, planned.number, planned.phase, planned.steps, run)


def weights_of(study: Study, number: int = 1) -> Weights:
    """Initial weights of what trains in a round."""
    head_only = schedule(study)[number - 1].phase == "warm-start"
    return build_classifier(study).weights(head_only)
