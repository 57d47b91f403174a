"""Contributions from the run record alone: they sum to the gain, riders get nothing, unions are one player."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadInput
from common.study import Study
from common.weights import Weights
from deploy.local_engine import LocalGrid
from server.economics.coalition_score import CoalitionUtility
from server.economics.contribution import Question, contributions, planned_evaluations
from server.economics.contribution_record import contribution_record, read_contribution_record
from server.kept_run import open_kept_run
from server.kept_updates import kept_rounds
from server.run_directory import RunDirectory
from server.study_run import run_study
from tests.server.made_runs import head_study, made_run, somewhere
from tests.tiny import tiny_study_text

FOUR = dict.fromkeys(("east", "north", "south", "west"), somewhere)


def still(start: Weights, chooser: np.random.Generator) -> Weights:
    """A rider: what it was given."""
    return start


@pytest.fixture
def study(tiny_base: Path, tiny_data: Path) -> Study:
    """Two rounds of the tiny head."""
    return head_study(tiny_base, tiny_data)


@pytest.fixture(scope="module")
def real(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real private run of LoRA after a warm start, with a server optimizer, that kept its updates."""
    from common.study_file import parse_study, write_study

    path = tmp_path_factory.mktemp("kept")
    overrides = [
        "federation.keep_updates=true",
        "federation.strategy=fedadam",
        "federation.server_learning_rate=0.02",
    ]
    made = parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", overrides)
    write_study(made, path / "study.toml")
    with LocalGrid(4, 2, 1) as grid:
        run_study(made, grid, RunDirectory(path))
    return path


@pytest.mark.slow
def test_values_of_a_real_run_sum_to_what_its_updates_gained(real: Path) -> None:
    """Through a warm start, LoRA and fedadam: the whole coalition's model is the round's own, to the loss."""
    run = open_kept_run(real)
    assert kept_rounds(run.directory.updates) == [1, 2, 3]
    found = contributions(run, Question())
    assert found.evaluations == planned_evaluations(run, Question()) == 3 * 16
    last = run.directory.rounds()[-1].evaluation
    assert last is not None
    assert found.final == pytest.approx(-last.overall.loss, abs=1e-5)
    stores = [json.loads((real / "contribution" / f"loss-{n}.json").read_text())["values"] for n in (1, 2, 3)]
    gained = sum(store['["east", "north", "south", "west"]'] - store["[]"] for store in stores)
    assert sum(each.shapley for each in found.sites) == pytest.approx(gained, abs=1e-9)
    # The server's momentum moves the model without any update: that gain is nobody's.
    assert found.unattributed == pytest.approx(found.final - found.base - gained, abs=1e-9)
    assert any("--whole-run" in line for line in contribution_record(run, found, [], True)["caveats"])
    assert {each.games for each in found.sites} == {3}
    assert contributions(run, Question()).evaluations == 0


@pytest.mark.slow
def test_the_whole_run_as_one_game_ends_at_the_same_model(real: Path) -> None:
    run = open_kept_run(real)
    found = contributions(run, Question(whole_run=True))
    assert found.evaluations == 16
    assert found.final == pytest.approx(contributions(run, Question()).final, abs=1e-5)
    assert sum(each.shapley for each in found.sites) == pytest.approx(found.final - found.base, abs=1e-9)


def test_under_fedavg_values_sum_to_the_gain(study: Study, tmp_path: Path) -> None:
    found = contributions(open_kept_run(made_run(tmp_path, study, FOUR)), Question())
    assert sum(each.shapley for each in found.sites) == pytest.approx(found.final - found.base, abs=1e-6)
    assert found.unattributed == pytest.approx(0.0, abs=1e-6)


def test_shapley_is_the_mean_over_all_orders(study: Study, tmp_path: Path) -> None:
    run = open_kept_run(made_run(tmp_path, study, FOUR))
    found = {each.site: each.shapley for each in contributions(run, Question("accuracy")).sites}
    slow = dict.fromkeys(FOUR, 0.0)
    for number in run.present:
        utility = CoalitionUtility(run.directory.path, (number,), "accuracy")
        known = {frozenset(order[:k]): 0.0 for order in permutations(FOUR) for k in range(5)}
        known = {coalition: utility(coalition) for coalition in known}
        for order in permutations(FOUR):
            for k, site in enumerate(order):
                slow[site] += (known[frozenset(order[: k + 1])] - known[frozenset(order[:k])]) / 24
    assert found == pytest.approx(slow, abs=1e-12)


def test_a_rider_gets_exactly_nothing_in_every_value(study: Study, tmp_path: Path) -> None:
    run = open_kept_run(made_run(tmp_path, study, {**FOUR, "rider": still}))
    rider = next(each for each in contributions(run, Question()).sites if each.site == "rider")
    assert (rider.shapley, rider.banzhaf, rider.leave_one_out) == (0.0, 0.0, 0.0)


