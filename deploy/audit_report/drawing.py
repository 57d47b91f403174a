"""Drawings of lines, boxes and words, which the HTML page and the PDF draw alike.

Coordinates are points of 1/72 inch from the upper left corner. A shape names a style; page and PDF decide its
colour, so that a drawing follows a reader's dark setting and prints in ink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from markupsafe import Markup, escape

__all__ = ["Anchor", "Box", "Drawing", "Line", "Shape", "Style", "Words", "as_svg"]

Style: TypeAlias = Literal["axis", "grid", "upper", "lower", "middle", "limit", "muted"]
"""``upper``: theory; ``lower``: an attack; ``middle``: in between; ``limit``: a budget. Also by dash and weight,
so that a print without colour can be read."""

Anchor: TypeAlias = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Line:
    """A chain of straight pieces."""

    points: tuple[tuple[float, float], ...]
    style: Style


@dataclass(frozen=True, slots=True)
class Box:
    """A filled box."""

    x: float
    y: float
    width: float
    height: float
    style: Style


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text; (x, y) is its baseline at ``anchor``."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    muted: bool = False


Shape: TypeAlias = Line | Box | Words


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes on a sheet."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    told: str
    """What it shows, for those who do not see it."""


def as_svg(drawing: Drawing) -> Markup:
    """The drawing as an ``svg`` element; every text is escaped."""
    parts = [_svg(shape) for shape in drawing.shapes]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        round(drawing.width, 1), round(drawing.height, 1), drawing.told, Markup("").join(parts)
    )


def _svg(shape: Shape) -> Markup:
    match shape:
        case Line(points=points, style=style):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            return Markup('<polyline points="{}" class="line {}"/>').format(path, style)
        case Box(x=x, y=y, width=width, height=height, style=style):
            return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="box {}"/>').format(
                x, y, width, height, style
            )
        case Words(x=x, y=y, text=text, anchor=anchor, muted=muted):
            return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
                x, y, anchor, "muted" if muted else "words", escape(text)
            )
