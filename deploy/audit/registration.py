"""What an audit fixes before it runs: canaries, scores, thresholds, guesses, confidence, seed.

Whoever may choose these after the fact finds what was wanted. The registration's digest stands in the audited
site's ledger, in the reservation that the audit's steps are charged to, before the first step is taken.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.privacy.ledger.canonical import canonical

__all__ = ["CHECKS", "CheckName", "Claim", "Guessing", "Registration", "guessing_for"]

CheckName = Literal["noise", "white-box", "black-box", "membership", "inversion"]
"""What an empirical audit can do, in the order in which it does it."""

CHECKS: tuple[CheckName, ...] = ("noise", "white-box", "black-box", "membership", "inversion")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Guessing(_Record):
    """How many of the canaries are guessed, half "in" for the highest scores and half "out" for the lowest."""

    one_run: Annotated[int, Field(ge=2)]
    curve: Annotated[int, Field(ge=2)]


class Claim(_Record):
    """What is claimed of the site's part in the study, and tested."""

    epsilon: float
    delta: float
    sample_rate: float
    noise_multiplier: float
    steps: int


class Registration(_Record):
    """An audit's plan."""

    format: Literal["hanse-audit-registration/1"] = "hanse-audit-registration/1"
    study: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the study."""
    site: str
    claim: Claim
    checks: tuple[CheckName, ...]
    seed: int
    """Of canary coins, canary texts and member splits; never of noise or sampling."""
    canaries: int
    """Gradient canaries of the white box."""
    text_canaries: int
    """Inserted texts of the black box."""
    member_records: int
    """Texts of the membership attack, members and not."""
    shadows: int
    """Reference models that membership inference compares with."""
    guessing: Guessing
    confidence: float
    """That all bounds of the audit are true together: each gets an equal share of the error (Bonferroni)."""
    false_alarm_rate: float
    """Of all tests of noise and sampler together."""
    canary: str = (
        "gradient of norm 100 C in a direction of its own over two layers, in with probability 1/2 by the seed; "
        "texts of random words with a random label, in with probability 1/2"
    )
    score: str = (
        "white box: log-likelihood ratio over all steps, sum, largest step; black box: loss before training minus "
        "loss after; membership: logit of the label less its mean over references (LiRA, offline)"
    )
    threshold: str = (
        "component: from the claim and the numbers of observations; profile test: quantiles of the first half's "
        "excluded canaries at 0.002, 0.01, 0.03, 0.1, 0.3, 0.5, the best of them tested on the second half; "
        "Gaussian: middle of the first half's medians; membership: first half of the non-members"
    )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON (RFC 8785)."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


def guessing_for(canaries: int, epsilon: float) -> Guessing:
    """How many guesses suit a claim: many where each is hardly better than a coin, few where some are sure."""
    one_run, curve = (0.2, 0.4) if epsilon <= 1.5 else (0.1, 0.2)
    return Guessing(one_run=max(2, round(canaries * one_run)), curve=max(2, round(canaries * curve)))
