"""The live page in Chromium: it follows a real study, lists fast, works from the keyboard, and shows markup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from client.site_directory import SiteDirectory
from common.privacy.budget import PrivacyBudget
from common.privacy.terms import BudgetTerms
from deploy.dashboard.app import DashboardSettings, dashboard_app
from deploy.dashboard.runs import RunFolder
from tests.browser.conftest import SIZES, Watch
from tests.deploy.pages.served import TOKEN, served
from tests.deploy.report.samples import MARKUP, STUDY, write_run
from tests.tiny import tiny_study_text

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder for runs."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def address(runs: Path, tmp_path: Path) -> Iterator[str]:
    """A page over the runs and over the folder of a site with an open budget."""
    site = SiteDirectory(tmp_path / "north")
    terms = BudgetTerms(epsilon=4.0, delta=1e-5, unit="example", declared_size=1000, kind="filter", order=8)
    PrivacyBudget(site.ledger(), "letters").open(terms)
    study = tmp_path / "study.toml"
    study.write_text(STUDY.replace("[privacy]\n", "[privacy]\ndelta = 1e-5\n"), encoding="utf-8")
    ended = Event()
    settings = DashboardSettings(TOKEN, runs, site.path, study)
    with served(dashboard_app(settings, ended), ended) as base:
        yield base


@pytest.mark.parametrize("size", SIZES)
def test_every_page_is_sound_and_accessible(watch: Watch, runs: Path, address: str, size: tuple[int, int]) -> None:
    write_run(runs / "going", sites=(MARKUP, "south"), ends=False)
    write_run(runs / "done")
    write_run(runs / "<img src=x onerror=alert(3)>", "privacy.epsilon=2")
    seen = watch(size, dark=size == SIZES[1])
    query = "run=done&run=%3Cimg+src%3Dx+onerror%3Dalert(3)%3E"
    for path in ("/?", "/run?name=going&", "/run?name=done&", f"/compare?{query}&", "/site?"):
        seen.page.goto(f"{address}{path}token={TOKEN}")
        assert seen.page.locator("h1").is_visible()
        seen.assert_sound(address)
        seen.assert_accessible()


def test_figures_are_those_of_the_result(watch: Watch, runs: Path, address: str) -> None:
    result = json.loads((write_run(runs / "done") / "result.json").read_text(encoding="utf-8"))
    page = watch().page
    page.goto(f"{address}/?token={TOKEN}")
    page.get_by_role("link", name="done").click()
    shown = page.locator('[data-figure="test.overall.accuracy"]').inner_text()
    assert shown == f"{result['test']['overall']['accuracy']:.4f}"


def test_the_page_is_used_from_the_keyboard_alone(watch: Watch, runs: Path, address: str) -> None:
    for name in ("one", "two"):
        write_run(runs / name)
    page = watch().page
    page.goto(f"{address}/?token={TOKEN}")
    for box in page.get_by_role("checkbox").all():
        box.focus()
        page.keyboard.press("Space")
    page.get_by_role("button", name="Compare the chosen runs").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Runs compared").wait_for()
    assert page.get_by_role("row").filter(has_text="two").first.is_visible()


def test_the_officers_slider_forecasts_as_it_moves(watch: Watch, address: str) -> None:
    seen = watch()
    seen.page.goto(f"{address}/site?token={TOKEN}")
    slider = seen.page.get_by_role("slider")
    slider.focus()
    seen.page.keyboard.press("Home")
    for _ in range(11):  # from 0.25 by quarters
        seen.page.keyboard.press("ArrowRight")
    assert seen.page.locator("#epsilon-shown").inner_text() == "3"
    seen.page.locator("#said", has_text="Forecast for epsilon 3.").wait_for()
    assert seen.page.locator("#live td", has_text="yes").count() == 1
    seen.assert_sound(address)


def test_two_hundred_runs_are_listed_in_half_a_second(runs: Path) -> None:
    """The best of three, each by a list that has read nothing yet."""
    first = write_run(runs / "run-000", sites=tuple(f"site-{number}" for number in range(4)))
    for number in range(1, 200):
        directory = runs / f"run-{number:03d}"
        directory.mkdir()
        for name in ("study.toml", "result.json", "events.jsonl"):
            (directory / name).write_bytes((first / name).read_bytes())
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert len(RunFolder(runs).rows()) == 200
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


@pytest.mark.slow
def test_a_running_study_is_followed_without_a_reload(
    watch: Watch, runs: Path, address: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Rounds appear by themselves; at the end the page has the figures of result.json."""
    study = tmp_path / "tiny.toml"
    study.write_text(tiny_study_text(tiny_base, tiny_data), encoding="utf-8")
    seen = watch()
    seen.page.goto(f"{address}/?token={TOKEN}")
    command = [sys.executable, "-m", "deploy.cli", "simulate", str(study), "--out", str(runs / "live"), "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as child:
        try:
            link = seen.page.get_by_role("link", name="live")
            link.wait_for()  # the list has grown by itself
            link.click()
            seen.page.evaluate("window.sameDocument = true")
            finished = seen.page.locator("[data-live=finished]")
            finished.wait_for()
            seen.page.locator('[data-figure="test.overall.accuracy"]').wait_for(timeout=240_000)
            assert child.wait(timeout=240) == 0
        finally:
            child.kill()
    assert seen.page.evaluate("window.sameDocument") is True
    result = json.loads((runs / "live" / "result.json").read_text(encoding="utf-8"))
    shown = seen.page.locator('[data-figure="test.overall.accuracy"]').inner_text()
    assert shown == f"{result['test']['overall']['accuracy']:.4f}"
    assert (runs / "live" / "report.html").is_file()  # `hanse simulate` writes it
    parts = [asked for asked in seen.requests if "/part/run" in asked]
    assert len(parts) >= 3
    seen.assert_sound(address)
