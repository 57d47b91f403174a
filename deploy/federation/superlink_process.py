"""Flower's SuperLink behind our gate: the function that the coordinator's SuperLink process runs.

Flower's command is called as it is, with its application wrapped and its account check replaced at the two
places where it looks them up. If a Flower release moves either, the process refuses to start: it never serves
an open Control interface.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, Final

from common.errors import RunFailed
from deploy.federation.coordinator_directory import CoordinatorDirectory, open_federation
from deploy.federation.gate import Gate, TokenAuthentication

__all__ = ["FOLDER_VARIABLE", "guard_flower", "run", "superlink_arguments"]

FOLDER_VARIABLE: Final = "HANSE_FEDERATION"
"""Names the coordinator's folder to this process."""


def superlink_arguments(directory: CoordinatorDirectory) -> list[str]:
    """The command line of ``flower-superlink``."""
    federation = directory.federation()
    return [
        *("--host", federation.listen, "--port", str(federation.parsed_address.port)),
        *("--ssl-keyfile", str(directory.server[0]), "--ssl-certfile", str(directory.server[1])),
        *("--ssl-ca-certfile", str(directory.authority[1])),
        "--enable-supernode-auth",
        # Of the two modes only this one lets a run go on after the SuperLink crashed.
        *("--isolation", "process", "--superexec-auth-secret-file", str(directory.superexec_secret)),
        *("--database", str(directory.database)),
    ]


def run() -> None:
    """Serve the federation that the environment names, until told to stop.

    Raises:
        RunFailed: this Flower cannot be guarded.
        BadInput: the folder is no federation's.
    """
    directory = open_federation(Path(os.environ[FOLDER_VARIABLE]))
    sys.argv = [sys.argv[0], *superlink_arguments(directory)]
    guard_flower(directory)
    from flwr.superlink.cli.flower_superlink import flower_superlink

    flower_superlink()


def guard_flower(directory: CoordinatorDirectory) -> None:
    """Put the gate and the token into this process's Flower; raises ``RunFailed`` if it cannot be done."""
    from flwr.superlink import main

    # Not by an import statement: the package gives the function of that name, not the module.
    command = importlib.import_module("flwr.superlink.cli.flower_superlink")

    if not hasattr(command, "load_control_authn_plugin") or not hasattr(main, "create_app"):
        raise RunFailed("this release of Flower cannot be guarded by Hanse; install the one it was tested with")
    authentication = TokenAuthentication(directory.secret(directory.control_token))
    create_app = main.create_app

    def guarded(*arguments: Any, **named: Any) -> Gate:
        app = create_app(*arguments, **named)
        if app.state.account_access_dep.authn_plugin is not authentication or not app.state.enable_supernode_auth:
            raise RunFailed("this release of Flower would serve strangers; install the one Hanse was tested with")
        return Gate(app, directory.registry)

    command.load_control_authn_plugin = lambda: authentication  # type: ignore[attr-defined]  # a module's global
    main.create_app = guarded  # type: ignore[assignment]  # uvicorn takes any ASGI application
