"""`hanse policy`: write and check an institution's policy, and approve studies."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import BadInput, PolicyRefusal

if TYPE_CHECKING:
    from client.policy import Policy
    from client.policy_rules import PolicyRequest
    from common.privacy.granting import Refusal
    from common.privacy.ledger.book import Ledger
    from common.study import Study

__all__ = ["app"]

app = typer.Typer(help="Write and check an institution's policy; approve studies.", no_args_is_help=True)

_Site = Annotated[
    Path, typer.Option("--site", envvar="HANSE_SITE", help="The institution's folder; holds policy.toml.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Expires = Annotated[
    str | None, typer.Option(metavar="DATE", help="Last day (UTC) of the approval, such as 2027-12-31.")
]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART_OF_A_DIGEST = re.compile(r"[0-9a-fA-F]{8,}")


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("policy.toml"),
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: _Json = False,
) -> None:
    """Write a commented policy to fill in, for its owner alone (0600)."""
    from client.policy_file import POLICY_TEMPLATE
    from common.files import write_text
    from common.privacy.ledger.keys import private_folder

    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name the policy file in it, such as {path / 'policy.toml'}")
    if path.exists() and not force:
        raise BadInput(f"{path}: exists already; name another file or add --force")
    if not path.parent.exists():
        private_folder(path.parent)
    write_text(path, POLICY_TEMPLATE)  # atomically, so from a temporary file, which is made 0600
    if as_json:
        print(json.dumps({"path": str(path)}))
    else:
        typer.echo(f"Wrote {path}. Fill in what only the officer can say, then: hanse policy check {_site(path)}")


@app.command()
def check(
    study: Annotated[Path | None, typer.Argument(help="Study file to hold against the policy.")] = None,
    site: _Site = Path(),
    as_json: _Json = False,
) -> None:
    """Show the policy; with a study say whether it agrees, and if not (exit code 3), every reason why."""
    from client.policy_file import read_policy
    from client.policy_rules import refusals
    from client.site_directory import SiteDirectory

    directory = SiteDirectory(site)
    policy = read_policy(directory.policy)
    ledger = directory.existing_ledger(policy.ledger.url) if directory.has_ledger() else None
    adopted = _adopted(ledger, policy.dataset.name)
    request = None if study is None else _request(policy, ledger, study)
    found = () if request is None else refusals(policy, request)
    if as_json:
        print(json.dumps(_report(policy, adopted, request, found), indent=2, sort_keys=True))
        if found:
            raise typer.Exit(PolicyRefusal.exit_code)
        return
    _print_policy(policy, adopted)
    if request is not None:
        _print_request(request)
    if found:
        raise PolicyRefusal("\n".join(f"{refusal.code}: {refusal}" for refusal in found))
    if request is not None:
        typer.echo("The policy agrees to this study. Whether its budget holds it, the ledger says at the start.")


@app.command()
def approve(
    study: Annotated[str, typer.Argument(metavar="DIGEST|STUDY", help="The study's digest, or its file.")],
    site: _Site = Path(),
    expires: _Expires = None,
    as_json: _Json = False,
) -> None:
    """Record in the ledger that the officer approves a study; and the policy, where it is new or changed."""
    from client.policy_file import read_policy
    from client.site_directory import SiteDirectory
    from common.privacy.ledger.records import adopt_policy, approve_study

    directory = SiteDirectory(site)
    policy = read_policy(directory.policy)
    digest, ends = _digest_of(study), _last_day(expires)
    ledger = directory.ledger(policy.ledger.url)
    dataset = policy.dataset.name
    adopts = _adopted(ledger, dataset) != policy.digest()
    if adopts:
        adopt_policy(ledger, dataset, policy.digest())
    entry = approve_study(ledger, dataset, digest, ends)
    if as_json:
        shown = {
            "dataset": dataset,
            "study": digest,
            "expires": None if ends is None else ends.isoformat(),
            "policy": policy.digest(),
            "adopted": adopts,
            "entry": entry.sequence,
        }
        print(json.dumps(shown, indent=2, sort_keys=True))
        return
    if adopts:
        typer.echo(f"Policy {policy.digest()} holds from here on.")
    until = "" if ends is None else f" until {ends}"
    typer.echo(
        f'Approved study {digest}\nfor dataset "{dataset}"{until}; entry {entry.sequence} of {ledger.name}.'
    )


def _site(path: Path) -> str:
    return "" if path.parent == Path() else f"--site {path.parent}"


def _digest_of(study: str) -> str:
    """The digest that was typed, or that of the study in a file."""
    if _DIGEST.fullmatch(study):
        return study
    if _PART_OF_A_DIGEST.fullmatch(study) and not Path(study).exists():
        raise BadInput(f"{study}: a digest has 64 lower-case hexadecimal digits; give all of them")
    return _study_and_digest(Path(study))[1]


def _study_and_digest(path: Path) -> tuple[Study, str]:
    from common.base_model import resolve_base
    from deploy.default_study import load_study

    study = load_study(path, [])
    return study, study.digest(resolve_base(study.model.base).digest)


def _last_day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--expires {text}: must be a date such as 2027-12-31") from None
    if day < _today():
        raise BadInput(f"--expires {text}: is over; name today ({_today()}, UTC) or a later day")
    return day


def _today() -> date:
    return datetime.now(UTC).date()


def _adopted(ledger: Ledger | None, dataset: str) -> str | None:
    """Digest of the policy that the ledger says holds for a dataset."""
    from common.privacy.ledger.details import Policy as Adopted

    digest = None
    for entry in () if ledger is None else ledger.entries():
        if entry.dataset == dataset and isinstance(entry.details, Adopted):
            digest = entry.details.policy or digest
    return digest


def _request(policy: Policy, ledger: Ledger | None, path: Path) -> PolicyRequest:
    from client.consent import noise_under, request_under

    study, digest = _study_and_digest(path)
    return request_under(policy, study, digest, noise_under(policy, study), ledger)


def _report(
    policy: Policy, adopted: str | None, request: PolicyRequest | None, found: tuple[Refusal, ...]
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "policy": policy.model_dump(mode="json", exclude={"ledger"}),
        "delta": policy.delta,
        "digest": policy.digest(),
        "adopted": adopted,
    }
    if request is not None:
        report["study"] = {
            "name": request.study.study.name,
            "digest": request.study_digest,
            "noise_multiplier": request.noise_multiplier,
            "epsilon": request.study_epsilon,
            "approved": request.approved,
        }
        report["agrees"] = not found
        report["refusals"] = [{"code": refusal.code, "message": str(refusal)} for refusal in found]
    return report


def _print_policy(policy: Policy, adopted: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from deploy.console import wide_console

    table = Table(title="Policy", title_justify="left")
    table.add_column("key")
    table.add_column("value", overflow="fold")
    for key, value in _shown_keys(policy):
        table.add_row(key, Text(value))  # a label may look like markup
    console = wide_console()
    console.print(table)
    console.print(f"digest {policy.digest()}, {_standing(policy, adopted)}", markup=False, highlight=False)


def _shown_keys(policy: Policy) -> list[tuple[str, str]]:
    """Each key that says something, and its value in words."""
    found = []
    for section, keys in policy.model_dump(mode="json", exclude={"ledger"}).items():
        for key, value in keys.items():
            if value is None or value == "":
                continue
            shown = (
                ", ".join(value)
                if isinstance(value, list)
                else value
                if isinstance(value, str)
                else json.dumps(value)
            )
            if (section, key, value) == ("budget", "delta", "auto"):
                shown = f"auto: {policy.delta:.3g}"
            found.append((f"{section}.{key}", shown))
    return found


def _standing(policy: Policy, adopted: str | None) -> str:
    if adopted is None:
        return "not in the ledger yet"
    return "as in the ledger" if adopted == policy.digest() else f"changed since the ledger took in {adopted[:16]}"


def _print_request(request: PolicyRequest) -> None:
    approval = "approved" if request.approved else "not approved"
    typer.echo(
        f"Study {request.study.study.name}, digest {request.study_digest}: {approval}, "
        f"epsilon {request.study_epsilon:g}, noise multiplier {request.noise_multiplier:.4f}"
    )
