"""Whole studies over real worker processes: the run directory, the budget, repeatability, every strategy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant

import server.scoring
import server.study_run
from common.errors import BadInput, RunFailed
from common.privacy.mechanism import NotPrivate, SampledGaussian
from common.schedule import schedule
from common.study import Study
from common.study_file import parse_study
from common.virtual_sites import virtual_sites
from deploy.local_engine import LocalGrid
from server.checkpoint import load_checkpoint
from server.run_directory import RunDirectory
from server.study_run import run_study
from tests.tiny import tiny_study_text

Make = Callable[..., Study]
Crashing = tuple[Any, str, int, bool]
"""Owner and name of a function, which of its calls crashes, and whether after its work."""

QUICK = ("privacy.enabled=false", "model.warm_start_steps=0", "federation.rounds=1")


@pytest.fixture(scope="module")
def grid() -> Iterator[LocalGrid]:
    """Two worker processes for four sites."""
    with LocalGrid(4, 2, 1) as made:
        yield made


@pytest.fixture(scope="module")
def make(tiny_base: Path, tiny_data: Path) -> Make:
    """Makes the tiny study with overrides."""
    text = tiny_study_text(tiny_base, tiny_data)
    return lambda *overrides: parse_study(text, where="tiny", overrides=overrides)


@pytest.fixture(scope="module")
def private(make: Make, grid: LocalGrid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished private run."""
    path = tmp_path_factory.mktemp("private")
    run_study(make(), grid, RunDirectory(path))
    return path


