"""Coordinator and sites agree on the data of a simulation, from the study alone."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import virtual_sites as module
from common.errors import BadInput
from common.examples import Example
from common.study import Study
from common.study_file import parse_study
from common.virtual_sites import VirtualSites, virtual_sites
from tests.tiny import tiny_rows, tiny_study_text, write_tiny_data


@pytest.fixture(autouse=True)
def _forget_data() -> Iterator[None]:
    yield
    module._virtual_sites.cache_clear()


def study_of(data: Path, *overrides: str, more: str = "") -> Study:
    return parse_study(tiny_study_text(data.parent, data) + more, "tiny", overrides)


def all_texts(sites: VirtualSites) -> list[str]:
    parts = [*(site.examples for site in sites.sites), sites.validation, sites.test]
    return [example.text for part in parts for example in part]


def test_every_row_is_in_one_part(tiny_data: Path) -> None:
    sites = virtual_sites(study_of(tiny_data))
    assert sorted(all_texts(sites)) == sorted(text for text, _, _ in tiny_rows(400))
    assert [site.name for site in sites.sites] == ["east", "north", "south", "west"]
    assert sites.report.rows == 400


def test_p21_no_text_is_trained_on_and_scored(tiny_data: Path) -> None:
    sites = virtual_sites(study_of(tiny_data))
    training = {example.text for site in sites.sites for example in site.examples}
    validation, test = ({example.text for example in part} for part in (sites.validation, sites.test))
    assert not training & validation
    assert not training & test
    assert not validation & test


@pytest.mark.parametrize("kind", ["column", "iid", "dirichlet"])
def test_the_same_study_gives_the_same_sites(tiny_data: Path, kind: str) -> None:
    study = study_of(tiny_data, f"data.partition={kind}")
    first = virtual_sites(study)
    module._virtual_sites.cache_clear()
    assert virtual_sites(Study.from_json(study.to_json())) == first
    assert virtual_sites(study_of(tiny_data, f"data.partition={kind}", "study.seed=4")) != first


def test_how_the_simulation_is_spread_does_not_read_the_data_again(tiny_data: Path) -> None:
    first = virtual_sites(study_of(tiny_data))
    assert virtual_sites(study_of(tiny_data, "simulation.workers=1", "simulation.engine=ray")) is first


@pytest.mark.parametrize("removed", [0, 100, 399])
def test_p10_removing_a_row_moves_no_other_row(tmp_path: Path, removed: int) -> None:
    """Split and partition by column: each row's place depends on that row alone."""

    def written(name: str, rows: list[tuple[str, str, str]]) -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label", "region"), *rows])
        return path

    rows = tiny_rows(400)
    fewer = [*rows[:removed], *rows[removed + 1 :]]
    one, two = (virtual_sites(study_of(written(n, r))) for n, r in (("a.csv", rows), ("b.csv", fewer)))
    gone = 0
    parts = [(site.examples, other.examples) for site, other in zip(one.sites, two.sites, strict=True)]
    for whole, rest in [*parts, (one.validation, two.validation), (one.test, two.test)]:
        left = list(whole)
        if len(rest) != len(whole):
            left.remove(next(example for example in whole if example.text == rows[removed][0]))
            gone += 1
        assert list(rest) == left
    assert gone == 1


def test_p03_the_declared_size_is_typed_or_rounded_down(tiny_data: Path) -> None:
    sites = virtual_sites(study_of(tiny_data, more='\n[[site]]\nname = "north"\ndeclared_size = 55\n'))
    sizes = {site.name: site.declared_size for site in sites.sites}
    assert sizes.pop("north") == 55
    assert all(sizes[site.name] <= len(site.examples) for site in sites.sites if site.name != "north")


@pytest.mark.parametrize(
    ("rows", "declared"), [(1, 1), (9, 9), (99, 99), (100, 100), (109, 100), (1234, 1200), (99_999, 99_000)]
)
def test_p03_rounding_keeps_two_digits(rows: int, declared: int) -> None:
    assert module._rounded(rows) == declared


