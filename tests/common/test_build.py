"""The build's digest follows the source, whole and by name."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import pytest

from common import build


def digest_of(tree: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of two rooms below ``tree``."""

    def spec(room: str) -> importlib.machinery.ModuleSpec:
        found = importlib.machinery.ModuleSpec(room, None, is_package=True)
        found.submodule_search_locations = [str(tree / room)]
        return found

    monkeypatch.setattr(build, "find_spec", spec)
    build.build_digest.cache_clear()
    found = build.build_digest()
    build.build_digest.cache_clear()
    return found


def test_p01_any_changed_moved_or_added_source_file_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("client", "common"):
        (tmp_path / room / "deep").mkdir(parents=True)
        (tmp_path / room / "deep" / "one.py").write_text("x = 1\n", encoding="utf-8")
    first = digest_of(tmp_path, monkeypatch)
    assert len(first) == 64
    assert digest_of(tmp_path, monkeypatch) == first
    (tmp_path / "client" / "notes.txt").write_text("no source", encoding="utf-8")
    assert digest_of(tmp_path, monkeypatch) == first
    seen = {first}
    (tmp_path / "common" / "deep" / "one.py").write_text("x = 2\n", encoding="utf-8")
    seen.add(digest_of(tmp_path, monkeypatch))
    (tmp_path / "common" / "deep" / "one.py").rename(tmp_path / "common" / "deep" / "two.py")
    seen.add(digest_of(tmp_path, monkeypatch))
    (tmp_path / "client" / "more.py").write_text("", encoding="utf-8")
    seen.add(digest_of(tmp_path, monkeypatch))
    assert len(seen) == 4


def test_the_rooms_that_run_have_one() -> None:
    assert len(build.build_digest()) == 64
