r"""The sections of a report as a PDF to print: A4, page numbers, the standard fonts that every reader has.

The standard fonts write Latin-1. A character beyond it is printed as its escape, such as ``\u4e2d``; the HTML
report shows it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.audit_report.blocks import Block, Commands, Notice, Plot, Section, Table, Text
from deploy.audit_report.drawing import Box, Drawing, Line, Shape, Style, Words

if TYPE_CHECKING:
    from fpdf import FPDF

__all__ = ["can_print", "latin", "write_pdf"]

_COLOURS: dict[Style, tuple[int, int, int]] = {
    "axis": (60, 60, 60),
    "grid": (220, 220, 220),
    "upper": (30, 90, 160),
    "lower": (200, 80, 20),
    "middle": (40, 140, 110),
    "limit": (150, 30, 60),
    "muted": (110, 110, 110),
}
_TONES = {"good": (28, 110, 60), "bad": (170, 25, 25), "open": (120, 90, 10)}
_LINE = 5.0
"""Height of a line of text, mm."""
_POINT = 25.4 / 72
"""mm."""


def can_print() -> bool:
    """Whether the library that writes PDF is installed (the extra ``report``)."""
    from importlib.util import find_spec

    return find_spec("fpdf") is not None


def write_pdf(file: Path, title: str, date: str, sections: Sequence[Section]) -> None:
    """Write the sections as a PDF; equal sections give equal pages."""
    pdf = _sheet(title, date)
    pdf.add_page()
    _paragraph(pdf, title, "B", 18)
    for number, section in enumerate(sections, start=1):
        if pdf.will_page_break(30):
            pdf.add_page()
        pdf.ln(3)
        pdf.start_section(latin(f"{number}. {section.title}"))
        _paragraph(pdf, f"{number}. {section.title}", "B", 13)
        for block in section.blocks:
            _block(pdf, block)
    pdf.output(str(file))


def latin(text: str) -> str:
    """Text that the standard fonts can write; nothing is lost."""
    shown = "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)
    return shown.encode("latin-1", "backslashreplace").decode("latin-1")


def _sheet(title: str, date: str) -> FPDF:
    from fpdf import FPDF

    class _Sheet(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("Helvetica", size=8)
            self.set_text_color(110)
            self.cell(0, 6, latin(f"{title}, {date}"), align="L")
            self.set_x(-40)
            self.cell(30, 6, f"{self.page_no()} / {{nb}}", align="R")
            self.set_text_color(0)

    pdf = _Sheet(format="A4")
    pdf.set_auto_page_break(True, margin=16)
    pdf.set_title(latin(title))
    pdf.set_creation_date(datetime.fromisoformat(date))
    pdf.set_creator("Hanse")
    pdf.set_lang("en")
    return pdf


def _paragraph(pdf: FPDF, words: str, style: str = "", size: float = 9.5) -> None:
    pdf.set_font("Helvetica", style=style, size=size)
    pdf.multi_cell(0, _LINE * size / 9.5, latin(words), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1.5)


def _block(pdf: FPDF, block: Block) -> None:
    match block:
        case Text(words=words):
            _paragraph(pdf, words)
        case Notice(words=words, tone=tone):
            pdf.set_text_color(*_TONES[tone])
            _paragraph(pdf, words, "B", 10.5)
            pdf.set_text_color(0)
        case Commands(lines=lines):
            pdf.set_font("Courier", size=8)
            pdf.multi_cell(0, 4, latin("\n".join(lines)), align="L", border=1, new_x="LMARGIN", new_y="NEXT")
            pdf.ln(2)
        case Table():
            _table(pdf, block)
        case Plot(title=title, drawing=drawing):
            height = drawing.height * _POINT
            if pdf.will_page_break(height + 8):
                pdf.add_page()
            _paragraph(pdf, title, "B", 9)
            _draw(pdf, drawing)
            pdf.set_y(pdf.get_y() + height + 2)


def _table(pdf: FPDF, table: Table) -> None:
    from fpdf.enums import TableBordersLayout
    from fpdf.fonts import FontFace

    pdf.set_font("Helvetica", size=8)
    with pdf.table(
        col_widths=table.widths,
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        first_row_as_headings=bool(table.head),
        headings_style=FontFace(emphasis="BOLD"),
        line_height=4,
        text_align="LEFT",
        padding=0.6,
    ) as drawn:
        for cells in [*([table.head] if table.head else []), *table.rows]:
            row = drawn.row()
            for cell in cells:
                row.cell(latin(cell))
    pdf.ln(2)


def _draw(pdf: FPDF, drawing: Drawing) -> None:
    left, top = pdf.l_margin, pdf.get_y()
    pdf.set_font("Helvetica", size=7)
    for shape in drawing.shapes:
        _shape(pdf, shape, left, top)
    pdf.set_dash_pattern()
    pdf.set_draw_color(0)
    pdf.set_text_color(0)


def _shape(pdf: FPDF, shape: Shape, left: float, top: float) -> None:
    match shape:
        case Line(points=points, style=style):
            pdf.set_draw_color(*_COLOURS[style])
            pdf.set_line_width(0.2 if style in ("grid", "axis") else 0.5)
            dashes = {"limit": (2.0, 1.0), "middle": (0.7, 0.7)}
            pdf.set_dash_pattern(*dashes.get(style, (0, 0)))
            pdf.polyline([(left + x * _POINT, top + y * _POINT) for x, y in points])
        case Box(x=x, y=y, width=width, height=height, style=style):
            pdf.set_fill_color(*_COLOURS[style])
            pdf.rect(left + x * _POINT, top + y * _POINT, width * _POINT, height * _POINT, style="F")
        case Words(x=x, y=y, text=text, anchor=anchor, muted=muted):
            pdf.set_text_color(*(_COLOURS["muted"] if muted else (0, 0, 0)))
            shown = latin(text)
            back = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * pdf.get_string_width(shown)
            pdf.text(left + x * _POINT - back, top + y * _POINT, shown)
