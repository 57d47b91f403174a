"""The auction: the worked examples, and that no site gains by bidding anything but its cost."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from common.study_file import parse_study
from server.economics.auction import Bid, Call, Outcome, planned_sites, run_auction
from tests.server.economics.test_weighting import EPSILONS, MARKET

COSTS = (12_000, 9_000, 13_000, 26_000, 21_000, 32_000)


def bids_of(cents: tuple[int, ...], values: tuple[Fraction, ...]) -> list[Bid]:
    """Bids of sites 0, 1, ..."""
    pairs = zip(cents, values, strict=True)
    return [Bid(str(i), c, Fraction(v), float(EPSILONS[i])) for i, (c, v) in enumerate(pairs)]


EXAMPLE = bids_of(COSTS, tuple(MARKET.values()))


def winners(outcome: Outcome) -> list[str]:
    """Names of the winners, ascending."""
    return sorted(award.bid.site for award in outcome.awards)


def due(outcome: Outcome) -> list[float]:
    """What is due in whole money, by name."""
    return [float(a.due) / 100 for a in sorted(outcome.awards, key=lambda a: a.bid.site)]


def paid(outcome: Outcome) -> dict[str, int]:
    """Cents by winner."""
    return {award.bid.site: award.cents for award in outcome.awards}


def test_worked_example_1() -> None:
    # ECONOMICS section 3a; money in cents
    found = run_auction(EXAMPLE, Call(100_000))
    assert winners(found) == ["1", "2", "3", "4"]
    assert found.price == 27  # the ratio of site 0, exactly
    assert due(found) == pytest.approx([154.285714, 180, 335.172414, 303.75], abs=1e-6)
    assert paid(found) == {"1": 15_428, "2": 18_000, "3": 33_517, "4": 30_375}
    assert float(sum(a.due for a in found.awards)) == pytest.approx(97_320.8128, abs=1e-3)
    assert float(found.value) == pytest.approx(3604.474548, abs=1e-6)


def test_worked_example_1_with_a_reserve() -> None:
    found = run_auction(EXAMPLE, Call(100_000, reserve=Fraction(20)))
    assert (winners(found), found.price) == (["1", "2", "4"], 20)
    assert due(found) == pytest.approx([114.285714, 133.333333, 225], abs=1e-6)
    assert float(sum(a.due for a in found.awards)) == pytest.approx(47_261.9048, abs=1e-3)


@pytest.mark.parametrize(("budget", "count"), [(7_000, 3), (11_000, 5), (12_000, 6)])
def test_worked_example_2_of_equal_bids(budget: int, count: int) -> None:
    found = run_auction(bids_of((2_000,) * 6, (Fraction(10),) * 6), Call(budget))
    assert winners(found) == [str(i) for i in range(count)]  # ties go to the lower name
    assert set(paid(found).values()) == {2_000}
    assert found.total_cents == 2_000 * count


def test_worked_example_3_a_big_dear_site_is_lost() -> None:
    values = tuple(Fraction(v) for v in (1, 2, 2, 3, 2, 90))
    found = run_auction(bids_of((10, 40, 50, 90, 70, 9_500), values), Call(10_000))
    assert (winners(found), found.value) == (["0", "1", "2", "3", "4"], 10)
    assert due(found) == pytest.approx([1.055556, 2.111111, 2.111111, 3.166667, 2.111111], abs=1e-6)
    assert float(found.price) / 100 == pytest.approx(1.055556, abs=1e-6)


def test_worked_example_of_a_void_auction() -> None:
    bids = bids_of((1_000, *[90_000] * 5), tuple(MARKET.values()))
    found = run_auction(bids, Call(100_000, min_sites=2))
    assert found == Outcome((), Fraction(0), void=True)
    assert winners(run_auction(bids, Call(100_000))) == ["0"]


def test_a_loser_can_lift_the_price_so_it_is_not_proof_against_collusion() -> None:
    # ECONOMICS section 3a, weak spot (b): this is documented, not wanted
    raised = [replace(EXAMPLE[0], cents=14_400), *EXAMPLE[1:]]
    assert float(run_auction(raised, Call(100_000)).price) / 100 == pytest.approx(0.277433, abs=1e-6)


def test_nobody_eligible_is_an_empty_result() -> None:
    assert run_auction([], Call(100)) == Outcome((), Fraction(0), void=False)
    assert run_auction(EXAMPLE, Call(100)) == Outcome((), Fraction(0), void=False)
    assert planned_sites(run_auction([], Call(100))) == ()


values = st.integers(1, 40) | st.fractions(Fraction(1, 10), 40, max_denominator=50)


@st.composite
def auctions(draw: st.DrawFn) -> tuple[list[Bid], Call]:
    """Up to eight bids with ties and zeros, and a call with or without reserve."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 60), values), max_size=8))
    bids = [Bid(str(i), cents, Fraction(value), 1.0) for i, (cents, value) in enumerate(drawn)]
    reserve = draw(st.none() | st.fractions(0, 10, max_denominator=20))
    return bids, Call(draw(st.integers(0, 200)), reserve, draw(st.integers(1, 4)))


