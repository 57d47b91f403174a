"""Options that the commands of `hanse audit` share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Keys", "Prv", "Witnesses"]

Keys = Annotated[
    list[str] | None,
    typer.Option(metavar="[SITE=]PUB", help="A site's public key, or a file that holds it; repeat it."),
]
Witnesses = Annotated[
    list[str] | None,
    typer.Option(metavar="[COORDINATOR=]FILE", help="Heads that a coordinator witnessed (witness.jsonl)."),
]
Prv = Annotated[bool, typer.Option(help="Also ask Opacus' PRV accountant; takes seconds.")]
