"""README states no figure that its evidence does not hold, and no command that does not exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def evidence(name: str) -> dict[str, Any]:
    """The result in an evidence file."""
    file = ROOT / "docs" / "evidence" / f"{name}.json"
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["result"]
    return result


def rows() -> dict[str, str]:
    """README's table of figures: evidence file to the row that cites it."""
    found = re.findall(r"^\|(.*)\| `([a-z0-9-]+)` \|$", README, flags=re.MULTILINE)
    return {name: row for row, name in found}


@pytest.mark.parametrize("name", ["default-study", "head-study", "sst2-study"])
def test_accuracies_and_epsilon_are_those_of_the_evidence(name: str) -> None:
    """Lowest and highest accuracy, and the highest epsilon rounded up, stand in the row."""
    result, row = evidence(name), rows()[name]
    assert f"{result['accuracy_lowest']:.4f}" in row
    assert f"{result['accuracy_highest']:.4f}" in row
    assert f"{result['epsilon_highest']:.4f}" in row


def test_the_figure_beside_privacy_off_and_those_of_the_ledger_are_those_of_the_evidence() -> None:
    assert f"{evidence('sst2-study-privacy-off')['accuracy_highest']:.4f}" in rows()["sst2-study-privacy-off"]
    assert f"{evidence('ledger-overhead')['share']:.4f}" in rows()["ledger-overhead"]
    kills = evidence("ledger-crashes")["kills"]
    assert f"{kills} of {kills}" in rows()["ledger-crashes"]


def test_the_private_step_and_pooling_are_those_of_the_evidence() -> None:
    for cell in evidence("private-step")["cells"]:
        if cell["mode"] == "full":
            assert str(cell["ratio"]["ours"]) in rows()["private-step"]
            assert str(cell["ratio"]["opacus hooks"]) in rows()["private-step"]
    for cell in evidence("private-step-bert-base")["cells"]:
        if cell["mode"] == "full":
            assert str(cell["ratio"]["ours"]) in rows()["private-step-bert-base"]
            assert str(cell["ratio"]["opacus ghost"]) in rows()["private-step-bert-base"]
    for study in evidence("pooling").values():
        assert str(study["test_accuracy"]) in rows()["pooling"]


def test_ratios_of_speed_are_those_of_the_evidence() -> None:
    for ratio in evidence("private-run-ratio")["ratios"]:
        assert str(ratio) in rows()["private-run-ratio"]
    largest = evidence("round-without-work")["rounds"][-1]
    assert largest["sites"] == 1000
    assert f"{largest['flowers_over_ours']} times" in rows()["round-without-work"]
    assert str(evidence("evaluation-speed")["share_of_the_bare_loops_speed"]) in rows()["evaluation-speed"]
    served = evidence("serve-throughput")
    assert f"{served['ratio']}; {served['latency_p99_seconds']} s" in rows()["serve-throughput"]
    small = evidence("export-speed")["int8"]
    faster = f"{small['speed_ratio_batches']:.2f} and {small['speed_ratio_one_text']:.2f} times"
    assert f"{faster}, 1/{small['size_ratio']:.2f}; {small['agreement']['same_label']}" in rows()["export-speed"]
    opened = evidence("pages")
    slowest = f"{max(opened['report_opens_seconds'])} s; {max(opened['list_of_200_opens_seconds'])} s"
    assert slowest in rows()["pages"]


def test_every_cited_file_exists() -> None:
    """A row without its file would be a figure out of nowhere."""
    assert rows()
    for name in rows():
        assert (ROOT / "docs" / "evidence" / f"{name}.json").is_file(), name


def test_transcript_is_the_demo_that_was_recorded() -> None:
    """The lines shown under the first command came out of `make demo` in a fresh clone."""
    recorded = evidence("demo-from-clone")["output"]
    shown = re.search(r"What comes out:\n\n```\n(.*?)\n```", README, flags=re.DOTALL)
    assert shown is not None
    lines = [line for line in shown[1].splitlines() if line.strip() and line.strip() != "…"]
    assert lines
    for line in lines:
        assert line in recorded, line


def test_make_targets_exist() -> None:
    """Every `make TARGET` that README names is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"make ([a-z]+)", README)) - {"evidence"}
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
