"""`hanse budget`: what is left of a site's privacy budgets, and what a study would take of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput

__all__ = ["budget"]


def budget(
    site: Annotated[
        Path, typer.Option("--site", envvar="HANSE_SITE", help="The institution's folder; holds its ledger.")
    ] = Path(),
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Only this dataset.")] = None,
    forecast: Annotated[
        Path | None, typer.Option(metavar="STUDY", help="Study file: what would it take of each budget?")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study.")
    ] = None,
    prv: Annotated[
        bool, typer.Option("--prv", help="Also show Opacus' PRV figure, for information; takes seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what each budget has spent and left; with --forecast what a study would take. Charges nothing."""
    if override and forecast is None:
        raise BadInput(f"--set {override[0]}: overrides a key of the study; name one with --forecast STUDY")
    from deploy.budget_forecast import read_dataset
    from deploy.default_study import load_study
    from deploy.own_ledger import chosen_datasets, open_own_ledger, policy_name

    study = None if forecast is None else load_study(forecast, override or [])
    ledger = open_own_ledger(site)
    name = policy_name(site)
    with ledger.reading() as history:
        readings = [read_dataset(history, each, study, name, prv) for each in chosen_datasets(history, dataset)]
    if as_json:
        print(json.dumps({"datasets": [each.to_json() for each in readings]}, indent=2, allow_nan=False))
        return
    from deploy.budget_bars import LEGEND, print_dataset
    from deploy.console import wide_console

    console = wide_console()
    if not readings:
        console.print(f"{ledger.name}: no budget was opened yet", markup=False, highlight=False)
        return
    for each in readings:
        print_dataset(console, each)
        console.print()
    console.print(LEGEND, markup=False, highlight=False)