@pytest.fixture(scope="module")
def plain(make: Make, grid: LocalGrid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run without privacy."""
    path = tmp_path_factory.mktemp("plain")
    run_study(make("privacy.enabled=false"), grid, RunDirectory(path))
    return path


def result_of(path: Path) -> dict[str, Any]:
    """The run's result."""
    found: dict[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return found


def model_bytes(path: Path) -> bytes:
    """The run's final model, to the bit."""
    return (path / "model" / "model.safetensors").read_bytes()


def test_the_run_directory_holds_all_that_it_should(private: Path, make: Make) -> None:
    study, directory = make(), RunDirectory(private)
    planned = schedule(study)
    assert [(r.round, r.phase, r.steps) for r in directory.rounds()] == [
        (p.number, p.phase, p.steps) for p in planned
    ]
    checkpoint = load_checkpoint(directory.checkpoint)
    assert checkpoint.round == len(planned)
    assert checkpoint.best_round == result_of(private)["best_round"]
    kinds = [
        json.loads(line)["event"] for line in (private / "events.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert kinds[:2] == ["connecting", "connected"]
    assert kinds[-2:] == ["testing", "finished"]
    assert kinds.count("round-started") == kinds.count("round-finished") == len(planned)
    assert kinds.count("site-replied") == 4 * len(planned)
    assert not [file for file in private.rglob("*") if file.name.startswith(".")]  # no temporary file is left


def test_the_result_says_what_it_rests_on(private: Path, make: Make) -> None:
    result, study = result_of(private), make()
    heads = result["ledger"]["heads"]
    assert set(heads) == {site["name"] for site in result["sites"]}
    assert result["ledger"]["run"] == RunDirectory(private).run_identifier()
    assert RunDirectory(private).witnessed()["north"].model_dump() == heads["north"]
    assert result["private"] is True
    assert result["seed"] == study.study.seed
    assert result["rounds_consumed"] == []
    assert len(result["digest"]) == 64
    assert result["versions"]["torch"]
    assert result["test"]["overall"]["examples"] == len(virtual_sites(study).test)
    assert result["validation"]["overall"]["examples"] == len(virtual_sites(study).validation)
    assert result["bytes_sent"] == result["bytes_received"] > 0
    assert "NOT private" not in result["privacy"]["statement"]


def test_the_model_folder_loads_with_transformers_alone(private: Path) -> None:
    from transformers import pipeline

    answer = pipeline("text-classification", model=str(private / "model"), device="cpu")("a good film")
    assert answer[0]["label"] in {"negative", "positive"}


def test_epsilon_of_each_site_is_within_its_budget_and_follows_from_what_was_recorded(private: Path) -> None:
    records = RunDirectory(private).rounds()
    neighbours = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    for site in result_of(private)["sites"][::3]:  # the first and the last: dp_accounting takes its time
        accountant = PLDAccountant(neighbours, value_discretization_interval=1e-3)
        for record in records:
            (mechanism,) = (entry.mechanism for entry in record.sites if entry.site == site["name"])
            assert isinstance(mechanism, SampledGaussian)
            step = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
            event = dp_accounting.PoissonSampledDpEvent(mechanism.sample_rate, step)
            accountant.compose(event, mechanism.steps)
        assert site["epsilon"] == pytest.approx(accountant.get_epsilon(site["delta"]), rel=1e-2)
    for site in result_of(private)["sites"]:
        assert 0.98 * 8.0 < site["epsilon"] <= site["epsilon_budget"] == 8.0


def test_epsilon_rises_round_by_round(private: Path) -> None:
    records = RunDirectory(private).rounds()
    for site in range(4):
        path = [record.sites[site].epsilon for record in records]
        assert all(e is not None for e in path)
        assert path == sorted(path)  # type: ignore[type-var]  # none is None
        assert len(set(path)) == len(path)


def test_a_site_with_a_budget_of_its_own_gets_more_noise(
    tiny_base: Path, tiny_data: Path, grid: LocalGrid, tmp_path: Path
) -> None:
    text = tiny_study_text(tiny_base, tiny_data) + '\n[[site]]\nname = "north"\nepsilon = 2.0\n'
    overrides = ["model.warm_start_steps=0", "federation.rounds=1"]
    run_study(parse_study(text, where="tiny", overrides=overrides), grid, RunDirectory(tmp_path))
    sites = {site["name"]: site for site in result_of(tmp_path)["sites"]}
    assert 1.9 < sites["north"]["epsilon"] <= sites["north"]["epsilon_budget"] == 2.0
    assert sites["north"]["noise_multiplier"] > 1.3 * sites["south"]["noise_multiplier"]


def test_a_run_without_privacy_says_so_everywhere(plain: Path) -> None:
    result = result_of(plain)
    assert result["private"] is False
    assert "NOT private" in result["privacy"]["statement"]
    assert [site["epsilon"] for site in result["sites"]] == [None] * 4
    assert not {"epsilon_budget", "noise_multiplier", "delta"} & set(result["sites"][0])
    for record in RunDirectory(plain).rounds():
        assert all(site.epsilon is None and isinstance(site.mechanism, NotPrivate) for site in record.sites)


def test_the_same_study_without_privacy_gives_the_same_model_to_the_bit(
    plain: Path, make: Make, grid: LocalGrid, tmp_path: Path
) -> None:
    run_study(make("privacy.enabled=false"), grid, RunDirectory(tmp_path / "again"))
    run_study(make("privacy.enabled=false", "study.seed=4"), grid, RunDirectory(tmp_path / "other"))
    assert model_bytes(tmp_path / "again") == model_bytes(plain)
    assert model_bytes(tmp_path / "other") != model_bytes(plain)
    first, second = (RunDirectory(path).rounds() for path in (plain, tmp_path / "again"))
    assert [r.evaluation for r in first] == [r.evaluation for r in second]


def test_one_worker_gives_the_same_model_as_two(plain: Path, make: Make, tmp_path: Path) -> None:
    with LocalGrid(4, 1, 1) as one_worker:
        run_study(make("privacy.enabled=false"), one_worker, RunDirectory(tmp_path))
    assert model_bytes(tmp_path) == model_bytes(plain)


def test_two_private_runs_of_one_study_differ(private: Path, make: Make, grid: LocalGrid, tmp_path: Path) -> None:
    run_study(make(), grid, RunDirectory(tmp_path))
    ours, theirs = (load_checkpoint(RunDirectory(path).checkpoint).weights for path in (private, tmp_path))
    assert all(np.abs(ours[name] - theirs[name]).max() > 0 for name in ours if name.endswith("classifier.bias"))


@pytest.mark.parametrize(
    ("strategy", "trainable"),
    [
        ("fedavg", "full"),
        ("fedprox", "lora"),
        ("fedavgm", "bias"),
        ("fedadam", "head"),
        ("fedyogi", "lora"),
        ("median", "bias"),
        ("trimmed-mean", "head"),
        ("krum", "full"),
    ],
)
def test_every_strategy_and_every_choice_of_what_trains_runs(
    make: Make, grid: LocalGrid, tmp_path: Path, strategy: str, trainable: str
) -> None:
    more = {
        "fedprox": ("federation.proximal_mu=0.1",),
        "trimmed-mean": ("federation.malicious_sites=1",),
        "fedadam": ("federation.server_learning_rate=0.01",),
        "fedyogi": ("federation.server_learning_rate=0.01",),
    }.get(strategy, ())
    choice = (f"federation.strategy={strategy}", f"model.trainable={trainable}")
    study = make(*QUICK, "federation.rounds=2", *choice, *more)
    run_study(study, grid, RunDirectory(tmp_path))
    assert RunDirectory(tmp_path).rounds()[-1].sites[0].replied
    checkpoint = load_checkpoint(RunDirectory(tmp_path).checkpoint)
    assert all(np.isfinite(value).all() for value in checkpoint.weights.values())
    assert bool(checkpoint.optimizer.first_moment) == (strategy in {"fedavgm", "fedadam", "fedyogi"})
    assert any(np.abs(value).max() > 0 for name, value in checkpoint.weights.items() if "classifier.bias" in name)


@pytest.mark.parametrize("trainable", ["full", "lora", "bias", "head"])
def test_every_choice_of_what_trains_runs_privately(
    make: Make, grid: LocalGrid, tmp_path: Path, trainable: str
) -> None:
    run_study(make(*QUICK, "privacy.enabled=true", f"model.trainable={trainable}"), grid, RunDirectory(tmp_path))
    assert all(7.8 < site["epsilon"] <= 8.0 for site in result_of(tmp_path)["sites"])


def test_p21_the_test_set_is_scored_once_after_the_best_round_was_chosen_by_validation(
    make: Make, grid: LocalGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make("privacy.enabled=false", "study.seed=11")
    public = virtual_sites(study)
    sizes = {len(public.test): "test", len(public.validation): "validation"}
    assert len(sizes) == 2
    scored: list[str] = []
    score = server.scoring.evaluate_logits

    def spying(logits: Any, targets: Any, domains: Any = None) -> Any:
        scored.append(sizes[len(targets)])
        return score(logits, targets, domains)

    monkeypatch.setattr(server.scoring, "evaluate_logits", spying)
    run_study(study, grid, RunDirectory(tmp_path))
    assert scored == ["validation"] * len(schedule(study)) + ["test"]
    records, result = RunDirectory(tmp_path).rounds(), result_of(tmp_path)
    accuracies = [record.evaluation.overall.accuracy for record in records if record.evaluation]
    best = records[result["best_round"] - 1].evaluation
    assert best is not None
    assert best.overall.accuracy == max(accuracies)
    assert result["validation"] == best.to_json()


class Crash(BaseException):
    """Stands for the end of the process: nothing catches it."""


def crashing(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, at_call: int, after: bool) -> None:
    """Make the ``at_call``-th call of a function crash, before or after its work."""
    work, calls = getattr(target, name), []

    def crash(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == at_call and not after:
            raise Crash
        done = work(*arguments)
        if len(calls) == at_call:
            raise Crash
        return done

    monkeypatch.setattr(target, name, crash)


# The N-th call crashes; the writes of a round come in some order, and a crash may come between any two.
CRASHES: list[Crashing] = [
    (target, name, call, after)
    for target, name, calls in (
        (server.study_run, "save_checkpoint", (2, 4)),
        (RunDirectory, "add_round", (1, 3)),
        (RunDirectory, "mark_started", (1, 2)),
    )
    for call in calls
    for after in (False, True)
]


def crash_name(crash: Crashing) -> str:
    """Names a case of the table."""
    _, name, call, after = crash
    return f"{'after' if after else 'before'} {name} {call}"


@pytest.mark.parametrize("crash", CRASHES, ids=crash_name)
def test_a_crash_anywhere_and_a_resume_give_the_same_model_without_privacy(
    plain: Path, make: Make, grid: LocalGrid, tmp_path: Path, crash: Crashing
) -> None:
    study = make("privacy.enabled=false")
    with pytest.MonkeyPatch.context() as patched:
        crashing(patched, *crash)
        with pytest.raises(Crash):
            run_study(study, grid, RunDirectory(tmp_path))
    assert not (tmp_path / "result.json").exists()
    run_study(study, grid, RunDirectory(tmp_path), resume=True)
    assert model_bytes(tmp_path) == model_bytes(plain)
    assert [r.round for r in RunDirectory(tmp_path).rounds()] == [1, 2, 3]
    for key in ("test", "validation", "best_round", "rounds", "bytes_sent", "rounds_consumed"):
        assert result_of(tmp_path)[key] == result_of(plain)[key]


@pytest.mark.parametrize(
    "crash",
    [crash for crash in CRASHES if crash[1:3] in {("save_checkpoint", 4), ("add_round", 3), ("mark_started", 2)}],
    ids=crash_name,
)
def test_p07_p09_a_crash_anywhere_consumes_the_round_and_stays_within_the_budget(
    make: Make, grid: LocalGrid, tmp_path: Path, crash: Crashing
) -> None:
    study = make()
    with pytest.MonkeyPatch.context() as patched:
        crashing(patched, *crash)
        with pytest.raises(Crash):
            run_study(study, grid, RunDirectory(tmp_path))
    directory = RunDirectory(tmp_path)
    finished, begun = load_checkpoint(directory.checkpoint).round, directory.started_round()
    run_study(study, grid, directory, resume=True)
    result, records = result_of(tmp_path), directory.rounds()
    assert [record.round for record in records] == [1, 2, 3]
    assert result["rounds_consumed"] == list(range(finished + 1, begun + 1))
    for record in records:
        consumed = record.round in result["rounds_consumed"]
        assert [site.replied for site in record.sites] == [not consumed] * 4
        assert all(isinstance(site.mechanism, SampledGaussian) for site in record.sites)
    for site in result["sites"]:
        assert 0.98 * 8.0 < site["epsilon"] <= 8.0  # every planned step counts, run or consumed


def test_a_run_of_which_every_scored_round_was_interrupted_says_so(
    make: Make, grid: LocalGrid, tmp_path: Path
) -> None:
    study = make("model.warm_start_steps=0", "federation.rounds=1")
    with pytest.MonkeyPatch.context() as patched:
        crashing(patched, RunDirectory, "mark_started", 1, after=True)
        with pytest.raises(Crash):
            run_study(study, grid, RunDirectory(tmp_path))
    with pytest.raises(BadInput, match="every scored round was interrupted; there is no model to test"):
        run_study(study, grid, RunDirectory(tmp_path), resume=True)


def test_resuming_what_never_began_starts_it(make: Make, grid: LocalGrid, tmp_path: Path) -> None:
    run_study(make(*QUICK), grid, RunDirectory(tmp_path), resume=True)
    assert (tmp_path / "result.json").exists()


def test_resuming_with_another_study_is_refused(make: Make, grid: LocalGrid, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        crashing(patched, RunDirectory, "add_round", 1, after=True)
        with pytest.raises(Crash):
            run_study(make(*QUICK), grid, RunDirectory(tmp_path))
    with pytest.raises(BadInput, match="is not the study that this run began with"):
        run_study(make(*QUICK, "privacy.epsilon=9"), grid, RunDirectory(tmp_path), resume=True)


def test_a_batch_larger_than_a_site_is_the_sites_own_refusal(make: Make, grid: LocalGrid, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"privacy.batch_size = 70: more than the \d+ units that site \w+ declares"):
        run_study(make(*QUICK, "privacy.batch_size=70"), grid, RunDirectory(tmp_path))


def test_sites_that_never_come_end_the_run(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.messaging._REGISTRATION_SECONDS", 0.1)
    with LocalGrid(3, 1, 1) as small, pytest.raises(RunFailed, match=r"3 of 4 sites connected within"):
        run_study(make(*QUICK), small, RunDirectory(tmp_path))
