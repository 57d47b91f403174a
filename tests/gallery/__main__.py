"""Makes the pictures under docs/screenshots/ from a real run: `python -m tests.gallery [RUN]`.

Without RUN the embedded default study runs first, which takes minutes. The terminal's picture is what the command
printed, set on a page; nothing is drawn by hand.
"""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from deploy.dashboard.app import DashboardSettings, dashboard_app
from deploy.report.page import write_report
from deploy.serving.app import serving_app
from deploy.serving.feedback import FeedbackFile
from deploy.serving.limits import RateLimit
from deploy.serving.served import ServedModel
from tests.deploy.pages.served import TOKEN, served

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "screenshots"
TEXT = "A warm and honest film, though the ending is a little too neat."
_TERMINAL = """<!doctype html><meta charset="utf-8"><style>body{margin:0;padding:1rem;background:#10151b;
color:#e6e9ed;font:13px/1.35 "DejaVu Sans Mono",monospace}pre{margin:0}b{color:#56d4b0}</style>
<pre><b>$ hanse simulate</b>
"""


def _picture(browser: Browser, address: str, name: str, **how: Any) -> None:
    """Save a page as a picture: 1280 wide and light, or 390 wide and dark."""
    width, height = how.pop("size", (1280, 900))
    dark = how.pop("dark", False)
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(address)
    if action := how.pop("then", None):
        action(page)
    page.screenshot(path=PICTURES / f"{name}.png", **how)
    context.close()


def _ask(page: Any) -> None:
    page.get_by_label("Text").fill(TEXT)
    page.get_by_role("button", name="Predict").click()
    page.locator("#answer").wait_for()


def _simulate(folder: Path) -> tuple[Path, str]:
    """Run the default study; what the terminal showed."""
    command = [sys.executable, "-m", "deploy.cli", "simulate", "--out", str(folder / "reviews")]
    environment = os.environ | {"HANSE_STATE": str(folder / "state"), "COLUMNS": "110", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return folder / "reviews", done.stdout


def _under_way(run: Path, copy: Path) -> None:
    """The same run as it stood in its last round: its own events and rounds, without the end."""
    copy.mkdir(parents=True)
    shutil.copy(run / "study.toml", copy)
    events = (run / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    last = max(place for place, line in enumerate(events) if '"event": "round-started"' in line)
    shift = time.time() - 3.0 - _time_of(events[last + 1])
    kept = [line.replace(f'"time": {_time_of(line)}', f'"time": {_time_of(line) + shift}') for line in events]
    (copy / "events.jsonl").write_text("".join(kept[: last + 2]), encoding="utf-8")
    rounds = (run / "rounds.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (copy / "rounds.jsonl").write_text("".join(rounds[:-1]), encoding="utf-8")


def _time_of(line: str) -> float:
    return float(json.loads(line)["time"])


def main(arguments: list[str]) -> None:
    """Make every picture."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        run, told = (Path(arguments[0]), "") if arguments else _simulate(folder)
        runs = folder / "runs"
        shutil.copytree(run, runs / "reviews", ignore=shutil.ignore_patterns("checkpoints"))
        _under_way(run, runs / "reviews-again")
        write_report([runs / "reviews"], runs / "reviews" / "report.html")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        report = (runs / "reviews" / "report.html").as_uri()
        _picture(browser, report, "report", size=(1280, 1500))
        _picture(browser, report, "report-narrow-dark", size=(390, 844), dark=True)
        if told:
            terminal = folder / "terminal.html"
            terminal.write_text(f"{_TERMINAL}{html.escape(told)}</pre>", encoding="utf-8")
            _picture(browser, terminal.as_uri(), "terminal", size=(960, 700), full_page=True)
        ended = Event()
        with served(dashboard_app(DashboardSettings(TOKEN, runs), ended), ended) as address:
            _picture(browser, f"{address}/?token={TOKEN}", "dashboard", size=(1280, 420))
            _picture(browser, f"{address}/run?name=reviews-again&token={TOKEN}", "dashboard-run", dark=True)
        model = ServedModel(runs / "reviews")
        app = serving_app(model, FeedbackFile(folder / "feedback.jsonl"), RateLimit(100, 100), TOKEN)
        with served(app) as address:
            _picture(browser, f"{address}/?token={TOKEN}", "serve", then=_ask, size=(1280, 1100))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
