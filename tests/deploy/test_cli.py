"""The command line: bad input is one clear line and exit code 2, and good input does what it says.

Most cases run ``deploy.cli.main`` in this process, which is what the ``hanse`` script calls; the last part
runs the real command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from common.model import build_classifier
from common.study_file import parse_study
from common.text import load_tokenizer
from server.run_directory import RunDirectory
from tests.deploy.running import Ended, Hanse, runner, telling_imports
from tests.tiny import tiny_study_text

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hanse(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_base: Path,
    tiny_data: Path,
) -> Hanse:
    """Runs a command in an empty folder that holds only ``study.toml`` and what the test puts there."""
    (tmp_path / "study.toml").write_text(tiny_study_text(tiny_base, tiny_data), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def model(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model folder, untrained."""
    folder = tmp_path_factory.mktemp("model")
    build_classifier(parse_study(tiny_study_text(tiny_base, tiny_data), where="tiny")).save(folder)
    load_tokenizer(tiny_base).save_pretrained(str(folder))
    return folder


def assert_refused(ended: Ended, *parts: str) -> None:
    """One clear line on standard error, exit code 2."""
    assert ended.code == 2, ended
    lines = [line for line in ended.err.splitlines() if "Loading weights" not in line and line.strip()]
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("hanse: ")
    assert "Traceback" not in ended.err + ended.out
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize("command", [["simulate"], ["study", "check"], ["study", "show"]], ids=" ".join)
@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "no such study file; `hanse study new bad.toml` writes a commented one"),
        (b"", "is empty"),
        (b"<xml/>", "is not valid TOML"),
        (b'name = "\xe9"', "is not UTF-8 at byte 8"),
        (b'[study]\nname = "a"\n[task]\nlabels = ["a", "b"]\nlables = 3\n', "unknown key; did you mean labels?"),
        (b'[study]\nname = "a"\n[task]\nlabels = 3\n', "task.labels = 3: must be a valid list"),
        (b'[study]\nname = "a"\n[task]\nlabels = ["a", "b"]\nkind = "token-classification"\n', "(BIO)"),
    ],
)
def test_a_bad_study_file(
    hanse: Hanse, tmp_path: Path, command: list[str], content: bytes | None, part: str
) -> None:
    if content is not None:
        (tmp_path / "bad.toml").write_bytes(content)
    assert_refused(hanse(*command, "bad.toml"), "bad.toml", part)
    assert not (tmp_path / "runs").exists()


def test_a_folder_instead_of_a_study(hanse: Hanse, tmp_path: Path) -> None:
    assert_refused(hanse("simulate", str(tmp_path)), "is a folder; name the study file in it")


def test_several_faults_are_several_lines(hanse: Hanse) -> None:
    ended = hanse("simulate", "study.toml", "--set", "privacy.epsilon=0", "--set", "privacy.batch_size=0")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 2
    assert all(line.startswith("hanse: study.toml: privacy.") for line in ended.err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "epsilon=3"], "--set epsilon=3: write section.key=value"),
        (["--set", "privacy.epsilon"], "--set privacy.epsilon: write section.key=value"),
        (["--set", "privacy.epsilon=-1"], "privacy.epsilon = -1: must be greater than 0"),
        (["--engine", "spark"], 'simulation.engine = "spark": must be'),
        (["--resume", "nowhere"], "--resume nowhere: no such run directory"),
        (["--resume", "."], "leave out STUDY"),
    ],
)
def test_bad_options_of_simulate(hanse: Hanse, arguments: list[str], part: str) -> None:
    assert_refused(hanse("simulate", "study.toml", *arguments), "" if "nowhere" in part else part)
    if "nowhere" in part:
        assert_refused(hanse("simulate", *arguments), part)


@pytest.mark.parametrize("more", [["study.toml"], ["--set", "study.seed=1"], ["--out", "elsewhere"]], ids=" ".join)
def test_resuming_takes_nothing_else(hanse: Hanse, more: list[str]) -> None:
    assert_refused(hanse("simulate", *more, "--resume", "."), "--resume continues a run as it was begun")


