"""What an auction leaves: the plan's part for the sites that take part, and a signed statement of payments.

Bids stay sealed. Published are the price, the winners and a commitment to all bids (SHA-256 of a secret nonce and
the bids): in a dispute the coordinator opens it with the file that it keeps.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from common.errors import BadInput
from common.files import write_text
from common.privacy.ledger.canonical import Json, canonical
from common.privacy.ledger.keys import SiteKey, write_private
from server.economics.auction import Outcome, planned_sites
from server.economics.market_files import BidsFile
from server.economics.signed_record import PAYMENTS, signed_record, verified_body

__all__ = ["opening_matches", "payments_from", "plan_fragment", "write_auction"]

_PLAN, _PAYMENTS, _OPENING = "plan.toml", "payments.json", "bids.opening.json"


def plan_fragment(outcome: Outcome) -> str:
    """``[[site]]`` sections with epsilon and weight, to stand in a study; "" without winners."""
    sites = planned_sites(outcome)
    if not sites:
        return ""
    head = f"# From an auction: {len(sites)} sites take part; set data.sites = {len(sites)}.\n"
    # Tables of their own, so that the text may stand at the end of a study file.
    return head + "".join(
        f'\n[[site]]\nname = "{each.name}"\nepsilon = {each.epsilon!r}\nweight = {each.weight!r}\n'
        for each in sites
    )


def write_auction(file: BidsFile, outcome: Outcome, key: SiteKey, folder: Path) -> list[Path]:
    """Write plan, signed payments, and for the coordinator alone (0600) the opening of the bids.

    Raises:
        BadInput: the folder holds an auction already.
    """
    if any((folder / name).exists() for name in (_PLAN, _PAYMENTS, _OPENING)):
        raise BadInput(f"--out {folder}: holds an auction already; name a new folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    nonce = secrets.token_hex(32)
    bids: Json = [each.model_dump(mode="json") for each in sorted(file.bid, key=lambda bid: bid.site)]
    plan = plan_fragment(outcome)
    body: dict[str, Json] = {
        "currency": file.call.currency,
        "budget_cents": file.terms().budget_cents,
        "price_cents_per_value": str(outcome.price),
        "void": outcome.void,
        "total_cents": outcome.total_cents,
        "payments": [
            {"site": each.name, "epsilon": each.epsilon, "weight": each.weight, "cents": each.payment_cents}
            for each in planned_sites(outcome)
        ],
        "pay": "on the settled ledger entry of the last round, pro rata if the site stops early",
        "bids_commitment": _commitment(nonce, bids),
        "plan_sha256": hashlib.sha256(plan.encode()).hexdigest(),
    }
    opening = json.dumps({"nonce": nonce, "bids": bids}, indent=2, sort_keys=True) + "\n"
    write_private(folder / _OPENING, opening.encode())
    write_text(folder / _PLAN, plan)
    write_text(folder / _PAYMENTS, signed_record(PAYMENTS, body, key))
    return [folder / _PLAN, folder / _PAYMENTS, folder / _OPENING]


def payments_from(path: Path, public_key: str) -> dict[str, int]:
    """Cents by winner from a verified ``payments.json``.

    Raises:
        AuditFailure: the statement is not the key's.
        BadInput: there is none.
    """
    body = verified_body(_text(path), PAYMENTS, public_key, str(path))
    payments = body["payments"]
    assert isinstance(payments, list)  # signed by ourselves
    return {str(each["site"]): int(each["cents"]) for each in payments}  # type: ignore[index, call-overload, arg-type]


def opening_matches(opening: Path, payments: Path, public_key: str) -> bool:
    """Whether the bids in an opening are those that the payments commit to."""
    body = verified_body(_text(payments), PAYMENTS, public_key, str(payments))
    told = json.loads(_text(opening))
    return body["bids_commitment"] == _commitment(told["nonce"], told["bids"])


def _commitment(nonce: str, bids: Json) -> str:
    return hashlib.sha256(b"hanse sealed bids 1\n" + bytes.fromhex(nonce) + canonical(bids)).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read") from error
