"""A whole study at the coordinator: connect, run every round, pick the best, test once, write the result."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from flwr.serverapp import Grid

from common.base_model import resolve_base
from common.device import choose_device
from common.errors import BadInput, HanseError
from common.evaluation import Evaluation
from common.files import write_json, write_text
from common.model import Classifier, build_classifier
from common.schedule import schedule
from common.study import Study
from common.text import load_tokenizer
from common.virtual_sites import public_sets, virtual_sites
from common.wire import SiteDescription
from server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from server.kept_updates import check_room, forget_rounds_after
from server.known_sites import keep_sites, read_sites
from server.messaging import connected_sites
from server.model_card import model_card
from server.records import RoundRecord
from server.rejoining import reconnected_sites, rejoined, tell_last_receipts
from server.result import study_result
from server.rounds import Coordinator, consumed_round, run_round
from server.run_directory import RunDirectory
from server.scoring import PublicSet
from server.site_selection import Selection, check_filters, open_selection
from server.site_weights import weighted_sites
from server.witness import CoordinatorWitness

__all__ = ["run_study"]


def run_study(
    study: Study,
    grid: Grid,
    directory: RunDirectory,
    resume: bool = False,
    witness: CoordinatorWitness | None = None,
) -> None:
    """Run a study from its first round, or from its last checkpoint, to its result on disk.

    ``witness`` knows a deployment's sites and what was seen of their ledgers; None in a simulation.

    Raises:
        HanseError: the input cannot be used, a site refuses, or too few sites answer.
    """
    started = time.monotonic()
    public = public_sets(study) if witness else virtual_sites(study)
    classifier = build_classifier(study).place(choose_device(study.training.device))
    state = _starting_state(study, classifier, directory, resume)
    if study.federation.keep_updates:
        check_room(study, directory.updates, state.weights, len(schedule(study)))
    directory.event("connecting", sites=study.data.sites, rounds=len(schedule(study)))
    run = directory.run_identifier()
    coordinator = Coordinator(
        study=study,
        grid=grid,
        sites=_connected(grid, study, directory, witness, resume),
        classifier=classifier,
        validation=PublicSet(study, public.validation),
        directory=directory,
        run=run,
        witness=witness,
    )
    directory.event("connected", sites=[site.name for site in coordinator.sites.values()])
    check_filters(study, coordinator.sites.values())
    records = [record for record in directory.rounds() if record.round <= state.round] if resume else []
    selection = open_selection(study, directory, state.round)
    begun = directory.started_round() if resume else 0
    state, records = _with_interrupted(coordinator, selection, state, records, begun)
    state, records = _run_rounds(coordinator, selection, state, records, begun)
    tell_last_receipts(coordinator)
    directory.event("testing", round=state.best_round)
    test = _test_once(study, classifier, state, PublicSet(study, public.test))
    _save_model(study, classifier, directory)
    whole = replace(_weighted(coordinator), asked=selection.asked(coordinator.sites))
    result = study_result(whole, records, state, test, time.monotonic() - started)
    write_text(directory.model / "README.md", model_card(result, study.task.labels))
    write_json(directory.result, result)
    directory.event("finished")


def _connected(
    grid: Grid, study: Study, directory: RunDirectory, witness: CoordinatorWitness | None, resume: bool
) -> dict[int, SiteDescription]:
    run = directory.run_identifier()
    if witness is None:
        return connected_sites(grid, study, run)
    known = read_sites(directory.sites) if resume else {}
    if known:
        sites = reconnected_sites(grid, study, run, {n: s for n, s in known.items() if n in witness.sites})
    else:
        sites = connected_sites(grid, study, run, registered=witness.sites.keys())
    witness.check_names(sites)
    keep_sites(directory.sites, sites)
    return sites


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


def _weighted(coordinator: Coordinator) -> Coordinator:
    """The coordinator with the weights of the study; apart, since sites that come back state their own."""
    parameters = sum(parameter.numel() for parameter in coordinator.classifier.trainable().values())
    return replace(coordinator, sites=weighted_sites(coordinator.study, coordinator.sites, parameters))


def _with_interrupted(
    coordinator: Coordinator, selection: Selection, state: Checkpoint, records: list[RoundRecord], begun: int
) -> tuple[Checkpoint, list[RoundRecord]]:
    """Count a round that was cut off as spent (PRIVACY P7), where privacy is on and nobody keeps its replies."""
    directory, begun_with = coordinator.directory, state.round
    if begun > state.round and coordinator.study.privacy.enabled and not _may_ask_again(coordinator):
        for planned in schedule(coordinator.study)[state.round : begun]:
            asked = selection.sites_of(_weighted(coordinator), planned.number)
            records = [*records, consumed_round(asked, planned)]
            state = replace(state, round=planned.number, consumed=(*state.consumed, planned.number))
            directory.event("round-consumed", round=planned.number)
    forget_rounds_after(directory.updates, begun_with)
    directory.keep_rounds(records)
    save_checkpoint(state, directory.checkpoint)
    return state, records


def _may_ask_again(coordinator: Coordinator) -> bool:
    """Whether a round that was cut off is asked for once more, with the same plan and weights.

    A guard answers it from its store, at no cost, or refuses (P9). Where the coordinator adds the noise, a second
    noised sum of the same updates would be a second release (P19).
    """
    return coordinator.witness is not None and not coordinator.study.privacy.noised_centrally


def _run_rounds(
    coordinator: Coordinator,
    selection: Selection,
    state: Checkpoint,
    records: list[RoundRecord],
    begun: int,
) -> tuple[Checkpoint, list[RoundRecord]]:
    directory, every = coordinator.directory, coordinator.study.federation.evaluate_every
    planned_rounds = schedule(coordinator.study)
    for planned in planned_rounds[state.round :]:
        last = planned.number == len(planned_rounds)
        scored = last or planned.number % every == 0
        asked = selection.sites_of(_weighted(coordinator), planned.number)
        try:
            record, state = run_round(asked, planned, state, scored)
        except HanseError as error:
            if planned.number > begun:
                raise
            # It was cut off before, and too few sites kept what they had answered: it counts, and is over.
            directory.event("round-consumed", round=planned.number, reason=str(error))
            record = consumed_round(asked, planned)
            state = replace(state, round=planned.number, consumed=(*state.consumed, planned.number))
        else:
            selection.learn(asked, planned, state)
        # The record first: a crash in between leaves a record too many, which resuming drops, not one too few.
        directory.add_round(record)
        save_checkpoint(state, directory.checkpoint)
        records = [*records, record]
        directory.event("round-finished", **record.to_json())
        if not last:
            coordinator = rejoined(coordinator, record)
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
