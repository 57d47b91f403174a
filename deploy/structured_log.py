"""The log of a command: lines for people, or one JSON object a line for machines; never a secret, never a text.

A JSON line holds ``time`` (UTC), ``level``, ``logger``, ``event``, ``message``, what the caller gave as
``extra={"facts": {...}}``, and for an exception ``error`` (its type) and ``at`` (where). What an exception says
and its traceback are left out of JSON: they may quote data (PRIVACY P15).

``event`` names the kind of line and never changes with its content: it is the fixed beginning of the message's
template, so that ``"refused: %s"`` is the event ``refused``.

Not covered: a secret without a form of its own, such as a token of 64 hexadecimal digits, which looks like the
digests that logs are full of. Nothing of Hanse logs one.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import os
import re
import traceback
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from common.errors import BadInput

__all__ = ["FORMATS", "LEVELS", "JsonLines", "PlainLines", "PrivateLogFile", "start_logging", "without_secrets"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

LOG_BYTES: Final = 5_000_000
LOG_BACKUPS: Final = 5
"""Older log files kept beside the newest."""

_WITHHELD: Final = "[withheld: a secret]"
_SECRETS: Final = (
    # A PEM block, whole or cut off.
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # The same without its frame: OpenSSH's magic, and PKCS #8 around an Ed25519 or elliptic-curve key.
    re.compile(r"(?:b3BlbnNzaC1rZXktdjE|MC4CAQAwBQYDK2Vw|MIG[HT2]AgEAM)[A-Za-z0-9+/=\s]{20,}"),
    re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?<=://)[^@/\s:]*:[^@/\s]+(?=@)"),
    re.compile(r"(?i)(?<=password=)[^&\s\"']+"),
)
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|_)(?:private_?key|secret|token|password|passphrase|authorization)(?:$|_)"
)
_TEXT_NAME: Final = re.compile(r"(?i)^(?:texts?|examples?|rows?|sentences?|losses|loss|batch_sizes?|lengths?)$")
"""Facts of data, which no log may hold (PRIVACY P15)."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FIXED: Final = re.compile(r"[^:%{]*")
_LONGEST_EVENT: Final = 40


def without_secrets(text: str) -> str:
    """``text`` with everything in it that looks like a private key or a credential withheld."""
    for pattern in _SECRETS:
        text = pattern.sub(_WITHHELD, text)
    return text


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line; ASCII, so that no terminal or reader is led astray by what a peer sent."""
        line: dict[str, Any] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
            "message": without_secrets(record.getMessage()),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= {"error": type(record.exc_info[1]).__name__, "at": _place(record.exc_info[1])}
        for name, value in _facts(record).items():
            line.setdefault(name, _fact(name, value))
        return json.dumps(line)


class PlainLines(logging.Formatter):
    """``LEVEL logger: message``, one line whatever the message holds; with an exception its traceback."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line; what would start a second one, or steer a terminal, is escaped."""
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The line and, after an exception, its traceback."""
        return without_secrets(super().format(record))


class PrivateLogFile(logging.handlers.RotatingFileHandler):
    """A log rotated by size, whose files are all for their owner alone (0600)."""

    def __init__(self, path: Path, most_bytes: int = LOG_BYTES, backups: int = LOG_BACKUPS) -> None:
        """Append to ``path``; beyond ``most_bytes`` it becomes ``path.1`` and so on, ``backups`` of them kept."""
        super().__init__(path, maxBytes=most_bytes, backupCount=backups, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        # No link is followed: in a folder of several users it may lead anywhere.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.baseFilename, flags, 0o600)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding=self.encoding)


FORMATS: Final[dict[str, type[logging.Formatter]]] = {"text": PlainLines, "json": JsonLines}


def start_logging(level: str, form: str = "text", file: Path | None = None) -> None:
    """Log from here on, on standard error or into ``file``; what an earlier call set up is replaced.

    A process that logs elsewhere already, as one that embeds Hanse may, keeps that unless ``file`` is given.

    Args:
        level: one of :data:`LEVELS`.
        form: ``text`` or ``json``.
        file: made 0600, rotated by size.

    Raises:
        BadInput: a value is none of these, or the file cannot be written.
    """
    if level.lower() not in LEVELS:
        raise BadInput(f"--log-level {level}: must be one of {', '.join(LEVELS)}")
    if form.lower() not in FORMATS:
        raise BadInput(f"--log-format {form}: must be one of {', '.join(FORMATS)}")
    try:
        handler: logging.Handler = logging.StreamHandler() if file is None else PrivateLogFile(file)
    except OSError as error:
        raise BadInput(f"--log-file {file}: cannot be written ({error.strerror})") from error
    handler.setFormatter(FORMATS[form.lower()]())
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, JsonLines | PlainLines)]:
        root.removeHandler(old)
        old.close()
    if file is not None or not root.handlers:
        root.addHandler(handler)
        root.setLevel(LEVELS[level.lower()])
    logging.getLogger("flwr").setLevel(max(LEVELS[level.lower()], logging.WARNING))


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(record: logging.LogRecord) -> str:
    """The template's words before its first colon or place for a value; ``message`` where there are none."""
    fixed = _FIXED.match(record.msg) if isinstance(record.msg, str) else None
    words = re.sub(r"[^a-z0-9]+", "-", fixed[0].lower()).strip("-") if fixed else ""
    return words[:_LONGEST_EVENT].rstrip("-") or "message"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}, line {frames[-1].lineno}" if frames else "an unknown place"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = getattr(record, "facts", None)
    return facts if isinstance(facts, dict) else {}


def _fact(name: str, value: object) -> object:
    if _SECRET_NAME.search(name) or _TEXT_NAME.match(name):
        return _WITHHELD if _SECRET_NAME.search(name) else "[withheld: data]"
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return without_secrets(str(value))