def test_a_union_gets_together_what_it_would_get_as_one(study: Study, tmp_path: Path) -> None:
    def same(start: Weights, chooser: np.random.Generator) -> Weights:
        return somewhere(start, np.random.default_rng(1))

    run = open_kept_run(made_run(tmp_path, study, {**FOUR, "east": same, "west": same}))
    found = contributions(run, Question(unions=(("east", "west"),)))
    owned = {each.site: each.owen for each in found.sites}
    assert owned["east"] == pytest.approx(owned["west"], abs=1e-12)
    assert sum(v or 0.0 for v in owned.values()) == pytest.approx(found.final - found.base, abs=1e-9)
    plain = {each.site: each.shapley for each in found.sites}
    assert abs((owned["east"] or 0) + (owned["west"] or 0) - plain["east"] - plain["west"]) > 1e-9
    assert found.values() == owned


def test_an_absent_site_gets_nothing_of_that_round_and_the_record_says_so(study: Study, tmp_path: Path) -> None:
    run = open_kept_run(made_run(tmp_path, study, FOUR, absent={1: {"north"}}))
    found = contributions(run, Question())
    assert found.evaluations == 8 + 16
    north = next(each for each in found.sites if each.site == "north")
    assert north.by_round[0] == 0.0 != north.by_round[1]
    record = contribution_record(run, found, [], True)
    assert any("absent" in line for line in record["caveats"])


def test_above_ten_sites_values_come_with_an_interval_from_few_evaluations(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    names = [f"s{i:02d}" for i in range(11)]
    study = head_study(tiny_base, tiny_data, "federation.rounds=1", "data.partition=iid", "data.sites=11")
    run = open_kept_run(made_run(tmp_path, study, {**dict.fromkeys(names, somewhere), "s03": still}))
    found = contributions(run, Question())
    assert not found.exact
    assert found.evaluations <= planned_evaluations(run, Question()) == 2048 // 4
    assert found.confidence == 0.99
    by_site = {each.site: each for each in found.sites}
    assert by_site["s03"].shapley == pytest.approx(0.0, abs=1e-12)
    assert sum(each.shapley for each in found.sites) == pytest.approx(found.final - found.base, abs=1e-9)
    assert all(each.half_width is not None and each.half_width < 0.05 for each in found.sites)
    with pytest.raises(BadInput, match="allow 0 blocks"):
        contributions(open_kept_run(made_run(tmp_path / "b", study, dict.fromkeys(names, somewhere))),
                      Question(evaluations=130))  # fmt: skip


def test_a_changed_validation_set_or_figure_does_not_meet_kept_values(study: Study, tmp_path: Path) -> None:
    run = open_kept_run(made_run(tmp_path, study, FOUR))
    contributions(run, Question())
    store = tmp_path / "contribution" / "loss-1.json"
    store.write_text(store.read_text().replace(f" {run.run} ", " another run "))
    with pytest.raises(BadInput, match="values of another game"):
        contributions(run, Question())
    assert contributions(run, Question("macro_f1")).evaluations == 32


@pytest.mark.parametrize(
    ("unions", "match"),
    [
        ((("east", "nowhere"),), "nowhere: no site of the run"),
        ((("east",),), "two sites or more"),
        ((("east", "west"), ("west", "north")), "no site stands in two"),
    ],
)
def test_unions_that_cannot_be_are_refused(
    study: Study, tmp_path: Path, unions: tuple[tuple[str, ...], ...], match: str
) -> None:
    run = open_kept_run(made_run(tmp_path, study, FOUR))
    with pytest.raises(BadInput, match=match):
        contributions(run, Question(unions=unions))


def test_runs_that_cannot_be_valued_are_refused(
    study: Study, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="is not a run directory"):
        open_kept_run(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    robust = head_study(tiny_base, tiny_data, "federation.strategy=median", "federation.keep_updates=false")
    with pytest.raises(BadInput, match="is no sum over sites"):
        open_kept_run(made_run(tmp_path / "median", robust, FOUR))
    run = made_run(tmp_path / "lost", study, FOUR)
    (run / "updates" / "000002" / "start.safetensors").unlink()
    with pytest.raises(BadInput, match="keep_updates = true"):
        open_kept_run(run)


def test_p19_the_record_of_a_central_run_says_that_it_stays(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    central = ["privacy.enabled=true", "privacy.unit=institution", "federation.rounds=1"]
    run = open_kept_run(made_run(tmp_path, head_study(tiny_base, tiny_data, *central), FOUR))
    record = contribution_record(run, contributions(run, Question()), [], False)
    assert "P19" in record["confidential"]


def test_a_record_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "contribution.json"
    with pytest.raises(BadInput, match="hanse contribution"):
        read_contribution_record(path)
    path.write_text(json.dumps({"format": 1, "sites": [{"site": "a"}]}))
    with pytest.raises(BadInput, match="is not a contribution record"):
        read_contribution_record(path)
