"""The bundle is an allow-list: what must travel does, and nothing else, whatever lies in the tree."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import deploy
from common.errors import BadInput, RunFailed
from deploy.bundle import FAB_INCLUDE, ROOMS, build_bundle, bundle_files, pack_bundle

CHECKOUT = Path(deploy.__file__).resolve().parent.parent

SECRET = "hanse-test-secret"
PLANTED = (
    "data.csv",
    "patients.parquet",
    "train.jsonl",
    "policy.toml",
    "policy.yaml",
    "notes.md",
    "settings.json",
    "ledger.db",
    "ledger.sqlite3",
    "site.pem",
    "node.key",
    ".env",
    ".netrc",
    ".hidden.py",
    "not-a-module.py",
    "weights.safetensors",
    "README",
    "__pycache__/app.cpython-311.pyc",
    "__pycache__/cached.py",
    ".ipynb_checkpoints/app.py",
    "data/rows.csv",
)
"""Planted in the top folder and in each room; each file contains `SECRET`."""

PLANTED_ELSEWHERE = (
    "secret_script.py",
    "site/keys.py",
    "tests/test_secret.py",
    "deploy/private.py",
    "sites/north/ledger.jsonl",
    "build/client/app.py",
    ".git/config",
)

BUILD = """
import sys
from pathlib import Path
from deploy.bundle import build_bundle, pack_bundle
pack = pack_bundle(build_bundle(Path(sys.argv[1])))
Path(sys.argv[2]).write_bytes(pack)
"""


def plant(root: Path, name: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {SECRET}\n", encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy this source tree and plant what must not travel."""
    root = tmp_path / "tree"
    for room in (*ROOMS, "deploy"):
        shutil.copytree(CHECKOUT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    for room in ("client", "server"):
        if not (root / room / "app.py").exists():
            (root / room / "app.py").write_text("app = None\n", encoding="utf-8")
    for folder in (".", *ROOMS):
        for name in PLANTED:
            plant(root / folder, name)
    for name in PLANTED_ELSEWHERE:
        plant(root, name)
    (root / "client" / "linked.py").symlink_to(root / "secret_script.py")
    return root


def expected_files(tree: Path) -> set[str]:
    """List the rooms' modules in this checkout: what a person would say travels."""
    return {
        path.relative_to(tree).as_posix()
        for room in ROOMS
        for path in (tree / room).rglob("*.py")
        if SECRET not in path.read_text(encoding="utf-8")
    }


def build_elsewhere(tree: Path, tmp_path: Path) -> tuple[Path, bytes]:
    """Build bundle and FAB in another process that has only the rooms of `tree` on its path."""
    bundle, fab = tmp_path / "bundle", tmp_path / "hanse.fab"
    subprocess.run(
        [sys.executable, "-P", "-c", BUILD, str(bundle), str(fab)],
        check=True,
        env=os.environ | {"PYTHONPATH": str(tree), "FLWR_TELEMETRY_ENABLED": "0"},
        cwd=tmp_path,
        timeout=120,
    )
    return bundle, fab.read_bytes()


def test_nothing_planted_travels(tree: Path, tmp_path: Path) -> None:
    bundle, fab = build_elsewhere(tree, tmp_path)
    expected = expected_files(tree) | {"pyproject.toml"}

    in_bundle = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert in_bundle == expected
    with zipfile.ZipFile(io.BytesIO(fab)) as archive:
        assert set(archive.namelist()) == expected | {".info/CONTENT"}
        for name in archive.namelist():
            assert SECRET.encode() not in archive.read(name), name
        for name in expected - {"pyproject.toml"}:
            assert archive.read(name) == (tree / name).read_bytes(), name
    assert len(fab) < 2_000_000, "far under Flower's 10 MB"


def test_the_repository_itself_builds_to_the_same_allow_list(tree: Path) -> None:
    """Whoever types ``flwr build`` in the checkout ships no data either."""
    (tree / "pyproject.toml").write_bytes((CHECKOUT / "pyproject.toml").read_bytes())
    for hidden in tree.rglob("*.py"):  # Flower's pattern takes any .py file of a room; these are ours to refuse
        if SECRET in hidden.read_text(encoding="utf-8") and not hidden.stem.isidentifier():
            hidden.unlink()
    for room in ROOMS:
        shutil.rmtree(tree / room / ".ipynb_checkpoints")
    with zipfile.ZipFile(io.BytesIO(pack_bundle(tree))) as archive:
        names = set(archive.namelist())
    assert names == expected_files(tree) | {"pyproject.toml", ".info/CONTENT"}


def test_repository_and_bundle_agree_on_the_app(tree: Path, tmp_path: Path) -> None:
    bundle, _ = build_elsewhere(tree, tmp_path)
    of_repository = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    of_bundle = tomllib.loads((bundle / "pyproject.toml").read_text(encoding="utf-8"))
    app = of_bundle["tool"]["flwr"]["app"]
    assert app == of_repository["tool"]["flwr"]["app"]
    assert tuple(app["fab-include"]) == FAB_INCLUDE == tuple(f"{room}/**/*.py" for room in ROOMS)
    assert of_bundle["project"]["name"] == of_repository["project"]["name"]


@pytest.mark.slow
def test_a_wheel_gives_the_same_bundle(tree: Path, tmp_path: Path) -> None:
    """A non-editable install, from a wheel that setuptools builds of this tree."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        source = CHECKOUT / name
        (tree / name).write_bytes(source.read_bytes() if source.exists() else b"")
    (tree / "client" / "linked.py").unlink()
    for path in list(tree.rglob("*.py")):
        if SECRET in path.read_text(encoding="utf-8"):
            path.unlink()
    assert int(version("setuptools").partition(".")[0]) >= 77, "torch brings setuptools; the build needs 77"
    installed = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "--target", str(installed), str(tree)], check=True, timeout=300)
    bundle, _ = build_elsewhere(installed, tmp_path)
    in_bundle = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*.py")}
    assert in_bundle == expected_files(tree)


def test_two_bundles_are_byte_for_byte_the_same(tree: Path, tmp_path: Path) -> None:
    packs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        packs.append(build_elsewhere(tree, tmp_path / name)[1])
    assert packs[0] == packs[1]


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "data.csv")
    with pytest.raises(BadInput, match="is not empty"):
        build_bundle(tmp_path)


def test_a_stranger_named_client_does_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "client/__init__.py")
    monkeypatch.delitem(sys.modules, "client", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunFailed, match="another package named client comes before Hanse's own"):
        bundle_files()


def test_a_missing_app_is_told(tree: Path, tmp_path: Path) -> None:
    (tree / "server" / "app.py").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        build_elsewhere(tree, tmp_path)
