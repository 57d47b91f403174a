"""A payout statement for one site, signed by the coordinator, that the site can keep, read and check.

Signed are the canonical bytes (RFC 8785) of the statement after a prefix that no ledger entry has, with Ed25519.
The JSON text is what is verified; CSV and HTML are for reading, and carry the signature.

A statement goes to its own site only. Under central DP (``unit = "institution"``) scores rest on updates without
privacy of their own and stay with the coordinator (PRIVACY P19): set ``contribution`` to None there, and share
pots by a policy that does not use it.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
from dataclasses import asdict, dataclass, fields

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.canonical import Json, canonical
from common.privacy.ledger.keys import SiteKey, public_key_from_hex, signature_is_valid

__all__ = [
    "SIGNED_PREFIX",
    "SignedStatement",
    "Statement",
    "sign_statement",
    "statement_csv",
    "statement_from_json",
    "statement_html",
    "statement_json",
]

SIGNED_PREFIX = b"hanse payout statement 1\n"
"""Stands before the signed bytes, so that no other signature of the key can pass for one of a statement."""


@dataclass(frozen=True)
class Statement:
    """What one site gets, out of what, and why."""

    study: str
    """SHA-256 (hex) of the study."""
    run: str
    site: str
    policy: str
    """What the pot was shared by, such as ``shapley``."""
    contribution: float | None
    """The site's value in the game's utility; None where it may not leave the coordinator or was not measured."""
    half_width: float | None
    """Of the interval around an estimated contribution; None where it is exact or absent."""
    method: str
    """How contributions were found, in words."""
    currency: str
    pot_cents: int
    auction_cents: int
    """Paid for privacy, beside the pot."""
    payout_cents: int
    """The site's part of the pot."""
    kept_cents: int
    """Part of the pot that nobody got."""
    ownership_millionths: int

    def __post_init__(self) -> None:
        paid = self.payout_cents + self.kept_cents
        least = min(self.auction_cents, self.payout_cents, self.kept_cents, self.ownership_millionths)
        if least < 0 or paid > self.pot_cents:
            raise BadInput(f"statement of {self.site}: amounts must be at least 0, paid and kept within the pot")
        if not all(math.isfinite(value or 0.0) for value in (self.contribution, self.half_width)):
            raise BadInput(f"statement of {self.site}: the contribution must be a finite number")


@dataclass(frozen=True)
class SignedStatement:
    """A statement with a signature over it; made by signing or by verifying."""

    statement: Statement
    public_key: str
    """The signer's, 64 hexadecimal digits."""
    signature: str
    """128 hexadecimal digits."""


def sign_statement(statement: Statement, key: SiteKey) -> SignedStatement:
    """Sign a statement with the coordinator's key; Ed25519 gives the same signature every time."""
    return SignedStatement(statement, key.public_hex, key.sign(_signed_bytes(statement)).hex())


def statement_json(signed: SignedStatement) -> str:
    """The statement as JSON, the text that :func:`statement_from_json` verifies."""
    return json.dumps(asdict(signed), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def statement_from_json(text: str, public_key: str) -> SignedStatement:
    """Read and verify a statement.

    Args:
        text: as :func:`statement_json` made it; layout may differ, values may not.
        public_key: the coordinator's, from a source other than the statement.

    Raises:
        AuditFailure: it is no statement, was signed by another key, or was changed after signing.
        BadInput: ``public_key`` is no key.
    """
    key = public_key_from_hex(public_key)
    try:
        signed = _parsed(json.loads(text))
        signature, message = bytes.fromhex(signed.signature), _signed_bytes(signed.statement)
    except (ValueError, TypeError, KeyError, RecursionError, BadInput) as error:
        raise AuditFailure(f"statement: not one that Hanse wrote ({error})") from error
    where = f"statement of {signed.statement.site}"
    if signed.public_key != public_key:
        raise AuditFailure(f"{where}: signed by {signed.public_key}, not by the key given")
    if not signature_is_valid(key, signature, message):
        raise AuditFailure(f"{where}: the signature is not the key's over these values")
    return signed


def statement_csv(signed: SignedStatement) -> str:
    """The statement as two lines of CSV; before text that a spreadsheet would run stands a ``'``."""
    row = {**asdict(signed.statement), "public_key": signed.public_key, "signature": signed.signature}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(row)
    writer.writerow([_harmless(value) for value in row.values()])
    return stream.getvalue()


def statement_html(signed: SignedStatement) -> str:
    """The statement as a page of its own, to be read and printed; loads nothing from elsewhere."""
    statement = signed.statement
    title = html.escape(f"Payout statement: {statement.site}")
    rows = "\n".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in _lines(signed)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title>\n<style>body{{font-family:sans-serif;margin:3em auto;max-width:50em}}"
        "th{text-align:left;padding-right:2em;vertical-align:top}td{overflow-wrap:anywhere}</style></head>\n"
        f"<body><h1>{title}</h1>\n<table>\n{rows}\n</table>\n"
        "<p>The JSON file of this statement is what its signature is checked with.</p></body></html>\n"
    )


def _lines(signed: SignedStatement) -> list[tuple[str, str]]:
    s = signed.statement
    value = "not stated" if s.contribution is None else f"{s.contribution:.6f}"
    if s.half_width is not None:
        value += f" ± {s.half_width:.6f}"
    return [
        ("Payout", _money(s.payout_cents, s.currency)),
        ("Paid for privacy", _money(s.auction_cents, s.currency)),
        ("Total", _money(s.payout_cents + s.auction_cents, s.currency)),
        ("Pot", f"{_money(s.pot_cents, s.currency)}, of which kept {_money(s.kept_cents, s.currency)}"),
        ("Shared by", s.policy),
        ("Contribution", value),
        ("Found by", s.method),
        ("Share of the model", f"{s.ownership_millionths / 10_000:.4f} %"),
        ("Study", s.study),
        ("Run", s.run),
        ("Signed by", signed.public_key),
        ("Signature", signed.signature),
    ]


def _money(cents: int, currency: str) -> str:
    return f"{cents // 100:,}.{cents % 100:02d} {currency}"


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _signed_bytes(statement: Statement) -> bytes:
    return SIGNED_PREFIX + canonical(asdict(statement))


def _parsed(tree: Json) -> SignedStatement:
    if not isinstance(tree, dict) or tree.keys() != {"statement", "public_key", "signature"}:
        raise ValueError("needs statement, public_key and signature")
    inner = tree["statement"]
    if not isinstance(inner, dict) or inner.keys() != {field.name for field in fields(Statement)}:
        raise ValueError("its keys are not those of a statement")
    for name, value in inner.items():
        _check_kind(name, value)
    key, signature = tree["public_key"], tree["signature"]
    if not (isinstance(key, str) and isinstance(signature, str)):
        raise ValueError("public_key and signature must be text")
    return SignedStatement(Statement(**inner), key, signature)  # type: ignore[arg-type]  # kinds were checked above


def _check_kind(name: str, value: Json) -> None:
    """Refuse what a statement could not hold: amounts are whole, so that 1.0 and true cannot stand for 1."""
    if name in {"contribution", "half_width"}:
        fits = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    elif name.endswith(("_cents", "_millionths")):
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, str)
    if not fits:
        raise ValueError(f"{name} = {value!r}: of the wrong kind")
