"""`hanse audit verify-only`: the verifier of one file that an auditor can read, over one bundle or several."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import AuditFailure, BadInput

if TYPE_CHECKING:
    from common.audit.ledger_files import Bundle, TrustedKey
    from common.audit.run_record import Witness

__all__ = ["verify_only"]

_HEADER_KEY = re.compile(rb'"public_key":"([0-9a-f]{64})"')


def verify_only(
    bundles: Annotated[
        list[str], typer.Argument(metavar="[SITE=]BUNDLE...", help="Exported ledgers, one file for each site.")
    ],
    key: Annotated[
        list[str],
        typer.Option(metavar="[SITE=]PUB", help="A site's public key, or a file that holds it; repeat it."),
    ],
    head: Annotated[
        list[str] | None, typer.Option(metavar="SEQ:HASH", help="A head that somebody witnessed; for one bundle.")
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="[COORDINATOR=]FILE", help="Heads that a coordinator witnessed (witness.jsonl)."),
    ] = None,
) -> None:
    """Check ledgers with nothing but one readable file and `cryptography`; prints what it runs.

    Exit code 4 for a violation, named by check and entry; 2 if a file or key cannot be used.
    """
    from deploy import verify_ledger
    from deploy.audit_files import bundle_of, named, trusted_key, witnessed

    if head and len(bundles) > 1:
        raise BadInput(
            f"--head {head[0]}: which of the {len(bundles)} bundles is meant? use --witness, or one bundle"
        )
    keys = [trusted_key(each) for each in key]
    seen = [witnessed(each) for each in witness or []]
    pairs = [named(each) for each in bundles]
    opened = [bundle_of(path, site) for site, path in pairs]
    ended = []
    for bundle in opened:
        public_key = _key_for(bundle, keys)
        heads = [*(head or []), *_heads(bundle, seen)]
        typer.echo(f"$ python verify_ledger.py {shlex.join([bundle.name, public_key, *heads])}")
        ended.append(verify_ledger.main([bundle.name, public_key, *heads]))
    if BadInput.exit_code in ended:
        raise BadInput("verify-only: a bundle, key or head cannot be used, see above")
    wrong = [bundle.name for bundle, code in zip(opened, ended, strict=True) if code]
    if wrong:
        raise AuditFailure(f"verify-only: violation in {', '.join(wrong)}")


def _key_for(bundle: Bundle, keys: list[TrustedKey]) -> str:
    """The given key of the bundle's site, else the one its header names, else the first, which will not fit."""
    of_site = [key.public_key for key in keys if key.site and key.site == bundle.site]
    told = _HEADER_KEY.search(bundle.data.partition(b"\n")[0])
    of_header = [key.public_key for key in keys if told and key.public_key == told[1].decode("ascii")]
    return [*of_site, *of_header, keys[0].public_key][0]


def _heads(bundle: Bundle, seen: list[Witness]) -> list[str]:
    """What coordinators saw of the bundle's site, as arguments."""
    heads = [each.head for witness in seen for each in witness.heads if each.site == bundle.site]
    return list(dict.fromkeys(f"{each.sequence}:{each.hash}" for each in heads))
