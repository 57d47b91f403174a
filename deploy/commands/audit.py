"""`hanse audit`: verify what institutions and coordinators wrote down, from their files and public keys alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import AuditFailure
from deploy.commands import audit_report, audit_verify_only
from deploy.commands.audit_options import Keys, Prv, Witnesses

if TYPE_CHECKING:
    from common.audit.ledger_audit import LedgerAudit
    from common.audit.recomputed import RecomputedEpsilon

__all__ = ["app"]

app = typer.Typer(help="Audit privacy claims from files and public keys.", no_args_is_help=True)

_MARKS = {"passed": "[green]passed[/]", "failed": "[bold red]FAILED[/]", "not-possible": "[yellow]not possible[/]"}


@app.callback()
def audit() -> None:
    """Audit privacy claims from files and public keys."""


@app.command()
def ledger(
    bundles: Annotated[
        list[str], typer.Argument(metavar="[SITE=]BUNDLE...", help="Exported ledgers, one file for each site.")
    ],
    key: Keys = None,
    witness: Witnesses = None,
    run: Annotated[list[Path] | None, typer.Option(help="A coordinator's run directory; repeat it.")] = None,
    prv: Prv = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check ledgers against keys, witnessed heads and run records; recompute every epsilon.

    Exit code 4 if a check found a violation, 2 if a file or key cannot be used.
    """
    from common.audit.ledger_audit import audit_ledgers
    from common.audit.run_record import read_run
    from deploy.audit_files import bundle_of, named, trusted_key, witnessed

    found = audit_ledgers(
        [bundle_of(path, site) for site, path in map(named, bundles)],
        [trusted_key(given) for given in key or []],
        [witnessed(given) for given in witness or []],
        [read_run(directory) for directory in run or []],
        second_opinion=prv,
    )
    if as_json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
        if found.failed:
            raise typer.Exit(AuditFailure.exit_code)
        return
    _print(found)
    if found.failed:
        names = ", ".join(f"{check.number} ({check.name})" for check in found.failed)
        raise AuditFailure(f"audit: violations found by check {names}")


def _print(found: LedgerAudit) -> None:
    from rich.table import Table

    from common.audit.ledger_audit import SAMPLING
    from deploy.console import wide_console

    console = wide_console()
    checks = Table("#", "check", "verdict", box=None, pad_edge=False)
    for check in found.checks:
        checks.add_row(str(check.number), check.name, _MARKS[check.verdict])
    console.print(checks)
    for check in found.checks:
        for finding in check.findings:
            console.print(f"  {check.number} {finding.severity}: {finding}", markup=False, highlight=False)
    if found.figures:
        console.print()
        console.print(_figures(found.figures))
        console.print(found.guarantee, markup=False)
        console.print(SAMPLING, markup=False)
    console.print(found.unproven, markup=False)


def _figures(figures: tuple[RecomputedEpsilon, ...]) -> object:
    from rich.markup import escape
    from rich.table import Table

    from common.audit.recomputed import SCOPES, in_words

    figures = tuple(sorted(figures, key=lambda figure: SCOPES.index(figure.scope)))  # a person first (P2)
    table = Table("epsilon of", "claimed", "PLD", "RDP", "PRV", "delta", "released", box=None, pad_edge=False)
    for figure in figures:
        table.add_row(
            escape(f"{figure.scope} {figure.name}"),
            _number(figure.claimed),
            _number(figure.pld),
            _number(figure.rdp),
            _number(figure.prv),
            f"{figure.delta:.3g}",
            escape(in_words(figure.mechanism)),
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


app.command("report")(audit_report.report)
app.command("verify-only")(audit_verify_only.verify_only)
