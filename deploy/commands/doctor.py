"""`hanse doctor`: what is missing on this machine, and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Finding", "doctor"]

_PACKAGES = ("torch", "flwr", "ray", "opacus", "transformers", "peft", "dp-accounting", "pydantic")
_ROOM_NEEDED = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool
    mend: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at versions, device, embedded assets and disk; exit code 1 if something is missing."""
    findings = [_python(), *map(_package, _PACKAGES), _device(), _cores(), *_assets(), _disk()]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "ok     " if finding.ok else "MISSING"
            mend = f"  mend: {finding.mend}" if not finding.ok else ""
            print(f"{mark} {finding.what:<20} {finding.found}{mend}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    ok = (3, 11) <= sys.version_info[:2] < (3, 15)
    return Finding("python", platform.python_version(), ok, "use Python 3.11 to 3.14")


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name), True)
    except PackageNotFoundError:
        return Finding(name, "not installed", False, "make install")


def _device() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("device", "unknown without torch", False, "make install")
    if torch.cuda.is_available():
        return Finding("device", f"CUDA: {torch.cuda.get_device_name(0)} x {torch.cuda.device_count()}", True)
    if torch.backends.mps.is_available():
        return Finding("device", "MPS", True)
    return Finding("device", "CPU only", True)


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", str(cores), True)


def _assets() -> list[Finding]:
    from common.assets import ASSETS, cache_folder, missing_assets

    missing = missing_assets()
    return [
        Finding(asset.name, str(cache_folder()) if asset.name not in missing else "not there",
                asset.name not in missing, "hanse assets fetch")
        for asset in ASSETS
    ]  # fmt: skip


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding("disk", f"{free / 1e9:.0f} GB free here", free > _ROOM_NEEDED, "free 2 GB or run elsewhere")
