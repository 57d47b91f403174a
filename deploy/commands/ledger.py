"""`hanse ledger`: show, verify and export a site's signed ledger; close what a crash left open."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import AuditFailure, BadInput
from deploy.commands import ledger_recovery

if TYPE_CHECKING:
    from common.privacy.ledger.entry import LedgerEntry
    from common.privacy.ledger.history import Reservation

__all__ = ["app"]

app = typer.Typer(help="Show, verify and export a site's signed ledger.", no_args_is_help=True)
app.command("reenter")(ledger_recovery.reenter)
app.command("write-off")(ledger_recovery.write_off)

_Site = Annotated[
    Path, typer.Option("--site", envvar="HANSE_SITE", help="The institution's folder; holds its ledger.")
]
_Dataset = Annotated[str | None, typer.Option(metavar="NAME", help="Only this dataset.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_BUNDLE_BEGINS = b'{"format":"hanse-ledger/'


@app.command()
def show(
    site: _Site = Path(),
    dataset: _Dataset = None,
    last: Annotated[int | None, typer.Option(metavar="N", help="Only the last N entries.")] = None,
    as_json: _Json = False,
) -> None:
    """Show the entries of the site's ledger, verified, oldest first."""
    from deploy.own_ledger import open_own_ledger

    if last is not None and last < 1:
        raise BadInput(f"--last {last}: must be at least 1")
    ledger = open_own_ledger(site)
    with _failures_of(ledger.name):
        whole = ledger.entries()
    chosen = _about(whole, dataset)[-last if last else 0 :]
    if as_json:
        entries = [json.loads(entry.line()) for entry in chosen]
        print(json.dumps({"public_key": ledger.public_key, "entries": entries}, indent=2, allow_nan=False))
        return
    from deploy.console import wide_console
    from deploy.ledger_tables import entries_table

    console = wide_console()
    if chosen:
        console.print(entries_table(chosen, f"{len(chosen)} of {len(whole)} entries"))
    else:
        console.print(f"{ledger.name}: no entries", markup=False, highlight=False)


