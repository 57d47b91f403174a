"""The audit as a whole: registered first, charged, refused where it may not run, and its command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import client.training
from client.noisy_sum import NoisyClippedSum
from common.audit.ledger_audit import audit_ledgers
from common.audit.ledger_files import Bundle
from common.errors import BadInput, BudgetExceeded
from common.privacy.ledger.details import Reserved, Settled
from common.study import Study
from common.study_file import parse_study
from deploy.audit.charge import AuditCharge
from deploy.audit.registration import Registration, guessing_for
from deploy.audit.run import AuditSettings, prepare
from deploy.audit.site_copy import chosen_site
from deploy.commands import audit_run
from tests.tiny import tiny_study_text

QUICK = AuditSettings(checks=("noise", "white-box"), canaries=400, text_canaries=60)


@pytest.fixture
def study(tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("HANSE_STATE", str(tmp_path / "state"))
    return parse_study(tiny_study_text(tiny_base, tiny_data), "tiny", ["training.physical_batch_size=16"])


def test_the_digest_is_in_the_ledger_before_anything_runs(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(study, QUICK)
    charge = AuditCharge(study, chosen_site(study)[0])
    assert charge.ledger.entries() == ()
    seen: list[str | None] = []
    step = NoisyClippedSum.noisy_step

    def noting(self: NoisyClippedSum, *given: object) -> None:
        if not seen:
            seen.extend(e.details.plan for e in charge.ledger.entries() if isinstance(e.details, Reserved))
        step(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(client.training.NoisyClippedSum, "noisy_step", noting)
    found = prepared.run("hanse audit run")
    assert seen == [None, prepared.registration.digest]
    entries = charge.ledger.entries()
    assert isinstance(entries[-1].details, Settled)
    reserved = entries[found.ledger_entry - 1]
    assert reserved.run is not None
    assert reserved.run.startswith("audit-")
    assert reserved.mechanism == prepared.mechanism
    assert audit_ledgers([Bundle("site", prepared.bundle())], second_opinion=False).failed == ()


def test_a_correct_pipeline_has_no_finding_and_a_main_figure(study: Study) -> None:
    found = prepare(study, replace(QUICK, false_alarm_rate=1e-6, confidence=0.9999)).run("hanse audit run")
    assert found.findings == ()
    assert [check.check for check in found.checks] == ["noise", "white-box"]
    assert found.main_figure is not None
    assert found.main_figure.epsilon is not None
    assert 0 < found.main_figure.epsilon < found.registration.claim.epsilon
    assert "does not prove" in found.unproven


def test_a_failed_check_still_settles_at_full_cost(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: NoisyClippedSum, *given: object) -> None:
        raise RuntimeError("power cut")

    prepared = prepare(study, QUICK)
    monkeypatch.setattr(client.training.NoisyClippedSum, "noisy_step", broken)
    with pytest.raises(RuntimeError, match="power cut"):
        prepared.run("hanse audit run")
    last = AuditCharge(study, chosen_site(study)[0]).ledger.entries()[-1]
    assert isinstance(last.details, Settled)
    assert last.details.outcome == "failed"
    assert last.mechanism == prepared.mechanism


def test_a_site_with_a_policy_pays_from_its_budget(study: Study, tmp_path: Path) -> None:
    virtual, _ = chosen_site(study)
    folder = tmp_path / "state" / "virtual-sites" / "tiny" / virtual.name
    folder.mkdir(parents=True, mode=0o700)
    (folder / "policy.toml").write_text(
        f'[site]\nname = "{virtual.name}"\n[dataset]\nname = "letters"\nunit = "example"\n'
        f"one_row_per_person = true\ndeclared_size = {virtual.declared_size}\n[budget]\nepsilon = 0.5\n"
        '[disclose]\nlabels = ["negative", "positive"]\n',
        encoding="utf-8",
    )
    with pytest.raises(BudgetExceeded):
        prepare(study, QUICK).run("hanse audit run")


@pytest.mark.parametrize("check", ["membership", "inversion"])
def test_p20_attacks_that_open_data_run_on_public_data_alone(study: Study, check: str) -> None:
    settings = replace(QUICK, checks=(check,))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"PRIVACY P20.*--public-data"):
        prepare(study, settings)
    prepare(study, replace(settings, public_data=True))


def test_the_registration_is_pinned_by_its_digest(study: Study) -> None:
    plan = prepare(study, QUICK).registration
    again = Registration.model_validate_json(plan.model_dump_json())
    assert again.digest == plan.digest
    for change in ({"seed": 2}, {"confidence": 0.9}, {"canaries": 401}, {"threshold": "the best"}):
        assert plan.model_copy(update=change).digest != plan.digest


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (replace(QUICK, canaries=3), "--canaries 3"),
        (replace(QUICK, confidence=1.0), "--confidence 1.0"),
        (replace(QUICK, checks=()), "--checks"),
        (replace(QUICK, site="nowhere"), "--site nowhere"),
    ],
)
def test_an_impossible_setting_is_named(study: Study, settings: AuditSettings, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        prepare(study, settings)


def test_a_study_without_privacy_claims_nothing(study: Study) -> None:
    off = study.model_copy(update={"privacy": study.privacy.model_copy(update={"enabled": False})})
    with pytest.raises(BadInput, match="nothing is claimed"):
        prepare(off, QUICK)


def test_guesses_grow_with_the_canaries() -> None:
    assert guessing_for(1000, 1.0).one_run == 200
    assert guessing_for(1000, 8.0).one_run == 100
    assert guessing_for(2, 8.0).curve == 2


# --- the command ----------------------------------------------------------------------------------------------

app = typer.Typer()
app.command()(audit_run.run)


def _written(study: Study, folder: Path) -> Path:
    from common.study_file import write_study

    file = folder / "study.toml"
    write_study(study, file)
    return file


def test_the_command_writes_the_plan_the_record_and_the_ledger(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    given = [str(_written(study, tmp_path)), "--checks", "noise,white-box,black-box", "--canaries", "60"]
    ended = CliRunner().invoke(app, [*given, "--confidence", "0.9999", "--out", str(out)])
    plan = json.loads((out / "registration.json").read_text(encoding="utf-8"))
    record = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert record["registration"] == plan
    assert {check["check"] for check in record["checks"]} == {"noise", "white-box", "black-box"}
    assert ended.exit_code == (4 if record["findings"] else 0), ended.output
    assert record["registration_digest"] in (out / "ledger.jsonl").read_text(encoding="utf-8")
    assert "component: at least" in ended.output
    again = CliRunner().invoke(app, [*given, "--out", str(out)])
    assert isinstance(again.exception, BadInput)


def test_a_planted_bug_ends_with_exit_code_four(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet(NoisyClippedSum):
        def add_noise(self) -> None:
            self.noise_multiplier /= 2
            super().add_noise()
            self.noise_multiplier *= 2

    monkeypatch.setattr(client.training, "NoisyClippedSum", Quiet)
    given = [str(_written(study, tmp_path)), "--checks", "noise", "--json", "--out", str(tmp_path / "audit")]
    ended = CliRunner().invoke(app, given)
    assert ended.exit_code == 4
    found = json.loads(ended.stdout)["findings"]
    assert any("scale of" in finding["what"] for finding in found)
