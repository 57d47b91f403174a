"""`hanse contribution`, `hanse market` and `hanse release` over one real run of the tiny study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from common.errors import AuditFailure, BadInput
from common.study_file import parse_study, write_study
from deploy.commands import contribution, market, release
from deploy.simulation import simulate
from server.economics.statements import statement_from_json
from tests.server.economics.market_samples import SELLERS, write_bids
from tests.tiny import tiny_study_text

app = typer.Typer(pretty_exceptions_enable=False)
app.command("contribution")(contribution.contribution)
app.add_typer(market.app, name="market")
app.add_typer(release.app, name="release")


def hanse(*arguments: str) -> str:
    """What a command prints; its error is raised."""
    ended = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def told(*arguments: str) -> Any:
    """What a command prints as JSON."""
    return json.loads(hanse(*arguments, "--json"))


@pytest.fixture(scope="module")
def run(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished private run that kept its updates."""
    path = tmp_path_factory.mktemp("economics") / "run"
    path.mkdir()
    overrides = ["federation.keep_updates=true", "federation.rounds=1", "model.warm_start_steps=0"]
    study = parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", overrides)
    write_study(study, path / "study.toml")
    simulate(study, path)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The coordinator's key file and its public half."""
    file = str(tmp_path_factory.mktemp("keys") / "coordinator.pem")
    Path(file).parent.chmod(0o700)
    return file, hanse("release", "key", file).strip()


@pytest.mark.slow
def test_from_a_run_to_contributions_payment_and_release(run: Path, key: tuple[str, str]) -> None:
    """The whole way of the money, each command on what the one before wrote."""
    file, public = key
    with pytest.raises(BadInput, match=r"run `hanse contribution` first"):
        hanse("market", "pay", str(run), "--pot", "100", "--key", file)
    record = told("contribution", str(run), "--union", "north,south")
    assert record == json.loads((run / "contribution.json").read_text())
    assert sum(site["value"] for site in record["sites"]) == pytest.approx(record["gain"], abs=1e-6)
    assert record["evaluations"] == 16
    shown = hanse("contribution", str(run), "--union", "north,south")
    assert "Owen" in shown
    assert "0 coalitions scored" in shown
    paid = told(
        "market", "pay", str(run), "--pot", "100.01", "--key", file, "--limit", "west=5:", "--limit", "east=:60"
    )
    statements = paid["statements"]
    assert sum(s["payout_cents"] for s in statements) + statements[0]["kept_cents"] == 10_001
    west = statement_from_json((run / "payouts" / "west" / "statement.json").read_text(), public).statement
    assert west.payout_cents >= 500
    made = hanse("release", str(run), "--key", file, "--licence", "Apache-2.0")
    assert f"--key {public}" in made
    body = told("release", "verify", str(run / "release"), "--key", public)["body"]
    owned = {site["name"]: site["share_millionths"] for site in body["sites"]}
    assert owned == {site["site"]: site["ownership_millionths"] for site in record["sites"]}
    assert set(body["ledger_heads"]) == {"east", "north", "south", "west"}
    assert "Verified" in hanse("release", "verify", str(run / "release"), "--key", public)
    (run / "release" / "model" / "config.json").write_text("{}")
    with pytest.raises(AuditFailure, match=r"config\.json was changed"):
        hanse("release", "verify", str(run / "release"), "--key", public)


@pytest.mark.slow
def test_processes_that_score_give_the_same_values(run: Path) -> None:
    one = told("contribution", str(run), "--utility", "macro_f1")
    (run / "contribution" / "macro_f1-1.json").unlink()
    two = told("contribution", str(run), "--utility", "macro_f1", "--workers", "2")
    assert one == two
    assert two["evaluations"] == 16


def test_an_auction_from_bids_to_a_plan_and_payments(tmp_path: Path, key: tuple[str, str]) -> None:
    bids = str(write_bids(tmp_path / "bids.toml"))
    shown = hanse("market", "run", bids)
    assert "973.20 of 1000.00 paid" in shown
    assert "Written" not in shown
    found = told("market", "run", bids, "--out", str(tmp_path / "out"), "--key", key[0])
    assert [site["payment_cents"] for site in found["sites"]] == [15428, 18000, 33517, 30375]
    assert found["gap_closed"] == pytest.approx(0.878182, abs=1e-6)
    assert {Path(path).name for path in found["written"]} == {"plan.toml", "payments.json", "bids.opening.json"}
    assert "s0" not in json.dumps(found)
    with pytest.raises(BadInput, match="give both or neither"):
        hanse("market", "run", bids, "--out", str(tmp_path / "more"))


def test_an_auction_that_nobody_wins_says_so(tmp_path: Path) -> None:
    bids = write_bids(tmp_path / "bids.toml", 'reserve = "0.000001"')
    assert "Nobody takes part" in hanse("market", "run", str(bids))


def test_a_posted_price(tmp_path: Path) -> None:
    path = tmp_path / "sellers.toml"
    path.write_text(SELLERS["log"][0])
    found = told("market", "price", str(path))
    assert found["price"] == pytest.approx(1.609028, abs=1e-6)
    assert found["utility"] == pytest.approx(38.257625, abs=1e-6)
    assert "1.609028" in hanse("market", "price", str(path))


def test_an_economy_is_told_period_by_period() -> None:
    found = told("market", "loop", "--periods", "5", "--sites", "4")
    assert [each["period"] for each in found["periods"]] == [1, 2, 3, 4, 5]
    assert "training is a formula" in hanse("market", "loop", "--periods", "3")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["contribution", "RUN", "--utility", "beauty"], "--utility beauty: must be one of"),
        (["contribution", "RUN"], "is not a run directory"),
        (["market", "pay", "RUN", "--pot", "ten", "--key", "KEY"], "finished run"),
        (["market", "pay", "RUN", "--pot", "10", "--key", "KEY", "--policy", "luck"], "--policy luck"),
        (["release", "RUN", "--key", "KEY", "--licence", "MIT", "--shares", "luck"], "--shares luck"),
        (["release", "RUN", "--key", "KEY", "--licence", "MIT"], "finished run"),
        (["release", "verify", "RUN", "--key", "abc"], "64 lower-case hexadecimal digits"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    tmp_path: Path, key: tuple[str, str], arguments: list[str], match: str
) -> None:
    names = {"RUN": str(tmp_path), "KEY": key[0]}
    with pytest.raises(BadInput, match=match):
        hanse(*(names.get(each, each) for each in arguments))
