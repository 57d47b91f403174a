"""The final figures: what they say with and without privacy, and from which records they come."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.evaluation import Evaluation, evaluate_logits
from common.privacy.accounting import noise_multiplier_for
from common.privacy.ledger.details import Head
from common.schedule import planned_steps, schedule
from common.study import Study
from common.wire import SiteDescription
from server.checkpoint import Checkpoint
from server.records import RoundRecord, SiteRound
from server.result import study_result
from server.spending import planned_mechanism, spent_epsilon


def evaluation(right: int) -> Evaluation:
    """An evaluation in which that many of four examples are right."""
    targets = np.array([0, 1, 0, 1])
    logits = np.where(np.arange(4)[:, None] < right, np.eye(2)[targets], np.eye(2)[1 - targets])
    return evaluate_logits(logits.astype(np.float32), targets)


def result_of(study: Study, missing: tuple[int, ...] = (), consumed: tuple[int, ...] = ()) -> dict[str, Any]:
    """The result of a run of two sites; site ``b`` did not reply in the ``missing`` rounds."""
    noise = noise_multiplier_for(8.0, 1e-5, [(0.1, planned_steps(study))])
    sites = {node: SiteDescription(name, node, 80, 80.0, 8.0, 1e-5, noise) for node, name in enumerate(("a", "b"))}
    records = []
    for planned in schedule(study):
        entries = tuple(
            SiteRound(
                site.name,
                planned_mechanism(study, site, planned.steps),
                spent_epsilon(study, site, planned.number),
                replied=not (site.name == "b" and planned.number in missing),
                seconds=1.0,
            )
            for site in sites.values()
        )
        seconds = {"train": 1.0, "evaluate": 0.5, "round": 1.5}
        records.append(
            RoundRecord(
                planned.number, planned.phase, planned.steps, entries, evaluation(planned.number), 3, 2, seconds
            )
        )
    heads = {"a": Head(sequence=9, hash="cd" * 32)} if study.privacy.enabled else {}
    directory = SimpleNamespace(witnessed=lambda: heads)
    coordinator: Any = SimpleNamespace(study=study, sites=sites, directory=directory, run="ef" * 16, asked=None)
    state = Checkpoint(len(records), {}, best_round=2, consumed=consumed)
    result = study_result(coordinator, records, state, evaluation(3), 12.5)
    assert json.loads(json.dumps(result)) == result
    return result


def without_privacy(study: Study) -> Study:
    """The same study with privacy off."""
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"enabled": False})})


def test_a_private_result_states_the_guarantee_and_what_it_leaves_out(tiny_study: Study) -> None:
    result = result_of(tiny_study)
    assert result["private"] is True
    assert result["ledger"] == {"run": "ef" * 16, "heads": {"a": {"sequence": 9, "hash": "cd" * 32}}}
    privacy = result["privacy"]
    assert "one row" in privacy["statement"]
    assert "over this whole run alone" in privacy["statement"]
    assert privacy["unit"] == "example"
    assert privacy["adjacency"] == "add or remove one unit"
    assert "AES-256 keystream" in privacy["noise"]
    assert any("not that the recorded mechanism is what ran" in line for line in privacy["not_covered"])
    for site in result["sites"]:
        assert 7.8 < site["epsilon"] <= site["epsilon_budget"] == 8.0
        assert site["sample_rate"] == pytest.approx(0.1)
        assert site["steps"] == planned_steps(tiny_study)


def test_a_result_without_privacy_says_not_private_and_no_epsilon(tiny_study: Study) -> None:
    result = result_of(without_privacy(tiny_study))
    assert result["private"] is False
    assert result["ledger"] is None
    assert "NOT private" in result["privacy"]["statement"]
    assert "unit" not in result["privacy"]
    for site in result["sites"]:
        assert site["epsilon"] is None
        assert not {"epsilon_budget", "delta", "noise_multiplier", "sample_rate"} & site.keys()


def test_totals_come_from_the_records(tiny_study: Study) -> None:
    result = result_of(tiny_study)
    assert result["rounds"] == 3
    assert (result["bytes_sent"], result["bytes_received"]) == (9, 6)
    assert result["seconds"] == {"total": 12.5, "train": 3.0, "evaluate": 1.5, "round": 4.5}


def test_the_validation_figures_are_the_best_rounds_and_the_test_figures_their_own(tiny_study: Study) -> None:
    result = result_of(tiny_study)
    assert result["best_round"] == 2
    assert result["validation"]["overall"]["accuracy"] == 0.5
    assert result["test"]["overall"]["accuracy"] == 0.75


def test_a_site_pays_for_rounds_in_which_it_did_not_reply(tiny_study: Study) -> None:
    a, b = result_of(tiny_study, missing=(2, 3))["sites"]
    assert (a["rounds_replied"], b["rounds_replied"]) == (3, 1)
    assert a["epsilon"] == b["epsilon"]


def test_consumed_rounds_are_listed(tiny_study: Study) -> None:
    assert result_of(tiny_study, consumed=(1, 3))["rounds_consumed"] == [1, 3]
    assert result_of(tiny_study)["rounds_consumed"] == []


def test_versions_and_seed_are_there(tiny_study: Study) -> None:
    result = result_of(tiny_study)
    assert result["seed"] == tiny_study.study.seed
    assert {"python", "hanse", "torch", "flwr", "opacus", "transformers"} <= result["versions"].keys()
    assert result["versions"]["torch"]
