"""`hanse sweep`: the grid, what may not be swept, taking up again, and one ledger for all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from common.errors import BadInput, RunFailed
from common.privacy.spending import claim
from deploy.commands.sweep import sweep
from deploy.own_ledger import open_own_ledger
from deploy.sweep import grid, plan_sweep
from tests.tiny import tiny_study_text


@pytest.fixture
def study_file(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny study, of the head alone: two sites and one short round."""
    file = tmp_path / "study.toml"
    text = tiny_study_text(tiny_base, tiny_data)
    for before, after in (
        ('trainable = "lora"', 'trainable = "head"'),
        ("rounds = 2\nsteps", "rounds = 1\nsteps"),
        ("warm_start_steps = 2", "warm_start_steps = 0"),
        ("workers = 2", "workers = 1"),
        ('partition = "column"\ncolumn = "region"\nsites = 4', 'partition = "iid"\ncolumn = ""\nsites = 2'),
    ):
        assert before in text
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_grid_is_read_key_by_key() -> None:
    found = grid(["privacy.epsilon=1,2, 4", "model.trainable=head,lora", 'task.labels=["a","b"],["b","a"]'])
    assert found == {
        "privacy.epsilon": ("1", "2", "4"),
        "model.trainable": ("head", "lora"),
        "task.labels": ('["a","b"]', '["b","a"]'),
    }


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ([], "give at least one"),
        (["privacy.epsilon"], "must be KEY=VALUE"),
        (["privacy.epsilon=1,,2"], "must be KEY=VALUE"),
        (["privacy.epsilon=1,1"], "twice"),
        (["privacy.epsilon=1", "privacy.epsilon=2"], "twice"),
        (["privacy.enabled=true,false"], "cannot be swept"),
    ],
)
def test_what_is_no_grid_is_refused(over: list[str], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        grid(over)


def test_p21_the_name_that_ledgers_go_by_cannot_be_swept() -> None:
    with pytest.raises(BadInput, match=r"study\.name cannot be swept.*shares one for each site \(P21\)"):
        grid(["study.name=one,two"])


def test_every_study_is_checked_before_the_first_runs(study_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"privacy\.epsilon"):
        plan_sweep(study_file, [], ["privacy.epsilon=1,-1"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_one_sweep(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = plan_sweep(study_file, [], ["privacy.epsilon=1,2", "model.trainable=head,lora"], out)
    assert [run.name for run in runs][:2] == ["epsilon=1,trainable=head", "epsilon=1,trainable=lora"]
    again = plan_sweep(study_file, [], ["privacy.epsilon=1,2,4", "model.trainable=head,lora"], out)
    assert len(again) == 6  # it may grow
    with pytest.raises(BadInput, match=r"holds another sweep"):
        plan_sweep(study_file, ["study.seed=9"], ["privacy.epsilon=1,2", "model.trainable=head,lora"], out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(BadInput, match=r"is not empty and holds no sweep"):
        plan_sweep(study_file, [], ["privacy.epsilon=1,2"], tmp_path / "other")


@pytest.mark.slow
def test_p21_all_runs_of_a_sweep_are_charged_to_one_ledger_and_it_is_taken_up_again(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("HANSE_STATE", str(state))
    app = typer.Typer()
    app.command()(sweep)
    out = tmp_path / "out"

    def run(*values: str) -> dict[str, dict[str, dict[str, float]]]:
        arguments = [str(study_file), "--over", f"privacy.epsilon={','.join(values)}", "--out", str(out), "--json"]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told["failed"] == []
        cost: dict[str, dict[str, dict[str, float]]] = told["cost"]
        return cost

    assert {each["sweep"]["epsilon"] for each in run("2").values()} == {2.0}
    first = (out / "epsilon=2" / "result.json").stat().st_mtime_ns
    cost = run("2", "4")
    assert (out / "epsilon=2" / "result.json").stat().st_mtime_ns == first  # what is done is not done again
    assert len(cost) == 2
    for name, each in cost.items():
        assert each["sweep"] == {"epsilon": 6.0, "delta": pytest.approx(2e-5)}
        ledger = open_own_ledger(state / "virtual-sites" / "tiny" / name)
        with ledger.reading() as history:
            assert claim(history, "tiny").epsilon == 6.0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data-cost=") == 2
    assert "Privacy and utility" in page
    assert sorted(path.name for path in out.iterdir()) == ["epsilon=2", "epsilon=4", "report.html", "sweep.json"]


def test_a_run_that_fails_is_named_with_its_last_words(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch larger than a site is refused before its first round."""
    monkeypatch.setenv("HANSE_STATE", str(tmp_path / "state"))
    app = typer.Typer()
    app.command()(sweep)
    arguments = [str(study_file), "--over", "privacy.batch_size=5000", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, RunFailed)
    assert "1 of 1 runs failed; batch_size=5000: hanse: privacy.batch_size = 5000" in str(done.exception)
    assert not (tmp_path / "out" / "batch_size=5000").exists()
