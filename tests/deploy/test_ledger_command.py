"""`hanse ledger`: what it shows, verifies, exports and closes of a real SQLite ledger in a site's folder."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from client.site_directory import SiteDirectory
from common.errors import BudgetExceeded
from common.privacy.budget import PrivacyBudget, RoundRequest, StudyUse
from common.privacy.ledger.details import Head, Settled
from common.privacy.ledger.rules import verified_entries
from common.privacy.mechanism import SampledGaussian
from common.privacy.recovery import LostRelease, reenter
from tests.common.privacy.ledger.samples import (
    DATA,
    FILTER,
    KEY,
    OTHER_KEY,
    OTHER_STUDY,
    PLAN,
    PLANNED,
    STORY,
    STUDY,
    bundled,
    chained,
)
from tests.deploy.running import Hanse, assert_one_line, runner, telling_imports

ROOT = Path(__file__).resolve().parents[2]
USE = StudyUse(STUDY, "run-1", 1e-5)
OTHER_USE = StudyUse(OTHER_STUDY, "run-2", 1e-5)
SETTLED = SampledGaussian(0.02, 1.0, 100)
OPEN = SampledGaussian(0.02, 1.0, 200)
WHOLE = SampledGaussian(0.04, 0.8, 125)
PART = SampledGaussian(0.04, 0.8, 25)


@pytest.fixture
def hanse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hanse:
    """Runs a command."""
    return runner(monkeypatch, capsys)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's folder: nine entries about two datasets, a round of each left open."""
    folder = tmp_path / "clinic"
    ledger = SiteDirectory(folder).ledger()
    patients = PrivacyBudget(ledger, DATA)
    patients.open(FILTER, note="the first\x1b[31m")
    patients.settle(patients.reserve(USE, RoundRequest(1, PLAN, SETTLED)), "completed")
    patients.reserve(USE, RoundRequest(2, PLAN, OPEN))
    with pytest.raises(BudgetExceeded):
        patients.reserve(USE, RoundRequest(3, PLAN, SampledGaussian(0.02, 0.9, 150)))
    patients.lower(2.9)
    letters = PrivacyBudget(ledger, "letters")
    letters.open(PLANNED)
    letters.admit_study(OTHER_USE, WHOLE)
    letters.reserve(OTHER_USE, RoundRequest(1, PLAN, PART))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of six entries, signed by KEY."""
    path = tmp_path / "story.jsonl"
    path.write_bytes(bundled(chained(STORY)))
    return path


def budget_of(site: Path, dataset: str = DATA) -> PrivacyBudget:
    return PrivacyBudget(SiteDirectory(site).existing_ledger(), dataset)


class TestShow:
    """The entries, as a table or whole."""

    def test_json_is_every_entry_in_full(self, hanse: Hanse, site: Path) -> None:
        ended = hanse("ledger", "show", "--site", str(site), "--json")
        shown = json.loads(ended.out)
        entries = SiteDirectory(site).existing_ledger().entries()
        assert shown["entries"] == [json.loads(entry.line()) for entry in entries]
        assert len(entries) == 9
        assert shown["public_key"] == SiteDirectory(site).existing_ledger().public_key

    def test_the_last_ones_about_a_dataset(self, hanse: Hanse, site: Path) -> None:
        def places(*more: str) -> list[int]:
            shown = json.loads(hanse("ledger", "show", "--site", str(site), "--json", *more).out)
            return [entry["sequence"] for entry in shown["entries"]]

        assert places("--dataset", "letters") == [7, 8, 9]
        assert places("--dataset", DATA, "--last", "2") == [5, 6]
        assert places("--last", "100") == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        refused = hanse("ledger", "show", "--site", str(site), "--last", "0")
        assert_one_line(refused, 2, "--last 0: must be at least 1")
        refused = hanse("ledger", "show", "--site", str(site), "--dataset", "others")
        assert_one_line(refused, 2, '--dataset "others": no entry is about it', '"patients", "letters"')

    def test_the_table_says_what_happened(self, hanse: Hanse, site: Path) -> None:
        ended = hanse("ledger", "show", "--site", str(site))
        assert ended.code == 0
        text = " ".join(ended.out.split())
        assert "9 of 9 entries" in text
        for said in (
            STUDY[:12],
            OTHER_STUDY[:12],
            "run-1",
            "100 steps,",
            "budget-exceeded",
            "completed",
            "refuse",
        ):
            assert said in text
        assert STUDY[:13] not in text

    def test_no_text_in_an_entry_steers_the_terminal(self, hanse: Hanse, site: Path) -> None:
        assert "\x1b" not in hanse("ledger", "show", "--site", str(site)).out

    def test_the_site_is_the_current_folder_or_that_of_the_environment(
        self, hanse: Hanse, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(site)
        here = hanse("ledger", "show", "--json").out
        assert len(json.loads(here)["entries"]) == 9
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HANSE_SITE", str(site))
        assert hanse("ledger", "show", "--json").out == here

    @pytest.mark.parametrize(
        "command", [["ledger", "show"], ["ledger", "verify"], ["ledger", "settle"], ["budget"]]
    )
    def test_a_folder_that_is_no_site(self, hanse: Hanse, tmp_path: Path, command: tuple[str, ...]) -> None:
        (tmp_path / "empty").mkdir()
        missing = hanse(*command, "--site", str(tmp_path / "nowhere"))
        assert_one_line(missing, 2, "nowhere: no such site folder")
        assert_one_line(hanse(*command, "--site", str(tmp_path / "empty")), 2, "empty: holds no ledger")
        assert list((tmp_path / "empty").iterdir()) == []


class TestVerify:
    """A bundle or the site's own ledger: verified, or exit code 4."""

    def test_p01_a_bundle_with_its_key_and_a_witnessed_head(self, hanse: Hanse, bundle: Path) -> None:
        third = chained(STORY)[2].head
        given = ("--key", KEY.public_hex, "--head", f"{third.sequence}:{third.hash}")
        ended = hanse("ledger", "verify", str(bundle), *given)
        last = chained(STORY)[-1].head
        assert ended.code == 0
        for said in ("verified, 6 entries", f"head 6:{last.hash}", "No budget is overspent", DATA):
            assert said in ended.out
        assert "on trust" not in ended.out
        shown = json.loads(hanse("ledger", "verify", str(bundle), *given, "--json").out)
        assert shown["key_on_trust"] is False
        assert shown["head"] == {"sequence": 6, "hash": last.hash}
        assert shown["witnessed"] == [{"sequence": 3, "hash": third.hash}]
        assert shown["datasets"] == [
            {"dataset": DATA, "unit": "group", "budgets": 1, "claim": {"epsilon": 3.0, "delta": 1e-5}}
        ]
        assert shown["overspent"] == []

    def test_p01_without_a_key_it_says_that_the_headers_was_taken_on_trust(
        self, hanse: Hanse, bundle: Path
    ) -> None:
        ended = hanse("ledger", "verify", str(bundle))
        assert ended.code == 0
        assert "The key was taken on trust from the bundle's own header" in ended.out
        assert json.loads(hanse("ledger", "verify", str(bundle), "--json").out)["key_on_trust"] is True

    def test_the_key_may_lie_in_a_file(self, hanse: Hanse, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "site.pub").write_text(f"{KEY.public_hex}\n", encoding="utf-8")
        assert hanse("ledger", "verify", str(bundle), "--key", str(tmp_path / "site.pub")).code == 0
        (tmp_path / "site.pub").write_text("no key", encoding="utf-8")
        refused = hanse("ledger", "verify", str(bundle), "--key", str(tmp_path / "site.pub"))
        assert_one_line(refused, 2, "site.pub: must be 64 lower-case hexadecimal digits")

    @pytest.mark.parametrize("place", range(1, 7))
    def test_p01_a_changed_entry_is_named(self, hanse: Hanse, bundle: Path, place: int) -> None:
        lines = bundle.read_bytes().split(b"\n")
        changed = lines[place].replace(b'"random":"0', b'"random":"1')
        assert changed != lines[place]
        lines[place] = changed
        bundle.write_bytes(b"\n".join(lines))
        for given in ((), ("--key", KEY.public_hex)):
            ended = hanse("ledger", "verify", str(bundle), *given)
            assert_one_line(ended, 4, "story.jsonl: ledger check 4 (hash)", f"entry {place}:")

    def test_p01_another_key_is_refused(self, hanse: Hanse, bundle: Path) -> None:
        ended = hanse("ledger", "verify", str(bundle), "--key", OTHER_KEY.public_hex)
        assert_one_line(ended, 4, "check 2 (key)")

    def test_p08_a_tail_that_was_cut_off_shows_against_a_witnessed_head(self, hanse: Hanse, bundle: Path) -> None:
        entries = chained(STORY)
        bundle.write_bytes(bundled(entries[:4]))
        unwitnessed = hanse("ledger", "verify", str(bundle))
        assert unwitnessed.code == 0
        assert "entries cut off at the end would not show" in unwitnessed.out
        head = entries[-1].head
        ended = hanse("ledger", "verify", str(bundle), "--head", f"{head.sequence}:{head.hash}")
        assert_one_line(ended, 4, "check 9 (completeness)", "head 6")

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (None, 2),
            (b"", 4),
            (b"{}\n", 4),
            (b"PK\x03\x04\x00\xff\n", 4),
            (b'{"public_key":3}\n', 4),
            (b'{"public_key":"' + b"0" * 64 + b'"}\n', 4),
        ],
        ids=["missing", "empty", "no header", "binary", "no key", "only a key"],
    )
    def test_what_is_no_bundle(self, hanse: Hanse, bundle: Path, content: bytes | None, code: int) -> None:
        bundle.unlink()
        if content is not None:
            bundle.write_bytes(content)
        assert_one_line(hanse("ledger", "verify", str(bundle)), code, "story.jsonl: ")
        assert_one_line(hanse("ledger", "verify", str(bundle), "--key", KEY.public_hex), code, "story.jsonl: ")
        as_json = hanse("ledger", "verify", str(bundle), "--json")
        assert json.loads(as_json.out)["error"] == ("BadInput" if code == 2 else "AuditFailure")

    @pytest.mark.parametrize(
        "head", ["", "3", "3:abc", "-3:" + "a" * 64, "3:" + "A" * 64, "1e3:" + "a" * 64, "9" * 30 + ":" + "a" * 64]
    )
    def test_a_head_that_is_none(self, hanse: Hanse, bundle: Path, head: str) -> None:
        ended = hanse("ledger", "verify", str(bundle), f"--head={head}")
        assert_one_line(ended, 2, f"--head {head}: must be a place, a colon and 64")

    def test_p01_the_sites_own_ledger(self, hanse: Hanse, site: Path) -> None:
        ended = hanse("ledger", "verify", "--site", str(site), "--json")
        shown = json.loads(ended.out)
        assert (shown["entries"], shown["key_on_trust"]) == (9, False)
        assert [each["claim"]["epsilon"] for each in shown["datasets"]] == [3.0, 8.0]  # lowered after a release
        wrong = hanse("ledger", "verify", "--site", str(site), "--key", OTHER_KEY.public_hex)
        assert_one_line(wrong, 4, "check 2 (key)")

    def test_p01_an_edited_database_is_found(self, hanse: Hanse, site: Path) -> None:
        with sqlite3.connect(site / "ledger.db") as database:
            for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
                database.execute(f'drop trigger "{name}"')
            table = "select name from sqlite_master where type = 'table' and sql like '%previous%'"
            (entries,) = database.execute(table).fetchone()
            changed = database.execute(
                f'update "{entries}" set line = replace(line, \'"steps":100\', \'"steps":10\') where sequence = 2'
            )
            assert changed.rowcount == 1
        for command in (("verify",), ("show",), ("export", str(site.parent / "out.jsonl"))):
            ended = hanse("ledger", *command, "--site", str(site))
            assert_one_line(ended, 4, "ledger.db: ledger check 4 (hash): entry 2:")
        assert not (site.parent / "out.jsonl").exists()

    def test_p08_overspending_and_lost_heads_are_said(self, hanse: Hanse, site: Path) -> None:
        lost = Head(sequence=20, hash="e" * 64)
        release = LostRelease(STUDY, "run-9", 1, PLAN, SampledGaussian(0.04, 0.8, 1250))
        for dataset in (DATA, "letters"):
            found = LostRelease(OTHER_STUDY, "run-2", 2, PLAN, PART) if dataset == "letters" else release
            reenter(SiteDirectory(site).existing_ledger(), dataset, lost, [found])
        ended = hanse("ledger", "verify", "--site", str(site), "--head", f"20:{'e' * 64}")
        assert ended.code == 0
        assert f"Lost and made up for: head 20:{'e' * 64}" in ended.out
        assert 'dataset "patients", budget 1: charged' in ended.out
        assert "No budget is overspent" not in ended.out


