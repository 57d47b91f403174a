"""The coordinator's metrics, from what a real run's records and events say."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import typer
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from common.privacy.mechanism import SampledGaussian
from deploy.commands.coordinator_metrics import metrics
from deploy.federation.coordinator_directory import CoordinatorDirectory
from deploy.federation.metrics import read_figures, run_registry
from server.records import RoundRecord, SiteRound
from server.run_directory import RunDirectory

MECHANISM = SampledGaussian(sample_rate=0.1, noise_multiplier=1.0, steps=2)
LATE = "no reply within 30m"
CUT_OFF = "interrupted; counted as spent, not repeated"
SECRET_REASON = 'dataset "wards": was answered for another plan'


def site_round(site: str, epsilon: float, reason: str = "") -> SiteRound:
    return SiteRound(site, MECHANISM, epsilon, replied=not reason, seconds=1.25, reason=reason)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two rounds as the coordinator writes them, and a third that has begun."""
    directory = RunDirectory(tmp_path / "trial")
    (directory.path / "study.toml").write_text("", encoding="utf-8")
    directory.event("connecting", sites=2, rounds=3)
    directory.event("connected", sites=["north", "south"])
    seconds = {"train": 2.0, "evaluate": 0.5, "round": 2.5}
    for number, reasons in ((1, ("", SECRET_REASON)), (2, (LATE, CUT_OFF))):
        directory.event("round-started", round=number, phase="train", steps=2)
        sites = (
            site_round("north", 0.5 * number, reasons[0]),
            site_round("south", 0.25 * number, reasons[1]),
        )
        record = RoundRecord(number, "train", 2, sites, None, 2_000, 1_000, seconds)
        directory.add_round(record)
        directory.event("round-finished", **record.to_json())
    directory.event("round-started", round=3, phase="train", steps=2)
    return directory.path


def key(name: str, *labels: str) -> tuple[str, ...]:
    """A sample's name and the values of its labels, in no order of their own."""
    return (name, *sorted(labels))


def figures(runs: list[Path]) -> dict[tuple[str, ...], float]:
    text = generate_latest(run_registry(lambda: runs)).decode()
    return {
        key(sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_rounds_replies_seconds_and_bytes_are_those_of_the_records(run: Path) -> None:
    found = figures([run])
    expected = {
        key("hanse_run_rounds_planned", "trial"): 3,
        key("hanse_run_round_started", "trial"): 3,
        key("hanse_run_rounds_finished", "trial"): 2,
        key("hanse_run_sites_seen", "trial"): 2,
        key("hanse_run_finished", "trial"): 0,
        key("hanse_run_failed", "trial"): 0,
        key("hanse_run_replies_total", "trial", "north", "update"): 1,
        key("hanse_run_replies_total", "trial", "north", "missing"): 1,
        key("hanse_run_replies_total", "trial", "south", "refused"): 1,
        key("hanse_run_replies_total", "trial", "south", "interrupted"): 1,
        key("hanse_run_seconds_total", "trial", "round"): 5.0,
        key("hanse_run_seconds_total", "trial", "train"): 4.0,
        key("hanse_run_bytes_total", "trial", "sent"): 4_000,
        key("hanse_run_bytes_total", "trial", "received"): 2_000,
        key("hanse_run_site_epsilon", "trial", "north"): 1.0,
        key("hanse_run_site_epsilon", "trial", "south"): 0.5,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_the_reasons_are_those_that_the_rounds_write() -> None:
    """Where ``server.rounds`` words them anew, the outcomes here would all turn into refusals."""
    source = (Path(__file__).parents[3] / "server" / "rounds.py").read_text(encoding="utf-8")
    assert 'f"no reply within {' in source
    assert '"interrupted; ' in source


def test_p15_p17_neither_reasons_nor_the_time_of_one_site_are_shown(run: Path) -> None:
    text = generate_latest(run_registry(lambda: [run])).decode()
    assert "wards" not in text
    assert "1.25" not in text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    outcomes = {sample.labels["outcome"] for sample in samples if "outcome" in sample.labels}
    assert outcomes == {"update", "refused", "missing", "interrupted"}


def test_a_line_that_is_half_written_is_left_out(run: Path) -> None:
    before = figures([run])
    for name in ("events.jsonl", "rounds.jsonl"):
        with (run / name).open("a", encoding="utf-8") as stream:
            stream.write('{"round": 3, "event": "round-fin')
    assert figures([run]) == before


def test_a_run_that_failed_and_goes_on_again_is_no_failure(run: Path) -> None:
    directory = RunDirectory(run)
    directory.event("failed", message="too few sites")
    assert read_figures(run).ended == "failed"
    directory.event("connecting", sites=2, rounds=3)
    assert read_figures(run).ended == ""
    directory.event("finished")
    assert figures([run])["hanse_run_finished", "trial"] == 1


def test_an_empty_folder_has_figures_of_nothing(tmp_path: Path) -> None:
    assert figures([tmp_path])["hanse_run_rounds_finished", tmp_path.name] == 0
    assert figures([]) == {}


def test_the_command_serves_a_federations_runs_until_it_is_told_to_stop(
    federation: CoordinatorDirectory, run: Path
) -> None:
    run.rename(federation.runs / "trial")
    script = "import typer; from deploy.commands.coordinator_metrics import metrics; typer.run(metrics)"
    command = [sys.executable, "-c", script, "--federation", str(federation.path), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[1].removesuffix(";")
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert b'hanse_run_rounds_finished{run="trial"} 2.0' in answer.read()
            process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            assert process.wait(timeout=10) == 0
            assert time.monotonic() - started < 5
        finally:
            process.kill()


@pytest.mark.parametrize(
    "arguments", [["--listen", "9464"], ["--listen", "127.0.0.1:x"], ["--run", "nowhere"], ["--listen", "a:99999"]]
)
def test_what_cannot_be_served_is_said_at_once(arguments: list[str], federation: CoordinatorDirectory) -> None:
    app = typer.Typer()
    app.command()(metrics)
    ended = CliRunner().invoke(app, ["--federation", str(federation.path), *arguments])
    assert type(ended.exception).__name__ == "BadInput"
    assert arguments[1] in str(ended.exception)
