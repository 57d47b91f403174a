"""`hanse audit report`: what it says, what it does not invent, and that names in it are shown and not run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pypdf
import pytest

from common.privacy.spending import spending_of
from deploy.audit_report import printed
from tests.common.audit.samples import HONEST, PLAN_STORY, audited, bundle, written
from tests.deploy.audit_evidence import write_evidence
from tests.deploy.audit_report.samples import attacked, parsed, words_of_pdf
from tests.deploy.running import Ended, Hanse, assert_one_line, runner

GIVEN = ("run", "sites/north/ledger.jsonl", "sites/south/ledger.jsonl", "--key", "north.pub", "--key", "south.pub")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \u4e2d"


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Bundles, keys and a run."""
    return write_evidence(tmp_path)


@pytest.fixture
def hanse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], evidence: Path) -> Hanse:
    """Runs `hanse audit report --no-prv --out out` beside the evidence."""
    monkeypatch.chdir(evidence)
    return runner(monkeypatch, capsys, "audit", "report", "--no-prv", "--out", "out")


def _json(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    return found


def _attacked(evidence: Path, **how: Any) -> tuple[str, str]:
    (evidence / "audit.json").write_text(attacked(**how).model_dump_json(), encoding="utf-8")
    return ("--empirical", "audit.json")


def test_three_files_and_the_audit_s_own_figures(hanse: Hanse, evidence: Path) -> None:
    ended = hanse(*GIVEN)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.split() == [
        part for kind in ("json", "html", "pdf") for part in ("Wrote", f"out/report.{kind}")
    ]
    found, expected = _json(evidence), audited(HONEST).to_json()
    assert isinstance(expected["figures"], list)
    assert [{**each, "name": ""} for each in found["ledger_audit"]["figures"]] == [
        {**each, "name": ""} for each in expected["figures"]
    ]
    assert {check["verdict"] for check in found["ledger_audit"]["checks"]} == {"passed"}
    assert found["violated"] is False


def test_every_figure_of_the_json_stands_in_page_and_print(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN, *_attacked(evidence))
    found, page = _json(evidence), parsed(evidence / "out/report.html").text
    pdf = words_of_pdf(evidence / "out/report.pdf")
    figures = [each[key] for each in found["ledger_audit"]["figures"] for key in ("claimed", "pld", "rdp")]
    figures += [point[key] for b in found["budgets"] for point in b["points"] for key in ("charged", "released")]
    figures += [bound["epsilon"] for check in found["empirical"]["checks"] for bound in check["bounds"]]
    figures += [
        each[k] for c in found["empirical"]["checks"] for each in c["facts"] for k in ("value", "lower", "upper")
    ]
    shown = {f"{each:.4f}" for each in figures if each is not None}
    assert len(shown) > 10
    for each in shown:
        assert each in page
        assert each in pdf
    for each in (*found["inputs"], {"sha256": attacked().registration_digest}):
        assert each["sha256"] in page
        assert each["sha256"] in pdf.replace(" ", "")


def test_the_pdf_opens_and_has_numbered_pages_and_an_outline(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN)
    reader = pypdf.PdfReader(evidence / "out/report.pdf")
    assert f"1 / {len(reader.pages)}" in reader.pages[0].extract_text()
    titles = re.findall(r"<h2>(.*?)</h2>", (evidence / "out/report.html").read_text(encoding="utf-8"))
    assert [str(each.title) for each in reader.outline if not isinstance(each, list)] == titles
    assert reader.metadata is not None
    assert reader.metadata.title == "Hanse privacy audit"


def test_without_its_library_no_pdf_is_written_and_it_says_so(
    hanse: Hanse, evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.audit_report.write.can_print", lambda: False)
    ended = hanse(*GIVEN)
    assert ended.code == 0
    assert "install Hanse with the extra `report`" in ended.err
    assert sorted(each.name for each in (evidence / "out").iterdir()) == ["report.html", "report.json"]


def test_p01_page_and_print_say_what_stays_unproven(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN)
    for text in (parsed(evidence / "out/report.html").text, words_of_pdf(evidence / "out/report.pdf")):
        assert text.count("Not proven: that the recorded mechanism is what ran.") == 2
        assert "silent on whether a policy asked for an approval" in text


def test_p02_it_leads_with_a_person_and_gives_no_figure_for_the_worst_site(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN)
    page = parsed(evidence / "out/report.html").text
    person = next(f for f in _json(evidence)["ledger_audit"]["figures"] if f["scope"] == "person")
    assert person["claimed"] == 16.0
    assert page.index(f"for a person whose data is at every site: epsilon {person['claimed']:.4f}") < page.index(
        "8.0000"
    )
    assert "worst site" not in page


def test_p03_adjacency_sampling_and_accountants_are_stated(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN)
    page = parsed(evidence / "out/report.html").text
    for words in ("add or remove one unit", "Poisson sampling", "pld, connect the dots", "dp-accounting 0."):
        assert words in page


# --- violations -----------------------------------------------------------------------------------------------


def test_a_violation_exits_with_4_and_all_files_written(hanse: Hanse, evidence: Path) -> None:
    (evidence / "sites/north/ledger.jsonl").write_bytes(bundle("north", written("north", PLAN_STORY[:4])).data)
    ended = hanse(*GIVEN)
    assert ended.code == 4
    assert ended.err == (
        "hanse: audit: violations found by check 6 (witnessed heads), 7 (recorded rounds are in the ledgers); "
        "see out/report.html\n"
    )
    assert len(list((evidence / "out").iterdir())) == 3
    assert _json(evidence)["violated"] is True
    page = parsed(evidence / "out/report.html").text
    assert "Violation: a claim did not survive." in page
    assert "missing entries: head 6" in page


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ({}, 0, "found nothing against the claim"),
        ({"lower": 8.25}, 4, "component: contradicts the claim"),
        ({"noise_passed": False}, 4, "scale of head.weight: 1.0123, expected 1"),
        ({"lower": 8.25, "hide": True}, 4, "component: contradicts the claim"),
    ],
    ids=["below", "above", "noise", "hidden"],
)
def test_findings_of_the_training_count_also_if_the_file_hides_them(
    hanse: Hanse, evidence: Path, how: dict[str, Any], code: int, words: str
) -> None:
    ended = hanse(*GIVEN, *_attacked(evidence, **how))
    assert ended.code == code
    assert words in parsed(evidence / "out/report.html").text
    assert ("of the training" in ended.err) == (code == 4)


