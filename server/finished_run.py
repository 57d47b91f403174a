"""What payment and release read of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import BadInput
from common.study_file import read_study
from server.economics.contribution_record import read_contribution_record
from server.economics.payout import RunToPay
from server.run_directory import RunDirectory

__all__ = ["finished_result", "run_to_pay"]


def finished_result(run: Path) -> dict[str, Any]:
    """The content of ``result.json``; raises ``BadInput`` if the run has not finished."""
    if not (run / "result.json").is_file():
        raise BadInput(f"{run}: is not the directory of a finished run (it holds no result.json)")
    found: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return found


def run_to_pay(run: Path) -> RunToPay:
    """Sites, sizes and contributions of a finished run.

    Raises:
        BadInput: it has not finished, or its contributions are of another run.
    """
    result, identifier = finished_result(run), RunDirectory(run).run_identifier()
    record = run / "contribution.json"
    contribution = read_contribution_record(record) if record.is_file() else None
    if contribution is not None and (contribution["study"], contribution["run"]) != (result["digest"], identifier):
        raise BadInput(f"{record}: is of another run than this one; compute it anew")
    return RunToPay(
        study=result["digest"],
        run=identifier,
        sizes={site["name"]: int(site["declared_size"]) for site in result["sites"]},
        central=read_study(run / "study.toml").privacy.noised_centrally,
        contribution=contribution,
    )
