"""What sections are made of, for the HTML page and the PDF alike: words, tables, commands, drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from deploy.audit_report.drawing import Drawing

__all__ = [
    "NOT_MEASURED",
    "NOT_STATED",
    "Block",
    "Commands",
    "Notice",
    "Plot",
    "Section",
    "Table",
    "Text",
    "number",
]

NOT_STATED = "not stated"
"""Nobody wrote it down."""
NOT_MEASURED = "not measured"
"""No measurement was given."""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    words: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Notice:
    """A paragraph that must not be overlooked."""

    words: str
    tone: Literal["good", "bad", "open"]
    kind: Literal["notice"] = "notice"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; without a head, names and what they are."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]
    """Relative, a column each; for print."""
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Commands:
    """Lines to type."""

    lines: tuple[str, ...]
    kind: Literal["commands"] = "commands"


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing and its title."""

    title: str
    drawing: Drawing
    kind: Literal["plot"] = "plot"


Block: TypeAlias = Text | Notice | Table | Commands | Plot


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report under its title."""

    title: str
    blocks: tuple[Block, ...]


def number(value: float | None, missing: str = NOT_STATED, digits: int = 4) -> str:
    """A figure as the report prints it: four digits behind the point; "infinite" where no finite value holds."""
    if value is None:
        return missing
    if value == float("inf"):
        return "infinite"
    return f"{value:.{digits}f}"
