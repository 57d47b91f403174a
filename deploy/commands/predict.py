"""`hanse predict`: what a saved model says of texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="Model folder, such as RUN/model.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; - reads one a line from standard input.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Predict the label of texts, the entities in them, or the words that a mask hides, with their confidence."""
    chosen = _texts(texts or [])
    from deploy.predicting import predictions

    for prediction in predictions(model, chosen):
        print(json.dumps(prediction.to_json()) if as_json else prediction.line())


def _texts(arguments: list[str]) -> list[str]:
    if arguments == ["-"]:
        try:
            lines = sys.stdin.buffer.read().decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise BadInput(f"standard input: is not UTF-8 at byte {error.start}") from None
        texts = [line for line in lines if line.strip()]
        if not texts:
            raise BadInput("standard input: holds no text; give one text a line")
        return texts
    if not arguments:
        raise BadInput("TEXT: give at least one text, or - to read them from standard input")
    for position, text in enumerate(arguments, start=1):
        if not text.strip():
            raise BadInput(f"TEXT {position}: is empty")
    return arguments