@given(auctions())
def test_within_budget_and_rational(drawn: tuple[list[Bid], Call]) -> None:
    bids, call = drawn
    found = run_auction(bids, call)
    assert sum((award.due for award in found.awards), Fraction(0)) <= call.budget_cents
    assert found.total_cents <= call.budget_cents
    assert not 0 < len(found.awards) < call.min_sites
    for award in found.awards:
        assert award.bid.cents <= award.cents <= award.due
        assert call.reserve is None or award.due <= call.reserve * award.bid.value


@given(auctions(), st.randoms())
def test_the_order_of_bids_does_not_matter(drawn: tuple[list[Bid], Call], chooser: random.Random) -> None:
    bids, call = drawn
    shuffled = list(bids)
    chooser.shuffle(shuffled)
    assert run_auction(shuffled, call) == run_auction(bids, call)


@given(auctions(), st.integers(0, 60))
def test_a_winner_that_bids_less_changes_nothing(drawn: tuple[list[Bid], Call], lower: int) -> None:
    bids, call = drawn
    before = run_auction(bids, call)
    for award in before.awards:
        changed = [replace(b, cents=min(b.cents, lower)) if b == award.bid else b for b in bids]
        assert paid(run_auction(changed, call)) == paid(before)


@given(auctions())
def test_due_is_the_threshold(drawn: tuple[list[Bid], Call]) -> None:
    # Myerson 1981: a winner is paid the most that it could have bid
    bids, call = drawn
    for award in run_auction(bids, call).awards:
        for cents, wins in ((award.cents, True), (award.cents + 1, False)):
            if cents == award.due:  # a tie at the threshold goes by name
                continue
            changed = [replace(b, cents=cents) if b == award.bid else b for b in bids]
            assert (award.bid.site in paid(run_auction(changed, call))) is wins


def random_market(chooser: random.Random) -> tuple[list[Bid], Call]:
    """Two to seven sites bidding their costs; every third call has a reserve, some may be void."""
    count = chooser.randint(2, 7)
    bids = [
        Bid(str(i), chooser.randint(0, 400), Fraction(chooser.randint(1, 50), chooser.randint(1, 3)), 1.0)
        for i in range(count)
    ]
    reserve = Fraction(chooser.randint(5, 60), 2) if chooser.random() < 1 / 3 else None
    return bids, Call(chooser.randint(50, 1_500), reserve, chooser.randint(1, 3))


def deviations(chooser: random.Random, bid: Bid, honest: Outcome, call: Call) -> list[int]:
    """Bids to try instead: nothing, anything, a little off, and near the thresholds."""
    near = [bid.value * honest.price, Fraction(call.budget_cents), bid.value * (call.reserve or 1)]
    near += [call.budget_cents * bid.value / (bid.value + honest.value)]
    tried = [0, chooser.randint(0, 2_000), max(0, bid.cents + chooser.randint(-20, 20))]
    return tried + [max(0, int(chooser.choice(near)) + chooser.randint(-3, 3)) for _ in range(3)]


