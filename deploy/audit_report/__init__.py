"""The audit report: one HTML file that needs nothing else, a PDF to print, and JSON with every figure.

``gather`` reads what an auditor was given, ``facts`` holds what follows from it, ``sections`` puts it in words;
``page`` and ``printed`` write the same sections as HTML and PDF. Importing this package imports none of them.
"""

from __future__ import annotations

__all__: list[str] = []