def test_resuming_what_is_no_run(hanse: Hanse, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(hanse("simulate", "--resume", "empty"), "is not a run directory (it holds no study.toml)")
    assert_refused(hanse("simulate", "--resume", "study.toml"), "no such run directory")


def test_resuming_a_finished_run(hanse: Hanse, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}", encoding="utf-8")
    assert_refused(hanse("simulate", "--resume", "."), "this run has finished; its figures are in result.json")


def test_resuming_a_run_whose_checkpoint_is_damaged(hanse: Hanse, tmp_path: Path) -> None:
    RunDirectory(tmp_path).checkpoint.write_bytes(b"not a checkpoint")
    assert_refused(hanse("simulate", "--resume", ".", "--json"), "is not a checkpoint of Hanse, or is damaged")


def test_a_run_directory_that_is_not_empty(hanse: Hanse, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert_refused(hanse("simulate", "study.toml", "--out", "full"), "--out full: is not empty", "--resume full")


def test_a_run_directory_that_is_a_file(hanse: Hanse) -> None:
    assert_refused(hanse("simulate", "study.toml", "--out", "study.toml"), "--out study.toml: is a file")


def test_a_run_directory_that_cannot_be_made(hanse: Hanse) -> None:
    assert_refused(
        hanse("simulate", "study.toml", "--out", "study.toml/run"), "--out study.toml/run: cannot be created"
    )


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["data.source=missing.csv"], 'data.source = "missing.csv": no such file or folder'),
        (["data.text_column=words"], "words"),
        (["data.label_column=grade"], "grade"),
        (["data.column=district"], "district"),
        (['task.labels=["good", "bad"]'], "positive"),
        (["data.sites=3"], "data.sites = 3: the partition column has 4 values"),
        (["model.base=./nowhere"], "no such folder"),
        (["model.base=bert"], 'neither "minilm-l6", nor a folder, nor a hub id'),
        (["model.base=owner/name"], 'pin the revision, as in "owner/name@<commit>"'),
        (["task.max_length=500"], "task.max_length = 500: the base model reads at most 66 tokens"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_study_whose_data_or_model_cannot_be_used(hanse: Hanse, overrides: list[str], part: str) -> None:
    options = [option for override in overrides for option in ("--set", override)]
    assert_refused(hanse("study", "check", "study.toml", *options), part)


def test_a_batch_larger_than_a_site(hanse: Hanse) -> None:
    ended = hanse(
        "simulate", "study.toml", "--set", "privacy.batch_size=70", "--set", "simulation.workers=1", "--json"
    )
    assert_refused(ended, "privacy.batch_size = 70: more than the", "units that site")


def test_missing_assets_name_the_command_that_brings_them(
    hanse: Hanse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSE_CACHE", str(tmp_path / "no-cache"))
    assert_refused(hanse("simulate", "--json"), "hanse assets fetch")
    assert_refused(hanse("study", "check"), "hanse assets fetch")


def test_a_model_folder_that_is_missing_or_is_none(hanse: Hanse, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for command in (["predict", "{}", "a text"], ["evaluate", "{}", "rows.csv"]):
        missing, empty = ([part.format(name) for part in command] for name in ("nowhere", "empty"))
        assert_refused(hanse(*missing), "nowhere: no such model folder")
        assert_refused(hanse(*empty), "empty: holds no *.safetensors; give the model/ folder of a run")


@pytest.mark.parametrize(
    ("arguments", "stdin", "part"),
    [
        ([], b"", "TEXT: give at least one text"),
        ([""], b"", "TEXT 1: is empty"),
        (["good film", "  "], b"", "TEXT 2: is empty"),
        (["-"], b"", "standard input: holds no text"),
        (["-"], b"\n \n", "standard input: holds no text"),
        (["-"], b"good\nfilm \xff\n", "standard input: is not UTF-8 at byte 10"),
    ],
)
def test_nothing_to_predict(hanse: Hanse, model: Path, arguments: list[str], stdin: bytes, part: str) -> None:
    assert_refused(hanse("predict", str(model), *arguments, stdin=stdin), part)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "rows.csv"),
        (b"text,label\n", "rows.csv"),
        (b"words,label\ngood,positive\n", "text"),
        (b"text,label\ngood,excellent\n", "excellent"),
        (b"text,label\n\xff\xfe,positive\n", "UTF-8"),
        (b"text,label\n,positive\n", "rows.csv"),
    ],
    ids=["empty file", "no rows", "no column", "unknown label", "not UTF-8", "empty text"],
)
def test_nothing_to_evaluate(hanse: Hanse, model: Path, tmp_path: Path, content: bytes, part: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    assert_refused(hanse("evaluate", str(model), "rows.csv"), part)


def test_errors_with_json_are_json_too(hanse: Hanse) -> None:
    ended = hanse("simulate", "missing.toml", "--json")
    assert_refused(ended, "no such study file")
    assert json.loads(ended.out)["error"] == "BadInput"
    assert "missing.toml: no such study file" in json.loads(ended.out)["message"]
    tags = ["--set", "task.kind=token-classification", "--set", "task.labels=['O', 'B-X']"]
    waiting = hanse("study", "check", "study.toml", *tags, "--set", "data.source=hub:a/b@1", "--json")
    assert json.loads(waiting.out)["error"] == "NotYet"


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["simulate", "--nonsense"], ["nonsense"], ["study", "nonsense"], ["simulate", "a", "b"]],
    ids=" ".join,
)
def test_usage_errors_exit_with_2(hanse: Hanse, arguments: list[str]) -> None:
    ended = hanse(*arguments)
    assert ended.code == 2
    assert "Usage: hanse" in ended.err
    assert "Traceback" not in ended.err


