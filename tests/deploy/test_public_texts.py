"""P15: what is explained is public; a site's own data is refused wherever it can be recognised."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.site_directory import SiteDirectory
from common.errors import PolicyRefusal
from deploy.public_texts import require_public


@pytest.fixture(autouse=True)
def _no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANSE_SITE", raising=False)


@pytest.mark.parametrize("mark", ["policy.toml", "site.toml", "site.key", "data.key", "ledger.db"])
@pytest.mark.parametrize("below", ["rows.csv", "data/deep/rows.csv"])
def test_p15_data_in_an_institutions_folder_is_refused(tmp_path: Path, mark: str, below: str) -> None:
    data = tmp_path / "site" / below
    data.parent.mkdir(parents=True)
    data.write_text("text,label\n")
    require_public(str(data))
    (tmp_path / "site" / mark).write_text("")
    with pytest.raises(PolicyRefusal, match=mark):
        require_public(str(data))


def test_p15_the_marks_are_those_of_a_real_site(tmp_path: Path) -> None:
    site = SiteDirectory(tmp_path / "site")
    site.ledger()
    (site.path / "rows.csv").write_text("text,label\n")
    with pytest.raises(PolicyRefusal):
        require_public(str(site.path / "rows.csv"))


def test_p15_a_link_into_the_folder_is_followed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "policy.toml").write_text("")
    (site / "rows.csv").write_text("text,label\n")
    link = tmp_path / "innocent.csv"
    link.symlink_to(site / "rows.csv")
    with pytest.raises(PolicyRefusal):
        require_public(str(link))


def test_p15_the_data_that_this_site_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, folder = tmp_path / "site", tmp_path / "elsewhere"
    home.mkdir()
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\n")
    (tmp_path / "public.csv").write_text("text,label\n")
    (home / "site.toml").write_text(f'name = "north"\ndata = "{folder}"\n')
    monkeypatch.setenv("HANSE_SITE", str(home))
    for refused in (folder, folder / "train.csv", tmp_path):
        with pytest.raises(PolicyRefusal, match="HANSE_SITE"):
            require_public(str(refused))
    require_public(str(tmp_path / "public.csv"))


@pytest.mark.parametrize("source", ["embedded", "hub:stanfordnlp/imdb", "no/such/file.csv"])
def test_what_is_no_file_here_is_left_to_whoever_reads_it(source: str) -> None:
    require_public(source)
