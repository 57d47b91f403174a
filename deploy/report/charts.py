"""Small charts as inline SVG: no script, no colour of their own, every figure also in words.

Colours and line styles come from the page's style sheet by class (``s0`` to ``s7``), so that a chart follows
the reader's light or dark setting; text is escaped here, whatever it holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Bar", "Chart", "Frame", "Series", "bar_chart", "line_chart"]

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 44
_STYLES = 8
_MOST_MARKS = 1200
"""Points of a chart that are drawn and can be pointed at; beyond them only lines."""
_BAR, _GAP = 18, 8


@dataclass(frozen=True)
class Series:
    """A named line: points (x, y) by rising x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Frame:
    """What a chart's axes say."""

    title: str
    x: str
    y: str
    y_low: float | None = None
    """Where the y axis begins; from the data where None."""
    y_high: float | None = None
    logarithmic: bool = False
    """Whether x is on a logarithmic scale."""
    diagonal: bool = False
    """Whether to draw y = x."""
    connect: bool = True
    """Whether points of a series are joined."""


@dataclass(frozen=True)
class Bar:
    """A horizontal bar from 0 to ``value``, on a track that ends at ``limit``."""

    name: str
    value: float
    limit: float
    told: str
    """What stands at its end."""


@dataclass(frozen=True)
class Chart:
    """A drawing and its words."""

    title: str
    svg: Markup
    legend: tuple[tuple[int, str], ...]
    """Style number and name of each series, where there are several."""
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The same as a table, for those who cannot see the drawing."""


def line_chart(frame: Frame, series: Sequence[Series]) -> Chart | None:
    """Lines over a common x axis; None where no series has a point."""
    drawn = [each for each in series if each.points]
    if not drawn:
        return None
    xs = [x for each in drawn for x, _ in each.points]
    ys = [y for each in drawn for _, y in each.points]
    x_ticks = _log_ticks(xs) if frame.logarithmic else _ticks(min(xs), max(xs))
    y_ticks = _ticks(
        min(ys) if frame.y_low is None else frame.y_low, max(ys) if frame.y_high is None else frame.y_high
    )
    across = _scale(x_ticks, xs, (_LEFT, _WIDTH - _RIGHT), frame.logarithmic)
    up = _scale(y_ticks, ys, (_HEIGHT - _BOTTOM, _TOP), logarithmic=False)
    parts = [_axes(frame, x_ticks, y_ticks, across, up)]
    if frame.diagonal:
        ends = max(x_ticks[0], y_ticks[0]), min(x_ticks[-1], y_ticks[-1])
        line = " ".join(f"{across(v):.1f},{up(v):.1f}" for v in ends)
        parts.append(Markup('<polyline class="diagonal" points="{}"/>').format(line))
    marked = len(xs) <= _MOST_MARKS
    parts += [_line(frame, index, each, across, up, marked) for index, each in enumerate(drawn)]
    legend = tuple((index % _STYLES, each.name) for index, each in enumerate(drawn)) if len(drawn) > 1 else ()
    return Chart(frame.title, _svg(frame.title, _HEIGHT, parts), legend, *_table(frame, drawn))


def bar_chart(title: str, column: str, bars: Sequence[Bar]) -> Chart | None:
    """Horizontal bars on one scale, each on a track up to its limit; None without bars."""
    if not bars:
        return None
    longest = max(max(bar.value, bar.limit) for bar in bars) or 1.0
    height = len(bars) * (2 * _BAR + _GAP) + _GAP
    room = _WIDTH - 2 * _RIGHT - 130
    parts = []
    for index, bar in enumerate(bars):
        top = _GAP + index * (2 * _BAR + _GAP)
        parts.append(
            Markup(
                '<text x="{0}" y="{1}" class="name">{2}</text>'
                '<rect class="track" x="{0}" y="{3}" width="{4:.1f}" height="{5}"/>'
                '<rect class="{6}" x="{0}" y="{3}" width="{7:.1f}" height="{5}"><title>{2}: {8}</title></rect>'
                '<text x="{9:.1f}" y="{10}" class="told">{8}</text>'
            ).format(
                _RIGHT,
                top + 12,
                bar.name,
                top + _BAR,
                room * bar.limit / longest,
                _BAR - 4,
                "over" if bar.value > bar.limit else "spent",
                room * bar.value / longest,
                bar.told,
                _RIGHT + room * max(bar.value, bar.limit) / longest + 6,
                top + _BAR + 11,
            )
        )
    rows = tuple((bar.name, bar.told) for bar in bars)
    return Chart(title, _svg(title, height, parts), (), ("", column), rows)


def _svg(title: str, height: int, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">{}</svg>').format(
        title, _WIDTH, height, _WIDTH, height, Markup().join(parts)
    )


def _axes(
    frame: Frame,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    across: Callable[[float], float],
    up: Callable[[float], float],
) -> Markup:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in y_ticks:
        parts.append(
            Markup(
                '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
                '<text class="tick" text-anchor="end" x="{3}" y="{4:.1f}">{5}</text>'
            ).format(_LEFT, right, up(tick), _LEFT - 6, up(tick) + 4, _number(tick))
        )
    for tick in x_ticks:
        parts.append(
            Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{}">{}</text>').format(
                across(tick), bottom + 16, _number(tick)
            )
        )
    parts.append(
        Markup(
            '<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
            '<text class="label" text-anchor="middle" x="{3:.0f}" y="{4}">{5}</text>'
            '<text class="label" text-anchor="middle" transform="translate(13 {6:.0f}) rotate(-90)">{7}</text>'
        ).format(_LEFT, right, bottom, (_LEFT + right) / 2, _HEIGHT - 8, frame.x, (_TOP + bottom) / 2, frame.y)
    )
    return Markup().join(parts)


def _line(
    frame: Frame,
    index: int,
    series: Series,
    across: Callable[[float], float],
    up: Callable[[float], float],
    marked: bool,
) -> Markup:
    places = [(across(x), up(y)) for x, y in series.points]
    parts = []
    if frame.connect and len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(Markup('<polyline points="{}"/>').format(path))
    if marked:
        for (x, y), (told_x, told_y) in zip(places, series.points, strict=True):
            told = f"{series.name}: {frame.x} {_number(told_x)}, {frame.y} {told_y:.4f}"
            parts.append(
                Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>').format(x, y, told)
            )
    return Markup('<g class="s{}">{}</g>').format(index % _STYLES, Markup().join(parts))


def _table(frame: Frame, series: Sequence[Series]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    places = sorted({x for each in series for x, _ in each.points})
    values = [dict(each.points) for each in series]
    rows = tuple((_number(x), *(f"{value[x]:.4f}" if x in value else "" for value in values)) for x in places)
    return (frame.x, *(each.name for each in series)), rows


def _scale(
    ticks: Sequence[float], values: Sequence[float], room: tuple[float, float], logarithmic: bool
) -> Callable[[float], float]:
    low, high = min(*ticks, *values), max(*ticks, *values)
    if logarithmic:
        low, high = math.log(low), math.log(high)
    width = (high - low) or 1.0

    def place(value: float) -> float:
        value = math.log(value) if logarithmic else value
        return room[0] + (room[1] - room[0]) * (value - low) / width

    return place


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose the range."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    raw = (high - low) / 5
    unit: float = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * index, 12) for index in range(first, last + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """The values themselves, at most nine of them."""
    distinct = sorted(set(values))
    return distinct[:: math.ceil(len(distinct) / 9)]


def _number(value: float) -> str:
    return str(escape(f"{value:.6g}"))
