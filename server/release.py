"""A signed release of a jointly owned model: what it is, who owns it, and what privacy it cost.

A folder with ``model/`` (weights, tokenizer, model card) and ``release.json``, which names every file by its
SHA-256 and is signed with the coordinator's key (Ed25519). It shows that the coordinator released just these
files under these statements, not that the statements are right: for that there are the ledgers, whose heads it
names, and `hanse audit`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import AuditFailure, BadInput
from common.files import write_text
from common.privacy.ledger.canonical import Json
from common.privacy.ledger.keys import SiteKey
from server.economics.payout import shares_of
from server.economics.rewards import WHOLE_MODEL, Policy
from server.economics.signed_record import RELEASE, signed_record, verified_body
from server.finished_run import finished_result, run_to_pay

__all__ = ["ReleaseTerms", "make_release", "verify_release"]

_RECORD, _MODEL = "release.json", "model"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ReleaseTerms:
    """What the members agreed to say."""

    licence: str
    """An SPDX identifier, or a sentence."""
    shares: Policy
    """What ownership is proportional to."""

    def __post_init__(self) -> None:
        if not self.licence.strip() or len(self.licence) > 500:
            raise BadInput("--licence: must say under what the model may be used, such as Apache-2.0")


def make_release(run: Path, terms: ReleaseTerms, key: SiteKey, folder: Path) -> dict[str, Json]:
    """Copy the model of a finished run into a new folder and sign what it is.

    Returns:
        The body that was signed.

    Raises:
        BadInput: the run has not finished, the folder is not empty, or shares cannot be told.
    """
    result = finished_result(run)
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"--out {folder}: is not empty; name a new folder")
    paid = run_to_pay(run)
    owned = shares_of(paid, terms.shares, WHOLE_MODEL)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(run / _MODEL, folder / _MODEL)
    ledger = result["ledger"]
    body: dict[str, Json] = {
        "study": result["digest"],
        "study_name": result["study"],
        "run": paid.run,
        "licence": terms.licence.strip(),
        "files": dict(_digests(folder / _MODEL)),
        "shares_by": terms.shares.value,
        "shares_kept_millionths": owned.kept,
        "sites": [_site(site, owned.parts, bool(result["private"])) for site in result["sites"]],
        "private": bool(result["private"]),
        "privacy": str(result["privacy"]["statement"]),
        # The witness stays with the coordinator where it is trusted with updates (PRIVACY P19).
        "ledger_heads": None if paid.central or ledger is None else ledger["heads"],
        "test": {name: float(result["test"]["overall"][name]) for name in ("accuracy", "macro_f1", "loss")},
        "versions": {name: value for name, value in result["versions"].items() if value},
    }
    write_text(folder / _RECORD, signed_record(RELEASE, body, key))
    return body


def verify_release(folder: Path, public_key: str) -> dict[str, Json]:
    """Check a release; returns what it says.

    1. ``release.json`` is signed by the key given. 2. Every file that it names is there, unchanged. 3. No other
    file lies in ``model/``.

    Raises:
        AuditFailure: one of them does not hold.
        BadInput: there is no release, or the key is none.
    """
    record = folder / _RECORD
    try:
        text = record.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{record}: cannot be read ({error.strerror}); name the folder of a release") from error
    except UnicodeDecodeError as error:
        raise AuditFailure(f"{record}: is not UTF-8") from error
    body = verified_body(text, RELEASE, public_key, str(record))
    named, found = body.get("files"), _digests(folder / _MODEL)
    if not isinstance(named, dict) or not named:
        raise AuditFailure(f"{record}: names no files")
    wrong = [
        *(f"{name} is missing" for name in sorted(named.keys() - found.keys())),
        *(f"{name} was added" for name in sorted(found.keys() - named.keys())),
        *(f"{name} was changed" for name in sorted(named.keys() & found.keys()) if named[name] != found[name]),
    ]
    if wrong:
        raise AuditFailure(f"{folder / _MODEL}: {'; '.join(wrong[:5])}")
    return body


def _site(site: Mapping[str, Any], owned: Mapping[str, int], private: bool) -> Json:
    facts: dict[str, Json] = {
        "name": site["name"],
        "declared_size": site["declared_size"],
        "share_millionths": owned[site["name"]],
    }
    return facts | ({"epsilon": site["epsilon"], "delta": site["delta"]} if private else {})


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 by path below ``folder``; a link counts as what it is, not as what it points to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(folder).as_posix()] = "link"
        elif path.is_file():
            found[path.relative_to(folder).as_posix()] = _sha256(path)
    return found


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()
