"""One round: ask every site, combine updates as they arrive, step, score, record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flwr.serverapp import Grid

from common.errors import BadInput, HanseError, RunFailed
from common.evaluation import Evaluation
from common.model import Classifier
from common.privacy.ledger.details import Head
from common.privacy.randomness import SystemRandomness
from common.schedule import PlannedRound
from common.study import Study
from common.study_mechanism import central_noise_multiplier
from common.weights import Weights, bytes_of
from common.wire import TRAIN, Phase, RoundPlan, SiteDescription, Update, pack_plan, unpack_update
from server.aggregation import Accumulator, accumulator_for
from server.central_privacy import PrivateMean
from server.checkpoint import Checkpoint
from server.kept_updates import UpdateKeeper
from server.messaging import Reply, replies
from server.optimizer import ServerState, server_step
from server.records import RoundRecord, SiteRound
from server.run_directory import RunDirectory
from server.scoring import PublicSet
from server.spending import planned_mechanism, spent_epsilon
from server.witness import CoordinatorWitness

__all__ = ["Coordinator", "consumed_round", "run_round"]


@dataclass(frozen=True)
class Coordinator:
    """What every round of a study works with."""

    study: Study
    grid: Grid
    sites: Mapping[int, SiteDescription]
    """By node id, in the order of the partitions."""
    classifier: Classifier
    validation: PublicSet
    directory: RunDirectory
    run: str
    """Names the run in the sites' ledgers."""
    asked: Mapping[str, tuple[int, ...]] | None = None
    """By site the rounds that asked it, the one that runs included; None where every round asks everybody."""
    witness: CoordinatorWitness | None = None
    """What it has seen of the sites' ledgers over all runs; None in a simulation."""


def run_round(
    coordinator: Coordinator, planned: PlannedRound, state: Checkpoint, score: bool
) -> tuple[RoundRecord, Checkpoint]:
    """Run one round from ``state``.

    Returns:
        The round's record and the state after it; neither is on disk yet.

    Raises:
        RunFailed: fewer than ``min_sites`` updates came in time.
        HanseError: so few came because sites refused; the error is the first refusal.
    """
    started = time.monotonic()
    study, directory = coordinator.study, coordinator.directory
    directory.mark_started(planned.number)
    directory.event("round-started", round=planned.number, phase=planned.phase.value, steps=planned.steps)
    start = {name: state.weights[name] for name in _trained(coordinator.classifier, study, planned.phase)}
    keeper = UpdateKeeper(directory.updates, planned) if study.federation.keep_updates else None
    change, sites = _combined_change(coordinator, planned, start, keeper)
    if keeper is not None:
        keeper.finish(start, state.optimizer)
    trained = time.monotonic()
    moved, optimizer = _stepped(study, planned, state, start, change)
    weights = {**state.weights, **moved}
    after = replace(state, round=planned.number, weights=weights, optimizer=optimizer)
    evaluation = None
    if score:
        evaluation = score_weights(coordinator, weights, planned.phase)
        after = _with_best(after, evaluation)
    ended = time.monotonic()
    replied = sum(site.replied for site in sites)
    record = RoundRecord(
        round=planned.number,
        phase=planned.phase.value,
        steps=planned.steps,
        sites=sites,
        evaluation=evaluation,
        bytes_sent=bytes_of(start) * len(sites),
        bytes_received=bytes_of(start) * replied,
        seconds={"train": trained - started, "evaluate": ended - trained, "round": ended - started},
    )
    return record, after


def consumed_round(coordinator: Coordinator, planned: PlannedRound) -> RoundRecord:
    """The record of a private round that was interrupted: counted as spent at every site, never retrained."""
    reason = "interrupted; counted as spent, not repeated"
    sites = tuple(
        _site_round(coordinator, site, planned, seconds=0.0, reason=reason) for site in coordinator.sites.values()
    )
    return RoundRecord(planned.number, planned.phase.value, planned.steps, sites, None, 0, 0)


def score_weights(coordinator: Coordinator, weights: Weights, phase: Phase) -> Evaluation:
    """Score global weights on the validation set."""
    coordinator.classifier.load(weights)
    encoder_moves = phase is Phase.TRAIN and coordinator.study.model.trainable != "head"
    return coordinator.validation.score(coordinator.classifier, encoder_changed=encoder_moves)