@app.command()
def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Exported ledger; without one the site's own.")] = None,
    site: _Site = Path(),
    key: Annotated[
        str | None, typer.Option(metavar="PUBHEX", help="The site's public key, or a file that holds it.")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(metavar="SEQ:HASH", help="A head that somebody witnessed; repeat it.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Verify a ledger: every hash, signature, rule and witnessed head; exit code 4 if it fails."""
    from common.privacy.ledger.rules import verified_entries
    from deploy.key_option import public_key_of
    from deploy.ledger_tables import Verification, print_verification
    from deploy.witnessed_head import parse_head

    public_key = None if key is None else public_key_of(key, key)
    witnessed = tuple(parse_head(given) for given in head or [])
    if bundle is None:
        from deploy.own_ledger import open_own_ledger

        ledger = open_own_ledger(site)
        name, trusted = ledger.name, public_key or ledger.public_key
        with _failures_of(name):
            data = ledger.bundle()
    else:
        name, data = str(bundle), _read(bundle)
        trusted = public_key or _key_in_header(name, data)
    with _failures_of(name):
        verified = verified_entries(data, trusted, witnessed)
    found = Verification(
        ledger=verified,
        name=name,
        key_on_trust=bundle is not None and public_key is None,
        witnessed=witnessed,
    )
    if as_json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        print_verification(found)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write the bundle.")],
    site: _Site = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace an older bundle.")] = False,
    as_json: _Json = False,
) -> None:
    """Write the site's ledger as one file that anyone can verify without a database."""
    from common.privacy.ledger.bundle import export_bundle
    from deploy.ledger_tables import head_in_words
    from deploy.own_ledger import open_own_ledger

    _check_target(file, force)
    ledger = open_own_ledger(site)
    with _failures_of(ledger.name):
        head = export_bundle(ledger, file)
    if as_json:
        shown = {"file": str(file), "public_key": ledger.public_key, "head": head.model_dump()}
        print(json.dumps(shown, indent=2))
        return
    typer.echo(f"Wrote {file}: {head.sequence} entries")
    typer.echo(f"head {head_in_words(head)}")
    typer.echo(f"public key {ledger.public_key}; give it to the auditor apart from the file")


@app.command()
def settle(
    site: _Site = Path(),
    dataset: _Dataset = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: _Json = False,
) -> None:
    """Close rounds that a crash left open, each at its full cost; nothing is ever given back."""
    from common.privacy.budget import PrivacyBudget
    from deploy.own_ledger import chosen_datasets, open_own_ledger

    ledger = open_own_ledger(site)
    with ledger.reading() as history:
        names = chosen_datasets(history, dataset)
        held = [each for each in history.open_reservations.values() if each.dataset in names]
    if held and not yes:
        _confirm(held)
    # Just what was listed, and not what a running site has reserved since.
    entries = [PrivacyBudget(ledger, each.dataset).settle(each, "operator") for each in held]
    if as_json:
        print(json.dumps({"settled": [json.loads(entry.line()) for entry in entries]}, indent=2, allow_nan=False))
        return
    if not held:
        typer.echo("No reservation is open.")
    for each, entry in zip(held, entries, strict=True):
        where = f'dataset "{each.dataset}", round {each.round}'
        typer.echo(f"Closed entry {each.sequence} ({where}) at full cost: entry {entry.sequence}.")


@contextmanager
def _failures_of(name: str) -> Iterator[None]:
    """Let a failed verification say which ledger it is about."""
    try:
        yield
    except AuditFailure as error:
        raise AuditFailure(f"{name}: {error}", error.check, error.entry) from error


def _about(entries: tuple[LedgerEntry, ...], dataset: str | None) -> tuple[LedgerEntry, ...]:
    """Entries about one dataset, which has some, or all."""
    if dataset is None:
        return entries
    chosen = tuple(entry for entry in entries if entry.dataset == dataset)
    if not chosen:
        names = ", ".join(f'"{name}"' for name in dict.fromkeys(entry.dataset for entry in entries)) or "none"
        raise BadInput(f'--dataset "{dataset}": no entry is about it; the ledger knows: {names}')
    return chosen


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


def _key_in_header(name: str, data: bytes) -> str:
    """The key that a bundle's header names; nobody vouches for it."""
    from common.privacy.ledger.canonical import parse
    from common.privacy.ledger.keys import public_key_from_hex

    try:
        header = parse(data.partition(b"\n")[0])
        found = header["public_key"] if isinstance(header, dict) else None
        public_key_from_hex(found if isinstance(found, str) else "")
    except (BadInput, KeyError) as error:
        raise AuditFailure(
            f"{name}: is no ledger bundle: its first line is no header with a public key"
        ) from error
    return str(found)


def _check_target(file: Path, force: bool) -> None:
    """Refuse to write over anything but an older bundle: a ledger or a key would be lost for good."""
    if file.is_dir():
        raise BadInput(f"{file}: is a folder; name a file in it")
    if not file.parent.is_dir():
        raise BadInput(f"{file}: there is no folder {file.parent}")
    if not file.exists():
        return
    if not force:
        raise BadInput(f"{file}: exists already; name another file or add --force")
    with file.open("rb") as stream:
        begins = stream.read(len(_BUNDLE_BEGINS))
    if begins not in (b"", _BUNDLE_BEGINS):
        raise BadInput(f"{file}: is no bundle; --force replaces nothing but an older bundle")


def _confirm(held: list[Reservation]) -> None:
    if not sys.stdin.isatty():
        places = ", ".join(str(each.sequence) for each in held)
        raise BadInput(f"open reservations: entries {places}: nobody can be asked here; add --yes to close them")
    from rich.console import Console

    from deploy.ledger_tables import reservations_table

    Console(stderr=True).print(reservations_table(held))
    question = "Close them at full cost? A round that still runs would find itself closed, so stop the site first."
    if not typer.confirm(question, err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)
