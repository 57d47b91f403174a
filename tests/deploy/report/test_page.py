"""The report as a file: self-contained, escaped, figures as in result.json, and what the guarantee leads with."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from common.errors import BadInput
from common.privacy.spending import Claim
from deploy.commands.report import report
from deploy.report.facts import LedgerFacts
from deploy.report.page import report_html, write_report
from deploy.report.reading import read_run
from deploy.report.sweep_cost import sweep_cost
from tests.deploy.report.samples import MARKUP, change_result, evaluation_of, write_run


def page_of(*directories: Path) -> str:
    """Their report."""
    return report_html([read_run(directory) for directory in directories])


def figure(page: str, name: str) -> str:
    """What stands in the place of a figure."""
    found = re.search(rf'data-figure="{re.escape(name)}">([^<]*)<', page)
    assert found, name
    return found[1]


def test_figures_are_those_of_the_result(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "one")
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    page = page_of(directory)
    for key in ("accuracy", "macro_f1", "matthews_correlation", "loss", "expected_calibration_error"):
        assert figure(page, f"test.overall.{key}") == f"{result['test']['overall'][key]:.4f}"
        assert figure(page, f"test.by_domain.south.{key}") == f"{result['test']['by_domain']['south'][key]:.4f}"
    for site in result["sites"]:
        assert figure(page, f"sites.{site['name']}.epsilon") == f"{site['epsilon']:.4f}"
    assert figure(page, "bytes_sent") == str(result["bytes_sent"])
    assert figure(page, "seconds.total") == str(result["seconds"]["total"])
    assert figure(page, "digest") == result["digest"]
    for row in result["test"]["overall"]["counts"]["confusion"]:
        assert "".join(f"<td>{count}</td>" for count in row) in page


def test_the_page_needs_nothing_else_and_lets_nothing_else_in(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "one"), write_run(tmp_path / "two", "privacy.epsilon=2"))
    assert not re.search(r'(src|href)="(?!#|data:,")', page)
    assert "<script" not in page
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;" in page.replace("'", "&#39;")
    assert "prefers-color-scheme: dark" in style[1]
    assert "@media print" in style[1]


def test_markup_in_names_and_labels_is_shown(tmp_path: Path) -> None:
    sites = (MARKUP, "south")
    directory = write_run(tmp_path / "one", f"task.labels=[{json.dumps(MARKUP)}, 'yes']", sites=sites)
    change_result(directory, robustness=[{"attack": MARKUP, "accuracy": 0.5}], versions={MARKUP: MARKUP})
    page = report_html([read_run(directory)], title=MARKUP)
    assert "<script>" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 6


def test_p01_p02_the_guarantee_leads_and_what_is_not_proven_is_said(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "one"))
    summary = page[page.index('<div class="summary">') :]
    assert "One row at one site is covered by epsilon 7.920 at delta 1.0e-05 at most" in summary
    assert "at each of the 2 sites has what all of them cost together: epsilon 15.840, delta 2.0e-05" in summary
    assert "does not prove it, and is no audit" in summary.replace("\n", " ")
    assert summary.index("One row at one site") < summary.index("accuracy")


def test_a_run_without_privacy_says_so_first(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "one", "privacy.enabled=false"))
    assert re.search(r'<div class="summary">\s*<p>This run was not private', page)
    assert "noise multiplier" not in page


def test_p19_a_run_noised_by_the_coordinator_is_marked_as_its_own(tmp_path: Path) -> None:
    central = ("privacy.unit='institution'", "privacy.batch_size=1")
    run = read_run(write_run(tmp_path / "one", *central))
    page = report_html([run])
    assert "do not pass this page on" in page
    assert run.guarantee is not None
    assert run.guarantee.epsilon_everywhere == run.guarantee.epsilon  # one mechanism: nothing adds up


def test_what_the_result_does_not_have_is_left_out(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "one")
    score = evaluation_of(["north"], 0.8).to_json()
    overall = {"examples": 40, "accuracy": 0.8125}
    change_result(directory, test=score | {"overall": overall, "by_domain": {}, "worst_domain": None})
    page = page_of(directory)
    assert figure(page, "test.overall.accuracy") == "0.8125"
    assert "Reliability" not in page
    assert "Confusion" not in page
    assert "Robustness" not in page


@pytest.mark.parametrize(
    "extra",
    [{"typos": {"accuracy": 0.5}}, [{"attack": "typos", "accuracy": 0.5}], {"typos": 0.5}],
)
def test_further_parts_of_a_result_become_tables(tmp_path: Path, extra: object) -> None:
    directory = write_run(tmp_path / "one")
    change_result(directory, robustness=extra)
    page = page_of(directory)
    assert "<h3>Robustness</h3>" in page
    assert "typos" in page
    assert "0.5000" in page


def test_a_run_under_way_has_a_report_too(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "one", ends=False))
    assert "The run is under way: 2 of 3 rounds are done." in page
    assert "Provenance" not in page


def test_runs_are_compared_by_what_differs(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / f"{trainable}-{epsilon}", f"privacy.epsilon={epsilon}", f"model.trainable='{trainable}'"
        )
        for trainable in ("head", "lora")
        for epsilon in (1, 4)
    ]
    page = page_of(*runs)
    assert '<th scope="col">privacy.epsilon</th>' in page
    assert '<th scope="col">model.trainable</th>' in page
    assert "study.seed</th>" not in page
    assert "Privacy and utility" in page
    for name in ("trainable=head", "trainable=lora"):
        assert name in page


def test_p21_the_report_of_a_sweep_counts_what_all_its_runs_cost(tmp_path: Path) -> None:
    """Two runs with budgets of their own, and one of them in a budget that an older run shares."""
    first = read_run(write_run(tmp_path / "one", "privacy.epsilon=1"))
    second = read_run(write_run(tmp_path / "two", "privacy.epsilon=4"))
    budgets = {first.identifier: (1, Claim(1.0, 1e-5)), second.identifier: (5, Claim(4.0, 1e-5))}
    older = {"0" * 32: (9, Claim(8.0, 1e-5))}
    ledger = LedgerFacts(Claim(13.0, 3e-5), 3, budgets | older)
    before = LedgerFacts(Claim(9.0, 2e-5), 2, {first.identifier: (1, Claim(1.0, 1e-5))} | older)
    runs = [_with_ledger(first, before), _with_ledger(second, ledger)]
    cost = sweep_cost(runs)
    (north,) = cost.sites
    assert (north.runs, north.sweep.epsilon, north.all_runs.epsilon) == (2, 5.0, 13.0)
    assert north.sweep.delta == pytest.approx(2e-5)
    page = report_html(runs, cost=cost)
    assert 'data-cost="north">5</td>' in page
    shared = LedgerFacts(Claim(8.0, 1e-5), 1, {run.identifier: (1, Claim(8.0, 1e-5)) for run in runs})
    assert sweep_cost([_with_ledger(run, shared) for run in runs]).sites[0].sweep.epsilon == 8.0


def _with_ledger(run, ledger):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(run, ledgers={"north": ledger})


def test_the_command_writes_beside_the_run_or_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(report)
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    assert CliRunner().invoke(app, [str(one)]).exit_code == 0
    assert "<!doctype html>" in (one / "report.html").read_text(encoding="utf-8")
    told = CliRunner().invoke(app, [str(one), str(two), "--json"])
    assert json.loads(told.stdout)["report"] == "comparison.html"
    assert (tmp_path / "comparison.html").is_file()
    with pytest.raises(BadInput, match=r"named twice"):
        CliRunner().invoke(app, [str(one), str(one)], catch_exceptions=False)
    with pytest.raises(BadInput, match=r"name a file in a folder"):
        write_report([one], tmp_path / "nowhere" / "report.html")
