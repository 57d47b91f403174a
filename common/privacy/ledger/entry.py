"""An entry of the ledger: its fields, the bytes that are hashed, and the signature.

An entry is immutable and complete: what is hashed is what is exported. So the time inside is rounded down to
the hour (PRIVACY P17) before it is hashed; the exact local time stays in the site's database, outside of hash
and bundle. Rounding at export instead would leave a bundle whose hashes nobody could check.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from common.errors import BadInput
from common.privacy.ledger.canonical import LARGEST_WHOLE, Json, canonical, parse
from common.privacy.ledger.details import Details, Head, Kind, details_from_json, kind_of
from common.privacy.ledger.keys import SiteKey
from common.privacy.mechanism import Mechanism
from common.privacy.mechanism import from_json as mechanism_from_json
from common.privacy.mechanism import to_json as mechanism_to_json

__all__ = [
    "FORMAT",
    "Draft",
    "LedgerEntry",
    "Stamp",
    "check_name",
    "entry_from_line",
    "hour_of",
    "seal_entry",
    "signed_bytes",
]

FORMAT = "hanse-ledger/1"
"""Names the format in each entry; another meaning of any field gets another name."""

_HEX = {size: re.compile(rf"[0-9a-f]{{{size}}}") for size in (32, 64, 128)}
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00:00Z")
_LONGEST = {"dataset": 100, "run": 100, "note": 1000}
_FIELDS = frozenset(
    {
        *("format", "sequence", "time", "kind", "dataset", "commitment", "study", "run", "round", "mechanism"),
        *("details", "note", "random", "previous", "hash", "signature"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an entry says, before it takes its place in the chain. All of it is public: it gets exported."""

    dataset: str
    details: Details
    study: str | None = None
    """SHA-256 of the study's canonical JSON."""
    run: str | None = None
    round: int | None = None
    """1 is the first; none for an entry about a whole study, or about none."""
    mechanism: Mechanism | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the site adds: time, randomness, and the keyed commitment to its data at that moment."""

    time: datetime
    random: bytes
    commitment: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One entry. Made by :func:`seal_entry` and :func:`entry_from_line` only, which check every field."""

    sequence: int
    time: str
    dataset: str
    commitment: str | None
    study: str | None
    run: str | None
    round: int | None
    mechanism: Mechanism | None
    details: Details
    note: str
    random: str
    previous: str
    hash: str
    signature: str

    @property
    def kind(self) -> Kind:
        """What happened."""
        return kind_of(self.details)

    @property
    def head(self) -> Head:
        """The ledger's head when this entry was the last."""
        return Head(sequence=self.sequence, hash=self.hash)

    def line(self) -> bytes:
        """The entry as a bundle holds it, without the line's end."""
        return canonical(_body(self) | {"hash": self.hash, "signature": self.signature})

    def body(self) -> bytes:
        """The bytes that are hashed: canonical JSON of all fields but hash and signature."""
        return canonical(_body(self))


