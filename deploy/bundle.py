"""The Flower app bundle: what of Hanse travels to a Flower node, and nothing else.

The bundle is an allow-list, never a copy of a folder: the ``.py`` modules of the rooms ``common``,
``client`` and ``server`` and a ``pyproject.toml`` written here. It is assembled from the *installed*
rooms, so that it is the same from a checkout, an editable install and a wheel, and so that data,
policies, ledgers and keys lying beside the code stay where they are.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any, Final

import tomli_w

from common.errors import BadInput, RunFailed

__all__ = ["FAB_INCLUDE", "ROOMS", "build_bundle", "bundle_files", "pack_bundle"]

ROOMS: Final = ("common", "client", "server")
"""The rooms that travel; ``deploy`` never does."""

FAB_INCLUDE: Final = tuple(f"{room}/**/*.py" for room in ROOMS)
"""Flower's allow-list, the same as ``[tool.flwr.app] fab-include`` in the repository's own pyproject.toml."""

_COMPONENTS: Final = {"serverapp": "server.app:app", "clientapp": "client.app:app"}


def build_bundle(directory: Path) -> Path:
    """Assemble the Flower app in `directory`, which must be empty or absent, and return its path.

    Raises:
        BadInput: `directory` holds something already.
        RunFailed: a room is missing, incomplete, or another package of its name comes first on the path.

    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BadInput(f"{directory}: is not empty; give an empty folder for the bundle")
    for name, source in bundle_files().items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (directory / "pyproject.toml").write_text(tomli_w.dumps(_app_description()), encoding="utf-8")
    return directory


def bundle_files() -> dict[str, Path]:
    """Every file of the rooms that travels: its name in the bundle (with ``/``) and where it is installed.

    A file travels when it is a regular file, no symbolic link, and can be imported: it ends in ``.py`` and
    each part of its name is an identifier. Hidden files, caches and data files therefore stay behind.
    """
    files: dict[str, Path] = {}
    for room in ROOMS:
        root = _room(room)
        for path in _modules(root):
            files[f"{room}/{path.relative_to(root).as_posix()}"] = path
    for component in _COMPONENTS.values():
        name = component.partition(":")[0].replace(".", "/") + ".py"
        if name not in files:
            raise RunFailed(f"{name}: not among the installed files of Hanse; install it again")
    return dict(sorted(files.items()))


def pack_bundle(bundle: Path) -> bytes:
    """Pack the bundle into one Flower app bundle file (FAB) by Flower's own build and its checks."""
    from flwr.cli.build import build_fab_from_disk  # takes a second to import

    try:
        return build_fab_from_disk(bundle)
    except ValueError as error:
        raise RunFailed(f"{bundle}: Flower cannot build the app: {error}") from error


def _room(room: str) -> Path:
    """Find the folder of an installed room, beside this package, lest a stranger travel."""
    spec = importlib.util.find_spec(room)
    if spec is None or not spec.submodule_search_locations:
        raise RunFailed(f"{room}: this part of Hanse is not installed; install Hanse again")
    found = Path(next(iter(spec.submodule_search_locations))).resolve()
    expected = Path(__file__).resolve().parent.parent / room
    if found != expected:
        raise RunFailed(
            f"{found}: another package named {room} comes before Hanse's own ({expected}); "
            "run from another folder or take it off PYTHONPATH"
        )
    return found


def _modules(root: Path) -> list[Path]:
    """List the importable modules below `root`."""
    modules: list[Path] = []
    for folder, subfolders, names in os.walk(root, followlinks=False):
        subfolders[:] = [name for name in subfolders if name.isidentifier() and name != "__pycache__"]
        for name in names:
            path = Path(folder, name)
            if path.suffix == ".py" and path.stem.isidentifier() and not path.is_symlink():
                modules.append(path)
    return modules


def _app_description() -> dict[str, Any]:
    """Describe the app for Flower: the least it asks for, and no dependency to install."""
    try:
        version = importlib.metadata.version("hanse")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        version = "0.0.0"
    return {
        "project": {
            "name": "hanse",
            "version": version,
            "description": "One study's apps for Flower: the rooms common, client and server of Hanse.",
            "license": {"text": "Apache-2.0"},
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "hanse",
                    "fab-include": list(FAB_INCLUDE),
                    "components": dict(_COMPONENTS),
                }
            }
        },
    }