class TestExport:
    """A bundle that anyone can verify."""

    def test_p01_what_is_exported_verifies(self, hanse: Hanse, site: Path, tmp_path: Path) -> None:
        ended = hanse("ledger", "export", str(tmp_path / "out.jsonl"), "--site", str(site))
        ledger = SiteDirectory(site).existing_ledger()
        assert ended.code == 0
        assert f"head 9:{ledger.head().hash}" in ended.out
        verified = verified_entries((tmp_path / "out.jsonl").read_bytes(), ledger.public_key)
        assert verified.entries == ledger.entries()

    def test_nothing_but_an_older_bundle_is_replaced(self, hanse: Hanse, site: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.jsonl"
        export = ("ledger", "export", str(out), "--site", str(site))
        assert hanse(*export).code == 0
        older = out.read_bytes()
        budget_of(site).settle_open()
        assert_one_line(hanse(*export), 2, "out.jsonl: exists already; name another file or add --force")
        assert out.read_bytes() == older
        replaced = json.loads(hanse(*export, "--force", "--json").out)
        assert replaced["head"]["sequence"] == 10
        assert out.read_bytes() != older
        for name in ("ledger.db", "site.key"):
            before = (site / name).read_bytes()
            refused = hanse("ledger", "export", str(site / name), "--site", str(site), "--force")
            assert_one_line(refused, 2, f"{name}: is no bundle; --force replaces nothing but an older bundle")
            assert (site / name).read_bytes() == before

    def test_a_place_that_is_no_file(self, hanse: Hanse, site: Path, tmp_path: Path) -> None:
        folder = hanse("ledger", "export", str(tmp_path), "--site", str(site))
        assert_one_line(folder, 2, "is a folder; name a file in it")
        nowhere = hanse("ledger", "export", str(tmp_path / "no" / "out.jsonl"), "--site", str(site))
        assert_one_line(nowhere, 2, "there is no folder")


class TestSettle:
    """Closing what a crash left open, at full cost and in no other way."""

    def test_p07_open_rounds_are_closed_whole(self, hanse: Hanse, site: Path) -> None:
        before = [budget_of(site, name).spending()[0] for name in (DATA, "letters")]
        ended = hanse("ledger", "settle", "--site", str(site), "--yes", "--json")
        settled = json.loads(ended.out)["settled"]
        assert [entry["details"]["reservation"] for entry in settled] == [4, 9]
        after = [budget_of(site, name).spending()[0] for name in (DATA, "letters")]
        for old, new in zip(before, after, strict=True):
            assert new.spent == pytest.approx(old.spent + old.reserved, abs=1e-12)
            assert (new.reserved, new.gauge) == (0.0, old.gauge)
        details = [entry.details for entry in budget_of(site).ledger.entries()[-2:]]
        assert details == [
            Settled(reservation=4, outcome="operator", refund=None),
            Settled(reservation=9, outcome="operator", refund=None),
        ]

    def test_one_dataset_and_then_nothing(self, hanse: Hanse, site: Path) -> None:
        settle = ("ledger", "settle", "--site", str(site), "--dataset", "letters")
        ended = hanse(*settle, "--yes")
        assert ended.out.splitlines() == ['Closed entry 9 (dataset "letters", round 1) at full cost: entry 10.']
        assert [held.sequence for held in budget_of(site).open_reservations()] == [4]
        assert hanse(*settle).out.splitlines() == ["No reservation is open."]
        assert json.loads(hanse(*settle, "--json").out) == {"settled": []}
        refused = hanse("ledger", "settle", "--site", str(site), "--dataset", "others", "--yes")
        assert_one_line(refused, 2, '--dataset "others": has no budget in this ledger', '"patients", "letters"')

    def test_where_nobody_can_be_asked_nothing_is_closed(self, hanse: Hanse, site: Path) -> None:
        ended = hanse("ledger", "settle", "--site", str(site))
        assert_one_line(ended, 2, "entries 4, 9", "add --yes")
        assert len(budget_of(site).ledger.entries()) == 9

    def test_somebody_is_asked(self, hanse: Hanse, site: Path) -> None:
        declined = hanse("ledger", "settle", "--site", str(site), typed="n\n")
        assert declined.code == 1
        assert "Open reservations" in declined.err
        assert len(budget_of(site).ledger.entries()) == 9
        agreed = hanse("ledger", "settle", "--site", str(site), "--json", typed="y\n")
        assert agreed.code == 0
        assert len(json.loads(agreed.out)["settled"]) == 2


def test_a_copied_key_without_its_ledger_is_refused(hanse: Hanse, site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    shutil.copy(site / "site.key", other / "site.key")
    assert_one_line(hanse("ledger", "show", "--site", str(other)), 2, "is gone; restore it")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["ledger", "--help"], ["budget", "--help"], ["privacy", "--help"], ["ledger", "show", "--help"]],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    heavy = {"torch", "flwr", "opacus", "scipy", "dp_accounting", "sqlalchemy", "cryptography"}
    ended = telling_imports(arguments, heavy, tmp_path)
    assert ended.returncode == 0
    assert "LOADED []" in ended.stderr


def test_a_site_and_its_auditor_need_no_torch(site: Path) -> None:
    script = (
        "import atexit, sys; import deploy.cli; sys.argv[0] = 'hanse'\n"
        "atexit.register(lambda: print('LOADED', 'torch' in sys.modules, file=sys.stderr))\n"
        "deploy.cli.main()\n"
    )
    for arguments in (["ledger", "verify"], ["ledger", "show"], ["budget"]):
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments, "--site", str(site)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (ended.returncode, "LOADED False" in ended.stderr) == (0, True), ended.stderr
