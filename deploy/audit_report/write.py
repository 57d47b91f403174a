"""Writes a report: ``report.html``, ``report.pdf`` and ``report.json`` in one folder, each whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from common.errors import BadInput
from common.files import atomically, write_text
from deploy.audit_report.build import TITLE, sections_of
from deploy.audit_report.facts import AuditReport
from deploy.audit_report.page import html_page
from deploy.audit_report.printed import can_print, write_pdf

__all__ = ["write_report"]


def write_report(report: AuditReport, folder: Path) -> tuple[Path, ...]:
    """Write the files and name them; older ones of the same names are replaced. No PDF without its library.

    Raises:
        BadInput: the folder cannot be made, or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {folder}: cannot be created ({error.strerror})") from error
    sections = sections_of(report)
    written = [folder / "report.json", folder / "report.html"]
    write_text(written[0], json.dumps(report.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n")
    write_text(written[1], html_page(TITLE, report.date, sections))
    if can_print():
        written.append(folder / "report.pdf")
        with atomically(written[2]) as temporary:
            write_pdf(temporary, TITLE, report.date, sections)
    return tuple(written)
