"""`hanse audit report`: the audit as a page, a print and data, from run directories, bundles and public keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import AuditFailure
from deploy.commands.audit_options import Keys, Prv, Witnesses

__all__ = ["report"]


def report(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN|[SITE=]BUNDLE...", help="Run directories and exported ledgers."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.pdf and report.json.")],
    key: Keys = None,
    witness: Witnesses = None,
    empirical: Annotated[Path | None, typer.Option(help="What `hanse audit run` wrote (audit.json).")] = None,
    auditor: Annotated[str | None, typer.Option(help="Who audits, as the report shall say.")] = None,
    prv: Prv = True,
) -> None:
    """Write the audit report; exit code 4 if it holds a violation, with all files written."""
    from deploy.audit_files import trusted_key, witnessed
    from deploy.audit_report.build import build_report
    from deploy.audit_report.gather import gather
    from deploy.audit_report.write import write_report

    given = gather(
        sources, [trusted_key(each) for each in key or []], [witnessed(each) for each in witness or []], empirical
    )
    found = build_report(given, auditor, prv)
    files = write_report(found, out)
    for file in files:
        typer.echo(f"Wrote {file}")
    if not any(file.suffix == ".pdf" for file in files):
        typer.echo("No PDF was written: it needs fpdf2; install Hanse with the extra `report`.", err=True)
    if found.violated:
        names = [f"{check.number} ({check.name})" for check in found.audit.failed]
        names += ["of the training"] if found.training_findings else []
        raise AuditFailure(f"audit: violations found by check {', '.join(names)}; see {files[1]}")
