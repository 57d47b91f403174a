"""The live page's answers, without a browser: what is shown, what is escaped, the officer's forecast."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event

import pytest
from starlette.testclient import TestClient

from client.site_directory import SiteDirectory
from common.privacy.budget import PrivacyBudget
from common.privacy.terms import BudgetTerms
from deploy.dashboard.app import DashboardSettings, dashboard_app
from tests.deploy.report.samples import MARKUP, STUDY, write_run

TOKEN = "to ken&"


def client(**folders: Path) -> TestClient:
    """The page, past its token."""
    return TestClient(dashboard_app(DashboardSettings(TOKEN, **folders), Event()))


def test_the_list_leads_to_each_run_with_the_token(tmp_path: Path) -> None:
    write_run(tmp_path / "one")
    page = client(runs=tmp_path).get("/").text
    (address,) = re.findall(r'href="(/run\?[^"]*)"', page)
    assert address == "/run?name=one&amp;token=to+ken%26"
    shown = client(runs=tmp_path).get(address.replace("&amp;", "&"))
    assert shown.status_code == 200
    assert 'data-figure="test.overall.accuracy"' in shown.text


def test_a_run_under_way_shows_stragglers_and_is_followed(tmp_path: Path) -> None:
    write_run(tmp_path / "one", ends=False)
    page = client(runs=tmp_path).get("/run", params={"name": "one"}).text
    assert "Waiting for: <strong>south</strong>" in page
    assert 'data-events="/events?name=one' in page
    assert "data-events" not in client(runs=write_run(tmp_path / "done")).get("/run", params={"name": "done"}).text


def test_chosen_runs_are_compared(tmp_path: Path) -> None:
    for epsilon in (1, 4):
        write_run(tmp_path / f"run-{epsilon}", f"privacy.epsilon={epsilon}")
    page = client(runs=tmp_path).get("/compare", params={"run": ["run-1", "run-4"]}).text
    assert '<th scope="col">privacy.epsilon</th>' in page
    assert "Privacy and utility" in page
    assert "No run was chosen" in client(runs=tmp_path).get("/compare").text


def test_unknown_runs_and_files_are_not_found(tmp_path: Path) -> None:
    page = client(runs=tmp_path)
    for path in (
        "/run?name=x",
        "/part/run?name=../x",
        "/compare?run=x",
        "/static/x",
        "/static/..%2fapp.py",
        "/site",
    ):
        assert page.get(path).status_code == 404, path
    assert page.get("/openapi.json").status_code == 404


def test_markup_in_names_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "one", sites=(MARKUP, "south"), ends=False)
    name = "<b>x"
    write_run(tmp_path / name)
    page = client(runs=tmp_path)
    for path in ("/", "/run?name=one", "/run?name=%3Cb%3Ex", "/compare?run=one&run=%3Cb%3Ex"):
        text = page.get(path).text
        assert "<b>x" not in text
        assert "<img" not in text
        assert "<script>" not in text
        assert "&lt;" in text


@pytest.fixture
def officer(tmp_path: Path) -> TestClient:
    """A site with an open budget of epsilon 4, and a study to forecast."""
    site = SiteDirectory(tmp_path / "north")
    terms = BudgetTerms(epsilon=4.0, delta=1e-5, unit="example", declared_size=1000, kind="filter", order=8)
    PrivacyBudget(site.ledger(), "letters").open(terms)
    study = tmp_path / "study.toml"
    study.write_text(STUDY.replace("[privacy]\n", "[privacy]\ndelta = 1e-5\n"), encoding="utf-8")
    return client(site=site.path, forecast=study)


def test_the_officers_slider_says_what_fits(officer: TestClient) -> None:
    fitting, beyond = (officer.get("/part/site", params={"epsilon": e}).text for e in (2.0, 6.0))
    assert '<td class="words">yes</td>' in fitting
    assert "it would bring the budget to" in beyond
    page = officer.get("/site").text
    assert "open" in page
    assert 'value="8.0"' in page  # what the study asks for


@pytest.mark.parametrize("epsilon", ["0", "-1", "nan", "33", "1e400"])
def test_forecasts_out_of_range_are_refused(officer: TestClient, epsilon: str) -> None:
    assert officer.get("/part/site", params={"epsilon": epsilon}).status_code == 404


def test_a_forecast_charges_nothing(officer: TestClient) -> None:
    before = officer.get("/part/site").text
    officer.get("/part/site", params={"epsilon": 2.0})
    assert officer.get("/part/site").text == before
