"""Virtual sites of a simulation, built from the study alone and kept while the process lives."""

from __future__ import annotations

import os
from functools import lru_cache

import torch

from client.site import Site, SiteFacts
from common.base_model import resolve_base
from common.device import choose_device
from common.errors import BadInput
from common.model import Classifier, build_classifier
from common.study import Study
from common.text import load_tokenizer, tokenize
from common.virtual_sites import virtual_sites

__all__ = ["THREADS_VARIABLE", "WORKER_VARIABLE", "virtual_site"]

THREADS_VARIABLE = "HANSE_THREADS"
"""Environment variable: how many threads torch may use in this process."""

WORKER_VARIABLE = "HANSE_WORKER"
"""Environment variable: which of the engine's processes this is; spreads them over several GPUs."""


def virtual_site(study: Study, partition: int) -> Site:
    """The simulated site at position ``partition``; the second call for the same study costs nothing.

    Raises:
        BadInput: the study's data has no such site, or data or model cannot be loaded.
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
    site = sites[partition]
    tokenizer = load_tokenizer(resolve_base(study.model.base).path)
    texts = tokenize(
        tokenizer,
        [example.text for example in site.examples],
        [example.label for example in site.examples],
        study.task.max_length,
    )
    facts = SiteFacts(site.name, partition, site.declared_size)
    return Site(facts, study, texts, _shared_classifier(study_json))


@lru_cache(maxsize=1)
def _shared_classifier(study_json: str) -> Classifier:
    # Sites of one process take turns with one model: each round loads the global weights first.
    study = Study.from_json(study_json)
    device = choose_device(study.training.device, index=int(os.environ.get(WORKER_VARIABLE, "0")))
    return build_classifier(study).place(device)
