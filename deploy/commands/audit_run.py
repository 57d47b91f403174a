"""`hanse audit run`: attack a marked copy of a study's pipeline, by a plan that is registered first."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import AuditFailure, BadInput

if TYPE_CHECKING:
    from deploy.audit.registration import CheckName
    from deploy.audit.result import CheckResult, EmpiricalAudit

__all__ = ["run"]

_EVERY = "noise,white-box,black-box,membership,inversion"


def run(  # noqa: PLR0913 - each is an option of the command
    study: Annotated[
        Path | None, typer.Argument(help="Study file; without one the embedded default study is audited.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study.")
    ] = None,
    site: Annotated[str, typer.Option(help="Which virtual site; the first if left out.")] = "",
    checks: Annotated[str, typer.Option(help="Which checks, by comma.")] = _EVERY,
    canaries: Annotated[int, typer.Option(help="Gradient canaries of the white box.")] = 1000,
    confidence: Annotated[float, typer.Option(help="That all bounds are true together.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of canaries and coins; noise and sampling have none.")] = 1,
    public_data: Annotated[
        bool, typer.Option("--public-data", help="State that the study's data is public or synthetic.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the record; default audits/NAME-TIME.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Test noise, sampler and sensitivity; attack with canaries, membership inference and inversion.

    The plan is written to registration.json, and its digest to the site's ledger, before anything runs. Exit code
    4 if a finding contradicts the claim.
    """
    from common.files import write_json
    from deploy.audit.run import AuditSettings, prepare
    from deploy.default_study import load_study

    parsed = load_study(study, override or [])
    settings = AuditSettings(
        checks=_checks(checks),
        site=site,
        canaries=canaries,
        confidence=confidence,
        seed=seed,
        public_data=public_data,
    )
    directory = _new_directory(out, parsed.study.name)
    prepared = prepare(parsed, settings)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "registration.json", prepared.registration.model_dump(mode="json"))
    found = prepared.run(_command(), lambda name: typer.echo(f"{name} ...", err=True))
    write_json(directory / "audit.json", found.model_dump(mode="json"))
    (directory / "ledger.jsonl").write_bytes(prepared.bundle())
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2, allow_nan=False))
        if found.findings:
            raise typer.Exit(AuditFailure.exit_code)
        return
    _print(found, directory)
    if found.findings:
        raise AuditFailure(f"audit: {len(found.findings)} findings, the first: {found.findings[0].what}")


def _checks(given: str) -> tuple[CheckName, ...]:
    from typing import cast

    from deploy.audit.registration import CHECKS

    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in CHECKS:
            raise BadInput(f"--checks {name}: must be of {', '.join(CHECKS)}")
    return cast("tuple[CheckName, ...]", tuple(names))


def _new_directory(out: Path | None, name: str) -> Path:
    directory = out or Path("audits") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadInput(f"--out {directory}: exists and is not empty; name a new folder")
    return directory


def _command() -> str:
    return shlex.join(["hanse", *sys.argv[1:]])


def _print(found: EmpiricalAudit, directory: Path) -> None:
    from rich.markup import escape

    from deploy.console import wide_console

    console = wide_console()
    plan = found.registration
    console.print(
        f"Site {plan.site}: epsilon {plan.claim.epsilon:g} at delta {plan.claim.delta:.3g} is claimed; "
        f"registration {found.registration_digest[:16]}, ledger entry {found.ledger_entry}",
        markup=False,
        highlight=False,
    )
    for check in found.checks:
        verdict = "[bold red]FINDINGS[/]" if check.findings else "[green]no finding[/]"
        console.print(f"[bold]{check.check}[/] {verdict} [dim]{check.seconds:.0f} s[/]")
        for line in _lines(check):
            console.print(f"  {escape(line)}", highlight=False)
    console.print(found.unproven, markup=False)
    console.print(f"Written to {directory}", markup=False, highlight=False)


def _lines(check: CheckResult) -> list[str]:
    tests = [test for test in check.tests if not test.passed]
    lines = [f"{len(check.tests) - len(tests)} of {len(check.tests)} tests passed"] if check.tests else []
    lines += [finding.what for finding in check.findings]
    for bound in check.bounds:
        figure = "-" if bound.epsilon is None else f"at least {bound.epsilon:.3f}"
        lines.append(f"{bound.method}: {figure}; {bound.detail}; {bound.ceiling}")
    for fact in check.facts:
        value = "-" if fact.value is None else f"{fact.value:.4f}"
        ends = "" if fact.lower is None or fact.upper is None else f" [{fact.lower:.4f}, {fact.upper:.4f}]"
        lines.append(f"{fact.name}: {value}{ends}; {fact.detail}")
    return lines
