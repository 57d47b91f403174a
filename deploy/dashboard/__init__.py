"""The live page: runs as they happen, compared, and a site's own budget. Importing this imports no web server."""

from __future__ import annotations

__all__: list[str] = []
