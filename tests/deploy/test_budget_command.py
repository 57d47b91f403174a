"""`hanse budget`: figures of real ledgers, forecasts that agree with what the budget then does, bars to scale."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.site_directory import SiteDirectory
from common.errors import BudgetExceeded
from common.privacy.accounting import epsilon, filter_cap
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.ledger.records import close_dataset
from common.privacy.mechanism import SampledGaussian
from common.privacy.spending import Spending
from common.privacy.terms import BudgetTerms
from common.study import Study
from common.study_file import parse_study
from common.study_mechanism import study_mechanism
from deploy.budget_bars import bar
from tests.common.privacy.ledger.samples import DATA, FILTER, OTHER_STUDY, PLAN, PLANNED, STUDY
from tests.deploy.running import Hanse, assert_one_line, runner

USE = StudyUse(STUDY, "run-1", 1e-5)
STUDY_TEXT = """
[study]
name = "letters"
[task]
labels = ["no", "yes"]
[model]
warm_start_steps = 0
[privacy]
unit = "group"
group_column = "person"
epsilon = 2.5
batch_size = 100
[federation]
rounds = 5
steps_per_round = 4
[[site]]
name = "north"
epsilon = 2.0
"""
POLICY = """
[site]
name = "north"
[dataset]
name = "patients"
unit = "group"
group_column = "person"
declared_size = 5000
[budget]
epsilon = 3.0
kind = "filter"
order = 6
[disclose]
labels = ["no", "yes"]
"""


@pytest.fixture
def hanse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Hanse:
    """Runs a command beside a study whose data does not exist."""
    (tmp_path / "study.toml").write_text(STUDY_TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def opened(folder: Path, terms: BudgetTerms = FILTER, dataset: str = DATA) -> PrivacyBudget:
    budget = PrivacyBudget(SiteDirectory(folder).ledger(), dataset)
    budget.open(terms)
    return budget


def spent_and_reserved(budget: PrivacyBudget) -> None:
    """Round 1 settled at 100 steps, round 2 of 200 steps left open."""
    first = budget.reserve(USE, RoundRequest(1, PLAN, SampledGaussian(0.02, 1.0, 100)))
    budget.settle(first, "completed")
    budget.reserve(USE, RoundRequest(2, PLAN, SampledGaussian(0.02, 1.0, 200)))


def shown(hanse: Hanse, *more: str) -> list[dict[str, Any]]:
    ended = hanse("budget", "--site", "clinic", "--json", *more)
    assert (ended.code, ended.err) == (0, "")
    datasets: list[dict[str, Any]] = json.loads(ended.out)["datasets"]
    return datasets


def forecast(hanse: Hanse, *overrides: str) -> dict[str, Any]:
    options = [option for override in overrides for option in ("--set", override)]
    (dataset,) = shown(hanse, "--forecast", "study.toml", *options)
    found: dict[str, Any] = dataset["budgets"][-1]["forecast"]
    return found


def the_study(*overrides: str) -> Study:
    return parse_study(STUDY_TEXT, where="study.toml", overrides=overrides)


class TestFigures:
    """What is spent, reserved and left."""

    def test_p06_the_worked_example_of_the_filter(self, hanse: Hanse, tmp_path: Path) -> None:
        """ACCOUNTING section 5, R1: 300 steps cost 0.83031 of 1.23809, read as 2.5922; PLD would say 2.1983."""
        spent_and_reserved(opened(tmp_path / "clinic"))
        (dataset,) = shown(hanse)
        (found,) = dataset["budgets"]
        assert found["spent"] + found["reserved"] == pytest.approx(0.83031, abs=1e-5)
        assert found["spent"] == pytest.approx(0.83031 / 3, abs=1e-5)
        assert found["cap"] == pytest.approx(1.23809, abs=1e-5)
        assert found["spent"] + found["reserved"] + found["left"] == pytest.approx(found["cap"])
        assert found["gauge"] == pytest.approx(2.5922, abs=1e-4)
        assert found["information"] == {"pld": pytest.approx(2.1983, abs=1e-4), "prv": None}
        assert found["gauge_is_guarantee"] is False
        assert (found["epsilon"], found["delta"], found["declared_size"]) == (3.0, 1e-5, 5000)
        assert dataset["claim"] == {"epsilon": 3.0, "delta": 1e-5}

    def test_p06_a_filters_gauge_is_labelled_as_no_claim(self, hanse: Hanse, tmp_path: Path) -> None:
        spent_and_reserved(opened(tmp_path / "clinic"))
        text = hanse("budget", "--site", "clinic").out
        assert "epsilon 2.5922 at delta 1e-05 for all that was charged (a reading, not a claim)" in text
        assert "Claim: epsilon 3 at delta 1e-05 per group added or removed" in text
        assert "information only: had all of it been fixed in advance: PLD 2.1983" in text

    def test_p06_budgets_of_a_dataset_add_up(self, hanse: Hanse, tmp_path: Path) -> None:
        budget = opened(tmp_path / "clinic")
        budget.open(PLANNED)
        opened(tmp_path / "clinic", PLANNED, "letters")
        first, second = shown(hanse)
        assert (first["dataset"], len(first["budgets"])) == (DATA, 2)
        assert first["claim"] == {"epsilon": 11.0, "delta": 2e-5}
        assert second["claim"] == {"epsilon": 8.0, "delta": 1e-5}
        assert [each["dataset"] for each in shown(hanse, "--dataset", "letters")] == ["letters"]
        refused = hanse("budget", "--site", "clinic", "--dataset", "others")
        assert_one_line(refused, 2, '--dataset "others": has no budget in this ledger')

    def test_a_plan_counts_whole_and_is_a_guarantee(self, hanse: Hanse, tmp_path: Path) -> None:
        """S05 of the accounting tables: 5.1181 by PLD."""
        budget = opened(tmp_path / "clinic", PLANNED)
        budget.admit_study(USE, SampledGaussian(0.04, 0.8, 125))
        (found,) = shown(hanse)[0]["budgets"]
        assert found["spent"] == pytest.approx(5.1181, abs=5e-5)
        assert (found["reserved"], found["left"], found["gauge_is_guarantee"]) == (0.0, 0.0, True)
        assert "not a claim" not in hanse("budget", "--site", "clinic").out

    def test_prv_is_asked_where_it_is_wanted(self, hanse: Hanse, tmp_path: Path) -> None:
        opened(tmp_path / "clinic", PLANNED).admit_study(USE, SampledGaussian(0.04, 0.8, 125))
        (found,) = shown(hanse, "--prv")[0]["budgets"]
        assert found["information"]["prv"] == pytest.approx(5.1285, abs=1e-3)

    def test_no_budget_yet(self, hanse: Hanse, tmp_path: Path) -> None:
        SiteDirectory(tmp_path / "clinic").ledger()
        assert shown(hanse) == []
        assert "no budget was opened yet" in hanse("budget", "--site", "clinic").out


class TestForecast:
    """What a study would take; it charges nothing."""

    @pytest.mark.parametrize(
        ("terms", "asks", "within"),
        [(FILTER, 2.5, True), (FILTER, 3.5, False), (PLANNED, 2.5, True), (PLANNED, 8.5, False)],
    )
    def test_p05_it_says_what_the_budget_then_does(
        self, hanse: Hanse, tmp_path: Path, terms: BudgetTerms, asks: float, within: bool
    ) -> None:
        budget = opened(tmp_path / "clinic", terms)
        found = forecast(hanse, f"privacy.epsilon={asks}")
        assert found["fits"] is within
        assert (found["sample_rate"], found["steps"], found["epsilon"]) == (0.02, 20, asks)
        assert len(budget.ledger.entries()) == 1
        whole = study_mechanism(the_study(), 5000, found["noise_multiplier"])
        if within:
            budget.admit_study(USE, whole)
            return
        with pytest.raises(BudgetExceeded):
            budget.admit_study(USE, whole)

    def test_p05_noise_is_that_of_the_budgets_own_accountant(self, hanse: Hanse, tmp_path: Path) -> None:
        budget = opened(tmp_path / "clinic")
        by_filter = forecast(hanse)
        assert by_filter["asked"] == pytest.approx(filter_cap(2.5, 1e-5, 6), rel=1e-3)
        assert by_filter["asked_epsilon"] == pytest.approx(2.5, rel=1e-3)
        budget.open(PLANNED)
        by_plan = forecast(hanse)
        assert by_plan["noise_multiplier"] < by_filter["noise_multiplier"]
        whole = SampledGaussian(0.02, by_plan["noise_multiplier"], 20)
        assert by_plan["asked"] == pytest.approx(epsilon(whole, 1e-5, "pld"))
        assert 2.49 < by_plan["asked"] <= 2.5

    def test_what_is_spent_counts(self, hanse: Hanse, tmp_path: Path) -> None:
        spent_and_reserved(opened(tmp_path / "clinic"))
        found = forecast(hanse)
        assert found["fits"] is False
        (fault,) = found["faults"]
        assert fault.startswith("it would bring the budget to 1.5")
        assert "of 1.23809 (RDP at order 6)" in fault
        ended = hanse("budget", "--site", "clinic", "--forecast", "study.toml")
        assert ended.code == 0
        assert "does not fit:" in ended.out
        assert "+|+" in ended.out

    @pytest.mark.parametrize(
        ("override", "fault"),
        [
            ("privacy.delta=1e-6", "privacy.delta = 1e-06: differs from the budget's 1e-05"),
            ("privacy.batch_size=5001", "privacy.batch_size = 5001: more than the 5000 units declared"),
            (
                "privacy.epsilon=1.0",
                "privacy.epsilon = 1: no noise will do: order 6 grants nothing up to epsilon 1.762",
            ),
            ("privacy.enabled=false", "privacy.enabled = false: no budget holds a study without privacy"),
        ],
    )
    def test_every_other_reason_is_said(self, hanse: Hanse, tmp_path: Path, override: str, fault: str) -> None:
        opened(tmp_path / "clinic")
        found = forecast(hanse, override)
        assert (found["faults"], found["fits"]) == ([fault], False)
        text = hanse("budget", "--site", "clinic", "--forecast", "study.toml", "--set", override)
        assert text.code == 0
        assert fault in text.out

    def test_another_unit_is_said(self, hanse: Hanse, tmp_path: Path) -> None:
        opened(tmp_path / "clinic")
        found = forecast(hanse, 'privacy.unit="example"', 'privacy.group_column=""')
        assert found["faults"] == ['privacy.unit = "example": the budget counts "group"']

    def test_a_plan_that_holds_a_study_and_a_closed_budget(self, hanse: Hanse, tmp_path: Path) -> None:
        budget = opened(tmp_path / "clinic", PLANNED)
        budget.admit_study(StudyUse(OTHER_STUDY, "r", 1e-5), SampledGaussian(0.01, 1.0, 10))
        assert forecast(hanse)["faults"] == ["the plan holds a study already (entry 2)"]
        close_dataset(budget.ledger, DATA)
        assert forecast(hanse)["faults"] == ["the budget was closed"]
        assert "closed: grants nothing more" in hanse("budget", "--site", "clinic").out

    def test_p19_where_the_coordinator_adds_the_noise_nothing_is_charged(
        self, hanse: Hanse, tmp_path: Path
    ) -> None:
        opened(tmp_path / "clinic", PLANNED.model_copy(update={"unit": "institution", "declared_size": 4}))
        text = STUDY_TEXT.partition("[[site]]")[0].replace('group_column = "person"\n', "")
        (tmp_path / "study.toml").write_text(text.replace('"group"', '"institution"'), encoding="utf-8")
        found = forecast(hanse)
        assert (found["asked"], found["noise_multiplier"], found["faults"]) == (None, None, [])
        text = hanse("budget", "--site", "clinic", "--forecast", "study.toml").out
        assert "charged to nothing here: the coordinator, who is trusted, adds the noise" in text

    def test_a_site_of_its_own_epsilon_is_known_by_its_policy(self, hanse: Hanse, tmp_path: Path) -> None:
        opened(tmp_path / "clinic")
        assert forecast(hanse)["epsilon"] == 2.5
        policy = tmp_path / "clinic" / "policy.toml"
        policy.write_text(POLICY, encoding="utf-8")
        policy.chmod(0o600)
        assert forecast(hanse)["epsilon"] == 2.0

    def test_the_policys_database_is_the_ledger(self, hanse: Hanse, tmp_path: Path) -> None:
        opened(tmp_path / "clinic")
        policy = tmp_path / "clinic" / "policy.toml"
        policy.write_text(f'{POLICY}[ledger]\nurl = "mysql://somewhere/else"\n', encoding="utf-8")
        policy.chmod(0o600)
        ended = hanse("budget", "--site", "clinic")
        assert ended.code == 2
        assert "ledger" in ended.err

    def test_options_that_make_no_sense(self, hanse: Hanse, tmp_path: Path) -> None:
        opened(tmp_path / "clinic")
        alone = hanse("budget", "--site", "clinic", "--set", "privacy.epsilon=1")
        assert_one_line(alone, 2, "--set privacy.epsilon=1: overrides a key of the study", "--forecast STUDY")
        missing = hanse("budget", "--site", "clinic", "--forecast", "none.toml")
        assert_one_line(missing, 2, "none.toml: no such study file")


def figures(spent: float, reserved: float, left: float, cap: float) -> Spending:
    return Spending(
        dataset=DATA,
        budget=1,
        kind="filter",
        measure="RDP at order 6",
        cap=cap,
        spent=spent,
        reserved=reserved,
        left=left,
        epsilon=3.0,
        delta=1e-5,
        gauge=0.0,
        closed=False,
    )


class TestBar:
    """Characters in proportion, which say all that colour would."""

    @pytest.mark.parametrize(
        ("found", "asked", "drawn"),
        [
            (figures(0, 0, 1, 1), 0, ".........."),
            (figures(0.2, 0.3, 0.5, 1), 0, "##===....."),
            (figures(0.2, 0.3, 0.5, 1), 0.1, "##===+...."),
            (figures(0.2, 0.3, 0.5, 1), 0.5, "##===+++++"),
            (figures(0.2, 0.3, 0.5, 1), 1.5, "#=+++|+++++"),
            (figures(0.2, 0, 0, 1), 0, "##--------"),
            (figures(1e-9, 0, 1 - 1e-9, 1), 0, "#........."),
            (figures(2, 0, 0, 1), 0, "#####|#####"),
            (figures(0, 0, 0, 0), 0, ".........."),
            (figures(math.inf, 0, 0, 1), 0, "|##########"),
        ],
    )
    def test_what_is_drawn(self, found: Spending, asked: float, drawn: str) -> None:
        assert bar(found, asked, width=10) == drawn

    @given(
        spent=st.floats(0, 10),
        reserved=st.floats(0, 10),
        left=st.floats(0, 10),
        asked=st.floats(0, 10),
        width=st.integers(5, 80),
    )
    def test_every_figure_shows_and_the_bar_keeps_its_width(
        self, spent: float, reserved: float, left: float, asked: float, width: int
    ) -> None:
        cap = spent + reserved + left
        drawn = bar(figures(spent, reserved, left, cap), asked, width)
        assert len(drawn.replace("|", "")) == width
        assert list(drawn.replace("|", "")) == sorted(drawn.replace("|", ""), key="#=-+.".index)
        for sign, value in (("#", spent), ("=", reserved), ("+", asked)):
            assert (sign in drawn) == (value > 0)
        total = max(cap, spent + reserved + asked)
        if total > 0:
            assert abs(drawn.count("#") - width * spent / total) <= 5
