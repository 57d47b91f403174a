"""The sections of a report as one HTML page that needs nothing else: no script, font or picture from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.audit_report.blocks import Section

__all__ = ["html_page"]

_TEMPLATES = Path(__file__).with_name("templates")


def html_page(title: str, date: str, sections: Sequence[Section]) -> str:
    """The page; every text is escaped, so that a name with markup in it is shown and not run."""
    import jinja2

    from deploy.audit_report.drawing import as_svg

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(title=title, date=date, sections=sections, svg=as_svg)
