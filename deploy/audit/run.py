"""A whole empirical audit: register, reserve, check, settle, and one record of what was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from common.build import build_digest
from common.errors import BadInput
from common.privacy.ledger.details import Outcome
from common.privacy.mechanism import Mechanism, SampledGaussian
from common.study import Study
from deploy.audit.charge import AuditCharge, study_digest
from deploy.audit.registration import CHECKS, CheckName, Claim, Registration, guessing_for
from deploy.audit.result import Bound, CheckResult, EmpiricalAudit, TestResult, versions
from deploy.audit.site_copy import SiteCopy, chosen_site, site_copy

__all__ = ["AuditSettings", "PreparedAudit", "prepare"]

_BOUNDS: dict[CheckName, int] = {"white-box": 5, "black-box": 1, "membership": 2}
"""Bounds with a verdict or a figure: they share the error of the registered confidence."""

_PUBLIC_ONLY: tuple[CheckName, ...] = ("membership", "inversion")


@dataclass(frozen=True)
class AuditSettings:
    """What an auditor chooses; everything else follows from the study."""

    checks: tuple[CheckName, ...] = CHECKS
    site: str = ""
    canaries: int = 1000
    text_canaries: int = 400
    member_records: int = 1400
    shadows: int = 2
    confidence: float = 0.95
    false_alarm_rate: float = 1e-3
    seed: int = 1
    public_data: bool = False
    """The auditor's statement that the study's data is public or synthetic (PRIVACY P20)."""


class PreparedAudit:
    """An audit whose plan is fixed; nothing has run yet."""

    def __init__(self, study: Study, settings: AuditSettings) -> None:
        """Build the site's copy and the registration.

        Raises:
            BadInput: a setting is impossible, or a check may not run on this data (PRIVACY P20).
        """
        _check(study, settings)
        self._virtual, place = chosen_site(study, settings.site)
        self._charge = AuditCharge(study, self._virtual)
        self._copy: SiteCopy = site_copy(study, self._virtual, place)
        self._steps = _checks()
        self.registration = self._registration(study, settings)

    def run(self, command: str, told: Callable[[str], None] = lambda words: None) -> EmpiricalAudit:
        """Register and reserve in the site's ledger, then run every check; ``told`` hears which.

        Raises:
            BudgetExceeded: the site's budget does not hold the audit.
        """
        plan = self.registration
        held = self._charge.reserve(plan, self.mechanism)
        outcome: Outcome = "failed"
        try:
            checks = []
            for name in plan.checks:
                told(name)
                started = time.perf_counter()
                found = self._steps[name](self._copy, plan, _confidence(plan))
                checks.append(found.model_copy(update={"seconds": round(time.perf_counter() - started, 1)}))
            outcome = "completed"
        finally:
            self._charge.settle(held, outcome)
        main = next((b for check in checks for b in check.bounds if b.method == "component"), None)
        return EmpiricalAudit(
            registration=plan,
            registration_digest=plan.digest,
            ledger_entry=held.sequence,
            checks=tuple(checks),
            findings=tuple(finding for check in checks for finding in check.findings),
            main_figure=main,
            command=command,
            build=build_digest(),
            versions=versions(),
        )

    def bundle(self) -> bytes:
        """The audited site's ledger, which holds the registration's digest."""
        return self._charge.ledger.bundle()

    @property
    def mechanism(self) -> Mechanism:
        """What the audit releases about the site's data: the study once for each private training."""
        plan, claimed = self.registration, self._copy.claimed
        runs = sum(
            {"white-box": 1, "black-box": 1, "membership": 1 + plan.shadows}.get(name, 0) for name in plan.checks
        )
        return SampledGaussian(claimed.sample_rate, claimed.noise_multiplier, claimed.steps * runs)

    def _registration(self, study: Study, settings: AuditSettings) -> Registration:
        copy = self._copy
        return Registration(
            study=study_digest(study),
            site=copy.facts.name,
            claim=Claim(
                epsilon=copy.epsilon,
                delta=copy.delta,
                sample_rate=copy.claimed.sample_rate,
                noise_multiplier=copy.claimed.noise_multiplier,
                steps=copy.claimed.steps,
            ),
            checks=tuple(name for name in CHECKS if name in settings.checks),
            seed=settings.seed,
            canaries=settings.canaries,
            text_canaries=settings.text_canaries,
            member_records=settings.member_records,
            shadows=settings.shadows,
            guessing=guessing_for(settings.canaries, copy.epsilon),
            confidence=settings.confidence,
            false_alarm_rate=settings.false_alarm_rate,
        )


