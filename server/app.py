"""The Flower server of a study. Everything it needs comes in the run configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.errors import HanseError, RunFailed
from common.file_lock import locked
from common.study import Study
from server.run_directory import RunDirectory
from server.study_run import run_study
from server.witness import CoordinatorWitness

__all__ = ["app"]

app = ServerApp()

_PATIENCE = 60.0
"""Seconds to wait for another process that still runs the study in the same folder."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study in ``run_config``.

    Its keys are ``study`` (canonical JSON), ``directory`` and ``resume``, and in a deployment ``coordinator`` (the
    folder of its witness) and ``sites`` (JSON: the registered name of each site by its node's id).
    """
    study = Study.from_json(str(context.run_config["study"]))
    directory = RunDirectory(Path(str(context.run_config["directory"])))
    with _alone(directory.path):  # who is turned away here writes nothing into another's run
        try:
            resume = bool(context.run_config.get("resume", False))
            run_study(study, grid, directory, resume, _witness(context, directory))
        except HanseError as error:
            directory.event("failed", message=str(error))
            raise


def _witness(context: Context, directory: RunDirectory) -> CoordinatorWitness | None:
    folder = str(context.run_config.get("coordinator", ""))
    if not folder:
        return None
    sites = json.loads(str(context.run_config["sites"]))
    return CoordinatorWitness(
        Path(folder), {int(node): name for node, name in sites.items()}, directory.run_identifier()
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the run directory's lock: two processes that write one run would ask its rounds twice.

    Raises:
        RunFailed: another process held it all along.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path / ".lock", _PATIENCE))
        except BlockingIOError:
            raise RunFailed(
                f"{path}: another process runs this study there; wait for it, or give another directory"
            ) from None
        yield
