"""What an institution says to one study: its policy agrees or refuses, its budget pays.

Nothing here looks at data. What a coordinator is told is a function of plan, policy and ledger alone
(PRIVACY P15), and every refusal is in the ledger before it is told.
"""

from __future__ import annotations

import hashlib
import json
from copy import copy
from datetime import UTC, datetime

from client.policy import Policy
from client.policy_rules import PolicyRequest, check_policy, policy_request
from common.base_model import resolve_base
from common.build import build_digest
from common.errors import PolicyRefusal
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.granting import Refusal
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.details import Head, Outcome, Refused
from common.privacy.ledger.entry import Draft
from common.privacy.ledger.history import Reservation
from common.privacy.ledger.records import approval_holds, record_refusal, record_trusted_release
from common.privacy.mechanism import Composition, Mechanism, NotPrivate
from common.schedule import schedule
from common.study import Study
from common.study_mechanism import calibrated_noise_multiplier, round_mechanism, study_mechanism
from common.weights import Weights
from common.wire import RoundPlan

__all__ = ["StudyConsent", "noise_under", "plan_digest", "record_policy_refusal", "request_under"]


def plan_digest(plan: RoundPlan, study_digest: str, weights: Weights) -> str:
    """SHA-256 of all that the coordinator asks for in a round, global weights included (P9)."""
    asked = [study_digest, plan.run, plan.round, plan.phase.value, plan.steps]
    digest = hashlib.sha256(json.dumps(asked).encode())
    for name in sorted(weights):
        value = weights[name]
        digest.update(json.dumps([name, list(value.shape)]).encode())
        digest.update(value.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def noise_under(policy: Policy, study: Study) -> float:
    """The site's noise multiplier, calibrated with the accountant of its policy's budget (P5).

    0 also for a batch beyond the declared size, which has no sample rate to calibrate at; the policy refuses it.
    """
    if not _has_a_sample_rate(policy, study):
        return 0.0
    return calibrated_noise_multiplier(study, policy.site.name, policy.dataset.declared_size, policy.terms.order)


def request_under(
    policy: Policy, study: Study, study_digest: str, noise_multiplier: float, ledger: Ledger | None
) -> PolicyRequest:
    """What ``study`` asks of the policy today; its approval is looked up where the policy wants one."""
    today = datetime.now(UTC).date()
    approved = (
        policy.allow.approval == "required"
        and ledger is not None
        and approval_holds(ledger, policy.dataset.name, study_digest, today)
    )
    return policy_request(policy, study, study_digest, noise_multiplier, approved, today)


def record_policy_refusal(ledger: Ledger, dataset: str, study_digest: str, run: str, refusal: Refusal) -> None:
    """Keep in the ledger that the policy turned a study down."""
    details = Refused(code=refusal.code)
    record_refusal(ledger, Draft(dataset=dataset, study=study_digest, run=run, details=details))


def _has_a_sample_rate(policy: Policy, study: Study) -> bool:
    return study.privacy.batch_size <= policy.dataset.declared_size


class StudyConsent:
    """An institution's policy and budget before one study."""

    def __init__(
        self,
        policy: Policy,
        budget: PrivacyBudget | None,
        study: Study,
        budget_for_each_run: bool = False,
        ledger: Ledger | None = None,
    ) -> None:
        """Calibrate the site's noise with the accountant of its budget (P5).

        Args:
            policy: what the institution agrees to.
            budget: its dataset's; None where privacy is off, which releases without any.
            study: what is asked.
            budget_for_each_run: open a budget of the policy's terms for each run, which adds to the claim (P6);
                for virtual sites without an officer.
            ledger: where approvals are looked up and refusals kept; that of the budget if there is one.
        """
        self.study = study
        self.study_digest = study.digest(resolve_base(study.model.base).digest)
        self.noise_multiplier = noise_under(policy, study)
        self._policy = policy
        self._budget = budget
        self._budget_for_each_run = budget_for_each_run
        self._ledger = budget.ledger if budget is not None else ledger
        self._whole: Mechanism = Composition(())
        if _has_a_sample_rate(policy, study):
            self._whole = study_mechanism(study, policy.dataset.declared_size, self.noise_multiplier)

    def with_budget(self, budget: PrivacyBudget) -> StudyConsent:
        """The same consent before another handle on the dataset's budget, as one that commits to its data."""
        other = copy(self)
        if self._budget is not None:
            other._budget = budget
        return other

    def check(self, plan: RoundPlan) -> None:
        """Agree to the whole study, before its first round; charges nothing.

        Raises:
            PolicyRefusal: the policy does not agree.
            BudgetExceeded: the study does not fit; names spent, reserved, asked and left.
        """
        self._check_policy(plan)
        if self._budget is None or self._budget_for_each_run:
            return
        self._budget.ensure_open(self._policy.terms, build_digest())
        if self.study.privacy.noised_at_sites:
            self._budget.check_study(self._use(plan), self._whole)

    def reserve(self, plan: RoundPlan, weights: Weights, coordinator: str = "") -> Reservation | None:
        """Pay for a round. When this returns, it is on disk; None where nothing is to be paid.

        ``coordinator`` is the witness key of who asks (P8); "" in a simulation.

        Raises:
            PolicyRefusal: the policy does not agree, or the round was asked before (P9).
            BudgetExceeded: it does not fit.
        """
        self._check_policy(plan)
        self._check_scheduled(plan)
        if self._budget is None:
            return None
        if not self.study.privacy.noised_at_sites:
            self._record_trusted_release(plan)
            return None
        use = self._use(plan, coordinator)
        if not self._budget_for_each_run:
            self._budget.ensure_open(self._policy.terms, build_digest())
        elif not self._budget.holds(use):
            self._budget.open(self._policy.terms, build=build_digest())
        self._budget.admit_study(use, self._whole)
        mechanism = round_mechanism(
            self.study, self._policy.dataset.declared_size, self.noise_multiplier, plan.steps
        )
        asked = plan_digest(plan, self.study_digest, weights)
        return self._budget.reserve(use, RoundRequest(plan.round, asked, mechanism))

    def settle(self, held: Reservation | None, outcome: Outcome) -> Head | None:
        """End a round at its full cost (P7); the ledger's head, for the coordinator to witness."""
        if self._budget is None:
            return None
        if held is not None:
            return self._budget.settle(held, outcome).head
        return self._budget.heads()

    def _use(self, plan: RoundPlan, coordinator: str = "") -> StudyUse:
        delta = self.study.delta_of(self._policy.dataset.declared_size)
        return StudyUse(self.study_digest, plan.run, delta, coordinator)

    def _check_policy(self, plan: RoundPlan) -> None:
        try:
            request = request_under(
                self._policy, self.study, self.study_digest, self.noise_multiplier, self._ledger
            )
            check_policy(self._policy, request)
        except Refusal as refusal:
            self._record(refusal, plan)
            raise refusal.error from None

    def _check_scheduled(self, plan: RoundPlan) -> None:
        """The digest that was approved fixes every round (P18); a coordinator may not invent one."""
        rounds = schedule(self.study)
        known = rounds[plan.round - 1] if plan.round <= len(rounds) else None
        if known is None or (known.phase, known.steps) != (plan.phase, plan.steps):
            refusal = Refusal(
                "not-in-study",
                PolicyRefusal(
                    f"round {plan.round}: {plan.steps} steps of {plan.phase}: is no round of the study as approved"
                ),
            )
            self._record(refusal, plan)
            raise refusal.error

    def _record(self, refusal: Refusal, plan: RoundPlan) -> None:
        if self._ledger is not None:
            dataset = self._policy.dataset.name
            record_policy_refusal(self._ledger, dataset, self.study_digest, plan.run, refusal)

    def _record_trusted_release(self, plan: RoundPlan) -> None:
        assert self._budget is not None  # reserve() has looked
        self._budget.ensure_open(self._policy.terms, build_digest())
        record_trusted_release(
            self._budget.ledger,
            self._policy.dataset.name,
            NotPrivate("given to the coordinator, who adds the noise"),
            self.study_digest,
            plan.run,
            plan.round,
        )
