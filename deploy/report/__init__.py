"""The report of one run, or of several side by side: one HTML file that needs nothing else.

``read_run`` turns a run directory into facts, ``charts`` and ``figures`` draw them, ``page`` fills the templates.
Importing this package imports none of them.
"""

from __future__ import annotations

__all__: list[str] = []
