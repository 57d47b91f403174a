"""A site: its policy agrees, its budget pays before the data is touched, its ledger tells what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import Site
from common.build import build_digest
from common.errors import BadInput, BudgetExceeded, PolicyRefusal
from common.privacy.accounting import epsilon
from common.privacy.ledger.details import Kind, Opened, Refused, Reserved, Settled
from common.privacy.ledger.entry import LedgerEntry
from common.privacy.mechanism import NotPrivate, SampledGaussian
from common.schedule import planned_steps, schedule
from common.study import Study
from common.study_file import parse_study
from common.wire import pack_description, pack_update
from tests.client.samples import DATASET, DECLARED, NAME, budget_of, plan_of, policy_of, site_of, weights_of
from tests.tiny import tiny_study_text

Make = Callable[..., Site]


def study_of(base: Path, *overrides: str) -> Study:
    return parse_study(tiny_study_text(base, base), "tiny", overrides)


@pytest.fixture
def study(tiny_base: Path) -> Study:
    """The tiny study."""
    return study_of(tiny_base)


@pytest.fixture
def site(tiny_base: Path, study: Study, tmp_path: Path) -> Site:
    """A site that agrees to it."""
    return site_of(tiny_base, study, tmp_path / "site")


def entries_of(folder: Path) -> list[LedgerEntry]:
    return list(budget_of(folder).ledger.entries())


def kinds_of(folder: Path) -> list[str]:
    return [str(entry.kind) for entry in entries_of(folder)]


class TestDescription:
    """What a site says of itself follows from policy and plan."""

    def test_p03_it_holds_declared_facts_and_the_calibrated_noise(self, site: Site, study: Study) -> None:
        found = site.describe(plan_of(study))
        assert (found.name, found.partition, found.declared_size) == (NAME, 1, DECLARED)
        assert (found.weight, found.epsilon, found.order) == (float(DECLARED), 8.0, 0)
        assert found.delta == study.delta_of(DECLARED)
        whole = SampledGaussian(8 / DECLARED, found.noise_multiplier, planned_steps(study))
        assert 7.5 < epsilon(whole, found.delta) <= 8.0

    def test_p15_description_and_update_hold_their_fields_and_nothing_else(self, site: Site, study: Study) -> None:
        described = pack_description(site.describe(plan_of(study)))
        updated = pack_update(site.train(plan_of(study), weights_of(study)))
        assert set(described["description"]) == {
            "name", "partition", "declared_size", "weight", "epsilon", "delta", "noise_multiplier", "order",
            "nonce",
        }  # fmt: skip
        assert set(updated["update"]) == {"site", "round", "mechanism", "head_sequence", "head_hash"}

    def test_equal_weighting_and_a_weight_of_the_study(self, tiny_base: Path, tmp_path: Path) -> None:
        equal = study_of(tiny_base, "federation.weighting=equal")
        assert site_of(tiny_base, equal, tmp_path / "a").describe(plan_of(equal)).weight == 1.0
        text = tiny_study_text(tiny_base, tiny_base) + '\n[[site]]\nname = "north"\nweight = 2.5\nepsilon = 3.0\n'
        own = parse_study(text, "tiny")
        found = site_of(tiny_base, own, tmp_path / "b").describe(plan_of(own))
        assert (found.weight, found.epsilon) == (2.5, 3.0)

    def test_p05_a_filter_calibrates_at_its_order(self, tiny_base: Path, study: Study, tmp_path: Path) -> None:
        by_filter = policy_of(budget={"kind": "filter", "order": 8})
        plan = site_of(tiny_base, study, tmp_path / "a").describe(plan_of(study))
        found = site_of(tiny_base, study, tmp_path / "b", by_filter).describe(plan_of(study))
        assert found.order == 8
        assert found.noise_multiplier > plan.noise_multiplier


class TestReservation:
    """Paid before the data is touched, settled after, never under-counted (P7)."""

    def test_p07_a_rounds_entries_are_open_plan_reserve_settle(
        self, site: Site, study: Study, tmp_path: Path
    ) -> None:
        site.describe(plan_of(study))
        update = site.train(plan_of(study), weights_of(study))
        opened, whole, round_held, settled = entries_of(tmp_path / "site")
        assert isinstance(opened.details, Opened)
        assert (opened.details.terms.epsilon, opened.details.terms.unit) == (8.0, "example")
        assert opened.details.build == build_digest(), "P1: the first entry names the build"
        assert isinstance(whole.details, Reserved)
        assert whole.round is None
        assert isinstance(round_held.details, Reserved)
        assert round_held.round == 1
        assert round_held.mechanism == update.mechanism
        assert isinstance(settled.details, Settled)
        assert settled.details.outcome == "completed"
        assert update.head == settled.head

    def test_p07_the_reservation_is_on_disk_before_the_data_is_touched(
        self, site: Site, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[list[str]] = []
        real = site._trainer.train

        def look(*arguments: Any) -> Any:
            seen.append(kinds_of(tmp_path / "site"))
            return real(*arguments)

        monkeypatch.setattr(site._trainer, "train", look)
        site.train(plan_of(study), weights_of(study))
        assert seen == [["open", "reserve", "reserve"]] or seen == [["reserve", "reserve"]]

    def test_p07_a_round_that_failed_counts_in_full(
        self, site: Site, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(site._trainer, "train", fail)
        with pytest.raises(MemoryError):
            site.train(plan_of(study), weights_of(study))
        last = entries_of(tmp_path / "site")[-1]
        assert isinstance(last.details, Settled)
        assert last.details.outcome == "failed"
        assert isinstance(last.mechanism, SampledGaussian)
        assert last.mechanism.steps == schedule(study)[0].steps

    def test_p09_a_round_is_never_trained_twice(self, site: Site, study: Study) -> None:
        weights = weights_of(study)
        site.train(plan_of(study), weights)
        with pytest.raises(PolicyRefusal, match="was consumed"):
            site.train(plan_of(study), weights)
        other = {name: value + np.float32(0.5) for name, value in weights.items()}
        with pytest.raises(PolicyRefusal, match="reserved for another plan"):
            site.train(plan_of(study), other)

    def test_p06_a_second_run_of_the_study_does_not_fit_into_its_budget(self, site: Site, study: Study) -> None:
        """And it is refused when the coordinator first asks, before a round."""
        site.train(plan_of(study), weights_of(study))
        with pytest.raises(
            BudgetExceeded, match=r"spent 7\.9\d+, reserved 0, asked 7\.9\d+, left 0 of 8"
        ) as caught:
            site.describe(plan_of(study, run="f" * 32))
        assert caught.value.exit_code == 3

    def test_p05_a_study_beyond_the_budget_is_refused_before_training(
        self, tiny_base: Path, study: Study, tmp_path: Path
    ) -> None:
        small = site_of(tiny_base, study, tmp_path / "site", policy_of(budget={"epsilon": 2.0}))
        with pytest.raises((BudgetExceeded, PolicyRefusal), match=r"asked|epsilon"):
            small.describe(plan_of(study))
        assert "reserve" not in kinds_of(tmp_path / "site")

    def test_all_rounds_of_a_study_fit_its_plan_and_no_round_more(
        self, site: Site, study: Study, tmp_path: Path
    ) -> None:
        for number in range(1, len(schedule(study)) + 1):
            site.train(plan_of(study, number), weights_of(study, number))
        claim = budget_of(tmp_path / "site").claim()
        assert (claim.epsilon, claim.delta) == (8.0, study.delta_of(DECLARED))
        with pytest.raises(PolicyRefusal, match="is no round of the study"):
            site.train(replace(plan_of(study), round=len(schedule(study)) + 1), weights_of(study))

    def test_p18_a_round_that_the_study_does_not_plan_is_refused(
        self, site: Site, study: Study, tmp_path: Path
    ) -> None:
        with pytest.raises(PolicyRefusal, match="is no round of the study"):
            site.train(replace(plan_of(study), steps=50), weights_of(study))
        last = entries_of(tmp_path / "site")[-1]
        assert isinstance(last.details, Refused)
        assert last.details.code == "not-in-study"


class TestPolicy:
    """What the policy refuses is in the ledger, once, and told as a function of plan and policy (P15)."""

    def test_p18_a_study_without_approval_is_refused_and_recorded(
        self, tiny_base: Path, study: Study, tmp_path: Path
    ) -> None:
        strict = policy_of(allow={"approval": "required"})
        site = site_of(tiny_base, study, tmp_path / "site", strict)
        for _ in range(3):
            with pytest.raises(PolicyRefusal, match="hanse policy approve"):
                site.describe(plan_of(study))
        with pytest.raises(PolicyRefusal, match="hanse policy approve"):
            site.train(plan_of(study), weights_of(study))
        assert [entry.kind for entry in entries_of(tmp_path / "site")] == [Kind.REFUSE]

    def test_p18_privacy_off_is_refused_unless_the_dataset_is_public(
        self, tiny_base: Path, tmp_path: Path
    ) -> None:
        plain = study_of(tiny_base, "privacy.enabled=false")
        with pytest.raises(PolicyRefusal):
            site_of(tiny_base, plain, tmp_path / "a").describe(plan_of(plain))
        public = site_of(tiny_base, plain, tmp_path / "b", policy_of(dataset={"public": True}))
        update = public.train(plan_of(plain), weights_of(plain))
        assert update.head is None
        assert isinstance(update.mechanism, NotPrivate)

    def test_p15_refusals_do_not_depend_on_the_data(
        self, tiny_base: Path, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tests.client import samples

        said = []
        for index, rows in enumerate((samples.ROWS, samples.ROWS[:3])):
            monkeypatch.setattr(samples, "ROWS", rows)
            strict = policy_of(allow={"approval": "required"})
            with pytest.raises(PolicyRefusal) as caught:
                site_of(tiny_base, study, tmp_path / str(index), strict).describe(plan_of(study))
            said.append(str(caught.value))
        assert said[0] == said[1]

    def test_another_study_than_the_sites_own_is_refused(self, site: Site, tiny_base: Path) -> None:
        other = study_of(tiny_base, "privacy.epsilon=80.0")
        with pytest.raises(BadInput, match="not the one that this site was set up for"):
            site.train(plan_of(other), weights_of(other))

    def test_p19_an_update_for_a_trusted_coordinator_is_recorded_as_released_without_noise(
        self, tiny_base: Path, tmp_path: Path
    ) -> None:
        central = study_of(tiny_base, "privacy.unit=institution")
        trusting = policy_of(dataset={"unit": "institution", "one_row_per_person": False})
        site = site_of(tiny_base, central, tmp_path / "site", trusting)
        update = site.train(plan_of(central), weights_of(central))
        released = entries_of(tmp_path / "site")[-1]
        assert str(released.kind) == "release"
        assert isinstance(released.mechanism, NotPrivate)
        assert released.dataset == DATASET
        assert update.mechanism == released.mechanism
        assert update.head == released.head
