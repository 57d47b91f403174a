"""Virtual sites come from the study alone and are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from client import virtual
from client.virtual import virtual_site
from common.errors import BadInput
from common.study import Study
from common.study_file import parse_study
from common.virtual_sites import virtual_sites
from tests.tiny import tiny_study_text


@pytest.fixture(autouse=True)
def _forget_sites() -> Iterator[None]:
    yield
    virtual._virtual_site.cache_clear()
    virtual._shared_classifier.cache_clear()


def test_each_partition_is_a_site_with_its_own_rows(tiny_study: Study) -> None:
    expected = virtual_sites(tiny_study).sites
    for partition, planned in enumerate(expected):
        site = virtual_site(tiny_study, partition)
        description = site.describe()
        assert (description.name, description.partition) == (planned.name, partition)
        assert description.declared_size == planned.declared_size
        assert site._texts.labels.tolist() == [example.label for example in planned.examples]


def test_a_second_call_gives_the_same_site_and_sites_share_one_model(tiny_study: Study) -> None:
    first = virtual_site(tiny_study, 0)
    assert virtual_site(Study.from_json(tiny_study.to_json()), 0) is first
    assert virtual_site(tiny_study, 1)._classifier is first._classifier


def test_another_study_gives_another_site(tiny_base: Path, tiny_data: Path, tiny_study: Study) -> None:
    other = parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", ["privacy.epsilon=2.0"])
    one, two = virtual_site(tiny_study, 0), virtual_site(other, 0)
    assert one is not two
    assert one.describe().noise_multiplier < two.describe().noise_multiplier


@pytest.mark.parametrize("partition", [4, 99])
def test_a_partition_beyond_the_last_is_refused(tiny_study: Study, partition: int) -> None:
    with pytest.raises(BadInput, match=rf"data\.sites = 4: there is no site number {partition + 1}"):
        virtual_site(tiny_study, partition)


def test_the_engine_bounds_the_threads(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    virtual_site(tiny_study, 0)
    monkeypatch.setenv(virtual.THREADS_VARIABLE, "3")
    virtual_site(tiny_study, 0)
    assert asked == [3]