def prepare(study: Study, settings: AuditSettings) -> PreparedAudit:
    """Fix an audit's plan; see :class:`PreparedAudit`."""
    return PreparedAudit(study, settings)


def _check(study: Study, settings: AuditSettings) -> None:
    if unknown := [name for name in settings.checks if name not in CHECKS]:
        raise BadInput(f"--checks {unknown[0]}: must be of {', '.join(CHECKS)}")
    if not settings.checks:
        raise BadInput(f"--checks: names nothing; choose of {', '.join(CHECKS)}")
    if not 20 <= settings.canaries <= 100_000:
        raise BadInput(f"--canaries {settings.canaries}: must be from 20 to 100,000")
    if not 0.5 <= settings.confidence < 1:
        raise BadInput(f"--confidence {settings.confidence}: must be at least 0.5 and below 1")
    source = study.data.source
    public = source == "embedded" or source.startswith("hub:") or settings.public_data
    for name in _PUBLIC_ONLY:
        if name in settings.checks and not public:
            raise BadInput(
                f'--checks {name}: data.source = "{source}": runs on public, synthetic or embedded data only '
                "(PRIVACY P20); leave it out, or state --public-data"
            )


def _confidence(plan: Registration) -> float:
    """Of each bound, so that all of them are true together with the registered confidence."""
    bounds = sum(_BOUNDS.get(name, 0) for name in plan.checks)
    return 1 - (1 - plan.confidence) / max(1, bounds)


_Step = Callable[[SiteCopy, Registration, float], CheckResult]


def _checks() -> dict[CheckName, _Step]:
    return {
        "noise": _noise,
        "white-box": _white_box,
        "black-box": _black_box,
        "membership": _membership,
        "inversion": _inversion,
    }


def _noise(copy: SiteCopy, plan: Registration, confidence: float) -> CheckResult:
    from client.preflight import preflight
    from deploy.audit.noise_and_sampler import noise_and_sampler_tests
    from deploy.audit.sensitivity import sensitivity_tests

    proofs = tuple(
        TestResult(
            name=f"preflight: {proof.name}",
            measured=float(proof.passed),
            expected=1.0,
            p_value=float(proof.passed),
            false_alarm_rate=0.5,
            passed=proof.passed,
        )
        for proof in preflight(copy.classifier, copy.study).checks
    )
    tests = (*sensitivity_tests(copy), *noise_and_sampler_tests(copy, plan.false_alarm_rate))
    return CheckResult(check="noise", seconds=0, tests=(*proofs, *map(TestResult.of, tests)))


def _white_box(copy: SiteCopy, plan: Registration, confidence: float) -> CheckResult:
    from deploy.audit.white_box import observe, white_box_bounds

    seen = observe(copy, plan.canaries, plan.seed)
    claim = (copy.epsilon, copy.delta)
    bounds = white_box_bounds(seen, copy.claimed, claim, plan.guessing, confidence)
    return CheckResult(check="white-box", seconds=0, bounds=bounds)


def _black_box(copy: SiteCopy, plan: Registration, confidence: float) -> CheckResult:
    from deploy.audit.black_box import black_box_bound

    guesses = guessing_for(plan.text_canaries, copy.epsilon).one_run
    bound: Bound = black_box_bound(copy, plan.text_canaries, guesses, plan.seed, confidence)
    return CheckResult(check="black-box", seconds=0, bounds=(bound,))


def _membership(copy: SiteCopy, plan: Registration, confidence: float) -> CheckResult:
    from deploy.audit.membership_attack import membership_attack

    found = membership_attack(copy, plan.member_records, plan.shadows, plan.seed, confidence)
    return CheckResult(check="membership", seconds=0, bounds=found.bounds, facts=found.facts)


def _inversion(copy: SiteCopy, plan: Registration, confidence: float) -> CheckResult:
    from deploy.audit.inversion import inversion_facts

    labels = len(copy.study.task.labels)
    facts = inversion_facts(copy.texts, labels, copy.claimed, plan.seed, plan.confidence)
    return CheckResult(check="inversion", seconds=0, facts=facts)
