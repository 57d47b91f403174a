"""What an auditor names on the command line: ``[SITE=]BUNDLE``, ``[SITE=]PUB`` and ``[COORDINATOR=]WITNESS``."""

from __future__ import annotations

from pathlib import Path

from common.audit.ledger_files import Bundle, TrustedKey
from common.audit.run_record import Witness, read_witness
from common.errors import BadInput
from deploy.key_option import public_key_of

__all__ = ["bundle_of", "named", "trusted_key", "witnessed"]


def bundle_of(path: Path, site: str = "") -> Bundle:
    """A bundle from a file; its label is ``site``, or its folder's name where the file is ``ledger.jsonl``.

    Raises:
        BadInput: the file cannot be read.
    """
    label = site or (path.parent.name if path.stem == "ledger" else path.stem)
    try:
        return Bundle(str(path), path.read_bytes(), label)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


def trusted_key(given: str) -> TrustedKey:
    """A key in hexadecimal, or the name of a file that holds one; raises ``BadInput`` for anything else."""
    name, path = named(given)
    return TrustedKey(public_key_of(given, str(path)), name)


def witnessed(given: str) -> Witness:
    """Heads that a coordinator saw; raises ``BadInput`` where the file cannot be read."""
    name, path = named(given)
    return read_witness(path, name)


def named(given: str) -> tuple[str, Path]:
    """NAME=PATH; a path that exists as it stands has no name."""
    name, separator, path = given.partition("=")
    if not separator or Path(given).exists():
        return "", Path(given)
    return name, Path(path)
