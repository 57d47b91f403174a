"""The final tables and their JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from common.errors import RunFailed
from common.evaluation import evaluate_logits
from common.privacy.spending import Claim
from deploy.results import classes_table, evaluation_table, print_result, read_result


def evaluation() -> dict[str, Any]:
    """An evaluation of eight examples in two domains; ``b`` is the worse."""
    targets = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    logits = np.eye(2, dtype=np.float32)[targets] * 2
    logits[5:] = logits[5:, ::-1]
    found: dict[str, Any] = evaluate_logits(logits, targets, ["a"] * 4 + ["b"] * 4).to_json()
    return found


def result(private: bool) -> dict[str, Any]:
    """The result of a run of one site."""
    site: dict[str, Any] = {"name": "north", "declared_size": 640, "rounds_replied": 3, "epsilon": None}
    if private:
        site |= {"epsilon": 7.9876, "epsilon_budget": 8.0, "delta": 1e-5, "noise_multiplier": 0.6041}
    statement = "Each site's epsilon ..." if private else "This run was NOT private."
    return {
        "private": private,
        "privacy": {"statement": statement},
        "sites": [site],
        "test": evaluation(),
        "best_round": 2,
        "ledger": None,
    }


def text_of(table: Any) -> str:
    """A table as a wide terminal shows it."""
    console = Console(width=200, record=True, quiet=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_the_private_table_has_each_sites_epsilon_and_budget(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result(private=True), "runs/one", False, {"north": Claim(24.0, 3e-5)})
    shown = capsys.readouterr().out
    for figure in ("north", "640", "7.988", "1.0e-05", "0.6041", "Each site's epsilon ...", "runs/one"):
        assert figure in shown
    assert "24" in shown
    assert "signed ledger" in shown
    assert "NOT private" not in shown


def test_a_run_without_privacy_is_never_shown_with_an_epsilon(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result(private=False), "runs/one", False, {})
    shown = capsys.readouterr().out
    assert "This run was NOT private." in shown
    assert "none" in shown
    assert "ledger" not in shown


def test_json_is_the_result_and_the_directory(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result(private=True), "runs/one", True, {"north": Claim(24.0, 3e-5)})
    told = {"directory": "runs/one", "claims": {"north": {"epsilon": 24.0, "delta": 3e-5}}}
    assert json.loads(capsys.readouterr().out) == {**result(private=True), **told}


def test_the_evaluation_table_has_all_examples_and_each_domain_and_marks_the_worst() -> None:
    rows = [line.split() for line in text_of(evaluation_table(evaluation(), "Test")).splitlines()]
    figures = {row[1]: row for row in rows if len(row) > 5}
    assert "8" in figures["all"]
    assert "0.6250" in figures["all"]
    assert "1.0000" in figures["a"]
    assert "(worst)" in figures["b"]
    assert "0.2500" in figures["b"]
    assert "(worst)" not in figures["a"]


def test_a_single_domain_is_not_called_the_worst() -> None:
    found: dict[str, Any] = evaluate_logits(np.eye(2, dtype=np.float32), np.array([0, 1]), ["a", "a"]).to_json()
    assert "worst" not in text_of(evaluation_table(found, "Test"))


def test_the_classes_table_has_precision_and_recall_by_label() -> None:
    shown = text_of(classes_table(evaluation(), ["negative", "positive"]))
    assert "negative" in shown
    assert "positive" in shown
    assert f"{evaluation()['overall']['classes'][1]['recall']:.4f}" in shown


def test_labels_and_names_are_never_read_as_markup() -> None:
    found = {**evaluation(), "by_domain": {"[red]x": evaluation()["overall"]}, "worst_domain": None}
    assert "[red]x" in text_of(evaluation_table(found, "Test"))
    assert "[b]good[/b]" in text_of(classes_table(evaluation(), ["[b]good[/b]", "bad"]))


def test_a_run_without_a_result_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"the run ended without a result; see events.jsonl there"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"private": true}', encoding="utf-8")
    assert read_result(tmp_path) == {"private": True}