def write_persons(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label", "region", "person"), *rows])
    return path


def rows_of_persons(persons: int = 60, each: int = 7) -> list[tuple[str, str, str, str]]:
    """Rows of persons in turn, each of whom has ``each`` rows in whatever regions."""
    return [(*row, f"p{number % persons}") for number, row in enumerate(tiny_rows(persons * each))]


BY_PERSON = ("privacy.unit=group", "privacy.group_column=person", "privacy.rows_per_group=2")


def groups_of(examples: tuple[Example, ...]) -> set[str]:
    return {example.group for example in examples}


def test_p03_the_declared_size_counts_persons(tmp_path: Path) -> None:
    """Not rows: two thousand of them here, capped at two each, are a few dozen persons at every site."""
    data = write_persons(tmp_path / "rows.csv", rows_of_persons(300, 7))
    found = virtual_sites(study_of(data, *BY_PERSON))
    for site in found.sites:
        persons = len(groups_of(site.examples))
        assert persons < len(site.examples) <= 2 * persons
        assert site.declared_size == module._rounded(persons)


@pytest.mark.parametrize("kind", ["column", "iid", "dirichlet"])
def test_p10_a_person_is_whole_in_one_part_and_capped(tmp_path: Path, kind: str) -> None:
    data = write_persons(tmp_path / "rows.csv", rows_of_persons())
    found = virtual_sites(study_of(data, *BY_PERSON, f"data.partition={kind}"))
    training = set().union(*(groups_of(site.examples) for site in found.sites))
    assert not training & groups_of(found.validation)
    assert not training & groups_of(found.test)
    assert not groups_of(found.validation) & groups_of(found.test)
    assert training | groups_of(found.validation) | groups_of(found.test) == {f"p{n}" for n in range(60)}
    for site in found.sites:
        assert max(Counter(example.group for example in site.examples).values()) == 2
    if kind != "column":
        assert sum(len(groups_of(site.examples)) for site in found.sites) == len(training)


@pytest.mark.parametrize("removed", ["p0", "p17", "p59"])
def test_p10_removing_a_person_changes_no_other_persons_site_part_or_rows(tmp_path: Path, removed: str) -> None:
    """Column by column as in life; how rows are dealt to *virtual* sites otherwise may depend on others."""
    rows = rows_of_persons()
    fewer = [row for row in rows if row[3] != removed]
    one, two = (
        virtual_sites(study_of(write_persons(tmp_path / name, written), *BY_PERSON, "data.validation_rows=9999"))
        for name, written in (("a.csv", rows), ("b.csv", fewer))
    )
    parts = [(site.examples, other.examples) for site, other in zip(one.sites, two.sites, strict=True)]
    gone = 0
    for whole, rest in [*parts, (one.validation, two.validation), (one.test, two.test)]:
        assert tuple(example for example in whole if example.group != removed) == rest
        gone += len(whole) - len(rest)
    assert gone > 0


def test_p02_virtual_sites_refuse_a_row_without_a_person(tmp_path: Path) -> None:
    rows = rows_of_persons()
    rows[4] = (*rows[4][:3], "")
    with pytest.raises(BadInput, match=r"rows.csv: row 5 \(line 6\): person names no person"):
        virtual_sites(study_of(write_persons(tmp_path / "rows.csv", rows), *BY_PERSON))


def test_validation_is_capped(tiny_data: Path) -> None:
    whole = virtual_sites(study_of(tiny_data)).validation
    capped = virtual_sites(study_of(tiny_data, "data.validation_rows=5")).validation
    assert len(whole) > 5 == len(capped)
    assert set(capped) <= set(whole)


def test_a_site_section_for_nobody_is_refused(tiny_data: Path) -> None:
    with pytest.raises(BadInput, match="site: nowhere is not one of the sites east, north, south, west"):
        virtual_sites(study_of(tiny_data, more='\n[[site]]\nname = "nowhere"\nepsilon = 2.0\n'))


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "few.csv", 3)
    with pytest.raises(BadInput, match=r"part empty|part is empty"):
        virtual_sites(study_of(data, "data.partition=iid", "data.sites=2", "data.test_fraction=0.01"))


def test_p15_no_repr_carries_a_text_or_a_true_size(tiny_data: Path) -> None:
    sites = virtual_sites(study_of(tiny_data, more='\n[[site]]\nname = "north"\ndeclared_size = 55\n'))
    shown = repr(sites.sites[1])
    assert "55" in shown
    assert str(len(sites.sites[1].examples)) not in shown
    assert not [text for text in all_texts(sites) if text in repr(sites)]
