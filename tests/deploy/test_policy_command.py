"""`hanse policy`: a template to fill in, a verdict on a study, and approvals in a real ledger."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.policy_file import read_policy
from client.site_directory import SiteDirectory
from common.base_model import resolve_base
from common.privacy.ledger.details import Approved, Policy
from common.privacy.ledger.records import approval_holds
from common.study_file import read_study
from tests.deploy.running import Hanse, runner
from tests.tiny import tiny_study_text

ROOT = Path(__file__).resolve().parents[2]
OTHER_STUDY = "ab" * 32
TODAY = datetime.now(UTC).date()

POLICY = """
[site]
name = "north"
[dataset]
name = "letters"
unit = "example"
one_row_per_person = true
declared_size = 60
[budget]
epsilon = 8
[allow]
models = ["*"]
[disclose]
labels = ["negative", "positive"]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An institution's folder with a policy in it and nothing else."""
    folder = tmp_path / "site"
    folder.mkdir(mode=0o700)
    write_policy(folder, POLICY)
    return folder


@pytest.fixture
def hanse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_base: Path
) -> Hanse:
    """Runs `hanse policy` beside a study whose data does not exist."""
    (tmp_path / "study.toml").write_text(tiny_study_text(tiny_base, tmp_path / "none.csv"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    return runner(monkeypatch, capsys, "policy")


def write_policy(folder: Path, text: str) -> None:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)


def digest_of(study: Path) -> str:
    """What the site will compute when it receives the study."""
    parsed = read_study(study)
    return parsed.digest(resolve_base(parsed.model.base).digest)


def recorded(site: Path) -> list[tuple[str, str | None]]:
    """Kind and subject of every entry of the site's ledger."""
    found = []
    for entry in SiteDirectory(site).existing_ledger().entries():
        subject = entry.details.policy if isinstance(entry.details, Policy) else entry.study
        found.append((str(entry.kind), subject))
    return found


class TestNew:
    """The template."""

    def test_p22_it_is_written_for_its_owner_alone(self, hanse: Hanse, tmp_path: Path) -> None:
        ended = hanse("new", "clinic/policy.toml")
        assert ended.code == 0
        assert "hanse policy check --site clinic" in ended.out
        path = tmp_path / "clinic" / "policy.toml"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_p22_replacing_one_closes_it_again(self, hanse: Hanse, site: Path) -> None:
        (site / "policy.toml").chmod(0o666)
        ended = hanse("new", str(site / "policy.toml"))
        assert ended.code == 2
        assert "exists already; name another file or add --force" in ended.err
        assert (site / "policy.toml").read_text(encoding="utf-8") == POLICY
        ended = hanse("new", str(site / "policy.toml"), "--force", "--json")
        assert json.loads(ended.out) == {"path": str(site / "policy.toml")}
        assert stat.S_IMODE((site / "policy.toml").stat().st_mode) == 0o600
        assert "FILL IN" in (site / "policy.toml").read_text(encoding="utf-8")

    def test_a_folder_is_not_a_policy(self, hanse: Hanse, site: Path) -> None:
        ended = hanse("new", str(site))
        assert ended.code == 2
        assert "is a folder; name the policy file in it" in ended.err

    def test_p02_p03_unfilled_it_is_refused_with_all_that_is_missing(self, hanse: Hanse) -> None:
        hanse("new")
        ended = hanse("check")
        assert (ended.code, ended.out) == (2, "")
        for key in (
            "site.name",
            "dataset.name",
            "dataset.unit",
            "dataset.declared_size",
            "budget.epsilon",
            "labels",
        ):
            assert f"{key} = " in ended.err
        assert all(line.startswith("hanse: policy.toml: ") for line in ended.err.splitlines())


class TestCheck:
    """Shows the policy; with a study, its verdict."""

    def test_it_shows_keys_and_standing(self, hanse: Hanse, site: Path) -> None:
        ended = hanse("check", "--site", str(site))
        assert ended.code == 0
        for part in ("dataset.declared_size", "60", "auto: 1e-05", "not in the ledger yet"):
            assert part in ended.out
        assert read_policy(site / "policy.toml").digest() in ended.out
        assert sorted(path.name for path in site.iterdir()) == ["policy.toml"]

    def test_p18_a_study_is_refused_until_it_is_approved(self, hanse: Hanse, site: Path, tmp_path: Path) -> None:
        digest = digest_of(tmp_path / "study.toml")
        ended = hanse("check", "study.toml", "--site", str(site))
        assert ended.code == 3
        assert ended.err.startswith("hanse: not-approved: ")
        assert f"`hanse policy approve {digest}`" in ended.err
        assert hanse("approve", digest, "--site", str(site)).code == 0
        ended = hanse("check", "study.toml", "--site", str(site))
        assert (ended.code, ended.err) == (0, "")
        assert "The policy agrees to this study" in ended.out

    def test_p18_another_approval_is_none_for_this_study(self, hanse: Hanse, site: Path) -> None:
        assert hanse("approve", OTHER_STUDY, "--site", str(site)).code == 0
        assert hanse("check", "study.toml", "--site", str(site)).code == 3

    def test_p15_the_verdict_is_the_same_whatever_data_lies_at_the_site(self, hanse: Hanse, site: Path) -> None:
        write_policy(site, POLICY.replace("= 60", "= 7"))
        told = []
        for rows in (3, 4000):
            (site / "rows.csv").write_text("text,label\n" + "good,positive\n" * rows, encoding="utf-8")
            told.append(hanse("check", "study.toml", "--site", str(site), "--json"))
        assert told[0].code == 3
        assert told[0] == told[1]

    def test_every_reason_is_told_at_once(self, hanse: Hanse, site: Path) -> None:
        write_policy(site, POLICY.replace('"*"', '"minilm-l6"').replace("= 60", "= 7"))
        ended = hanse("check", "study.toml", "--site", str(site))
        assert ended.code == 3
        codes = [line.split(": ")[1] for line in ended.err.splitlines()]
        assert codes == ["not-approved", "model-not-allowed", "batch-too-large"]

    def test_json_is_one_document_and_keeps_the_exit_code(
        self, hanse: Hanse, site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HANSE_SITE", str(site))
        ended = hanse("check", "study.toml", "--json")
        shown = json.loads(ended.out)
        assert (ended.code, ended.err, shown["agrees"]) == (3, "", False)
        assert [refusal["code"] for refusal in shown["refusals"]] == ["not-approved"]
        assert shown["study"]["digest"] == digest_of(tmp_path / "study.toml")
        assert shown["study"]["noise_multiplier"] > 0.3
        assert shown["adopted"] is None
        shown = json.loads(hanse("check", "--json").out)
        assert set(shown) == {"policy", "delta", "digest", "adopted"}
        assert shown["policy"]["dataset"]["declared_size"] == 60

    def test_p05_a_filter_calibrates_at_its_order(self, hanse: Hanse, site: Path) -> None:
        plan = json.loads(hanse("check", "study.toml", "--site", str(site), "--json").out)
        write_policy(site, POLICY.replace("epsilon = 8", 'epsilon = 8\nkind = "filter"\norder = 8'))
        by_filter = json.loads(hanse("check", "study.toml", "--site", str(site), "--json").out)
        assert by_filter["study"]["noise_multiplier"] > plan["study"]["noise_multiplier"]

    def test_p22_where_the_ledger_lies_is_not_shown(self, hanse: Hanse, site: Path) -> None:
        write_policy(site, POLICY + '[ledger]\nurl = "postgresql://me@somewhere/name"\n')
        for more in ([], ["--json"]):
            assert "somewhere" not in hanse("check", "--site", str(site), *more).out

    def test_what_is_not_there(self, hanse: Hanse, site: Path) -> None:
        assert "no such policy; `hanse policy new" in hanse("check", "--site", "nowhere").err
        ended = hanse("check", "none.toml", "--site", str(site))
        assert ended.code == 2
        assert "no such study file" in ended.err

    def test_a_label_that_looks_like_markup_is_shown_as_it_is(self, hanse: Hanse, site: Path) -> None:
        write_policy(site, POLICY.replace('"negative"', '"[red]no[/red]"'))
        assert "[red]no[/red]" in hanse("check", "--site", str(site)).out


class TestApprove:
    """The officer's word, in the site's ledger."""

    def test_p18_the_policy_is_recorded_once_and_again_when_it_changed(self, hanse: Hanse, site: Path) -> None:
        first = read_policy(site / "policy.toml").digest()
        assert "holds from here on" in hanse("approve", OTHER_STUDY, "--site", str(site)).out
        assert "holds from here on" not in hanse("approve", OTHER_STUDY, "--site", str(site)).out
        write_policy(site, POLICY.replace("declared_size = 60", "declared_size = 61"))
        assert "changed since" in hanse("check", "--site", str(site)).out
        second = read_policy(site / "policy.toml").digest()
        assert hanse("approve", OTHER_STUDY, "--site", str(site)).code == 0
        approval = ("approve", OTHER_STUDY)
        assert recorded(site) == [("policy", first), approval, approval, ("policy", second), approval]
        assert "as in the ledger" in hanse("check", "--site", str(site)).out

    def test_p18_a_study_file_stands_for_the_digest_that_the_site_will_compute(
        self, hanse: Hanse, site: Path, tmp_path: Path
    ) -> None:
        ends = TODAY + timedelta(days=30)
        ended = hanse("approve", "study.toml", "--site", str(site), "--expires", str(ends), "--json")
        shown = json.loads(ended.out)
        digest = digest_of(tmp_path / "study.toml")
        assert (shown["study"], shown["expires"], shown["adopted"]) == (digest, str(ends), True)
        ledger = SiteDirectory(site).existing_ledger()
        assert approval_holds(ledger, "letters", digest, ends)
        assert not approval_holds(ledger, "letters", digest, ends + timedelta(days=1))
        assert not approval_holds(ledger, "letters", OTHER_STUDY, TODAY)

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (["ab" * 31], "a digest has 64 lower-case hexadecimal digits; give all of them"),
            (["AB" * 32], "a digest has 64 lower-case hexadecimal digits; give all of them"),
            (["none.toml"], "no such study file"),
            ([OTHER_STUDY, "--expires", "soon"], "--expires soon: must be a date such as 2027-12-31"),
            ([OTHER_STUDY, "--expires", "2020-01-01"], "--expires 2020-01-01: is over; name today"),
        ],
    )
    def test_p18_what_names_no_study_or_no_day_approves_nothing(
        self, hanse: Hanse, site: Path, arguments: list[str], part: str
    ) -> None:
        ended = hanse("approve", *arguments, "--site", str(site))
        assert (ended.code, ended.out) == (2, "")
        assert part in ended.err
        assert not SiteDirectory(site).has_ledger()

    def test_p18_an_approval_may_end_today(self, hanse: Hanse, site: Path) -> None:
        assert hanse("approve", OTHER_STUDY, "--site", str(site), "--expires", str(TODAY)).code == 0
        (last,) = [e for e in SiteDirectory(site).existing_ledger().entries() if isinstance(e.details, Approved)]
        assert isinstance(last.details, Approved)
        assert last.details.expires == str(TODAY)

    def test_p22_a_folder_that_others_may_read_gets_no_ledger(self, hanse: Hanse, site: Path) -> None:
        site.chmod(0o755)
        ended = hanse("approve", OTHER_STUDY, "--site", str(site))
        assert ended.code == 2
        assert "chmod 700" in ended.err
        assert not SiteDirectory(site).has_ledger()


def test_the_real_command_from_template_to_refusal(tmp_path: Path) -> None:
    def real(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", "policy", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "HANSE_SITE": "site"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert real("new", "site/policy.toml").returncode == 0
    unfilled = real("check")
    assert unfilled.returncode == 2
    assert "site/policy.toml: dataset.declared_size = 0: must be at least 1" in unfilled.stderr
    write_policy(tmp_path / "site", POLICY)
    assert real("approve", OTHER_STUDY).returncode == 0
    shown = json.loads(real("check", "--json").stdout)
    assert shown["adopted"] == shown["digest"]
