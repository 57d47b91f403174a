"""The sites of a deployed run as they described themselves, kept so that a run can go on while one is away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from common.errors import BadInput
from common.files import write_json
from common.wire import SiteDescription

__all__ = ["keep_sites", "read_sites"]


def keep_sites(path: Path, sites: Mapping[int, SiteDescription]) -> None:
    """Write the descriptions by node id, atomically."""
    write_json(path, {str(node): asdict(site) for node, site in sites.items()})


def read_sites(path: Path) -> dict[int, SiteDescription]:
    """Read back :func:`keep_sites`; nothing where a run was cut off before its sites had connected.

    Raises:
        BadInput: the file holds something else.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {int(node): SiteDescription(**site) for node, site in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: cannot be read ({type(error).__name__}); start a new run") from error
