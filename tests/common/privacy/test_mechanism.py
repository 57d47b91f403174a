"""Records of what was released: validation, JSON by a closed table, merging."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from common.privacy.mechanism import (
    LARGEST_COUNT,
    LARGEST_NOISE,
    Composition,
    Gaussian,
    Laplace,
    Mechanism,
    NotPrivate,
    SampledGaussian,
    from_json,
    merge,
    to_json,
)

_rates = st.floats(0, 1)
_noises = st.floats(0, LARGEST_NOISE)
_counts = st.integers(0, 1000)
_leaves = st.one_of(
    st.builds(SampledGaussian, _rates, _noises, _counts),
    st.builds(Gaussian, _noises, _counts),
    st.builds(Laplace, _noises, _counts),
    st.builds(NotPrivate, st.text(min_size=1, max_size=20).filter(str.strip)),
)
mechanisms: st.SearchStrategy[Mechanism] = st.recursive(
    _leaves, lambda inner: st.builds(Composition, st.lists(inner, max_size=4).map(tuple)), max_leaves=12
)


@given(mechanisms)
def test_json_round_trip_is_the_identity(mechanism: Mechanism) -> None:
    assert from_json(json.loads(json.dumps(to_json(mechanism)))) == mechanism


@given(mechanisms, st.randoms())
def test_merge_does_not_see_order_or_nesting(mechanism: Mechanism, random: object) -> None:
    parts = list(merge(mechanism))
    random.shuffle(parts)  # type: ignore[attr-defined]
    assert merge(Composition((Composition(tuple(parts)), Composition(())))) == merge(mechanism)


def test_merge_adds_equal_parts_and_drops_free_ones() -> None:
    mechanism = Composition(
        (
            SampledGaussian(0.1, 2.0, 3),
            Composition((Gaussian(2.0, 1), SampledGaussian(0.1, 2.0, 4), SampledGaussian(0.1, 2.0, 0))),
            SampledGaussian(1.0, 2.0, 5),
            SampledGaussian(0.0, 0.0, 5),
            Laplace(3.0, 0),
            Laplace(3.0, 2),
            NotPrivate("z"),
            NotPrivate("a"),
            NotPrivate("z"),
        )
    )
    assert merge(mechanism) == (
        SampledGaussian(0.1, 2.0, 7),
        Gaussian(2.0, 6),
        Laplace(3.0, 2),
        NotPrivate("a"),
        NotPrivate("z"),
    )


def test_json_spells_out_names_and_fields() -> None:
    """What ledgers hold must keep this form for ever."""
    mechanism = Composition((SampledGaussian(0.01, 1.0, 10), Gaussian(5.0, 1), Laplace(2.0, 1), NotPrivate("x")))
    assert to_json(mechanism) == {
        "mechanism": "composition",
        "parts": [
            {"mechanism": "sampled_gaussian", "sample_rate": 0.01, "noise_multiplier": 1.0, "steps": 10},
            {"mechanism": "gaussian", "noise_multiplier": 5.0, "count": 1},
            {"mechanism": "laplace", "scale": 2.0, "count": 1},
            {"mechanism": "not_private", "reason": "x"},
        ],
    }


def _deep(levels: int) -> dict[str, object]:
    data: dict[str, object] = {"mechanism": "composition", "parts": []}
    for _ in range(levels):
        data = {"mechanism": "composition", "parts": [data]}
    return data


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (None, "whole"),
        ([], "whole"),
        ({}, "mechanism"),
        ({"mechanism": "GaussianDpEvent", "noise_multiplier": 1.0, "count": 1}, "mechanism"),
        ({"mechanism": "os.system"}, "mechanism"),
        ({"mechanism": ["gaussian"]}, "mechanism"),
        ({"mechanism": "gaussian", "noise_multiplier": 1.0}, "count"),
        ({"mechanism": "gaussian", "noise_multiplier": 1.0, "count": 1, "seed": 1}, "seed"),
        ({"mechanism": "gaussian", "noise_multiplier": "1", "count": 1}, "noise_multiplier"),
        ({"mechanism": "gaussian", "noise_multiplier": True, "count": 1}, "noise_multiplier"),
        ({"mechanism": "gaussian", "noise_multiplier": 1.0, "count": True}, "count"),
        ({"mechanism": "gaussian", "noise_multiplier": 1.0, "count": 1.0}, "count"),
        ({"mechanism": "gaussian", "noise_multiplier": float("nan"), "count": 1}, "noise_multiplier"),
        ({"mechanism": "gaussian", "noise_multiplier": float("inf"), "count": 1}, "infinity"),
        ({"mechanism": "gaussian", "noise_multiplier": 10**400, "count": 1}, "noise_multiplier"),
        ({"mechanism": "gaussian", "noise_multiplier": 1.0, "count": 10**400}, "count"),
        ({"mechanism": "composition", "parts": {}}, "parts"),
        ({"mechanism": "composition", "parts": [3]}, "whole"),
        ({"mechanism": "not_private", "reason": 3}, "reason"),
        (_deep(40), "nested"),
        (_deep(2000), "nested"),
    ],
)
def test_json_of_another_shape_is_refused(data: object, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        from_json(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("mechanism"), inner),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["sampled_gaussian", "gaussian", "laplace", "not_private", "composition"]))
def test_any_json_gives_a_mechanism_or_bad_input(value: object, name: str) -> None:
    for data in (value, {"mechanism": name, "parts": value, "count": value, "reason": value}):
        try:
            from_json(data)
        except BadInput:
            continue


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: SampledGaussian(1.1, 1.0, 1), "sample_rate = 1.1: must be from 0 to 1"),
        (lambda: SampledGaussian(-0.1, 1.0, 1), "sample_rate"),
        (lambda: SampledGaussian(0.1, -1.0, 1), "noise_multiplier"),
        (lambda: SampledGaussian(0.1, 1.0, -1), "steps = -1"),
        (lambda: SampledGaussian(0.1, 1.0, LARGEST_COUNT + 1), "steps"),
        (lambda: Gaussian(LARGEST_NOISE * 2, 1), "noise_multiplier"),
        (lambda: Laplace(float("nan"), 1), "scale = nan"),
        (lambda: NotPrivate(" "), "reason"),
        (lambda: NotPrivate("x" * 501), "reason"),
        (lambda: Composition([Gaussian(1.0, 1)]), "parts"),  # type: ignore[arg-type]
        (lambda: Composition((3,)), r"parts\[0\] = 3"),  # type: ignore[arg-type]
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(build: object, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        build()  # type: ignore[operator]


def test_whole_numbers_count_as_numbers() -> None:
    assert Gaussian(2, 1) == Gaussian(2.0, 1)
    assert json.dumps(to_json(Gaussian(2, 1))) == json.dumps(to_json(Gaussian(2.0, 1)))
    assert json.dumps(to_json(Gaussian(-0.0, 1))) == json.dumps(to_json(Gaussian(0.0, 1)))


@pytest.mark.parametrize("module", ["common.privacy.mechanism", "common.privacy.accounting"])
def test_import_brings_no_heavy_library(module: str) -> None:
    heavy = ("numpy", "scipy", "torch", "opacus", "dp_accounting")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
