"""What shows texts or learns from them without privacy takes public ones: a site's data is refused (P15, P20).

What marks a site's data: it lies in an institution's folder, at any depth, or it is what the folder named by
HANSE_SITE says the site's data is. A copy elsewhere is not recognised; the command says whom it trusts there.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from common.errors import PolicyRefusal

__all__ = ["NOTICE", "require_public"]

NOTICE = "Explanations hold the texts in clear: give public texts only, never an institution's own."

_MARKS = ("policy.toml", "site.toml", "site.key", "data.key", "ledger.db")
"""Files of an institution's folder (``client.site_directory``); one is enough."""


def require_public(source: str) -> None:
    """Raise :class:`PolicyRefusal` where ``source`` is a path that belongs to an institution."""
    path = Path(source).expanduser()
    if not path.exists():
        return  # a name such as embedded or hub:ID, or a mistake that reading will tell
    path = path.resolve()
    for folder in (path, *path.parents):
        mark = next((mark for mark in _MARKS if (folder / mark).is_file()), None)
        if mark is not None:
            raise PolicyRefusal(f"{source}: lies in an institution's folder (it holds {mark}); give public texts")
    own = _data_of_this_site()
    if own is not None and (path == own or own in path.parents or path in own.parents):
        raise PolicyRefusal(f"{source}: is the data of the site that HANSE_SITE names; give public texts")


def _data_of_this_site() -> Path | None:
    home = os.environ.get("HANSE_SITE", "")
    if not home:
        return None
    try:
        data = tomllib.loads((Path(home) / "site.toml").read_text(encoding="utf-8")).get("data")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    return Path(data).resolve() if isinstance(data, str) and data else None
