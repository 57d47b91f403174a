"""Fills the report's templates: facts in, one HTML file out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from common.errors import BadInput
from common.files import write_text
from deploy.report import figures
from deploy.report.comparison import compared
from deploy.report.facts import RunFacts
from deploy.report.reading import read_run
from deploy.report.sweep_cost import SweepCost
from deploy.report.words import summary

__all__ = ["TEMPLATES", "environment", "report_html", "run_view", "write_report"]

TEMPLATES = Path(__file__).with_name("templates")
"""Where the templates lie; the live page uses some of them."""


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The templates; everything that is put into one is escaped, and an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def run_view(run: RunFacts) -> dict[str, Any]:
    """What the template of one run shows."""
    epsilon = [chart for chart in (figures.epsilon_bars(run), figures.epsilon_lines(run)) if chart]
    return {
        "run": run,
        "summary": summary(run),
        "progress": figures.by_round([run]),
        "epsilon": epsilon,
        "score_columns": figures.score_columns(run),
        "score_rows": figures.score_rows(run),
        "reliability": figures.reliability(run),
        "confusion": figures.confusion(run),
        "extras": figures.extra_tables(run),
        "result": run.result or {},
    }


def report_html(runs: Sequence[RunFacts], title: str = "", cost: SweepCost | None = None) -> str:
    """The page of one run, or of several with a comparison first."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    several = len(runs) > 1
    keys, rows = compared(runs) if several else ([], [])
    return (
        environment()
        .get_template("report.html")
        .render(
            title=title or (f"{len(runs)} runs compared" if several else runs[0].study.study.name),
            style=Markup(style),
            style_digest=digest,
            keys=keys,
            rows=rows,
            utility=figures.privacy_utility(runs) if several else None,
            progress=figures.by_round(runs) if several else [],
            cost=cost,
            views=[run_view(run) for run in runs],
        )
    )


def write_report(directories: Sequence[Path], out: Path, title: str = "", cost: SweepCost | None = None) -> None:
    """Read runs and write their report, whole or not at all.

    Raises:
        BadInput: no run directory, or the file cannot be written there.
    """
    page = report_html([read_run(directory) for directory in directories], title, cost)
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"--out {out}: name a file in a folder that is there")
    write_text(out, page)
