"""The table of rounds and the follower that prints it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from common.errors import BadInput
from common.study import Study
from deploy.progress import follow, round_line
from server.run_directory import RunDirectory


def finished(number: int = 3, scored: bool = True, epsilon: float | None = 1.234) -> dict[str, Any]:
    """A finished round as in ``rounds.jsonl``; the third of four sites did not reply."""
    scores = {"overall": {"loss": 0.4321, "accuracy": 0.8765, "macro_f1": 0.7654}}
    sites = [
        {"site": f"site-{i}", "replied": i != 2, "reason": "gone" if i == 2 else "",
         "epsilon": epsilon and epsilon + i}
        for i in range(4)
    ]  # fmt: skip
    return {
        "round": number,
        "phase": "train",
        "steps": 5,
        "sites": sites,
        "evaluation": scores if scored else None,
        "seconds": {"train": 2.0, "round": 2.5},
    }


def test_a_line_has_round_sites_scores_worst_epsilon_rate_and_seconds(tiny_study: Study) -> None:
    # 8 expected examples a step, 5 steps, 3 sites that replied, 2 seconds
    assert round_line(finished(), tiny_study).split() == [
        "3", "train", "5", "3", "0.432", "0.8765", "0.7654", "4.23", "60", "2.5",
    ]  # fmt: skip


def test_a_round_that_was_not_scored_has_dashes(tiny_study: Study) -> None:
    assert round_line(finished(scored=False), tiny_study).split()[4:7] == ["-", "-", "-"]


def test_without_privacy_epsilon_is_none(tiny_study: Study) -> None:
    assert round_line(finished(epsilon=None), tiny_study).split()[7] == "none"


def test_lines_are_as_wide_as_each_other(tiny_study: Study) -> None:
    lines = [
        round_line(finished(n, s, e), tiny_study) for n in (1, 100) for s in (True, False) for e in (None, 2.0)
    ]
    assert len({len(line) for line in lines}) == 1


def test_a_consumed_round_has_a_line(tiny_study: Study) -> None:
    consumed = {**finished(scored=False), "seconds": {}}
    for site in consumed["sites"]:
        site["replied"] = False
    assert round_line(consumed, tiny_study).split()[3] == "0"


def happen(directory: RunDirectory, study: Study) -> None:
    """The events of a short run."""
    directory.event("connecting", sites=4, rounds=3)
    directory.event("connected", sites=["north", "south"])
    directory.event("round-consumed", round=1)
    directory.event("round-started", round=2, phase="train", steps=1)
    directory.event("site-replied", round=2, site="north", reason="")
    directory.event("site-replied", round=2, site="south", reason="no reply within 30m [/]")
    directory.event("round-finished", **finished(2))
    directory.event("something-new", of="a later version")
    directory.event("testing", round=2)
    directory.event("finished")


def test_the_follower_prints_what_happens(
    tmp_path: Path, tiny_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDirectory(tmp_path)
    directory.event("round-finished", **finished(999))  # of an earlier start: not shown again
    with follow(tmp_path, tiny_study, quiet=False):
        happen(directory, tiny_study)
    shown = capsys.readouterr().out
    assert "Study tiny: 2 sites, private" in shown
    assert round_line(finished(2), tiny_study) in shown
    assert "site south: no reply within 30m [/]" in shown
    assert "round 1 was interrupted: counted as spent, not repeated" in shown
    assert "accuracy" in shown
    assert "epsilon" in shown
    assert "999" not in shown


def test_a_study_without_privacy_is_announced_as_such(
    tmp_path: Path, tiny_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tiny_study.model_copy(update={"privacy": tiny_study.privacy.model_copy(update={"enabled": False})})
    with follow(tmp_path, study, quiet=False):
        RunDirectory(tmp_path).event("connected", sites=["north"])
    assert "NOT PRIVATE (privacy.enabled = false)" in capsys.readouterr().out


def test_quiet_prints_nothing(tmp_path: Path, tiny_study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with follow(tmp_path, tiny_study, quiet=True):
        happen(RunDirectory(tmp_path), tiny_study)
    assert capsys.readouterr().out == ""


def test_an_error_within_passes_and_what_happened_before_is_shown(
    tmp_path: Path, tiny_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDirectory(tmp_path)

    def fail() -> None:
        directory.event("round-finished", **finished(2))
        raise BadInput("x")

    with pytest.raises(BadInput), follow(tmp_path, tiny_study, quiet=False):
        fail()
    assert round_line(finished(2), tiny_study) in capsys.readouterr().out


def test_an_event_that_is_written_in_two_pieces_is_shown_whole(
    tmp_path: Path, tiny_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    line = json.dumps({"event": "round-finished", **finished(2)}) + "\n"
    with (
        follow(tmp_path, tiny_study, quiet=False),
        (tmp_path / "events.jsonl").open("a", encoding="utf-8") as stream,
    ):
        stream.write(line[:40])
        stream.flush()
        time.sleep(0.3)  # the follower looks ten times a second
        stream.write(line[40:])
        stream.flush()
    assert round_line(finished(2), tiny_study) in capsys.readouterr().out
