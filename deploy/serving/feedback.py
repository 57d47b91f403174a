"""What people said of predictions: a local file, one JSON object a line, for its owner alone.

Its columns ``text`` and ``label`` are those of a study's data, so a later study may take the file as its
``data.source``. The rows are private data like any other; they train nothing by themselves.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from common.errors import BadInput

__all__ = ["FeedbackFile"]


class FeedbackFile:
    """Appends what people said."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is made at the first word. Raises :class:`BadInput` if it cannot be there."""
        if path.is_dir() or not path.parent.is_dir():
            raise BadInput(f"--feedback {path}: name a file in a folder that is there")
        self.path = path

    def add(self, text: str, label: str, predicted: str, confidence: float) -> None:
        """Append one row, on disk when this returns; readable by its owner alone (0600)."""
        row = {
            "text": text,
            "label": label,
            "predicted": predicted,
            "confidence": round(confidence, 6),
            "time": int(time.time()),
        }
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
