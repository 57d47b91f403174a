"""The Flower server of a study. Everything it needs comes in the run configuration."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.errors import HanseError
from common.study import Study
from server.run_directory import RunDirectory
from server.study_run import run_study

__all__ = ["app"]

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study in ``run_config``: ``study`` (canonical JSON), ``directory``, ``resume``."""
    study = Study.from_json(str(context.run_config["study"]))
    directory = RunDirectory(Path(str(context.run_config["directory"])))
    try:
        run_study(study, grid, directory, resume=bool(context.run_config.get("resume", False)))
    except HanseError as error:
        directory.event("failed", message=str(error))
        raise
