"""A verifier written from docs/ledger-format.md alone. It shares no code with Hanse; keep it so.

It makes checks 1 to 7 and 9, and of check 8 the rules that a number or a lookup decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["verify"]

FIELDS = (
    "commitment dataset details format hash kind mechanism note previous random round run sequence signature "
    "study time"
)


def verify(bundle: bytes, public_key: str, heads: list[tuple[int, str]]) -> int:
    """Number of entries; raises ``AssertionError``, ``ValueError`` or cryptography's error."""
    assert bundle.endswith(b"\n"), "1 framing"
    header, *lines = bundle.decode("utf-8")[:-1].split("\n")
    said = re.fullmatch(
        r'\{"format":"hanse-ledger/1 bundle","head":\{"hash":"([0-9a-f]{64})","sequence":(0|[1-9][0-9]*)\},'
        r'"public_key":"([0-9a-f]{64})"\}',
        header,
    )
    assert said, "1 framing"
    assert said[3] == public_key, "2 key"
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    hashes = ["0" * 64]
    entries = []
    for line in lines:
        entry = json.loads(line)
        assert list(entry) == FIELDS.split(), "3 form"
        assert re.fullmatch("[0-9a-f]{128}", entry["signature"]), "3 form"
        body = line.replace(f'"format":"hanse-ledger/1","hash":"{entry["hash"]}"', '"format":"hanse-ledger/1"', 1)
        body = body.replace(f',"signature":"{entry["signature"]}","study"', ',"study"', 1)
        assert hashlib.sha256(body.encode("utf-8")).hexdigest() == entry["hash"], "4 hash"
        key.verify(bytes.fromhex(entry["signature"]), b"hanse-ledger/1:" + entry["hash"].encode("ascii"))
        assert entry["sequence"] == len(hashes), "6 chain"
        assert entry["previous"] == hashes[-1], "6 chain"
        order(entry, entries)
        hashes.append(entry["hash"])
        entries.append(entry)
    assert (int(said[2]), said[1]) == (len(hashes) - 1, hashes[-1]), "7 end"
    mended = [entry["details"]["lost"] for entry in entries if entry["details"].get("lost")]
    for place, digest in heads:
        known = place < len(hashes) and hashes[place] == digest
        assert known or {"hash": digest, "sequence": place} in mended, "9 completeness"
    return len(entries)


def order(entry: dict, before: list[dict]) -> None:  # type: ignore[type-arg]
    """O2, O5, O6 and O7 as far as a lookup goes."""
    details, kind = entry["details"], entry["kind"]
    if kind in ("reserve", "release"):
        budget = before[details["budget"] - 1]
        assert (budget["kind"], budget["dataset"]) == ("open", entry["dataset"]), "8 order O2"
    same = [
        e for e in before if e["kind"] == "reserve" and all(e[f] == entry[f] for f in ("study", "run", "round"))
    ]
    if kind == "reserve":
        assert not same or details["retry_of"] == same[-1]["sequence"], "8 order O5"
    if kind == "settle":
        assert details["reservation"] in [e["sequence"] for e in same], "8 order O6"
        again = [
            e for e in before if e["kind"] == "settle" and e["details"]["reservation"] == details["reservation"]
        ]
        assert not again, "8 order O6"
    if kind == "policy" and details["lower"]:
        assert details["lower"]["epsilon"] <= before[details["lower"]["budget"] - 1]["details"]["terms"]["epsilon"]


if __name__ == "__main__":
    verify(sys.stdin.buffer.read(), sys.argv[1], [])
