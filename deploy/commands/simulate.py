"""`hanse simulate`: a whole federation on this machine, from one command."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput, BudgetExceeded, PolicyRefusal
from common.study import Study

__all__ = ["simulate"]


def simulate(
    study: Annotated[
        Path | None, typer.Argument(help="Study file; without one the embedded default study runs.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as privacy.epsilon=3."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/NAME-TIME.")] = None,
    engine: Annotated[str | None, typer.Option(help="local or ray; overrides [simulation] engine.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the interrupted run in this directory.")] = None,
    sites: Annotated[
        Path | None,
        typer.Option(help="Folder with one folder a site: its policy.toml is obeyed, its ledger kept there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run a study over simulated institutions: rounds, scores, each site's epsilon, and the trained model."""
    overrides = [*(override or []), *([f"simulation.engine={engine}"] if engine else [])]
    from deploy.default_study import load_study
    from deploy.simulation import keep_sites_folder

    if resume:
        if study or override or out or sites:
            raise BadInput("--resume continues a run as it was begun; leave out STUDY, --set, --out and --sites")
        parsed, directory = _resumed(resume, overrides), resume.resolve()
    else:
        parsed = load_study(study, overrides)
        directory = _new_directory(out, parsed)
        keep_sites_folder(directory, sites)
    from deploy.progress import follow
    from deploy.report.page import write_report
    from deploy.results import print_result, read_result
    from deploy.simulation import simulate as run

    try:
        with follow(directory, parsed, quiet=as_json):
            claims = run(parsed, directory, resume=resume is not None)
    except (BadInput, PolicyRefusal, BudgetExceeded):
        _discard_unless_begun(directory)
        raise
    except KeyboardInterrupt:
        if not as_json:
            typer.echo(f"Interrupted. Continue with: hanse simulate --resume {_shown(directory)}", err=True)
        raise
    result = read_result(directory)
    write_report([directory], directory / "report.html")
    print_result(result, _shown(directory), as_json, claims)


def _discard_unless_begun(directory: Path) -> None:
    """Remove a run directory in which no round began, so that the mended command can be run as it was."""
    if not (directory / "checkpoints" / "started.json").exists():
        shutil.rmtree(directory, ignore_errors=True)


def _resumed(directory: Path, overrides: list[str]) -> Study:
    from common.study_file import read_study

    if not directory.is_dir():
        raise BadInput(f"--resume {directory}: no such run directory")
    if not (directory / "study.toml").is_file():
        raise BadInput(f"--resume {directory}: is not a run directory (it holds no study.toml)")
    if (directory / "result.json").is_file():
        raise BadInput(f"--resume {directory}: this run has finished; its figures are in result.json")
    return read_study(directory / "study.toml", overrides)


def _new_directory(out: Path | None, study: Study) -> Path:
    from common.study_file import write_study

    directory = out or Path("runs") / f"{study.study.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if directory.exists() and not directory.is_dir():
        raise BadInput(f"--out {directory}: is a file; name a new folder")
    if directory.exists() and any(directory.iterdir()):
        raise BadInput(f"--out {directory}: is not empty; name a new folder, or --resume {directory}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {directory}: cannot be created: {error.strerror}") from None
    write_study(study, directory / "study.toml")
    return directory.resolve()


def _shown(directory: Path) -> str:
    try:
        return str(directory.relative_to(Path.cwd()))
    except ValueError:
        return str(directory)
