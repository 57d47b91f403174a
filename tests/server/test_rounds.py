"""Rounds over real worker processes with sites that raise, refuse, lie or come late.

Workers run the ClientApp of this very module: the real one, except that the study's name says how one site
misbehaves in training, as ``raise-1`` for the second site.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.app import app as real_app
from client.virtual import virtual_site
from common.errors import BadInput, HanseError, PolicyRefusal, RunFailed
from common.privacy.mechanism import SampledGaussian
from common.study import Study
from common.study_file import parse_study
from common.weights import Weights
from common.wire import RoundPlan, Update, pack_refusal, pack_update, unpack_plan
from deploy.local_engine import LocalGrid
from server.records import RoundRecord
from server.run_directory import RunDirectory
from server.study_run import run_study
from tests.tiny import tiny_study_text

SECONDS_LATE = 9.0

app = ClientApp()


@app.query()
def _describe(message: Message, context: Context) -> Message:
    return real_app(message, context)


@app.train()
def _train(message: Message, context: Context) -> Message:
    plan, weights = unpack_plan(message.content)
    how, _, which = plan.study.study.name.rpartition("-")
    partition = int(context.node_config["partition-id"])
    if str(partition) not in which.split("."):
        return real_app(message, context)
    if how == "raise":
        raise ZeroDivisionError("a fault of this site's own")
    if how == "refuse":
        return Message(pack_refusal(PolicyRefusal("epsilon: more than this site agrees to")), reply_to=message)
    if how == "late":
        if plan.round == 1:
            time.sleep(SECONDS_LATE)
        return real_app(message, context)
    return Message(pack_update(_lie(how, plan, weights, partition)), reply_to=message)


def _lie(how: str, plan: RoundPlan, weights: Weights, partition: int) -> Update:
    honest = virtual_site(plan.study, partition).train(plan, weights)
    name = next(iter(honest.weights))
    if how == "more-noise":
        cheaper = SampledGaussian(0.01, 100.0, plan.steps)
        return replace(honest, mechanism=cheaper)
    if how == "other-round":
        return replace(honest, round=plan.round + 1)
    lies = {
        "huge": honest.weights[name] + np.float32(1e9),
        "nan": honest.weights[name] * np.float32("nan"),
        "shape": np.zeros((1, 1), np.float32),
    }
    return replace(honest, weights={**honest.weights, name: lies[how]})


@pytest.fixture(scope="module")
def grid() -> Iterator[LocalGrid]:
    """Worker processes that run this module's ClientApp."""
    with LocalGrid(4, 2, 1, client_app="tests.server.test_rounds") as made:
        yield made


@pytest.fixture
def misbehaving(tiny_base: Path, tiny_data: Path) -> Iterator[object]:
    """Makes a study in which sites misbehave as its name says."""

    def make(name: str, *overrides: str) -> Study:
        plain = ["privacy.enabled=false", "model.warm_start_steps=0", "federation.rounds=1"]
        text = tiny_study_text(tiny_base, tiny_data)
        return parse_study(text, where="tiny", overrides=[f'study.name="{name}"', *plain, *overrides])

    return make  # type: ignore[return-value]  # a factory, not a generator


def ran(study: Study, grid: LocalGrid, path: Path) -> list[RoundRecord]:
    """Run the study and read its rounds back."""
    directory = RunDirectory(path)
    run_study(study, grid, directory)
    assert directory.result.is_file()
    return directory.rounds()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "a site failed: ZeroDivisionError: a fault of this site's own"),
        ("refuse", "epsilon: more than this site agrees to"),
        ("more-noise", "update: reports SampledGaussian"),
        ("other-round", "update: is for round 2, this is round 1"),
        ("huge", "changed by more than 4194304 in one round"),
        ("nan", "holds a value that is not finite"),
        ("shape", "has shape (1, 1), expected"),
    ],
)
def test_a_site_that_fails_is_recorded_with_its_reason_and_the_run_goes_on(
    misbehaving: object, grid: LocalGrid, tmp_path: Path, how: str, reason: str
) -> None:
    (record,) = ran(misbehaving(f"{how}-1"), grid, tmp_path)  # type: ignore[operator]
    assert [site.replied for site in record.sites] == [True, False, True, True]
    assert reason in record.sites[1].reason
    assert [site.reason for site in record.sites if site.replied] == ["", "", ""]
    assert record.bytes_received * 4 == record.bytes_sent * 3


