"""`hanse export`: a saved model as ONNX, in 8 bits, or with fewer layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from common.errors import BadInput

if TYPE_CHECKING:
    from deploy.export.exporting import Exported, ExportFormat

__all__ = ["export"]

_FORMATS = ("onnx", "int8", "distilled")


def export(  # noqa: PLR0913 - each is an option of the command
    model: Annotated[Path, typer.Argument(help="Model folder, such as RUN/model.")],
    form: Annotated[str, typer.Option("--format", metavar="onnx|int8|distilled", help="What to write.")],
    data: Annotated[
        str,
        typer.Option(help="Public labelled texts to score on, and to distil on: file, folder, hub:ID, embedded."),
    ] = "embedded",
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default MODEL-FORMAT.")] = None,
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
    texts: Annotated[int, typer.Option(min=1, help="Most texts to score.")] = 1000,
    layers: Annotated[int, typer.Option(min=0, help="distilled: layers of the student; 0: half.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="distilled: passes over the texts.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Write a smaller or faster form of a model, its scores, size and latency beside the original. Public data."""
    if form not in _FORMATS:
        raise BadInput(f"--format {form}: must be one of {', '.join(_FORMATS)}")
    from deploy.public_texts import require_public

    require_public(data)
    from common.examples import Columns
    from common.sources import load_source
    from deploy.export.distillation import Distillation
    from deploy.export.exporting import export_model, learning_and_scored
    from deploy.open_model import OpenModel

    opened = OpenModel(model, device="cpu")
    dataset, _ = load_source(data, opened.labels, Columns(text_column, label_column))
    target = out or model.with_name(f"{model.resolve().name}-{form}")
    plan = (cast("ExportFormat", form), Distillation(layers, epochs, seed=seed))
    found = export_model(opened, model, target, learning_and_scored(dataset, seed, texts), plan)
    if as_json:
        print(json.dumps({**found.to_json(), "directory": str(target)}, indent=2, sort_keys=True))
        return
    _print(found, target)


def _print(found: Exported, target: Path) -> None:
    from rich.table import Table

    from deploy.console import wide_console

    table = Table(
        title=f"{found.format} beside the original ({found.agreement.texts} texts)", title_justify="left"
    )
    table.add_column("figure")
    table.add_column("original", justify="right")
    table.add_column(found.format, justify="right")
    one, other = found.original, found.exported
    rows = [
        ("size, MB", f"{one.bytes / 1e6:.1f}", f"{other.bytes / 1e6:.1f}"),
        ("one text, ms", f"{one.speed.milliseconds_per_text:.2f}", f"{other.speed.milliseconds_per_text:.2f}"),
        ("texts a second, in batches", f"{one.speed.texts_per_second:.0f}", f"{other.speed.texts_per_second:.0f}"),
        ("accuracy", f"{one.accuracy:.4f}", f"{other.accuracy:.4f}"),
        ("macro F1", f"{one.macro_f1:.4f}", f"{other.macro_f1:.4f}"),
        ("loss", f"{one.loss:.4f}", f"{other.loss:.4f}"),
        ("ECE", f"{one.expected_calibration_error:.4f}", f"{other.expected_calibration_error:.4f}"),
    ]
    for row in rows:
        table.add_row(*row)
    console = wide_console()
    console.print(table)
    agrees = found.agreement
    console.print(
        f"same answer on {agrees.same_label:.1%}; largest difference of a logit "
        f"{agrees.largest_logit_difference:.2g}; tolerance: {found.tolerance}",
        markup=False,
    )
    console.print(f"Written: {target}", markup=False)
