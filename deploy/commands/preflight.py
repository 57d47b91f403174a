"""`hanse preflight`: prove on a study's actual model that its training is private as written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["preflight"]


def preflight(
    study: Annotated[
        Path | None, typer.Argument(help="Study file; without one the embedded default study.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as model.trainable=full."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold the study's private training against plain gradients, on random tokens; exit code 1 if they differ."""
    from client.preflight import preflight as examine
    from common.device import choose_device
    from common.model import build_classifier
    from deploy.default_study import load_study

    parsed = load_study(study, override or [])
    classifier = build_classifier(parsed).place(choose_device(parsed.training.device))
    report = examine(classifier, parsed)
    if as_json:
        checks = [asdict(check) for check in report.checks]
        print(json.dumps({"ok": report.ok, "checks": checks}, indent=2))
    else:
        for check in report.checks:
            print(f"{'pass' if check.passed else 'FAIL'}  {check.name}\n      {check.detail}")
    if not report.ok:
        raise typer.Exit(1)
