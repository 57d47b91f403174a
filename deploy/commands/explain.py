"""`hanse explain`: what a saved model goes by, on public texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.errors import BadInput

__all__ = ["explain"]


def explain(  # noqa: PLR0913 - each is an option of the command
    model: Annotated[Path, typer.Argument(help="Model folder, such as RUN/model.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Public texts to explain one by one.")] = None,
    data: Annotated[
        str,
        typer.Option(help="Public labelled texts for the model as a whole: file, folder, hub:ID, or embedded."),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for index.html and explanation.json.")] = Path("explanation"),
    text_column: Annotated[str, typer.Option(help="Column of the data that holds the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the data that holds the label.")] = "label",
    attributed: Annotated[int, typer.Option(min=0, help="Texts of the data that get attributions.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Which texts of the data are drawn.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
) -> None:
    """Explain a saved model: attributions, attention, influential words, imitations. Public texts only."""
    from deploy.public_texts import NOTICE, require_public

    given = _checked(texts or [], data)
    if data:
        require_public(data)
    if not as_json:
        typer.echo(NOTICE, err=True)
    from common.examples import Columns
    from common.files import write_json, write_text
    from common.sources import load_source
    from deploy.explain.explanation import Limits, explain_model
    from deploy.explain.page import explanation_page
    from deploy.open_model import OpenModel

    opened = OpenModel(model)
    rows: list[str] = []
    if data:
        dataset, _ = load_source(data, opened.labels, Columns(text_column, label_column))
        rows = [example.text for example in dataset.test or dataset.examples]
    found = explain_model(opened, given, rows, Limits(attributed=attributed, seed=seed))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "explanation.json", found.to_json())
    write_text(out / "index.html", explanation_page(found, model.resolve().parent.name or "the model"))
    if as_json:
        print(json.dumps(found.to_json(), indent=2, sort_keys=True))
        return
    for each in found.texts:
        strongest = sorted(zip(each.values, each.tokens, strict=True), key=lambda pair: -abs(pair[0]))[:5]
        told = ", ".join(f"{token} {value:+.2f}" for value, token in strongest)
        typer.echo(f"{opened.labels[each.label]} {each.probability:.3f}: {told}")
    typer.echo(f"completeness error at most {found.worst_completeness_error:.4%} (limit 1 %)")
    for imitation in found.surrogates:
        typer.echo(f"{imitation.name}: fidelity {imitation.fidelity:.3f}, commonest {imitation.commonest:.3f}")
    typer.echo(f"Written: {out / 'index.html'}, {out / 'explanation.json'}")


def _checked(texts: list[str], data: str) -> list[str]:
    for position, text in enumerate(texts, start=1):
        if not text.strip():
            raise BadInput(f"TEXT {position}: is empty")
    if not texts and not data:
        raise BadInput("TEXT: give at least one public text, or --data with a file of them")
    return texts
