"""Charts: every point inside the frame and to scale, names escaped, the same figures as a table."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.report.charts import Bar, Chart, Frame, Series, bar_chart, line_chart
from tests.deploy.report.samples import MARKUP

FRAME = Frame("Title", "round", "accuracy")
figures = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))


def drawn(chart: Chart | None) -> ElementTree.Element:
    """The drawing, parsed: it is well-formed."""
    assert chart is not None
    return ElementTree.fromstring(chart.svg)


@given(
    st.lists(st.tuples(st.integers(1, 500), figures), min_size=1, max_size=40, unique_by=lambda point: point[0])
)
def test_points_lie_inside_the_frame_in_the_order_of_their_values(points: list[tuple[int, float]]) -> None:
    points.sort()
    chart = line_chart(FRAME, [Series("all", tuple((float(x), y) for x, y in points))])
    circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in drawn(chart).iter("circle")]
    assert len(circles) == len(points)
    for x, y in circles:
        assert 57.9 <= x <= 626.1
        assert 11.9 <= y <= 256.1
    placed = sorted((y, place) for (_, y), (_, place) in zip(points, circles, strict=True))
    for (_, lower), (_, higher) in pairwise(placed):
        assert higher <= lower + 0.11  # higher values lie higher, up to the rounding of places


def test_a_logarithmic_axis_spaces_doublings_evenly() -> None:
    points = tuple((float(2**power), 0.5 + power / 10) for power in range(4))
    chart = line_chart(Frame("Title", "epsilon", "accuracy", logarithmic=True), [Series("all", points)])
    xs = [float(circle.get("cx", "")) for circle in drawn(chart).iter("circle")]
    steps = [after - before for before, after in pairwise(xs)]
    assert max(steps) - min(steps) < 0.3


def test_names_with_markup_stay_text() -> None:
    for chart in (
        line_chart(Frame(MARKUP, MARKUP, MARKUP), [Series(MARKUP, ((1.0, 0.5), (2.0, 0.6)))]),
        bar_chart(MARKUP, "epsilon", [Bar(MARKUP, 1.0, 2.0, MARKUP)]),
    ):
        root = drawn(chart)
        assert not list(root.iter("script")) + list(root.iter("img"))
        assert MARKUP in "".join(root.itertext()) or MARKUP in str(root.get("aria-label"))


def test_the_table_says_what_the_drawing_shows() -> None:
    chart = line_chart(FRAME, [Series("a", ((1.0, 0.25), (2.0, 0.5))), Series("b", ((2.0, 0.75),))])
    assert chart is not None
    assert chart.head == ("round", "a", "b")
    assert chart.rows == (("1", "0.2500", ""), ("2", "0.5000", "0.7500"))
    assert [name for _, name in chart.legend] == ["a", "b"]


def test_a_bar_is_as_long_as_its_share_of_the_track() -> None:
    svg = drawn(
        bar_chart("Epsilon", "epsilon", [Bar("north", 2.0, 8.0, "2 of 8"), Bar("south", 9.0, 8.0, "9 of 8")])
    )
    boxes = [(box.get("class"), float(box.get("width", ""))) for box in svg.iter("rect")]
    (_, track), (within, spent), _, (beyond, over) = boxes
    assert spent / track == pytest.approx(0.25, abs=0.01)
    assert over / track == pytest.approx(9 / 8, abs=0.01)
    assert (within, beyond) == ("spent", "over")


def test_nothing_is_drawn_of_nothing() -> None:
    assert line_chart(FRAME, [Series("all", ())]) is None
    assert bar_chart("Epsilon", "epsilon", []) is None


def test_many_points_become_lines_alone() -> None:
    points = tuple((float(x), math.sin(x)) for x in range(2000))
    svg = str(line_chart(FRAME, [Series("all", points)]).svg)  # type: ignore[union-attr]
    assert not re.search("<circle", svg)
    assert "<polyline" in svg
