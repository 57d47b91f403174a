"""Virtual sites of a simulation, built from the study alone and kept while the process lives.

Each has a folder of its own with a ledger, as a real site has. Where the folder holds a ``policy.toml``, the
site obeys it; else it agrees to what the study asks, and opens a budget for each run.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import platformdirs
import torch
from pydantic import ValidationError

from client.consent import StudyConsent
from client.memory_reuse import keep_freed_memory
from client.policy import Policy
from client.policy_file import read_policy
from client.preparation import proven_classifier, sealed, tokenized
from client.site import Site
from client.site_directory import SiteDirectory
from client.trainer import LocalTrainer, SiteFacts
from common.base_model import resolve_base
from common.environment import SITES_VARIABLE, STATE_VARIABLE, THREADS_VARIABLE, WORKER_VARIABLE
from common.errors import BadInput
from common.model import Classifier
from common.privacy.budget import PrivacyBudget
from common.study import Study
from common.text import load_tokenizer
from common.virtual_sites import VirtualSite, virtual_sites

__all__ = ["virtual_site", "virtual_site_directory"]


def virtual_site_directory(study: Study, name: str) -> SiteDirectory:
    """The folder of a virtual site: one place for each study's name, so that its runs add up (P21)."""
    folder = quote(name, safe=" ")
    if set(folder) == {"."}:  # quoted nowhere, and no name of a folder
        folder = folder.replace(".", "%2E")
    if sites := os.environ.get(SITES_VARIABLE):
        return SiteDirectory(Path(sites) / folder)
    named = os.environ.get(STATE_VARIABLE)
    state = Path(named).expanduser() if named else platformdirs.user_state_path("hanse", appauthor=False)
    return SiteDirectory(state / "virtual-sites" / study.study.name / folder)


def virtual_site(study: Study, partition: int) -> Site:
    """The simulated site at position ``partition``; the second call for the same study costs nothing.

    Raises:
        BadInput: the study's data has no such site, or data or model cannot be loaded.
        RunFailed: the preflight failed (PRIVACY P14).
    """
    if threads := os.environ.get(THREADS_VARIABLE):
        torch.set_num_threads(int(threads))
    return _virtual_site(study.to_json(), partition)


@lru_cache(maxsize=10_000)
def _virtual_site(study_json: str, partition: int) -> Site:
    study = Study.from_json(study_json)
    sites = virtual_sites(study).sites
    if partition >= len(sites):
        raise BadInput(f"data.sites = {len(sites)}: there is no site number {partition + 1}")
    virtual = sites[partition]
    directory = virtual_site_directory(study, virtual.name)
    has_policy = directory.policy.is_file()
    policy = read_policy(directory.policy) if has_policy else _agreeing_policy(study, virtual)
    facts = SiteFacts(virtual.name, partition, policy.dataset.declared_size)
    if has_policy and policy.site.name != virtual.name:
        raise BadInput(
            f'{directory.policy}: site.name = "{policy.site.name}": this folder is that of site "{virtual.name}"'
        )
    budget = _budget(directory, policy, virtual) if study.privacy.enabled else None
    consent = StudyConsent(policy, budget, study, budget_for_each_run=not has_policy)
    texts = tokenized(load_tokenizer(resolve_base(study.model.base).path), study, virtual.examples)
    trainer = LocalTrainer(facts, study, texts, _shared_classifier(study_json), consent.noise_multiplier)
    return Site(consent, trainer, policy.terms.order)


def _budget(directory: SiteDirectory, policy: Policy, virtual: VirtualSite) -> PrivacyBudget:
    seal = sealed(directory.commitment_key(), virtual.examples)
    return PrivacyBudget(directory.ledger(policy.ledger.url), policy.dataset.name, seal)


def _agreeing_policy(study: Study, virtual: VirtualSite) -> Policy:
    """A policy that agrees to the study as it is, for a site without an officer."""
    if study.privacy.batch_size > virtual.declared_size:
        raise BadInput(
            f"privacy.batch_size = {study.privacy.batch_size}: more than the {virtual.declared_size} units "
            f"that site {virtual.name} declares; at most a tenth of the smallest site is a good start"
        )
    try:
        return Policy.model_validate(_agreement(study, virtual))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(
            f'site "{virtual.name}": no policy can agree to the study: {where}: {first["msg"]}'
        ) from None


def _agreement(study: Study, virtual: VirtualSite) -> dict[str, dict[str, object]]:
    privacy = study.privacy
    return {
        "site": {"name": virtual.name},
        "dataset": {
            "name": study.study.name,
            "unit": privacy.unit,
            "one_row_per_person": privacy.unit == "example",
            "declared_size": virtual.declared_size,
            "group_column": privacy.group_column,
            "public": not privacy.enabled,
        },
        "budget": {
            "epsilon": study.epsilon_of(virtual.name),
            "delta": study.delta_of(virtual.declared_size),
        },
        "allow": {
            "approval": "none",
            "tasks": [study.task.kind],
            "models": ["*"],
            "trainable": [study.model.trainable],
            "strategies": [study.federation.strategy],
            "min_noise_multiplier": 0.0,
            "min_sites": 1,
        },
        # A policy names labels; a study that learns none is not held to them.
        "disclose": {"labels": list(study.task.labels) or ["no", "labels"]},
    }


@lru_cache(maxsize=1)
def _shared_classifier(study_json: str) -> Classifier:
    # Sites of one process take turns with one model: each round loads the global weights first.
    keep_freed_memory()
    study = Study.from_json(study_json)
    return proven_classifier(study, device_index=int(os.environ.get(WORKER_VARIABLE, "0")))
