"""`hanse sweep`: a study over a grid of settings, with one comparison, and what trying them cost each site."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import RunFailed

if TYPE_CHECKING:
    from deploy.sweep import SweepRun

__all__ = ["sweep"]

_REPORT = "report.html"


def sweep(
    out: Annotated[Path, typer.Option(help="Folder of the sweep; the same command takes it up again.")],
    study: Annotated[
        Path | None, typer.Argument(help="Study file; without one the embedded default study.")
    ] = None,
    over: Annotated[
        list[str] | None, typer.Option(metavar="KEY=V,V", help="A key and its values; repeat it for a grid.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key in every run.")
    ] = None,
    at_once: Annotated[
        int | None, typer.Option("--at-once", min=1, max=64, help="Runs at the same time; default by cores.")
    ] = None,
    sites: Annotated[
        Path | None, typer.Option(help="Folder with one folder a site: its policy.toml is obeyed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what it cost as JSON.")] = False,
) -> None:
    """Run a grid of settings and write one report; every run is charged to the same ledgers."""
    from deploy.report.page import report_html
    from deploy.report.reading import read_run
    from deploy.report.sweep_cost import sweep_cost
    from deploy.sweep import last_words, plan_sweep, run_sweep

    runs = plan_sweep(study, override or [], over or [], out)
    together = at_once or max(1, _cores() // runs[0].study.data.sites)

    def said(run: SweepRun, what: str) -> None:
        if not as_json:
            typer.echo(f"{run.name}: {what}")

    failed = run_sweep(runs, together, said, sites)
    facts = [read_run(run.directory) for run in runs if (run.directory / "study.toml").is_file()]
    cost = sweep_cost(facts)
    if facts:
        from common.files import write_text

        write_text(out / _REPORT, report_html(facts, f"Sweep of {facts[0].study.study.name}", cost))
    if as_json:
        print(
            json.dumps({"report": str(out / _REPORT), "failed": [r.name for r in failed], "cost": cost.to_json()})
        )
    else:
        for site in cost.sites:
            typer.echo(
                f"{site.site}: {site.runs} runs cost epsilon {site.sweep.epsilon:g} at delta "
                f"{site.sweep.delta:.1e} together; every run on record: {site.all_runs.epsilon:g}"
            )
        typer.echo(f"Wrote {out / _REPORT}")
    if failed:
        raise RunFailed(f"{len(failed)} of {len(runs)} runs failed; {failed[0].name}: {last_words(failed[0])}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