def test_a_plan_that_was_changed_afterwards_is_a_violation(hanse: Hanse, evidence: Path) -> None:
    changed = attacked().model_copy(update={"registration_digest": "c" * 64})
    (evidence / "audit.json").write_text(changed.model_dump_json(), encoding="utf-8")
    assert hanse(*GIVEN, "--empirical", "audit.json").code == 4
    assert "not the one whose digest it names" in parsed(evidence / "out/report.html").text


def test_the_plan_is_looked_up_in_the_ledger_that_it_names(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN, *_attacked(evidence))
    assert _json(evidence)["registered_in"] is None
    assert (
        "9: not checked; no verified ledger of this report holds it" in parsed(evidence / "out/report.html").text
    )
    audit = attacked()
    first = PLAN_STORY[2]
    held = replace(first, details=first.details.model_copy(update={"plan": audit.registration_digest}))
    (evidence / "audited.jsonl").write_bytes(bundle("north", written("north", [*PLAN_STORY[:2], held])).data)
    (evidence / "audit.json").write_text(audit.model_copy(update={"ledger_entry": 3}).model_dump_json())
    hanse("audited.jsonl", "--empirical", "audit.json")
    assert _json(evidence)["registered_in"] == "audited.jsonl"
    assert "3: found in audited.jsonl" in parsed(evidence / "out/report.html").text


def test_theory_and_attack_stand_in_one_plot(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN, *_attacked(evidence))
    svg = re.findall(r"<figure><figcaption>Epsilon: theory \(upper\).*?</figure>", _page(evidence), re.S)
    (plot,) = svg
    widths = {style: float(width) for width, style in re.findall(r'width="([\d.]+)"[^>]*class="box (\w+)"', plot)}
    assert widths["lower"] / widths["upper"] == pytest.approx(6.5432 / 8.0, abs=1e-3)


# --- nothing is invented, nothing is run ----------------------------------------------------------------------


def _page(folder: Path) -> str:
    return (folder / "out/report.html").read_text(encoding="utf-8")


def test_what_nobody_stated_or_measured_is_called_so(hanse: Hanse, evidence: Path) -> None:
    hanse("sites/north/ledger.jsonl")
    found, page = _json(evidence), parsed(evidence / "out/report.html").text
    assert (found["runs"], found["empirical"], found["auditor"]) == ([], None, None)
    assert "Audited by not stated" in page
    assert "Attack, lower bound not measured" in page
    assert "clipping norm, batch and noise source are not stated" in page
    assert "Implemented, as measured not measured" in page
    assert "No violation was found, and not everything could be checked." in page
    hanse("run")
    page = parsed(evidence / "out/report.html").text
    assert "Clipping norm C not stated" in page
    assert "Private not stated" in page


def test_a_run_without_privacy_is_called_so(hanse: Hanse, evidence: Path) -> None:
    (evidence / "run/result.json").write_text('{"private": false, "sites": [{"name": 3}]}', encoding="utf-8")
    hanse(*GIVEN)
    page = parsed(evidence / "out/report.html").text
    assert "NO: this run was trained without privacy" in page
    assert "none in at least one run" in page


