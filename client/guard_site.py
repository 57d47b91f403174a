"""The institution's own site, put together from what lies in its folder and its data file.

Policy and budget are asked before the data is read: a study that is refused learns nothing of it. What is wrong
with the institution's own files is told to its operator, in the log; a coordinator hears that the site is not
ready (PRIVACY P15).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from client.consent import StudyConsent, plan_digest, record_policy_refusal
from client.policy import Policy
from client.policy_file import read_policy
from client.policy_rules import PolicyRequest, check_policy
from client.preparation import proven_classifier, sealed, tokenized
from client.replies import Asked, ReplyStore
from client.site import Site
from client.site_directory import SiteDirectory
from client.trainer import LocalTrainer, SiteFacts
from client.training import Trainee, TrainingBatch
from client.witnesses import Witnesses
from common.base_model import resolve_base
from common.errors import BudgetExceeded, HanseError, PolicyRefusal, RunFailed
from common.examples import Example
from common.model import Classifier
from common.privacy.budget import PrivacyBudget
from common.privacy.granting import Refusal
from common.privacy.ledger.commitment import CommitmentKey
from common.privacy.ledger.receipt import SignedReceipt
from common.schedule import schedule
from common.sources import columns_of, load_source
from common.splits import capped_units
from common.study import Study
from common.text import TokenizedTexts, load_tokenizer
from common.weights import Weights
from common.wire import RoundPlan, SiteDescription, Update

__all__ = ["RealSite"]

_log = logging.getLogger("hanse.guard")
_CAP_KEY = b"hanse: which rows of a person train"


class RealSite:
    """The site as its guard serves it: one study at a time, each round answered once and for all (P9)."""

    def __init__(
        self, directory: SiteDirectory, data: Path, check: Callable[[], None], witnesses: Witnesses
    ) -> None:
        """Nothing is read yet.

        Args:
            directory: the site's own folder, with its policy.
            data: a CSV, JSON Lines or Parquet file, or a folder with a ``train`` file of such a kind; read when
                a study first trains here, and again for another study, another policy or after a start.
            check: called between batches of a round; raises to stop it.
            witnesses: the coordinators that the site serves.
        """
        self._directory = directory
        self._data = data.absolute()
        self._check = check
        self._witnesses = witnesses
        self._replies = ReplyStore(directory.replies)
        self._held: _Held | None = None

    def describe(self, plan: RoundPlan) -> SiteDescription:
        """What the site says of itself to a study that it agrees to. Raises as ``Site.describe`` does."""
        return replace(self._at_hand(plan).site.describe(plan), nonce=self._witnesses.nonce)

    def take_receipt(self, signed: SignedReceipt | None, run: str) -> str:
        """Store what a coordinator has witnessed, and name it. Raises as ``Witnesses.take`` does."""
        with _local():
            policy = read_policy(self._directory.policy)
        return self._witnesses.take(signed, policy.site.name, run)

    def train(self, plan: RoundPlan, weights: Weights, receipt: SignedReceipt | None = None) -> Update:
        """The round's update; the stored one where just this was asked before, which costs nothing.

        Raises:
            PolicyRefusal: the policy does not agree, the round was asked before (P9), or no coordinator of this
                site has said what it witnessed (P8).
            BudgetExceeded: the budget does not hold the round.
            RunFailed: the site is not ready, the preflight failed, or the round was stopped.
        """
        coordinator = self.take_receipt(receipt, plan.run)
        held = self._at_hand(plan)
        consent = held.consent
        held.budget.witness(self._witnesses.heads)
        asked = Asked(consent.study_digest, plan.run, plan.round, plan_digest(plan, consent.study_digest, weights))
        with _local():
            stored = self._replies.answer(asked)
        if stored is not None:
            return self._settled(held, asked, stored)
        if plan.round <= len(schedule(plan.study)):  # an invented round makes nobody forget anything
            with _local():
                self._replies.begin(asked)
        held.trainer.keep = partial(self._replies.keep, asked)
        update = held.site.train(plan, weights, coordinator)
        self._replies.keep(asked, update)  # now with the ledger's head
        return update

    def _at_hand(self, plan: RoundPlan) -> _Held:
        """The site of the plan's study, put together where it is not the one at hand. Raises as :meth:`train`."""
        with _local():
            policy = read_policy(self._directory.policy)
        held = self._held
        if held is None or held.policy != policy or held.consent.study != plan.study:
            self._held = held = None  # one classifier at a time in memory
            self._held = held = self._put_together(policy, plan)
        return held

    def _put_together(self, policy: Policy, plan: RoundPlan) -> _Held:
        study = plan.study
        with _local():
            budget = PrivacyBudget(self._directory.ledger(policy.ledger.url), policy.dataset.name)
            key = self._directory.commitment_key()
        self._refuse_unseen(policy, budget, plan)
        pays = study.privacy.enabled
        consent = StudyConsent(policy, budget if pays else None, study, ledger=budget.ledger)
        consent.check(plan)
        with _local():
            examples = self._examples(study, key)
            seal = sealed(key, examples)
        budget = PrivacyBudget(budget.ledger, policy.dataset.name, seal)
        consent = consent.with_budget(budget)
        facts = SiteFacts(policy.site.name, 0, policy.dataset.declared_size)
        tokenizer = load_tokenizer(resolve_base(study.model.base).path)
        with _local():
            texts = tokenized(tokenizer, study, examples)
        classifier = proven_classifier(study)
        trainer = _GuardedTrainer(facts, study, texts, classifier, consent.noise_multiplier, self._check)
        return _Held(policy, budget, consent, trainer, Site(consent, trainer, policy.terms.order))

    def _refuse_unseen(self, policy: Policy, budget: PrivacyBudget, plan: RoundPlan) -> None:
        """What the policy refuses whatever the base model is, before that model is looked for.

        A base may be a folder or a hub's name: a coordinator shall not learn which folders there are, nor have
        anything fetched that the policy does not list.
        """
        study = plan.study
        request = PolicyRequest(
            study=study,
            study_digest="",
            noise_multiplier=float("inf"),
            study_epsilon=study.epsilon_of(policy.site.name),
            round_epsilon=0.0,
            approved=True,
            today=datetime.now(UTC).date(),
        )
        try:
            check_policy(policy, request)
        except Refusal as refusal:
            # The digest names the plan; its base has none yet.
            record_policy_refusal(budget.ledger, budget.dataset, study.digest(""), plan.run, refusal)
            raise refusal.error from None

    def _examples(self, study: Study, key: CommitmentKey) -> tuple[Example, ...]:
        """All training rows, under unit "group" at most ``rows_per_group`` of each person (P10)."""
        kind, labels = study.task.kind, study.task.labels
        dataset, report = load_source(str(self._data), labels, columns_of(study), kind)
        for warning in report.warnings:
            _log.warning("data: %s", warning)
        secret = bytes.fromhex(key.seal([_CAP_KEY]).commitment(bytes(16)))
        return capped_units(dataset.examples, study.privacy.rows_per_group, secret)

    def _settled(self, held: _Held, asked: Asked, stored: Update) -> Update:
        """The stored reply as it is sent: a crash may have come between storing and settling it."""
        if stored.head is not None or not held.study.privacy.enabled:
            return stored
        for each in held.budget.open_reservations():
            if (each.study, each.run, each.round) == (asked.study, asked.run, asked.round):
                held.budget.settle(each, "completed")
        update = replace(stored, head=held.budget.heads())
        self._replies.keep(asked, update)
        return update


