"""Rows from a data set on the Hugging Face hub, through the ``datasets`` library (extra ``hub``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.errors import BadInput
from common.reading import check_columns
from common.validation import Expected, Faults, Row

if TYPE_CHECKING:
    import datasets

__all__ = ["HUB_PREFIX", "read_hub"]

HUB_PREFIX = "hub:"

_SOURCE = re.compile(r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_PARTS = ("train", "validation", "test")
_UNLABELLED = -1


def read_hub(
    source: str, expected: Expected, faults: Faults, warnings: list[str]
) -> dict[str, tuple[str, list[Row]]]:
    """Rows of each part of ``hub:owner/name[@revision]``, beside the name for messages.

    Never runs code from the hub. Where the label column names its classes, rows are read by these
    names, so that another order of the study's labels cannot swap them; if the study uses none of the
    names and has as many labels, by position, with a warning. A part without labels is left out.

    Raises:
        BadInput: the source is misspelt, unknown or out of reach, or the library is absent.

    """
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise BadInput(f'data.source = "{source}": not of the form {HUB_PREFIX}owner/name[@revision]')
    if match["revision"] is None:
        warnings.append(f"{source}: not pinned; add @ and a commit to make the study repeatable")
    found = _loaded(source, match["name"], match["revision"])
    if "train" not in found:
        raise BadInput(f"{source}: no part named train among {', '.join(found)}; choose another data set")
    parts: dict[str, tuple[str, list[Row]]] = {}
    for part in _PARTS:
        if part not in found:
            continue
        file = f"{source} ({part})"
        rows = _rows(file, found[part], expected, (faults, warnings))
        if rows and part != "train" and all(row.label == _UNLABELLED for row in rows):
            warnings.append(f"{file}: no row is labelled; this part is not used")
        else:
            parts[part] = (file, rows)
    return parts


def _loaded(source: str, name: str, revision: str | None) -> datasets.DatasetDict:
    """Load the data set with all its parts, from the hub or the library's cache."""
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            f'{source}: the library "datasets" is not installed; run: python -m pip install "datasets>=3"'
        ) from error
    try:
        return datasets.load_dataset(name, revision=revision)
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise BadInput(
            f"{source}: not found on the hub, or the hub is out of reach; check name, revision and network"
        ) from error
    except (datasets.exceptions.DatasetsError, OSError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"{source}: the datasets library cannot read it ({type(error).__name__}); "
            "download the data set and give the path of a file"
        ) from error


def _rows(file: str, part: datasets.Dataset, expected: Expected, notes: tuple[Faults, list[str]]) -> list[Row]:
    faults, warnings = notes
    if not check_columns(file, part.column_names, expected, faults):
        return []
    columns = expected.columns
    values: list[Sequence[Any]] = [list(part[column]) for column in columns.wanted]
    names = getattr(part.features[columns.label], "names", None) if columns.label else None
    if names:
        if set(names) & set(expected.labels):
            values[1] = [names[label] if label in range(len(names)) else label for label in values[1]]
        elif len(names) == len(expected.labels):
            warnings.append(f"{file}: {', '.join(names)} read by position as {', '.join(expected.labels)}")
    if not part.num_rows:
        faults.add(file, "columns and no rows", "choose another data set")
    return [
        Row.of(number, cells, labelled=bool(columns.label))
        for number, cells in enumerate(zip(*values, strict=True), start=1)
    ]
