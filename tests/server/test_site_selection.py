"""Selection over real rounds: who is asked, what it costs, and that a resumed run asks the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.virtual import virtual_site_directory
from common.environment import SITES_VARIABLE
from common.errors import BadInput
from common.privacy.accounting import rdp_at_order
from common.privacy.budget import PrivacyBudget
from common.privacy.mechanism import SampledGaussian
from common.privacy.spending import filter_reading
from common.schedule import schedule
from common.study import Study
from common.study_file import parse_study
from common.virtual_sites import virtual_sites
from common.wire import SiteDescription
from deploy.local_engine import LocalGrid
from server.run_directory import RunDirectory
from server.site_selection import check_filters, open_selection
from server.spending import spent_epsilon
from server.study_run import run_study
from tests.client.samples import policy_of
from tests.tiny import tiny_study_text

ORDER = 8


@pytest.fixture
def make(tiny_base: Path, tiny_data: Path) -> Callable[..., Study]:
    """Makes a study of the tiny head in which two of four sites are asked in each of five rounds."""

    def made(selection: str, *overrides: str) -> Study:
        chosen = [
            f"federation.selection={selection}",
            "federation.sites_per_round=2",
            "federation.keep_updates=true",
            "federation.rounds=5",
            "federation.steps_per_round=1",
            "model.trainable=head",
            "model.warm_start_steps=0",
        ]
        return parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", [*chosen, *overrides])

    return made


@pytest.fixture
def filters(tiny_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Policies of the four virtual sites, each with a filter."""
    folder = tmp_path / "sites"
    for site in virtual_sites(tiny_study).sites:
        own = folder / site.name
        own.mkdir(parents=True, mode=0o700)
        policy = policy_of(
            site={"name": site.name},
            dataset={"declared_size": site.declared_size},
            budget={"kind": "filter", "order": ORDER},
            allow={"trainable": ["head"], "min_noise_multiplier": 0.0},
        )
        text = tomli_w.dumps(policy.model_dump(mode="json", exclude_none=True))
        (own / "policy.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv(SITES_VARIABLE, str(folder))
    return folder


def result_of(path: Path) -> dict[str, Any]:
    """The run's result."""
    found: dict[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def grid() -> Iterator[LocalGrid]:
    """A worker that starts after the sites' folder is set."""
    with LocalGrid(4, 1, 1) as made:
        yield made


@pytest.mark.slow
def test_p21_under_filters_a_site_that_is_not_asked_neither_trains_nor_pays(
    make: Callable[..., Study], filters: Path, grid: LocalGrid, tmp_path: Path
) -> None:
    """What the coordinator states is what each ledger holds: the rounds that asked the site, and no other."""
    study, run = make("bandit"), RunDirectory(tmp_path / "run")
    run_study(study, grid, run)
    records, result = run.rounds(), result_of(run.path)
    assert [len(record.sites) for record in records] == [2] * 5
    assert {site.site for record in records[:2] for site in record.sites} == {"east", "north", "south", "west"}
    assert sum(site["rounds_asked"] for site in result["sites"]) == 10
    for site in result["sites"]:
        asked = [r.round for r in records if site["name"] in {s.site for s in r.sites}]
        assert site["rounds_asked"] == site["rounds_replied"] == len(asked)
        directory = virtual_site_directory(study, site["name"])
        seal = directory.commitment_key().seal([b""])
        (held,) = PrivacyBudget(directory.ledger(), "letters", seal).spending()
        step = SampledGaussian(site["sample_rate"], site["noise_multiplier"], len(asked))
        assert held.spent == pytest.approx(rdp_at_order(step, ORDER), rel=1e-9)
        assert site["epsilon"] == pytest.approx(filter_reading(held.spent, ORDER, site["delta"]), rel=1e-9)
    lines = [json.loads(line) for line in run.selection.read_text().splitlines()]
    learnt = [line for line in lines if line["rewards"]]
    assert [line["round"] for line in learnt] == [1, 2, 3, 4, 5]
    assert all(set(line["rewards"]) == set(line["asked"]) for line in learnt)


@pytest.mark.slow
def test_p21_under_a_plan_the_unselected_are_counted_in_full(
    make: Callable[..., Study], grid: LocalGrid, tmp_path: Path
) -> None:
    """By lot, with plans: each site's epsilon is that of all rounds, though none was asked in all of them."""
    study, run = make("uniform"), RunDirectory(tmp_path)
    run_study(study, grid, run)
    result = result_of(tmp_path)
    assert any(site["rounds_asked"] < 5 for site in result["sites"])
    assert all(7.8 < site["epsilon"] <= 8.0 for site in result["sites"])
    records = run.rounds()
    again = open_selection(study, run, 3)
    asked = {number: {s.site for s in records[number - 1].sites} for number in range(1, 6)}
    for site, numbers in again.rounds_of({0: _described(result["sites"][0])}).items():
        assert numbers == tuple(n for n in asked if site in asked[n])


def _described(site: dict[str, Any]) -> SiteDescription:
    return SiteDescription(
        site["name"], 0, site["declared_size"], 1.0, 8.0, site["delta"], site["noise_multiplier"]
    )


@pytest.mark.slow
def test_p21_the_bandit_refuses_plans_before_any_round(
    make: Callable[..., Study], grid: LocalGrid, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(BadInput, match="are plans, which charge"):
        run_study(make("bandit"), grid, run)
    assert run.started_round() == 0


def test_p21_a_plan_is_counted_for_rounds_that_did_not_ask_and_a_filter_is_not(make: Callable[..., Study]) -> None:
    study = make("uniform")
    plan = SiteDescription("north", 0, 80, 1.0, 8.0, 1e-5, 1.0)
    assert len(schedule(study)) == 5
    for number in range(1, 6):
        assert spent_epsilon(study, plan, number, (1,)) == spent_epsilon(study, plan, number)
    from dataclasses import replace

    site = replace(plan, order=ORDER)
    assert spent_epsilon(study, site, 5, ()) == 0.0
    assert spent_epsilon(study, site, 1, (2, 3)) == 0.0
    assert spent_epsilon(study, site, 5, (2, 3)) == spent_epsilon(study, site, 2)
    assert spent_epsilon(study, site, 5, (1, 2, 3, 4, 5)) == spent_epsilon(study, site, 5)


def test_without_privacy_the_bandit_needs_no_filters(make: Callable[..., Study]) -> None:
    plan = SiteDescription("north", 0, 80, 1.0, 8.0, 1e-5, 0.0)
    check_filters(make("bandit", "privacy.enabled=false"), [plan])


def test_what_an_interrupted_round_chose_stays_and_what_it_taught_does_not(
    make: Callable[..., Study], tmp_path: Path
) -> None:
    run, study = RunDirectory(tmp_path), make("bandit")
    lines = [
        '{"asked": ["a", "b"], "rewards": {}, "round": 1}',
        '{"asked": ["a", "b"], "rewards": {"a": 1.0, "b": -1.0}, "round": 1}',
        '{"asked": ["c", "d"], "rewards": {"c": 2.0}, "round": 2}',
        '{"asked": ["a"',
    ]
    run.selection.write_text("\n".join(lines))
    open_selection(study, run, 1)
    kept = [json.loads(line) for line in run.selection.read_text().splitlines()]
    assert [(line["round"], line["rewards"]) for line in kept] == [(1, {"a": 1.0, "b": -1.0}), (2, {})]
    run.selection.write_text("nonsense\n" + lines[0])
    with pytest.raises(BadInput, match=r"selection\.jsonl: line 1"):
        open_selection(study, run, 1)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["federation.sites_per_round=0"], "needs it, at least min_sites"),
        (["federation.sites_per_round=5"], "at most data.sites = 4"),
        (["federation.min_sites=3"], "at least min_sites = 3"),
        (["federation.strategy=median"], "median compares all sites"),
        (["privacy.unit=institution"], "every institution takes part in every round"),
        (["federation.keep_updates=false"], "set keep_updates = true"),
    ],
)
def test_impossible_selections(make: Callable[..., Study], overrides: list[str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        make("bandit", *overrides)


def test_sites_per_round_without_selection_is_refused(make: Callable[..., Study]) -> None:
    with pytest.raises(BadInput, match="only selection"):
        make("all")


def test_inverse_variance_needs_a_mean(make: Callable[..., Study]) -> None:
    with pytest.raises(BadInput, match="krum weighs sites alike"):
        make(
            "all",
            "federation.sites_per_round=0",
            "federation.weighting=inverse-variance",
            "federation.strategy=krum",
        )
