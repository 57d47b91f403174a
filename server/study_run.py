"""A whole study at the coordinator: connect, run every round, pick the best, test once, write the result."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from flwr.serverapp import Grid

from common.base_model import resolve_base
from common.device import choose_device
from common.errors import BadInput
from common.evaluation import Evaluation
from common.files import write_json, write_text
from common.model import Classifier, build_classifier
from common.schedule import schedule
from common.study import Study
from common.text import load_tokenizer
from common.virtual_sites import virtual_sites
from server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from server.messaging import connected_sites
from server.model_card import model_card
from server.records import RoundRecord
from server.result import study_result
from server.rounds import Coordinator, consumed_round, run_round
from server.run_directory import RunDirectory
from server.scoring import PublicSet

__all__ = ["run_study"]


def run_study(study: Study, grid: Grid, directory: RunDirectory, resume: bool = False) -> None:
    """Run a study from its first round, or from its last checkpoint, to its result on disk.

    Raises:
        HanseError: the input cannot be used, a site refuses, or too few sites answer.
    """
    started = time.monotonic()
    public = virtual_sites(study)
    classifier = build_classifier(study).place(choose_device(study.training.device))
    state = _starting_state(study, classifier, directory, resume)
    directory.event("connecting", sites=study.data.sites, rounds=len(schedule(study)))
    run = directory.run_identifier()
    coordinator = Coordinator(
        study=study,
        grid=grid,
        sites=connected_sites(grid, study, run),
        classifier=classifier,
        validation=PublicSet(study, public.validation),
        directory=directory,
        run=run,
    )
    directory.event("connected", sites=[site.name for site in coordinator.sites.values()])
    records = [record for record in directory.rounds() if record.round <= state.round] if resume else []
    state, records = _with_interrupted(coordinator, state, records, resume)
    state, records = _run_rounds(coordinator, state, records)
    directory.event("testing", round=state.best_round)
    test = _test_once(study, classifier, state, PublicSet(study, public.test))
    _save_model(study, classifier, directory)
    result = study_result(coordinator, records, state, test, time.monotonic() - started)
    write_text(directory.model / "README.md", model_card(result, study.task.labels))
    write_json(directory.result, result)
    directory.event("finished")


def _starting_state(study: Study, classifier: Classifier, directory: RunDirectory, resume: bool) -> Checkpoint:
    digest = study.digest(resolve_base(study.model.base).digest)
    if not resume or not directory.checkpoint.exists():  # interrupted before anything was asked of a site
        return Checkpoint(0, classifier.weights(), study_digest=digest)
    state = load_checkpoint(directory.checkpoint)
    if state.study_digest != digest:
        raise BadInput(
            f"{directory.path / 'study.toml'}: is not the study that this run began with (digest {digest[:16]}, "
            f"the checkpoint has {state.study_digest[:16]}); undo the change, or start a new run"
        )
    return state


def _with_interrupted(
    coordinator: Coordinator, state: Checkpoint, records: list[RoundRecord], resume: bool
) -> tuple[Checkpoint, list[RoundRecord]]:
    """Count a round that had begun when the run was cut off as spent (PRIVACY P7), where privacy is on."""
    directory = coordinator.directory
    begun = directory.started_round() if resume else 0
    if begun > state.round and coordinator.study.privacy.enabled:
        for planned in schedule(coordinator.study)[state.round : begun]:
            records = [*records, consumed_round(coordinator, planned)]
            state = replace(state, round=planned.number, consumed=(*state.consumed, planned.number))
            directory.event("round-consumed", round=planned.number)
    directory.keep_rounds(records)
    save_checkpoint(state, directory.checkpoint)
    return state, records


def _run_rounds(
    coordinator: Coordinator, state: Checkpoint, records: list[RoundRecord]
) -> tuple[Checkpoint, list[RoundRecord]]:
    directory, every = coordinator.directory, coordinator.study.federation.evaluate_every
    planned_rounds = schedule(coordinator.study)
    for planned in planned_rounds[state.round :]:
        last = planned.number == len(planned_rounds)
        scored = last or planned.number % every == 0
        record, state = run_round(coordinator, planned, state, scored)
        # The record first: a crash in between leaves a record too many, which resuming drops, not one too few.
        directory.add_round(record)
        save_checkpoint(state, directory.checkpoint)
        records = [*records, record]
        directory.event("round-finished", **record.to_json())
    return state, records


def _test_once(study: Study, classifier: Classifier, state: Checkpoint, test: PublicSet) -> Evaluation:
    if not state.best:
        raise BadInput("every scored round was interrupted; there is no model to test, run the study anew")
    classifier.load(state.best)
    return test.score(classifier, encoder_changed=True, exact=True)


def _save_model(study: Study, classifier: Classifier, directory: RunDirectory) -> None:
    with torch.no_grad():
        classifier.save(directory.model)
    load_tokenizer(resolve_base(study.model.base).path).save_pretrained(str(directory.model))
