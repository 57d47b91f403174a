"""Where data comes from: the embedded sentences, a file, a folder of files, or the Hugging Face hub.

Whatever the source, its rows go through one validating pass (``common.validation``) that tells every
fault at once, with row numbers. Imports nothing heavy: Parquet and hub libraries load when needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.embedded import EMBEDDED_LABELS, read_embedded
from common.errors import BadInput
from common.examples import Columns, Dataset, Example, fingerprint
from common.hub import HUB_PREFIX, read_hub
from common.reading import KINDS, read_file
from common.study import Study, TaskKind
from common.validation import (
    Expected,
    Faults,
    Row,
    SourceReport,
    class_counts,
    example_warnings,
    validate_rows,
)

__all__ = [
    "EMBEDDED",
    "EMBEDDED_LABELS",
    "PARTS",
    "Columns",
    "Dataset",
    "Example",
    "SourceReport",
    "columns_of",
    "fingerprint",
    "load_source",
]

EMBEDDED = "embedded"
PARTS = ("train", "validation", "test")
_SECTIONS = ".conll"

_DEFAULT_COLUMNS = Columns()
_WORD_COLUMNS = ("tokens", "tags")


def columns_of(study: Study, partition: str = "") -> Columns:
    """The columns that a study reads, and ``partition``, where rows name their institution.

    Words with tags lie in ``tokens`` and ``tags`` where the study leaves the columns at their defaults.
    """
    text, label, kind = study.data.text_column, study.data.label_column, study.task.kind
    if kind == "token-classification" and (text, label) == (_DEFAULT_COLUMNS.text, _DEFAULT_COLUMNS.label):
        text, label = _WORD_COLUMNS
    if kind == "masked-language-modeling":
        label = ""
    return Columns(text, label, partition, study.privacy.group_column)


def load_source(
    source: str,
    labels: Sequence[str],
    columns: Columns = _DEFAULT_COLUMNS,
    kind: TaskKind = "sequence-classification",
) -> tuple[Dataset, SourceReport]:
    """Read a source whole and check it whole.

    Args:
        source: ``embedded``; the path of a ``.csv``, ``.jsonl``, ``.parquet`` or ``.conll`` file; a folder with a
            ``train`` file of such a kind and perhaps ``validation`` and ``test``; a folder of several ``.conll``
            files; or ``hub:owner/name[@revision]``.
        labels: the study's labels; an example's label, or a word's tag, is a position in them.
        columns: names of the columns to read. The embedded sentences need none.
        kind: the task; without a label column texts are read without labels, whatever it is.

    Raises:
        BadInput: one line with the first faults, their rows, the count of the rest, and the mend; a person
            with rows in two parts is one.

    """
    faults = Faults()
    warnings: list[str] = []
    expected = _expected(source, labels, columns, kind)
    parts = _read_parts(source, expected, faults, warnings)
    checked = {name: validate_rows(file, rows, expected, faults) for name, (file, rows) in parts.items() if rows}
    _persons_apart(checked, {name: file for name, (file, _) in parts.items()}, faults)
    faults.refuse()
    for name, examples in checked.items():
        warnings.extend(example_warnings(parts[name][0], examples, labels))
    warnings.extend(_overlaps(checked, {name: file for name, (file, _) in parts.items()}))
    everything = [example for examples in checked.values() for example in examples]
    dataset = Dataset(checked["train"], tuple(labels), checked.get("validation", ()), checked.get("test", ()))
    return dataset, SourceReport(len(everything), class_counts(everything, labels), tuple(warnings))


def _expected(source: str, labels: Sequence[str], columns: Columns, kind: TaskKind) -> Expected:
    """Say what the source has to offer; refuse labels and columns that cannot be met by any file."""
    words = kind == "token-classification"
    if columns.label and (len(set(labels)) != len(labels) or len(labels) < 2):
        raise BadInput(f"task.labels = {list(labels)}: at least two labels, each once")
    if len(set(columns.wanted)) != len(columns.wanted) or not all(columns.wanted):
        raise BadInput(
            f"data: columns {', '.join(columns.wanted)}: text, label, partition and person must be "
            "different columns"
        )
    if source == EMBEDDED:
        if words or (columns.label and set(labels) != set(EMBEDDED_LABELS)):
            raise BadInput(
                f"task.labels = {list(labels)}: the embedded sentences are labelled "
                f"{' or '.join(EMBEDDED_LABELS)}; name these, or set data.source"
            )
        if columns.group:
            raise BadInput(
                f'privacy.group_column = "{columns.group}": the embedded sentences name no persons; '
                "set data.source"
            )
        return Expected(tuple(labels), Columns(label=columns.label and "label", partition="domain"))
    return Expected(tuple(labels), columns, words)


def _read_parts(
    source: str, expected: Expected, faults: Faults, warnings: list[str]
) -> dict[str, tuple[str, list[Row]]]:
    """Rows of each part that the source has, beside the name by which messages call it."""
    if source == EMBEDDED:
        return {"train": (EMBEDDED, read_embedded())}
    if source.startswith(HUB_PREFIX):
        return read_hub(source, expected, faults, warnings)
    path = Path(source).expanduser()
    if not source.strip() or not path.exists():
        raise BadInput(
            f'data.source = "{source}": no such file or folder; '
            f'give a path, "{EMBEDDED}" or "{HUB_PREFIX}owner/name@revision"'
        )
    files = _files_of_folder(path) if path.is_dir() else {"train": path}
    if path.is_dir() and not files:
        sections = sorted(path.glob(f"*{_SECTIONS}"))
        return {
            "train": (path.resolve().name, [row for file in sections for row in read_file(file, expected, faults)])
        }
    return {name: (file.name, read_file(file, expected, faults)) for name, file in files.items()}


def _files_of_folder(folder: Path) -> dict[str, Path]:
    """Find the file of each part in a folder; ``train`` must be there, and no part twice.

    None at all in a folder of CoNLL files under other names, which are read one after the other.
    """
    found: dict[str, Path] = {}
    named = folder.resolve().name
    for part in PARTS:
        files = [folder / f"{part}{kind}" for kind in KINDS if (folder / f"{part}{kind}").is_file()]
        if len(files) > 1:
            raise BadInput(
                f"{named}: {' and '.join(file.name for file in files)} both claim to be the {part} part; keep one"
            )
        if files:
            found[part] = files[0]
    if not found and any(folder.glob(f"*{_SECTIONS}")):
        return {}
    if "train" not in found:
        raise BadInput(f"{named}: no {', '.join('train' + kind for kind in KINDS)} in this folder; add one")
    return found


def _persons_apart(parts: Mapping[str, Sequence[Example]], files: Mapping[str, str], faults: Faults) -> None:
    """Note a fault where a person has rows in two ready-made parts: whole in one (PRIVACY P10)."""
    part_of: dict[str, str] = {}
    for name, examples in parts.items():
        persons = {example.group for example in examples if example.group}
        for other in dict.fromkeys(part_of.values()):
            shared = sum(part_of.get(person) == other for person in persons)
            if shared:
                faults.add(
                    files[name], f"{shared} persons are also in {files[other]}", "keep each person in one file"
                )
        part_of |= dict.fromkeys(persons, name)


def _overlaps(parts: Mapping[str, Sequence[Example]], files: Mapping[str, str]) -> list[str]:
    """Warn of each ready-made part that shares texts with the training part."""
    training = {example.text for example in parts["train"]}
    warnings = []
    for name in PARTS[1:]:
        shared = sum(example.text in training for example in parts.get(name, ()))
        if shared:
            warnings.append(f"{files[name]}: {shared} rows have a text that is also in {files['train']}")
    return warnings