def most_gained(markets: int, auction: object, seed: int = 11) -> tuple[int, int]:
    """How many deviations were tried, and how many gained a site more than its honest bid."""
    chooser = random.Random(seed)
    tried = gained = 0
    for _ in range(markets):
        bids, call = random_market(chooser)
        honest = run_auction(bids, call)
        paid_honestly = auction(bids, call)  # type: ignore[operator]  # one of the rules below
        for i, bid in enumerate(bids):
            surplus = paid_honestly.get(bid.site, bid.cents) - bid.cents
            for cents in deviations(chooser, bid, honest, call):
                after = auction([*bids[:i], replace(bid, cents=cents), *bids[i + 1 :]], call)  # type: ignore[operator]
                tried += 1
                gained += after.get(bid.site, bid.cents) - bid.cents > surplus
    return tried, gained


def by_rule(bids: list[Bid], call: Call) -> dict[str, int]:
    """Our payments."""
    return paid(run_auction(bids, call))


def pay_as_bid(bids: list[Bid], call: Call) -> dict[str, int]:
    """A rule that is not truthful: winners get what they asked."""
    return {award.bid.site: award.bid.cents for award in run_auction(bids, call).awards}


def without_the_next_ratio(bids: list[Bid], call: Call) -> dict[str, int]:
    """A rule that is nearly truthful: the budget is shared out among winners, whatever the next site asked."""
    found = run_auction(bids, call)
    return {a.bid.site: int(call.budget_cents * a.bid.value / found.value) for a in found.awards}


def test_no_deviation_gains() -> None:
    tried, gained = most_gained(800, by_rule)
    assert tried >= 20_000
    assert gained == 0


@pytest.mark.parametrize("rule", [pay_as_bid, without_the_next_ratio])
def test_the_same_deviations_find_rules_that_are_not_truthful(rule: object) -> None:
    _, gained = most_gained(200, rule)
    assert gained > 5


def test_huge_numbers_are_compared_exactly() -> None:
    # as floats the two ratios are equal; exactly, b is the cheaper by one part in 10^40
    big = 10**40
    bids = [Bid("a", big + 1, Fraction(1), 1.0), Bid("b", big, Fraction(1), 1.0)]
    found = run_auction(bids, Call(big + 1))
    assert paid(found) == {"b": big + 1}


def test_the_winners_make_a_plan() -> None:
    found = planned_sites(run_auction(EXAMPLE, Call(100_000)))
    assert [site.name for site in found] == ["1", "2", "3", "4"]
    assert sum(site.weight for site in found) == pytest.approx(1, abs=1e-12)
    assert {site.name: site.payment_cents for site in found} == paid(run_auction(EXAMPLE, Call(100_000)))
    sections = "".join(
        f'[[site]]\nname = "{site.name}"\nepsilon = {site.epsilon}\nweight = {site.weight}\n' for site in found
    )
    text = '[study]\nname = "market"\n[task]\nkind = "sequence-classification"\nlabels = ["a", "b"]\n'
    study = parse_study(text + sections, where="market")
    for site in found:
        assert study.epsilon_of(site.name) == site.epsilon
        assert study.site_section(site.name).weight == site.weight


@pytest.mark.parametrize(
    ("bids", "message"),
    [
        ([Bid("a", 1, Fraction(1), 1.0)] * 2, "a site bids twice"),
        ([Bid("a", -1, Fraction(1), 1.0)], "bid of a: -1 cents"),
        ([Bid("a", 1, Fraction(0), 1.0)], "bid of a: 1 cents for 0"),
    ],
)
def test_bids_that_are_none(bids: list[Bid], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run_auction(bids, Call(100))


@pytest.mark.parametrize("call", [{"budget_cents": -1}, {"min_sites": 0}, {"reserve": Fraction(-1)}])
def test_calls_that_are_none(call: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="must be at least 0, 0 and 1"):
        Call(**{"budget_cents": 1, **call})  # type: ignore[arg-type]  # fields by name