def test_a_log_level_that_is_none(hanse: Hanse) -> None:
    assert_refused(
        hanse("--log-level", "loud", "doctor"), "--log-level loud: must be one of debug, info, warning, error"
    )


def test_a_new_study_is_written_checked_and_not_replaced(hanse: Hanse, tmp_path: Path) -> None:
    assert hanse("study", "new", "mine.toml").code == 0
    shown = hanse("study", "show", "mine.toml")
    assert shown.code == 0
    assert tomllib.loads(shown.out)["study"]["name"] == "reviews"
    assert_refused(
        hanse("study", "new", "mine.toml"), "mine.toml: exists already; name another file or add --force"
    )
    (tmp_path / "mine.toml").write_text("mine", encoding="utf-8")
    assert hanse("study", "new", "mine.toml", "--force").code == 0
    assert "[study]" in (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert_refused(hanse("study", "new", "no/where.toml"), "there is no folder no")


def test_showing_a_study_spells_out_every_key_and_overrides(hanse: Hanse) -> None:
    shown = json.loads(hanse("study", "show", "study.toml", "--set", "privacy.epsilon=3", "--json").out)
    assert shown["privacy"]["epsilon"] == 3.0
    assert shown["federation"]["strategy"] == "fedavg"


def test_the_default_study_takes_relative_paths_from_the_current_folder(hanse: Hanse, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n", encoding="utf-8")
    shown = json.loads(hanse("study", "show", "--set", "data.source=rows.csv", "--json").out)
    assert shown["data"]["source"] == str((tmp_path / "rows.csv").resolve())


def test_predict_says_label_confidence_and_text(hanse: Hanse, model: Path) -> None:
    ended = hanse("predict", str(model), "a good film", "a bad film")
    assert ended.code == 0
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert [row[2] for row in rows] == ["a good film", "a bad film"]
    assert all(row[0] in {"negative", "positive"} and 0.5 <= float(row[1]) <= 1 for row in rows)


def test_predict_as_json_reads_lines_from_standard_input(hanse: Hanse, model: Path) -> None:
    ended = hanse("predict", str(model), "-", "--json", stdin="a good film\n\nsüß\n".encode())
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["text"] for row in found] == ["a good film", "süß"]
    for row in found:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probabilities"][row["label"]] == max(row["probabilities"].values())


def test_evaluate_scores_what_predict_says(hanse: Hanse, model: Path, tiny_data: Path) -> None:
    scored = json.loads(hanse("evaluate", str(model), str(tiny_data), "--domain-column", "region", "--json").out)
    import csv

    with tiny_data.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    said = hanse("predict", str(model), *(row["text"] for row in rows)).out.splitlines()
    right = sum(line.split("\t")[0] == row["label"] for line, row in zip(said, rows, strict=True))
    assert scored["overall"]["examples"] == len(rows) == 400
    assert scored["overall"]["accuracy"] == pytest.approx(right / len(rows))
    assert sorted(scored["by_domain"]) == ["east", "north", "south", "west"]
    table = hanse("evaluate", str(model), str(tiny_data))
    assert table.code == 0
    assert f"{right / len(rows):.4f}" in table.out
    assert "negative" in table.out


def test_ctrl_c_exits_with_130(hanse: Hanse, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deploy.simulation.simulate", interrupted)
    ended = hanse("simulate", "study.toml", "--out", "run", "--json")
    assert ended.code == 130
    assert "Traceback" not in ended.err


def real(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_real_command_refuses_with_one_line_and_2(tmp_path: Path) -> None:
    ended = real("simulate", "missing.toml", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == (
        "hanse: missing.toml: no such study file; `hanse study new missing.toml` writes a commented one\n"
    )
    assert ended.stdout == ""


def test_the_version_is_the_installed_one(tmp_path: Path) -> None:
    ended = real("--version", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, f"hanse {version('hanse')}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"], ["study", "show"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    heavy = {"torch", "flwr", "transformers", "opacus", "peft", "ray", "scipy", "dp_accounting"}
    ended = telling_imports(arguments, heavy, tmp_path)
    assert ended.returncode == 0
    assert "LOADED []" in ended.stderr
    assert len(ended.stdout) > 100


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "study", "show"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert process.wait(timeout=120) != 0