def test_p07_a_round_counts_in_full_at_a_site_that_failed(
    misbehaving: object, grid: LocalGrid, tmp_path: Path
) -> None:
    study: Study = misbehaving("raise-1", "privacy.enabled=true", "federation.rounds=2")  # type: ignore[operator]
    first, second = ran(study, grid, tmp_path)
    for record in (first, second):
        assert not record.sites[1].replied
        assert isinstance(record.sites[1].mechanism, SampledGaussian)
        assert record.sites[1].mechanism.steps == record.steps
    spent = [site.epsilon for site in second.sites]
    assert all(e is not None and 7.9 < e <= 8.0 for e in spent)
    before = first.sites[1].epsilon
    assert before is not None
    assert 0 < before < 8.0


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raise", RunFailed, "a site failed: ZeroDivisionError"),
        ("refuse", PolicyRefusal, "more than this site agrees to"),
        ("huge", BadInput, "changed by more than"),
    ],
)
def test_fewer_updates_than_min_sites_end_the_run(
    misbehaving: object, grid: LocalGrid, tmp_path: Path, how: str, kind: type[HanseError], message: str
) -> None:
    study = misbehaving(f"{how}-0.1.3", "federation.min_sites=2")  # type: ignore[operator]
    with pytest.raises(kind, match=message):
        ran(study, grid, tmp_path)
    directory = RunDirectory(tmp_path)
    assert not directory.result.exists()
    assert directory.rounds() == []
    assert directory.started_round() == 1


def test_exactly_min_sites_are_enough(misbehaving: object, grid: LocalGrid, tmp_path: Path) -> None:
    (record,) = ran(misbehaving("raise-0.3", "federation.min_sites=2"), grid, tmp_path)  # type: ignore[operator]
    assert [site.replied for site in record.sites] == [False, True, True, False]


@pytest.mark.slow
def test_late_replies_are_left_out_of_the_round_and_of_the_next(
    misbehaving: object, grid: LocalGrid, tmp_path: Path
) -> None:
    two = ("federation.rounds=2", "federation.round_timeout=6s", "federation.min_sites=3")
    prompt, late = (
        ran(misbehaving(name, *two), grid, tmp_path / name)  # type: ignore[operator]
        for name in ("prompt-9", "late-3")
    )
    assert [[site.replied for site in record.sites] for record in prompt] == [[True] * 4] * 2
    assert [[site.replied for site in record.sites] for record in late] == [[True, True, True, False], [True] * 4]
    assert late[0].sites[3].reason == "no reply within 6s"
    assert late[0].bytes_received * 4 == late[0].bytes_sent * 3


def test_too_few_in_time_end_the_run(misbehaving: object, grid: LocalGrid, tmp_path: Path) -> None:
    study = misbehaving("prompt-9", "federation.round_timeout=0.01s", "federation.min_sites=4")  # type: ignore[operator]
    message = r"round 1: \d of 4 sites replied within 0.01s, federation.min_sites = 4"
    with pytest.raises(RunFailed, match=message):
        ran(study, grid, tmp_path)


@pytest.mark.parametrize("strategy", ["krum", "trimmed-mean"])
def test_a_robust_rule_with_too_few_replies_ends_the_run(
    misbehaving: object, grid: LocalGrid, tmp_path: Path, strategy: str
) -> None:
    few = {"krum": ("raise-0.1", 0), "trimmed-mean": ("raise-0.1", 1)}
    name, malicious = few[strategy]
    study = misbehaving(  # type: ignore[operator]
        name,
        f"federation.strategy={strategy}",
        f"federation.malicious_sites={malicious}",
        "federation.min_sites=1",
    )
    with pytest.raises(
        BadInput, match=rf"{strategy} needs .* replies, this round had 2|{strategy} needs more than 2"
    ):
        ran(study, grid, tmp_path)


def test_an_unscored_round_is_recorded_without_an_evaluation_and_the_last_is_scored(
    misbehaving: object, grid: LocalGrid, tmp_path: Path
) -> None:
    study = misbehaving("all-well-9", "federation.rounds=3", "federation.evaluate_every=2")  # type: ignore[operator]
    assert [record.evaluation is not None for record in ran(study, grid, tmp_path)] == [False, True, True]