def _hostile_evidence(evidence: Path) -> None:
    story = tuple(replace(draft, dataset=HOSTILE) for draft in PLAN_STORY)
    (evidence / "sites/north/ledger.jsonl").write_bytes(bundle("north", written("north", story)).data)
    result = {
        "study": HOSTILE,
        "privacy": {"sampling": HOSTILE, "not_covered": [HOSTILE]},
        "sites": [{"name": HOSTILE}],
    }
    result["test"] = {
        "overall": {"accuracy": 0.5, "examples": 9},
        "by_domain": {HOSTILE: {"accuracy": 1, "examples": 2}},
    }
    (evidence / "run/result.json").write_text(json.dumps(result), encoding="utf-8")


def test_names_with_markup_are_shown_and_not_run(hanse: Hanse, evidence: Path) -> None:
    _hostile_evidence(evidence)
    empirical = attacked(method=HOSTILE[:40]).model_copy(update={"command": HOSTILE})
    (evidence / "audit.json").write_text(empirical.model_dump_json(), encoding="utf-8")
    hanse(*GIVEN, "--auditor", HOSTILE, "--empirical", "audit.json")
    page = parsed(evidence / "out/report.html")
    assert page.text.count(HOSTILE) >= 8
    assert f"white-box: {HOSTILE[:40]}" in page.text, "in the plot too"
    assert not {"script", "img", "link", "iframe", "object", "base"} & set(page.elements)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\\u4e2d" in words_of_pdf(evidence / "out/report.pdf")


def test_the_page_needs_nothing_else(hanse: Hanse, evidence: Path) -> None:
    hanse(*GIVEN)
    page = parsed(evidence / "out/report.html")
    assert {
        name for name, value in page.attributes if name in ("src", "href") and not value.startswith("#s")
    } == set()
    assert not re.search(r"url\(|@import|https?:", _page(evidence))
    for rule in ("prefers-color-scheme: dark", "@media print", "default-src 'none'"):
        assert rule in _page(evidence)


def test_no_folder_of_the_machine_is_named(hanse: Hanse, evidence: Path) -> None:
    hanse(*(str(evidence / each) if "/" in each or each == "run" else each for each in GIVEN))
    for each in ("report.json", "report.html"):
        assert str(evidence.parent) not in (evidence / "out" / each).read_text(encoding="utf-8")


def test_the_commands_in_the_report_repeat_the_audit(
    hanse: Hanse, evidence: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    hanse(*GIVEN)
    whole, alone = _json(evidence)["commands"]
    (evidence / "north").symlink_to(evidence / "sites/north")
    (evidence / "south").symlink_to(evidence / "sites/south")
    any_command = runner(monkeypatch, capsys)
    again: Ended = any_command(*shlex.split(whole)[1:], "--json", "--no-prv")
    assert again.code == 0
    assert json.loads(again.out)["checks"] == _json(evidence)["ledger_audit"]["checks"]
    assert any_command(*shlex.split(alone)[1:]).code == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nothing.jsonl",), "nothing.jsonl: cannot be read"),
        (("sites",), "run.json: cannot be read"),
        ((*GIVEN, "--empirical", "nothing"), "--empirical nothing: cannot be read"),
        ((*GIVEN, "--empirical", "north.pub"), "--empirical north.pub: is not a file of `hanse audit run`"),
        ((*GIVEN, "--key", "abc"), "--key abc: must be 64"),
        ((*GIVEN, "--witness", "nothing"), "nothing: cannot be read"),
        ((*GIVEN, "--out", "north.pub"), "--out north.pub: cannot be created"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(hanse: Hanse, arguments: tuple[str, ...], part: str) -> None:
    assert_one_line(hanse(*arguments), 2, part)


def test_budgets_over_time_end_where_the_ledger_stands(hanse: Hanse, evidence: Path) -> None:
    from common.audit.ledger_files import open_bundles

    hanse(*GIVEN)
    opened, _ = open_bundles(HONEST.bundles, HONEST.keys)
    for budget, ledger in zip(_json(evidence)["budgets"], opened, strict=True):
        stands = spending_of(ledger.ledger.history.budgets[1])
        assert budget["points"][-1]["charged"] == pytest.approx(stands.spent)
        released = [point["released"] for point in budget["points"]]
        assert released == sorted(released)
        assert released[0] == 0.0
        assert math.isclose(released[-1], stands.spent)
        assert [point["entry"] for point in budget["points"]] == [1, 2, 3, 5, 6]
        whole = budget["points"][1]  # a plan is charged whole at once, and nothing was released yet
        assert (whole["charged"], whole["released"]) == (pytest.approx(stands.spent), 0.0)


def test_characters_beyond_the_standard_fonts_are_printed_as_escapes() -> None:
    assert printed.latin("a\u4e2d\u00e9\x00\n") == "a\\u4e2d\u00e9\\x00\n"
