"""Aggregation: the mean is the weighted mean whatever the order of arrival; robust rules follow their papers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import BadInput
from common.study import FederationSection
from common.weights import Weights
from server.aggregation import Gathered, StreamingMean, accumulator_for


def random_updates(sites: int, seed: int = 0, scale: float = 1.0) -> tuple[Weights, list[Weights]]:
    """Global weights and an update of each site, two tensors and a scalar."""
    chooser = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"a": (3, 4), "b": (5,), "c": ()}
    start = {n: np.asarray(chooser.normal(size=s), np.float32) for n, s in shapes.items()}
    updates = [
        {n: np.asarray(v + scale * chooser.normal(size=v.shape), np.float32) for n, v in start.items()}
        for _ in range(sites)
    ]
    return start, updates


def change_of(
    make: Callable[[Weights], StreamingMean | Gathered],
    start: Weights,
    updates: list[Weights],
    shares: list[float] | None = None,
) -> Weights:
    """The change that an accumulator gives for these updates in this order."""
    accumulator = make(start)
    for update, share in zip(updates, shares or [1 / max(1, len(updates))] * len(updates), strict=True):
        accumulator.add(update, share)
    return accumulator.change()


def flat(weights: Weights) -> NDArray[np.float64]:
    """All values in one row, in the order of the names."""
    return np.concatenate([np.ravel(weights[name]).astype(np.float64) for name in sorted(weights)])


@pytest.mark.parametrize("sites", [1, 2, 7, 40])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1000.0])
def test_the_mean_is_the_weighted_mean_in_float64(sites: int, scale: float) -> None:
    start, updates = random_updates(sites, seed=sites, scale=scale)
    weights = np.random.default_rng(1).integers(1, 10_000, sites).astype(float)
    changes = np.stack([flat(update) - flat(start) for update in updates])
    expected = np.average(changes, axis=0, weights=weights)
    found = flat(change_of(StreamingMean, start, updates, list(weights / weights.sum())))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * scale)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(1, 10**6)), min_size=2, max_size=9),
    st.randoms(),
)
def test_the_mean_does_not_depend_on_the_order_of_arrival_to_the_bit(
    sites: list[tuple[float, int]], chooser: object
) -> None:
    start = {"w": np.array([0.25], np.float32)}
    total = sum(weight for _, weight in sites)
    pairs = [({"w": np.array([value], np.float32)}, weight / total) for value, weight in sites]
    shuffled = pairs.copy()
    chooser.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' random.Random
    one, other = (
        change_of(StreamingMean, start, [u for u, _ in order], [s for _, s in order])
        for order in (pairs, shuffled)
    )
    assert one["w"].tobytes() == other["w"].tobytes()


def test_adding_float32_changes_would_depend_on_the_order() -> None:
    # the control: a plain sum of the same numbers does differ, so the test above can fail
    values = [np.float32(value) for value in (1e8, 1, -1e8, 1)]
    sums = {np.float32(sum(order, start=np.float32(0))).tobytes() for order in permutations(values)}
    assert len(sums) > 1


@pytest.mark.parametrize("shape", [(), (5,), (16_384,), (3, 12_345), (40_001,)])
def test_sums_are_those_of_the_formula_to_the_bit(shape: tuple[int, ...]) -> None:
    """Decision 0002: each change times its share, rounded to 2^-40; here over whole tensors at once."""
    chooser = np.random.default_rng(4)
    start = np.asarray(chooser.normal(size=shape), np.float32)
    mean, total, shares = StreamingMean({"w": start}), np.zeros(shape, np.int64), 0
    for share, scale in ((0.3, 1.0), (0.1, 1e-9), (1 / 7, 1e5)):
        weights = np.asarray(start + scale * chooser.normal(size=shape), np.float32).reshape(shape)
        mean.add({"w": weights}, share)
        total += np.rint(np.ldexp((weights.astype(np.float64) - start) * share, 40)).astype(np.int64)
        shares += round(share * 2**40)
    found = mean.change()["w"]
    assert found.shape == shape
    assert found.tobytes() == np.asarray(total / shares).astype(np.float32).tobytes()


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum"])
def test_robust_rules_do_not_depend_on_the_order_of_arrival_to_the_bit(rule: str) -> None:
    start, updates = random_updates(5)
    found = {
        flat(change_of(lambda s: Gathered(s, rule, 1), start, list(order))).tobytes()
        for order in permutations(updates)
    }
    assert len(found) == 1


def test_sites_that_do_not_answer_leave_the_others_relative_weights_alone() -> None:
    start, updates = random_updates(4)
    shares = [0.1, 0.2, 0.3, 0.4]
    found = flat(change_of(StreamingMean, start, updates[:2], shares[:2]))
    changes = [flat(update) - flat(start) for update in updates[:2]]
    np.testing.assert_allclose(found, changes[0] / 3 + changes[1] * 2 / 3, rtol=1e-6, atol=1e-6)


def test_an_empty_tensor_is_no_trouble() -> None:
    empty = {"w": np.empty((0, 3), np.float32)}
    assert change_of(StreamingMean, empty, [empty])["w"].shape == (0, 3)


@pytest.mark.parametrize("value", [4.2e6, -4.2e6, 1e30])
def test_an_absurd_change_is_refused_and_leaves_the_mean_untouched(value: float) -> None:
    start = {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    mean = StreamingMean(start)
    mean.add({"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}, 0.5)
    with pytest.raises(BadInput, match="update: b changed by more than 4194304 in one round"):
        mean.add({"a": np.ones(2, np.float32), "b": np.array([0, value], np.float32)}, 0.5)
    np.testing.assert_array_equal(mean.change()["a"], np.ones(2, np.float32))


def test_forty_largest_changes_do_not_overflow() -> None:
    start = {"w": np.zeros(1, np.float32)}
    updates = [{"w": np.array([4.19e6], np.float32)}] * 40
    np.testing.assert_allclose(change_of(StreamingMean, start, updates)["w"], 4.19e6, rtol=1e-6)


@pytest.mark.slow
def test_memory_of_the_mean_does_not_grow_with_the_number_of_sites() -> None:
    start = {f"layer{i}": np.zeros((1250, 1000), np.float32) for i in range(10)}
    model = sum(value.nbytes for value in start.values())
    assert model == 50_000_000
    few, many = _peak_of_adding(start, 4), _peak_of_adding(start, 40)
    assert many - few < 2 * model
    assert many < 4 * model  # the sums (two models), one update, and a layer's arithmetic


def _peak_of_adding(start: Weights, sites: int) -> int:
    tracemalloc.start()
    mean = StreamingMean(start)
    for site in range(sites):
        mean.add({name: np.full_like(value, site) for name, value in start.items()}, 1 / sites)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_the_median_is_numpys_of_every_coordinate() -> None:
    start, updates = random_updates(6)
    expected = np.median([flat(update) - flat(start) for update in updates], axis=0)
    np.testing.assert_allclose(
        flat(change_of(lambda s: Gathered(s, "median", 0), start, updates)), expected, atol=1e-6
    )


@pytest.mark.parametrize(("sites", "malicious"), [(3, 0), (3, 1), (5, 1), (5, 2), (7, 3), (10, 3), (23, 11)])
def test_the_trimmed_mean_cuts_that_many_values_at_each_end(sites: int, malicious: int) -> None:
    start, updates = random_updates(sites, seed=sites)
    ordered = np.sort([flat(update) - flat(start) for update in updates], axis=0)
    expected = ordered[malicious : sites - malicious].mean(axis=0)
    found = change_of(lambda s: Gathered(s, "trimmed-mean", malicious), start, updates)
    np.testing.assert_allclose(flat(found), expected, atol=1e-6)


@pytest.mark.parametrize(("sites", "malicious"), [(3, 0), (5, 1), (7, 2), (8, 1)])
def test_krum_takes_the_update_with_the_closest_neighbours(sites: int, malicious: int) -> None:
    start, updates = random_updates(sites, seed=sites)
    points = [flat(update) - flat(start) for update in updates]
    scores = []
    for i, point in enumerate(points):  # Blanchard et al. 2017, section 4: the n - f - 2 closest others
        others = sorted(float(((point - other) ** 2).sum()) for j, other in enumerate(points) if j != i)
        scores.append(sum(others[: sites - malicious - 2]))
    found = change_of(lambda s: Gathered(s, "krum", malicious), start, updates)
    np.testing.assert_allclose(flat(found), points[int(np.argmin(scores))], atol=1e-6)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum"])
def test_one_wild_site_among_five_does_not_move_a_robust_rule_far(rule: str) -> None:
    start, updates = random_updates(5)
    updates[2] = {name: value + 1e6 for name, value in updates[2].items()}
    assert np.abs(flat(change_of(lambda s: Gathered(s, rule, 1), start, updates))).max() < 10
    assert np.abs(flat(change_of(StreamingMean, start, updates))).max() > 1e5


@pytest.mark.parametrize(
    ("rule", "malicious", "replies", "message"),
    [
        ("krum", 1, 4, "federation.malicious_sites = 1: krum needs 5 replies, this round had 4"),
        ("krum", 0, 2, "krum needs 3 replies, this round had 2"),
        ("trimmed-mean", 1, 2, "trimmed-mean needs more than 2 replies, this round had 2"),
        ("median", 0, 0, "no update was added"),
    ],
)
def test_too_few_replies_are_refused(rule: str, malicious: int, replies: int, message: str) -> None:
    start, updates = random_updates(replies)
    with pytest.raises(BadInput, match=message):
        change_of(lambda s: Gathered(s, rule, malicious), start, updates)


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="no update was added"):
        StreamingMean({"w": np.zeros(1, np.float32)}).change()


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        ("fedavg", StreamingMean),
        ("fedprox", StreamingMean),
        ("fedavgm", StreamingMean),
        ("fedadam", StreamingMean),
        ("fedyogi", StreamingMean),
        ("median", Gathered),
        ("trimmed-mean", Gathered),
        ("krum", Gathered),
    ],
)
def test_each_strategy_has_its_accumulator(strategy: str, kind: type) -> None:
    federation = FederationSection.model_validate({"strategy": strategy})
    assert type(accumulator_for(federation, {"w": np.zeros(1, np.float32)})) is kind