class _GuardedTrainer(LocalTrainer):
    """A trainer that can be stopped between batches, and whose update is on disk before the round is settled."""

    def __init__(
        self,
        facts: SiteFacts,
        study: Study,
        texts: TokenizedTexts,
        classifier: Classifier,
        noise_multiplier: float,
        check: Callable[[], None],
    ) -> None:
        super().__init__(facts, study, texts, classifier, noise_multiplier)
        self._check = check
        self.keep: Callable[[Update], None] | None = None

    def train(self, plan: RoundPlan, weights: Weights) -> Update:
        update = super().train(plan, weights)
        if self.keep is not None:
            self.keep(update)
        return update

    def trainee(self, parameters: list[nn.Parameter]) -> Trainee:
        return self._stoppable(super().trainee(parameters))

    def head_trainee(self, parameters: list[nn.Parameter], draws: list[NDArray[np.int64]]) -> Trainee:
        return self._stoppable(super().head_trainee(parameters, draws))

    def _stoppable(self, trainee: Trainee) -> Trainee:
        def batches(units: NDArray[np.int64]) -> Iterator[TrainingBatch]:
            self._check()  # an empty batch has no other moment
            for batch in trainee.batches(units):
                self._check()
                yield batch

        return replace(trainee, batches=batches)


@dataclass(frozen=True)
class _Held:
    """The site of one study under one policy, and its parts."""

    policy: Policy
    budget: PrivacyBudget
    consent: StudyConsent
    trainer: _GuardedTrainer
    site: Site

    @property
    def study(self) -> Study:
        return self.consent.study


@contextmanager
def _local() -> Iterator[None]:
    """Tell the operator alone what is wrong with the institution's own files."""
    try:
        yield
    except (PolicyRefusal, BudgetExceeded):  # functions of plan, policy and ledger
        raise
    except HanseError as error:
        _log.error("not ready: %s", " | ".join(str(error).splitlines()))
        raise RunFailed("the site is not ready; its operator was told why") from None
