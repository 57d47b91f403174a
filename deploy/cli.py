"""The `hanse` command. The only place that turns errors into text and exit codes.

Command modules are imported when their command runs: `hanse --help` loads neither torch nor Flower.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import HanseError
from deploy.commands import (
    assets,
    audit,
    audit_run,
    budget,
    cleanup,
    contribution,
    coordinator,
    dashboard,
    data,
    doctor,
    evaluate,
    explain,
    export,
    federation,
    ledger,
    market,
    policy,
    predict,
    preflight,
    privacy,
    release,
    report,
    robustness,
    run,
    serve,
    simulate,
    site,
    study,
    sweep,
)

__all__ = ["app", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C; what was finished is kept."""

app = typer.Typer(
    name="hanse",
    help="Fine-tune one BERT across institutions that may not share data, and prove what privacy it cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("simulate")(simulate.simulate)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.command("dashboard")(dashboard.dashboard)
app.command("serve")(serve.serve)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("robustness")(robustness.robustness)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.add_typer(policy.app, name="policy")
app.add_typer(ledger.app, name="ledger")
app.command("budget")(budget.budget)
app.add_typer(privacy.app, name="privacy")
app.add_typer(federation.app, name="federation")
app.add_typer(coordinator.app, name="coordinator")
app.add_typer(run.app, name="run")
app.add_typer(site.app, name="site")
app.add_typer(assets.app, name="assets")
app.add_typer(audit.app, name="audit")
audit.app.command("run")(audit_run.run)
app.command("contribution")(contribution.contribution)
app.add_typer(market.app, name="market")
app.add_typer(release.app, name="release")
app.command("preflight")(preflight.preflight)
app.command("doctor")(doctor.doctor)
app.command("cleanup")(cleanup.cleanup)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hanse {version('hanse')}")
        raise typer.Exit


@app.callback()
def options(
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error.", envvar="HANSE_LOG_LEVEL")
    ] = "warning",
    log_format: Annotated[
        str, typer.Option(help="text, or json: an object a line.", envvar="HANSE_LOG_FORMAT")
    ] = "text",
    log_file: Annotated[
        Path | None, typer.Option(help="Write the log here (0600, rotated) and not to standard error.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Set what holds for every command."""
    from deploy.structured_log import start_logging

    start_logging(log_level, log_format, log_file)
    os.environ["HANSE_LOG_LEVEL"] = log_level.lower()
    os.environ["HANSE_LOG_FORMAT"] = log_format.lower()


def main() -> None:
    """Run the command line; every error becomes one line and an exit code."""
    # Before torch starts its threads: on a busy machine threads that spin while they wait took five times longer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    wants_json = "--json" in sys.argv
    try:
        app(prog_name="hanse")
    except HanseError as error:
        if wants_json:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        for line in str(error).splitlines():
            print(f"hanse: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader, such as `head`, has left; nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"hanse: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("hanse: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
