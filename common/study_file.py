"""Reads a study from TOML: overrides, checks across sections, and errors a person can act on."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from common.base_model import EMBEDDED_BASE
from common.errors import BadInput
from common.study import Study
from common.study_rules import check_study
from common.toml_faults import Wording, faults

__all__ = ["parse_study", "read_study", "write_study"]

_MEND = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_type": "must be a table of keys",
    "string_pattern_mismatch": "may hold letters, digits, '.', '_' and '-', and starts with a letter or digit",
    "too_short": "needs at least {min_length} entries",
    "string_too_short": "must not be empty",
    "finite_number": "must be a finite number",
}
_WORDING = Wording(Study, _MEND)


def read_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Parse the study in the TOML file at ``path`` with ``key.path=value`` overrides.

    Relative paths of data and base model are taken from the file's folder.

    Raises:
        BadInput: the file is missing, is not TOML, or holds a key or value that is not allowed.
        NotYet: a legal value that this version of Hanse cannot carry out.
    """
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name the study file in it, such as {path / 'study.toml'}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such study file; `hanse study new {path}` writes a commented one") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    return parse_study(text, where=str(path), overrides=overrides, folder=path.parent.resolve())


def parse_study(text: str, where: str, overrides: Sequence[str] = (), folder: Path | None = None) -> Study:
    """Parse a study from TOML text; ``where`` names it in errors, ``folder`` anchors relative paths."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where}: is not valid TOML: {error}") from None
    if not tree and not overrides:
        raise BadInput(f"{where}: is empty; `hanse study new` writes a commented study")
    for override in overrides:
        _apply(tree, override)
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        raise BadInput("\n".join(f"{where}: {fault}" for fault in faults(error, tree, _WORDING))) from None
    study = _anchored(study, folder) if folder else study
    check_study(study, where)
    return study


def write_study(study: Study, path: Path) -> None:
    """Write the resolved study as TOML; reading it back gives the same study."""
    tree = study.model_dump(mode="json", exclude_none=True)
    path.write_text(tomli_w.dumps(tree), encoding="utf-8")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or len(names) != 2 or not all(names):
        raise BadInput(f"--set {override}: write section.key=value, such as --set privacy.epsilon=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    section = tree.setdefault(names[0], {})
    if not isinstance(section, dict):
        raise BadInput(f"--set {override}: {names[0]} is a list of tables; edit it in the study file")
    section[names[1]] = value


def _anchored(study: Study, folder: Path) -> Study:
    def anchor(value: str) -> str:
        looks_local = value.startswith((".", "/", "~")) or (folder / value).exists()
        if value == EMBEDDED_BASE or value.startswith("hub:") or not looks_local:
            return value
        return str((folder / Path(value).expanduser()).resolve())

    data = (
        study.data
        if study.data.source == "embedded"
        else study.data.model_copy(update={"source": anchor(study.data.source)})
    )
    model = study.model.model_copy(update={"base": anchor(study.model.base)})
    return study.model_copy(update={"data": data, "model": model})
