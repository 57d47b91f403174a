"""Virtual sites come from the study alone and are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
import torch

from client import virtual
from client.virtual import virtual_site, virtual_site_directory
from common.base_model import resolve_base
from common.environment import SITES_VARIABLE, STATE_VARIABLE, THREADS_VARIABLE
from common.errors import BadInput, PolicyRefusal, RunFailed
from common.privacy.budget import PrivacyBudget
from common.privacy.ledger.records import approve_study
from common.study import Study
from common.study_file import parse_study
from common.virtual_sites import virtual_sites
from tests.client.samples import plan_of, policy_of, weights_of
from tests.tiny import tiny_study_text


@pytest.fixture(autouse=True)
def _forget_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    yield
    virtual._virtual_site.cache_clear()
    virtual._shared_classifier.cache_clear()


def test_each_partition_is_a_site_with_its_own_rows(tiny_study: Study) -> None:
    expected = virtual_sites(tiny_study).sites
    for partition, planned in enumerate(expected):
        site = virtual_site(tiny_study, partition)
        description = site.describe(plan_of(tiny_study))
        assert (description.name, description.partition) == (planned.name, partition)
        assert description.declared_size == planned.declared_size
        assert site._trainer._texts.labels.tolist() == [example.label for example in planned.examples]


def test_a_second_call_gives_the_same_site_and_sites_share_one_model(tiny_study: Study) -> None:
    first = virtual_site(tiny_study, 0)
    assert virtual_site(Study.from_json(tiny_study.to_json()), 0) is first
    assert virtual_site(tiny_study, 1)._trainer.classifier is first._trainer.classifier


def test_another_study_gives_another_site(tiny_base: Path, tiny_data: Path, tiny_study: Study) -> None:
    other = parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", ["privacy.epsilon=2.0"])
    one, two = virtual_site(tiny_study, 0), virtual_site(other, 0)
    assert one is not two
    assert one.describe(plan_of(tiny_study)).noise_multiplier < two.describe(plan_of(other)).noise_multiplier


@pytest.mark.parametrize("partition", [4, 99])
def test_a_partition_beyond_the_last_is_refused(tiny_study: Study, partition: int) -> None:
    with pytest.raises(BadInput, match=rf"data\.sites = 4: there is no site number {partition + 1}"):
        virtual_site(tiny_study, partition)


def test_the_engine_bounds_the_threads(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    virtual_site(tiny_study, 0)
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    virtual_site(tiny_study, 0)
    assert asked == [3]


@pytest.mark.parametrize("name", ["north", "a/b", "..", ".", "../../etc", "film reviews", "Zürich"])
def test_p22_a_site_of_any_name_has_a_folder_of_its_own_below_the_studys(
    tiny_study: Study, tmp_path: Path, name: str
) -> None:
    folder = virtual_site_directory(tiny_study, name).path
    assert folder.parent.resolve() == (tmp_path / "state" / "virtual-sites" / "tiny").resolve()
    assert folder.resolve().parent == folder.parent.resolve()
    assert folder != virtual_site_directory(tiny_study, name + "x").path


def test_p21_runs_of_a_study_share_a_ledger_and_each_opens_a_budget_that_adds(tiny_study: Study) -> None:
    site = virtual_site(tiny_study, 0)
    name = virtual_sites(tiny_study).sites[0].name
    for run in ("a" * 32, "b" * 32):
        site.train(plan_of(tiny_study, run=run), weights_of(tiny_study))
    budget = PrivacyBudget(virtual_site_directory(tiny_study, name).ledger(), "tiny")
    assert budget.claim().epsilon == pytest.approx(16.0)
    assert len(budget.spending()) == 2


def test_a_site_obeys_the_policy_in_its_folder(
    tiny_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = virtual_sites(tiny_study).sites[0].name
    monkeypatch.setenv(SITES_VARIABLE, str(tmp_path / "sites"))
    directory = virtual_site_directory(tiny_study, name)
    directory.create()
    policy = policy_of(site={"name": name}, dataset={"declared_size": 50}, allow={"approval": "required"})
    directory.policy.write_text(tomli_w.dumps(policy.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    site = virtual_site(tiny_study, 0)
    with pytest.raises(PolicyRefusal, match="approve"):
        site.describe(plan_of(tiny_study))
    digest = tiny_study.digest(resolve_base(tiny_study.model.base).digest)
    approve_study(directory.ledger(), "letters", digest)
    assert site.describe(plan_of(tiny_study)).declared_size == 50


def test_a_policy_for_another_site_is_refused(
    tiny_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = virtual_sites(tiny_study).sites[0].name
    monkeypatch.setenv(SITES_VARIABLE, str(tmp_path / "sites"))
    directory = virtual_site_directory(tiny_study, name)
    directory.create()
    policy = policy_of(site={"name": "elsewhere"})
    directory.policy.write_text(tomli_w.dumps(policy.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    with pytest.raises(BadInput, match=f'this folder is that of site "{name}"'):
        virtual_site(tiny_study, 0)


def test_p14_a_site_that_fails_the_preflight_never_reserves(
    tiny_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RunFailed("preflight: a parameter is not clipped")

    monkeypatch.setattr("client.preparation.require_preflight", fail)
    with pytest.raises(RunFailed, match="not clipped"):
        virtual_site(tiny_study, 0).train(plan_of(tiny_study), weights_of(tiny_study))
    name = virtual_sites(tiny_study).sites[0].name
    directory = virtual_site_directory(tiny_study, name)
    assert not directory.has_ledger() or directory.ledger().entries() == ()
