"""One institution behind one small interface: a plan and weights in, an update out.

The order is always the same: the policy agrees, the round is reserved on disk, the data is touched, the round
is settled, the update leaves. In a simulation the site is virtual and lives in the process that runs the
Flower client; in a deployment the institution's own guard serves the same interface.
"""

from __future__ import annotations

from dataclasses import replace

from client.consent import StudyConsent
from client.trainer import LocalTrainer
from common.errors import BadInput
from common.weights import Weights
from common.wire import RoundPlan, SiteDescription, Update

__all__ = ["Site"]


class Site:
    """An institution in one study."""

    def __init__(self, consent: StudyConsent, trainer: LocalTrainer, order: int | None = None) -> None:
        """``consent`` decides and pays, ``trainer`` computes; ``order`` is that of the site's filter."""
        self._consent = consent
        self._trainer = trainer
        self._order = order

    def describe(self, plan: RoundPlan) -> SiteDescription:
        """What the site says of itself to a study that it agrees to.

        Raises:
            PolicyRefusal: its policy does not agree.
            BudgetExceeded: its budget does not hold the study.
        """
        self._consent.check(plan)
        study, facts = self._consent.study, self._trainer.facts
        equal = study.federation.weighting == "equal"
        return SiteDescription(
            name=facts.name,
            partition=facts.partition,
            declared_size=facts.declared_size,
            weight=study.site_section(facts.name).weight or (1.0 if equal else float(facts.declared_size)),
            epsilon=study.epsilon_of(facts.name),
            delta=study.delta_of(facts.declared_size),
            noise_multiplier=self._consent.noise_multiplier,
            order=self._order or 0,
        )

    def train(self, plan: RoundPlan, weights: Weights, coordinator: str = "") -> Update:
        """Take the round's local steps from the global weights, asked by ``coordinator`` ("" in a simulation).

        Raises:
            PolicyRefusal: the policy does not agree, or the round was asked before (PRIVACY P9).
            BudgetExceeded: the budget does not hold the round.
        """
        if plan.study != self._consent.study:
            raise BadInput("plan: study: is not the one that this site was set up for")
        held = self._consent.reserve(plan, weights, coordinator)
        try:
            update = self._trainer.train(plan, weights)
        except BaseException:
            self._consent.settle(held, "failed")
            raise
        head = self._consent.settle(held, "completed")
        return replace(update, head=head)
