"""An audit's steps in the audited site's ledger: the registration first, then charged like any unit's.

The entries are those of any run. The run's name begins with ``audit-``, its one round's ``plan`` is the digest of
the registration, and its reservation is on disk before the first step.
"""

from __future__ import annotations

import math
import secrets

from client.policy_file import read_policy
from client.preparation import sealed
from client.virtual import virtual_site_directory
from common.base_model import resolve_base
from common.build import build_digest
from common.privacy.accounting import LARGEST_EPSILON, epsilon
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.ledger.book import Ledger
from common.privacy.ledger.details import Outcome
from common.privacy.ledger.history import Reservation
from common.privacy.mechanism import Mechanism
from common.privacy.terms import BudgetTerms
from common.study import Study
from common.virtual_sites import VirtualSite
from deploy.audit.registration import Registration

__all__ = ["AuditCharge", "study_digest"]


def study_digest(study: Study) -> str:
    """The study's digest, base weights and tokenizer included."""
    return study.digest(resolve_base(study.model.base).digest)


class AuditCharge:
    """The reservation of one audit at a virtual site."""

    def __init__(self, study: Study, virtual: VirtualSite) -> None:
        """Open the site's folder; nothing is charged yet."""
        directory = virtual_site_directory(study, virtual.name)
        self._policy = read_policy(directory.policy) if directory.policy.is_file() else None
        seal = sealed(directory.commitment_key(), virtual.examples)
        dataset = study.study.name if self._policy is None else self._policy.dataset.name
        self.ledger: Ledger = directory.ledger("" if self._policy is None else self._policy.ledger.url)
        self._budget = PrivacyBudget(self.ledger, dataset, seal)
        self._study, self._declared = study, virtual.declared_size

    def reserve(self, registration: Registration, mechanism: Mechanism) -> Reservation:
        """Put the registration's digest on record and reserve all that the audit will release.

        A site with a policy pays from its budget; one without opens a budget for the audit, which adds (P6).

        Raises:
            BudgetExceeded: the site's budget does not hold the audit.
        """
        delta = self._study.delta_of(self._declared)
        run = f"audit-{registration.digest[:16]}-{secrets.token_hex(8)}"
        use = StudyUse(registration.study, run, delta)
        if self._policy is not None:
            self._budget.ensure_open(self._policy.terms, build_digest())
        else:
            self._budget.open(self._terms(mechanism, delta), build=build_digest(), note="for an audit")
        self._budget.admit_study(use, mechanism)
        return self._budget.reserve(use, RoundRequest(1, registration.digest, mechanism))

    def settle(self, held: Reservation, outcome: Outcome) -> None:
        """End it; all of it counts, whatever the outcome."""
        self._budget.settle(held, outcome)

    def _terms(self, mechanism: Mechanism, delta: float) -> BudgetTerms:
        unit = self._study.privacy.unit
        cost = math.ceil(epsilon(mechanism, delta) * 100 + 1) / 100
        return BudgetTerms(
            epsilon=min(cost, LARGEST_EPSILON), delta=delta, unit=unit, declared_size=self._declared
        )