def _combined_change(
    coordinator: Coordinator, planned: PlannedRound, start: Weights, keeper: UpdateKeeper | None
) -> tuple[Weights, tuple[SiteRound, ...]]:
    study, sites = coordinator.study, coordinator.sites
    total = sum(site.weight for site in sites.values())
    accumulator = _accumulator(study, start, [site.weight / total for site in sites.values()])
    content = pack_plan(RoundPlan(study, planned.number, planned.phase, planned.steps, coordinator.run), start)
    refusals: list[HanseError] = []
    rounds: dict[int, SiteRound] = {}
    heads: dict[str, Head] = {}
    receipts = coordinator.witness.receipts(sites) if coordinator.witness else None
    timeout = study.federation.round_timeout_seconds
    for reply in replies(coordinator.grid, TRAIN, content, list(sites), timeout, receipts):
        site = sites[reply.node]
        reason = ""
        try:
            update = _checked_update(reply, site, study, planned, start)
            if update.head is not None:
                heads[site.name] = update.head
            accumulator.add(update.weights, site.weight / total)
            if keeper is not None:
                keeper.add(site.name, update.weights, site.weight / total)
        except HanseError as error:
            refusals.append(error)
            reason = str(error)
        rounds[reply.node] = _site_round(coordinator, site, planned, reply.seconds, reason)
        coordinator.directory.event("site-replied", round=planned.number, site=site.name, reason=reason)
    coordinator.directory.witness(planned.number, heads)
    if coordinator.witness:
        coordinator.witness.note(planned.number, heads)
    missing = f"no reply within {study.federation.round_timeout}"
    records = tuple(
        rounds.get(node) or _site_round(coordinator, site, planned, timeout, missing)
        for node, site in sites.items()
    )
    replied = sum(record.replied for record in records)
    if replied < study.federation.min_sites:
        if refusals:
            raise refusals[0]
        raise RunFailed(
            f"round {planned.number}: {replied} of {len(sites)} sites replied within "
            f"{study.federation.round_timeout}, federation.min_sites = {study.federation.min_sites}"
        )
    return accumulator.change(), records


def _accumulator(study: Study, start: Weights, shares: list[float]) -> Accumulator:
    if study.privacy.noised_centrally:
        noise = central_noise_multiplier(study)
        return PrivateMean(start, study.privacy.max_grad_norm, noise, shares, SystemRandomness())
    return accumulator_for(study.federation, start)


def _checked_update(
    reply: Reply, site: SiteDescription, study: Study, planned: PlannedRound, start: Weights
) -> Update:
    if reply.error:
        raise reply.error
    assert reply.content is not None
    update = unpack_update(reply.content, start)
    if update.round != planned.number:
        raise BadInput(f"update: is for round {update.round}, this is round {planned.number}")
    expected = planned_mechanism(study, site, planned.steps)
    if update.mechanism != expected:
        raise BadInput(f"update: reports {update.mechanism}, the plan says {expected}")
    return update


def _site_round(
    coordinator: Coordinator, site: SiteDescription, planned: PlannedRound, seconds: float, reason: str
) -> SiteRound:
    study = coordinator.study
    asked = None if coordinator.asked is None else coordinator.asked[site.name]
    return SiteRound(
        site=site.name,
        mechanism=planned_mechanism(study, site, planned.steps),
        epsilon=spent_epsilon(study, site, planned.number, asked),
        replied=not reason,
        seconds=seconds,
        reason=reason,
    )


def _stepped(
    study: Study, planned: PlannedRound, state: Checkpoint, start: Weights, change: Weights
) -> tuple[Weights, ServerState]:
    rate = planned.server_learning_rate
    if planned.phase is Phase.WARM_START:
        # The strategy's optimizer starts with the rounds proper; until then updates are simply averaged.
        averaged = study.federation.model_copy(update={"strategy": "fedavg"})
        moved, _ = server_step(averaged, ServerState(), start, change, rate)
        return moved, state.optimizer
    return server_step(study.federation, state.optimizer, start, change, rate)


def _trained(classifier: Classifier, study: Study, phase: Phase) -> list[str]:
    return list(classifier.trainable(head_only=phase is Phase.WARM_START or study.model.trainable == "head"))


def _with_best(state: Checkpoint, evaluation: Evaluation) -> Checkpoint:
    score, headline = evaluation.overall, evaluation.headline
    if (headline, -score.loss) <= (state.best_accuracy, -state.best_loss):
        return state
    return replace(state, best=state.weights, best_round=state.round, best_loss=score.loss, best_accuracy=headline)
