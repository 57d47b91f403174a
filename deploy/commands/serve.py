"""`hanse serve`: a trained model as a small HTTP service with a page, on this machine only."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

__all__ = ["serve"]

_TOKEN_VARIABLE = "HANSE_SERVE_TOKEN"


def serve(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="Run directory, or a model folder.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8766,
    feedback: Annotated[
        Path | None, typer.Option(help="File for what people say is right; default MODEL/feedback.jsonl.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.1, help="Texts a second that are answered; beyond that 429.")
    ] = 1000.0,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Texts computed at once, at most.")] = 64,
) -> None:
    """Serve predictions, explanations and a page until Ctrl-C; open the address that it prints.

    The token is new at each start, or what the environment variable HANSE_SERVE_TOKEN holds.
    """
    from deploy.pages.access import Guarded, new_token, within_size
    from deploy.pages.serving import bound_socket, serve_until_interrupted
    from deploy.serving.app import serving_app
    from deploy.serving.feedback import FeedbackFile
    from deploy.serving.limits import LARGEST_BODY, RateLimit
    from deploy.serving.served import ServedModel

    with bound_socket(port) as listening:
        served = ServedModel(model, batch)
        kept = FeedbackFile(feedback or model / "feedback.jsonl")
        token = os.environ.get(_TOKEN_VARIABLE) or new_token()
        app = serving_app(served, kept, RateLimit(rate, max(2 * rate, 256.0)), token)
        guarded = Guarded(within_size(app, LARGEST_BODY), token)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}"
        serve_until_interrupted(guarded, listening, Event(), lambda: typer.echo(f"{address}\nCtrl-C ends it."))
