"""A deployed study through crashes of either side: nothing is trained twice, nothing is counted too little."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import RunFailed
from common.privacy.ledger.details import Reserved
from common.study import Study
from common.study_file import parse_study
from common.wire import DESCRIBE
from server.records import RoundRecord
from server.run_directory import RunDirectory
from tests.client.guards import entries
from tests.server.guarded import NAMES, Deployment, deployment
from tests.server.test_study_run import CRASHES, Crash, Crashing, crash_name, crashing, result_of
from tests.tiny import tiny_study_text

Make = Callable[..., Study]


@pytest.fixture
def make(tiny_base: Path, tiny_data: Path) -> Make:
    text = tiny_study_text(tiny_base, tiny_data)
    two = ("data.sites=2", 'data.partition="iid"', "federation.min_sites=1")
    return lambda *overrides: parse_study(text, where="tiny", overrides=(*two, *overrides))


def reservations(running: Deployment) -> list[list[int | None]]:
    """Rounds reserved in each site's ledger, in order."""
    return [
        [e.round for e in entries(each) if isinstance(e.details, Reserved) and e.round is not None]
        for each in running.settings
    ]


def after_the_first_round(patched: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """``happens`` once the coordinator has recorded round 1."""
    add_round = RunDirectory.add_round

    def then(self: RunDirectory, record: RoundRecord) -> None:
        add_round(self, record)
        if record.round == 1:
            happens()

    patched.setattr(RunDirectory, "add_round", then)


@pytest.mark.parametrize("crash", CRASHES, ids=crash_name)
def test_p09_a_coordinator_that_crashed_anywhere_goes_on_and_no_site_pays_twice(
    make: Make, tmp_path: Path, crash: Crashing
) -> None:
    """The replies of the round that was cut off come from the sites' stores."""
    with deployment(tmp_path) as running:
        directory = RunDirectory(tmp_path / "run")
        with pytest.MonkeyPatch.context() as patched:
            crashing(patched, *crash)
            with pytest.raises(Crash):
                running.run(make(), directory)
        running.run(make(), directory, resume=True)
        result, records = result_of(tmp_path / "run"), directory.rounds()
        assert reservations(running) == [[1, 2, 3], [1, 2, 3]]
    assert result["rounds_consumed"] == []
    assert [[site.replied for site in record.sites] for record in records] == [[True, True]] * 3
    assert all(0.98 * 8.0 < site["epsilon"] <= 8.0 for site in result["sites"])


@pytest.mark.parametrize("crash", [CRASHES[0], CRASHES[5], CRASHES[9]], ids=crash_name)
def test_without_privacy_the_resumed_run_equals_the_undisturbed_one_to_the_bit(
    make: Make, tmp_path: Path, crash: Crashing
) -> None:
    study = make("privacy.enabled=false")
    models = []
    for disturbed in (False, True):
        folder = tmp_path / str(disturbed)
        folder.mkdir()
        with deployment(folder, dataset={"public": True}) as running:
            directory = RunDirectory(folder / "run")
            if disturbed:
                with pytest.MonkeyPatch.context() as patched:
                    crashing(patched, *crash)
                    with pytest.raises(Crash):
                        running.run(study, directory)
            running.run(study, directory, resume=disturbed)
            models.append(load_file(folder / "run" / "model" / "model.safetensors"))
    for name, value in models[0].items():
        assert np.array_equal(value, models[1][name]), name


def test_p09_a_round_whose_replies_were_lost_counts_and_is_not_trained_again(make: Make, tmp_path: Path) -> None:
    with deployment(tmp_path) as running:
        directory = RunDirectory(tmp_path / "run")
        with pytest.MonkeyPatch.context() as patched:
            crashing(patched, RunDirectory, "add_round", 2, after=False)
            with pytest.raises(Crash):
                running.run(make(), directory)
        for number, each in enumerate(running.settings):
            running.stop(number)
            shutil.rmtree(each.directory.replies)
            running.start(number)
        running.run(make(), directory, resume=True)
        assert reservations(running) == [[1, 2, 3], [1, 2, 3]]
    assert result_of(tmp_path / "run")["rounds_consumed"] == [2]


def test_a_guard_that_starts_anew_misses_one_round_and_comes_back(make: Make, tmp_path: Path) -> None:
    """P8: it reserves nothing on what was witnessed for its last start."""
    with deployment(tmp_path) as running:
        directory = RunDirectory(tmp_path / "run")
        with pytest.MonkeyPatch.context() as patched:
            after_the_first_round(patched, lambda: (running.stop(1), running.start(1)))
            running.run(make(), directory)
        replied = [[site.replied for site in record.sites] for record in directory.rounds()]
        assert replied == [[True, True], [True, False], [True, True]]
        assert "nonce" in directory.rounds()[1].sites[1].reason
        assert reservations(running) == [[1, 2, 3], [1, 3]]


def test_a_site_that_is_away_at_the_start_costs_the_others_no_run(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.messaging._REGISTRATION_SECONDS", 0.2)
    with deployment(tmp_path, budget={"kind": "filter", "order": 4, "epsilon": 60.0}) as running:
        away = running.grid.sockets.pop(2)
        with pytest.raises(RunFailed, match="1 of 2 sites connected"):
            running.run(make("federation.min_sites=2"), RunDirectory(tmp_path / "both"))
        running.run(make(), RunDirectory(tmp_path / "one"))
        running.grid.sockets[2] = away
        running.run(make("study.name=next"), RunDirectory(tmp_path / "next"))
    assert [site["name"] for site in result_of(tmp_path / "one")["sites"]] == [NAMES[0]]
    assert [site["name"] for site in result_of(tmp_path / "next")["sites"]] == list(NAMES)


def test_for_a_site_that_is_not_connected_nobody_waits(make: Make, tmp_path: Path) -> None:
    with deployment(tmp_path) as running:
        directory = RunDirectory(tmp_path / "run")
        with pytest.MonkeyPatch.context() as patched:

            def leave() -> None:
                running.stop(1)
                patched.setattr(running.grid, "get_node_ids", lambda: [1])

            after_the_first_round(patched, leave)
            running.run(make(), directory)
        described = [node for node, kind in running.grid.asked if kind == DESCRIBE]
        assert sorted(described) == [1, 2]
        running.start(1)


def test_a_guard_that_is_down_costs_the_others_no_round(make: Make, tmp_path: Path) -> None:
    with deployment(tmp_path) as running:
        directory = RunDirectory(tmp_path / "run")
        with pytest.MonkeyPatch.context() as patched:
            after_the_first_round(patched, lambda: running.stop(1))
            running.run(make(), directory)
        replied = [[site.replied for site in record.sites] for record in directory.rounds()]
        assert replied == [[True, True], [True, False], [True, False]]
        running.start(1)


def test_p08_a_restored_backup_is_refused_until_its_coordinator_is_answered(make: Make, tmp_path: Path) -> None:
    with deployment(tmp_path, budget={"kind": "filter", "order": 4, "epsilon": 60.0}) as running:
        site = running.settings[1].directory.path
        running.run(make(), RunDirectory(tmp_path / "first"))
        running.stop(1)
        shutil.copy(site / "ledger.db", tmp_path / "backup.db")
        running.start(1)
        running.run(make(), RunDirectory(tmp_path / "second"))
        running.stop(1)
        shutil.copy(tmp_path / "backup.db", site / "ledger.db")
        running.start(1)
        directory = RunDirectory(tmp_path / "third")
        running.run(make(), directory)
        assert [[site.replied for site in record.sites] for record in directory.rounds()] == [[True, False]] * 3
        assert all("missing entries" in record.sites[1].reason for record in directory.rounds())
        assert reservations(running)[1] == [1, 2, 3]


def test_with_too_few_sites_the_run_stops_and_can_be_resumed(make: Make, tmp_path: Path) -> None:
    study = make("federation.min_sites=2")
    with deployment(tmp_path) as running:
        directory = RunDirectory(tmp_path / "run")
        with pytest.MonkeyPatch.context() as patched:
            mark_started = RunDirectory.mark_started

            def fall(self: RunDirectory, number: int) -> None:
                mark_started(self, number)
                if number == 2:
                    running.stop(1)

            patched.setattr(RunDirectory, "mark_started", fall)
            with pytest.raises(RunFailed, match="no reply"):
                running.run(study, directory)
        running.start(1)
        running.run(study, directory, resume=True)
        assert [site["name"] for site in result_of(tmp_path / "run")["sites"]] == list(NAMES)
        assert reservations(running) == [[1, 2, 3], [1, 2, 3]]
