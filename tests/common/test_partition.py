"""A partition covers the examples, each once, the same way for the same seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.errors import BadInput
from common.examples import Example
from common.partition import Partitioning, partition

examples_with_domains = st.lists(
    st.builds(Example, st.text(min_size=1, max_size=6), st.integers(0, 2), st.sampled_from(["north", "south"])),
    min_size=12,
    max_size=60,
)


def numbered(count: int, labels: int = 2) -> list[Example]:
    """Distinct texts with labels by turns."""
    return [Example(f"sentence {number}", number % labels) for number in range(count)]


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "column"])
@given(examples=examples_with_domains, seed=st.integers(0, 2**32))
def test_a_partition_is_a_disjoint_cover(kind: Any, examples: list[Example], seed: int) -> None:
    """Every example, with its copies, is at exactly one site, in the order in which it came."""
    sites = len({example.domain for example in examples}) if kind == "column" else 3
    rule = Partitioning(kind, sites, seed, alpha=5.0)
    divided = partition(examples, rule)
    assert len(divided) == sites
    assert all(divided.values())
    assert Counter(example for held in divided.values() for example in held) == Counter(examples)
    for held in divided.values():
        following = iter(examples)
        assert all(example in following for example in held)
    assert partition(examples, rule) == divided


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
@given(owners=st.lists(st.integers(0, 30), min_size=40, max_size=90), seed=st.integers(0, 2**32))
def test_p03_a_person_is_at_one_site_whole(kind: Any, owners: list[int], seed: int) -> None:
    """A person dealt to two sites would be two units, each with a whole budget."""
    assume(len(set(owners)) >= 6)
    examples = [Example(f"text {row}", owner % 3, "", f"person {owner}") for row, owner in enumerate(owners)]
    divided = partition(examples, Partitioning(kind, 3, seed, alpha=5.0))
    assert Counter(example for held in divided.values() for example in held) == Counter(examples)
    sites = [{example.group for example in held} for held in divided.values()]
    assert sum(map(len, sites)) == len(set(owners))
    for held in divided.values():
        following = iter(examples)
        assert all(example in following for example in held)
    if kind == "iid":
        assert max(map(len, sites)) - min(map(len, sites)) <= 1


def test_a_person_goes_with_the_label_of_most_rows() -> None:
    """So that a small alpha sets persons apart by label, though each has a row of the other label."""
    examples = [
        Example(f"text {person} {row}", (person + (row == 0)) % 2, "", f"person {person}")
        for person in range(400)
        for row in range(4)
    ]
    held = partition(examples, Partitioning("dirichlet", 4, 7, 0.2)).values()
    shares = [sum(example.label for example in site) / len(site) for site in held]
    assert max(shares) - min(shares) > 0.3


def test_by_column_a_person_may_be_at_two_sites() -> None:
    examples = [Example("a", 0, "north", "Ann"), Example("b", 0, "south", "Ann")]
    divided = partition(examples, Partitioning("column", 2))
    assert divided == {"north": (examples[0],), "south": (examples[1],)}


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_more_sites_than_persons_are_refused(kind: Any) -> None:
    examples = [Example(f"text {row}", 0, "", f"person {row % 3}") for row in range(30)]
    with pytest.raises(BadInput, match=r"data.sites = 4: more than there are persons; lower it"):
        partition(examples, Partitioning(kind, 4))


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_the_seed_decides(kind: Any) -> None:
    assert partition(numbered(50), Partitioning(kind, 3, 7)) != partition(numbered(50), Partitioning(kind, 3, 8))


def test_iid_sites_differ_by_one_example_at_most() -> None:
    sizes = [len(held) for held in partition(numbered(67), Partitioning("iid", 4, 7)).values()]
    assert sorted(sizes) == [16, 17, 17, 17]


@pytest.mark.parametrize(("kind", "digest"), [("iid", "a36a3dca8923ac12"), ("dirichlet", "b94c148ae40a9bd3")])
def test_a_division_is_pinned(kind: Any, digest: str) -> None:
    """Golden values, computed before rows had persons: recorded studies must divide as they did."""
    divided = partition(numbered(67, labels=3), Partitioning(kind, 4, 7))
    named = "|".join(f"{name}:{','.join(e.text for e in held)}" for name, held in divided.items())
    assert hashlib.sha256(named.encode()).hexdigest()[:16] == digest


def test_names_sort_as_they_count() -> None:
    names = list(partition(numbered(30), Partitioning("iid", 12, 7)))
    assert names[0] == "site-01"
    assert names == sorted(names)
    assert list(partition(numbered(9), Partitioning("iid", 2, 7))) == ["site-1", "site-2"]


def test_iid_copies_of_a_text_are_spread() -> None:
    """The row number is hashed with the text, so that copies do not all go to one site."""
    divided = partition([Example("same", 0)] * 40, Partitioning("iid", 2, 7))
    assert [len(held) for held in divided.values()] == [20, 20]


def test_a_small_alpha_makes_label_balances_differ() -> None:
    def spread(alpha: float) -> float:
        held = partition(numbered(4000), Partitioning("dirichlet", 4, 7, alpha)).values()
        shares = [sum(example.label for example in site) / len(site) for site in held]
        return max(shares) - min(shares)

    assert spread(1000.0) < 0.1 < 0.5 < spread(0.2)


def test_by_column_the_values_name_the_sites() -> None:
    examples = [Example("a", 0, "tweets"), Example("b", 0, "film reviews"), Example("c", 0, "tweets")]
    divided = partition(examples, Partitioning("column", 2))
    assert divided == {"film-reviews": (examples[1],), "tweets": (examples[0], examples[2])}
    assert list(divided) == ["film-reviews", "tweets"]


@pytest.mark.parametrize("value", ["../../etc", "/", "..", "a/b", "名前", "x" * 300, "nul\0"])
def test_a_site_name_is_safe_as_a_folder(value: str) -> None:
    (name,) = partition([Example("a", 0, value)], Partitioning("column", 1))
    assert name
    assert len(name) <= 64
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@pytest.mark.parametrize(
    ("examples", "rule", "message"),
    [
        (
            [Example("a", 0, "north"), Example("b", 0, "south")],
            {"kind": "column", "sites": 4},
            "data.sites = 4: the partition column has 2 values (north, south); set data.sites = 2",
        ),
        (
            [Example("a", 0, f"some person {number}") for number in range(3)],
            {"kind": "column", "sites": 4},
            "data.sites = 4: the partition column has 3 values; set data.sites = 3",
        ),
        (numbered(3), {"kind": "column", "sites": 2}, "the rows have no partition column; set data.column"),
        (
            [Example("a", 0, "North"), Example("b", 0, "north")],
            {"kind": "column", "sites": 2},
            "two of its values give the same site name",
        ),
        (numbered(3), {"kind": "iid", "sites": 4}, "data.sites = 4: more than there are examples"),
        (numbered(3), {"kind": "dirichlet", "sites": 4}, "data.sites = 4: more than there are examples"),
        (
            numbered(40),
            {"kind": "dirichlet", "sites": 20, "alpha": 0.001},
            "data.alpha = 0.001: so uneven that one of 20 sites always stays empty; raise data.alpha",
        ),
    ],
)
def test_what_does_not_fit_is_refused(examples: list[Example], rule: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        partition(examples, Partitioning(**rule))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"kind": "random", "sites": 2}, 'data.partition = "random"'),
        ({"kind": "iid", "sites": 0}, "data.sites = 0"),
        ({"kind": "iid", "sites": 2, "seed": -1}, "study.seed = -1"),
        ({"kind": "dirichlet", "sites": 2, "alpha": 0.0}, "data.alpha = 0.0"),
        ({"kind": "dirichlet", "sites": 2, "alpha": float("inf")}, "data.alpha = inf"),
    ],
)
def test_a_rule_is_checked_once(rule: dict[str, Any], key: str) -> None:
    with pytest.raises(BadInput) as caught:
        Partitioning(**rule)
    assert key in str(caught.value)
