"""Planted bugs that no run shows: in the ledger, on the wire, in the accountant. Static checks see them, always.

Nothing is drawn here, so there are no false alarms; honest evidence passes the same checks.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import RecordDict
from scipy import optimize

from common.audit.findings import LedgerCheck
from common.audit.trade_off import gaussian_epsilon
from common.privacy.ledger.details import Head
from common.privacy.mechanism import SampledGaussian
from common.wire import Update, pack_update
from tests.common.audit.samples import HONEST, PLAN_STORY, audited, bundle, evidence, written
from tests.common.privacy.ledger.samples import PLANNED, ROUND, opened, reserved

WIRE: dict[str, frozenset[str]] = {
    "update": frozenset({"site", "round", "mechanism", "head_sequence", "head_hash"}),
    "weights": frozenset({"layer"}),
}
"""All that may leave a site with an update: names and plan, the ledger's own head, and weights from a mechanism.

A field that a site is to send from now on is added here together with the ledger entry that covers it (P15)."""


def unlisted(record: RecordDict) -> set[str]:
    """Fields of a message that no rule covers."""
    return {
        f"{part}.{name}" for part, fields in record.items() for name in fields if name not in WIRE.get(part, ())
    }


def _update() -> Update:
    return Update("north", 1, {"layer": np.zeros(2, np.float32)}, ROUND, Head(sequence=2, hash="a" * 64))


def test_p15_an_update_holds_what_is_on_the_list() -> None:
    assert unlisted(pack_update(_update())) == set()


@pytest.mark.parametrize("name", ["loss", "examples", "batch_size", "best_epoch"])
def test_p15_a_planted_side_output_is_seen(name: str) -> None:
    """Bug 15, check S."""
    record = pack_update(_update())
    part = record["update"]
    part[name] = 0.5  # type: ignore[index]
    assert unlisted(record) == {f"update.{name}"}


def test_p15_buffers_beside_the_weights_are_seen() -> None:
    """Bug 15, check S: a running mean of activations."""
    update = replace(
        _update(), weights={"layer": np.zeros(2, np.float32), "running_mean": np.zeros(2, np.float32)}
    )
    assert unlisted(pack_update(update)) == {"weights.running_mean"}


LOST = {
    "a restart that begins anew": PLAN_STORY[:1],
    "a round that was never charged": PLAN_STORY[:4],
    "a new study in place of the old": (opened(PLANNED), reserved(None), reserved(1)),
}


@pytest.mark.parametrize("story", LOST.values(), ids=[name.replace(" ", "_") for name in LOST])
def test_p08_a_planted_loss_of_history_is_seen(story: tuple[object, ...]) -> None:
    """Bug 13, check S: heads that a coordinator witnessed are gone."""
    found = audited(evidence({"north": story}))  # type: ignore[dict-item]
    assert LedgerCheck.WITNESSED in {check.check for check in found.failed}


def test_the_same_checks_pass_honest_evidence() -> None:
    assert audited(HONEST).failed == ()


def central_limit_noise(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Bug 19: noise by the central limit of Gaussian differential privacy (Bu et al. 2020), read as a bound."""

    def excess(noise: float) -> float:
        mu = rate * math.sqrt(steps * math.expm1(noise**-2))
        return gaussian_epsilon(mu, delta) - epsilon

    return float(optimize.brentq(excess, 0.3, 5.0))


def test_p05_a_planted_accountant_is_seen() -> None:
    """Bug 19, check S: epsilon is recomputed from the mechanism, whatever the site's accountant said."""
    noise = central_limit_noise(PLANNED.epsilon, PLANNED.delta, ROUND.sample_rate, 100)
    story = (opened(PLANNED), reserved(None, SampledGaussian(ROUND.sample_rate, noise, 100)))
    found = audited(replace(HONEST, bundles=(bundle("north", written("north", story)),), runs=(), witnesses=()))
    assert LedgerCheck.BUDGET in {check.check for check in found.failed}
