"""A run directory read back: finished, going, stopped, failed, cut short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import BadInput
from deploy.report.reading import last_event, read_ledger, read_rounds, read_run, state_of
from tests.deploy.report.samples import change_result, write_run


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "one", rounds=5))
    assert (run.name, run.state, run.planned_rounds, len(run.rounds)) == ("one", "finished", 5, 5)
    north, south = run.sites
    assert (north.epsilon, north.epsilon_budget, north.silent) == (pytest.approx(7.92), 8.0, 0)
    assert (south.silent, south.median_seconds) == (1, pytest.approx(1.1))
    assert run.guarantee is not None
    assert run.guarantee.epsilon_everywhere == pytest.approx(2 * 7.92)
    assert run.guarantee.delta_everywhere == pytest.approx(2e-5)


def test_a_run_under_way_is_read_from_its_rounds(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "one", rounds=3, ends=False))
    assert (run.state, len(run.rounds), run.result) == ("going", 2, None)
    assert [site.epsilon for site in run.sites] == [pytest.approx(16 / 3)] * 2
    assert [site.epsilon_budget for site in run.sites] == [8.0, 8.0]


@pytest.mark.parametrize("ending", [{}, {"event": "failed", "message": "too few sites", "time": 1.0}])
def test_p07_until_a_run_has_ended_its_whole_budget_counts(tmp_path: Path, ending: dict[str, object]) -> None:
    directory = write_run(tmp_path / "one", rounds=3, ends=False)
    with (directory / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(ending) + "\n")
    found = read_run(directory).guarantee
    assert found is not None
    assert (found.epsilon, found.epsilon_everywhere) == (8.0, 16.0)  # of which two thirds were spent


def test_reading_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "one")
    (directory / "checkpoints").rmdir()
    before = sorted(path.name for path in directory.iterdir())
    read_run(directory)
    assert sorted(path.name for path in directory.iterdir()) == before


def test_a_line_cut_short_is_left_out_only_at_the_end(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "one", ends=False)
    path = directory / "rounds.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + '{"round": 3, "pha', encoding="utf-8")
    assert len(read_rounds(path)) == 2
    path.write_text('{"round": 3, "pha\n' + text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"line 1 is not a round record"):
        read_rounds(path)


@pytest.mark.parametrize(
    ("has_result", "event", "state"),
    [
        (True, {"event": "failed"}, "finished"),
        (False, {"event": "failed", "time": 0.0}, "failed"),
        (False, {"event": "round-started", "time": 0.0}, "stopped"),
        (False, {}, "stopped"),
    ],
)
def test_where_a_run_stands(has_result: bool, event: dict[str, object], state: str) -> None:
    assert state_of(has_result, event) == state


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "one", ends=False)
    with (directory / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"event": "failed", "message": "too few sites", "time": 1.0}) + "\n{cut")
    assert last_event(directory)["event"] == "failed"
    assert read_run(directory).message == "too few sites"


def test_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is not a run directory"):
        read_run(tmp_path)
    directory = write_run(tmp_path / "one")
    (directory / "result.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(BadInput, match=r"holds no JSON object"):
        read_run(directory)


def test_a_ledger_that_does_not_verify_claims_nothing(tmp_path: Path) -> None:
    bundle = tmp_path / "ledger.jsonl"
    assert read_ledger(bundle) is None
    bundle.write_text('{"public_key": "00"}\n{}\n', encoding="utf-8")
    assert read_ledger(bundle) is None


def test_what_the_result_says_of_a_site_goes_first(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "one")
    change_result(directory, sites=[{"name": "north", "rounds_replied": 2, "epsilon": 1.5, "epsilon_budget": 2.0}])
    (site,) = read_run(directory).sites
    assert (site.epsilon, site.epsilon_budget, site.rounds_replied, site.delta) == (1.5, 2.0, 2, None)