def hour_of(moment: datetime) -> str:
    """A moment as entries carry it: rounded down to the hour (PRIVACY P17)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:00:00Z")


def seal_entry(draft: Draft, previous: Head, stamp: Stamp, key: SiteKey) -> LedgerEntry:
    """The entry that follows ``previous``: rounded time, hash, signature."""
    fields: dict[str, object] = {
        "format": FORMAT,
        "sequence": previous.sequence + 1,
        "time": hour_of(stamp.time),
        "kind": str(kind_of(draft.details)),
        "dataset": draft.dataset,
        "commitment": stamp.commitment,
        "study": draft.study,
        "run": draft.run,
        "round": draft.round,
        "mechanism": None if draft.mechanism is None else mechanism_to_json(draft.mechanism),
        "details": draft.details.model_dump(),
        "note": draft.note,
        "random": stamp.random.hex(),
        "previous": previous.hash,
    }
    digest = hashlib.sha256(canonical(fields)).hexdigest()
    signature = key.sign(signed_bytes(digest)).hex()
    return entry_from_line(canonical(fields | {"hash": digest, "signature": signature}))


def signed_bytes(digest: str) -> bytes:
    """What the site signs for an entry whose hash is ``digest`` (lower-case hex): ASCII, format first."""
    return f"{FORMAT}:{digest}".encode("ascii")


def entry_from_line(line: bytes) -> LedgerEntry:
    """The entry that a line holds, every field checked; raises ``BadInput``.

    Whether hash and signature are right is for ``common.privacy.ledger.rules`` to say.
    """
    data = parse(line)
    if not isinstance(data, dict) or set(data) != _FIELDS:
        raise BadInput("entry: must be an object with exactly the fields of the format")
    if data["format"] != FORMAT:
        raise BadInput(f"entry: format = {data['format']!r}: this version reads {FORMAT}")
    kind = _kind(data["kind"])
    mechanism = data["mechanism"]
    entry = LedgerEntry(
        sequence=_whole(data, "sequence") or 0,
        time=_time(data["time"]),
        dataset=check_name(_text(data, "dataset")),
        commitment=_hex_or_none(data, "commitment"),
        study=_hex_or_none(data, "study"),
        run=None if data["run"] is None else _text(data, "run"),
        round=_whole(data, "round"),
        mechanism=None if mechanism is None else mechanism_from_json(mechanism),
        details=details_from_json(kind, data["details"]),
        note=_text(data, "note"),
        random=_hex(data, "random", 32),
        previous=_hex(data, "previous", 64),
        hash=_hex(data, "hash", 64),
        signature=_hex(data, "signature", 128),
    )
    if entry.sequence < 1 or entry.line() != line:
        raise BadInput("entry: a field is written in another than its one form")
    return entry


def check_name(name: str) -> str:
    """A dataset's name as ledgers take it: 1 to 100 printable characters, no blank at either end."""
    if not name or name != name.strip() or not name.isprintable() or len(name) > _LONGEST["dataset"]:
        raise BadInput(f"dataset = {name[:110]!r}: must be 1 to 100 printable characters, no blank at the ends")
    return name


def _body(entry: LedgerEntry) -> dict[str, object]:
    return {
        "format": FORMAT,
        "sequence": entry.sequence,
        "time": entry.time,
        "kind": str(entry.kind),
        "dataset": entry.dataset,
        "commitment": entry.commitment,
        "study": entry.study,
        "run": entry.run,
        "round": entry.round,
        "mechanism": None if entry.mechanism is None else mechanism_to_json(entry.mechanism),
        "details": entry.details.model_dump(),
        "note": entry.note,
        "random": entry.random,
        "previous": entry.previous,
    }


def _kind(value: Json) -> Kind:
    if not isinstance(value, str) or value not in list(Kind):
        raise BadInput(f"entry: kind = {value!r}: must be one of {', '.join(Kind)}")
    return Kind(value)


def _time(value: Json) -> str:
    """RFC 3339, UTC, whole hours."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise BadInput(f"entry: time = {value!r}: must be YYYY-MM-DDTHH:00:00Z")
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        raise BadInput(f"entry: time = {value!r}: no such hour") from error
    return value


def _whole(data: Mapping[str, Json], field: str) -> int | None:
    value = data[field]
    if value is None and field == "round":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_WHOLE:
        raise BadInput(f"entry: {field} = {value!r}: must be a whole number from 1")
    return value


def _text(data: Mapping[str, Json], field: str) -> str:
    value = data[field]
    if not isinstance(value, str) or len(value) > _LONGEST[field]:
        raise BadInput(f"entry: {field}: must be a text of at most {_LONGEST[field]} characters")
    return value


def _hex(data: Mapping[str, Json], field: str, size: int) -> str:
    value = data[field]
    if not isinstance(value, str) or not _HEX[size].fullmatch(value):
        raise BadInput(f"entry: {field}: must be {size} lower-case hexadecimal digits")
    return value


def _hex_or_none(data: Mapping[str, Json], field: str) -> str | None:
    return None if data[field] is None else _hex(data, field, 64)
