"""Reads what an auditor was given: run directories, bundles, witness files; names them alike on every machine.

A run directory brings its ``sites/*/ledger.jsonl``, its record and its witnessed heads. Names in the report are
relative to the folder or file that was given, so the same evidence gives the same report anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.audit.ledger_files import Bundle, TrustedKey
from common.audit.run_record import RunEvidence, Witness, read_run
from common.errors import BadInput
from deploy.audit.result import EmpiricalAudit
from deploy.audit_files import bundle_of, named
from deploy.audit_report.facts import InputFile, RunFacts, SiteRun

__all__ = ["Gathered", "gather"]

_RUN_FILES = ("run.json", "rounds.jsonl", "witness.jsonl", "result.json", "study.toml", "checkpoints/started.json")


@dataclass(frozen=True)
class Gathered:
    """Everything that was read."""

    bundles: tuple[Bundle, ...]
    keys: tuple[TrustedKey, ...]
    witnesses: tuple[Witness, ...]
    runs: tuple[RunEvidence, ...]
    run_facts: tuple[RunFacts, ...]
    empirical: EmpiricalAudit | None
    inputs: tuple[InputFile, ...]


def gather(
    sources: Sequence[str],
    keys: Sequence[TrustedKey] = (),
    witnesses: Sequence[Witness] = (),
    empirical: Path | None = None,
) -> Gathered:
    """Read run directories and bundles (``[SITE=]FILE``), and the file that `hanse audit run` wrote.

    Raises:
        BadInput: a path cannot be read, or says something else than such a file or directory does.
    """
    bundles: list[Bundle] = []
    runs: list[RunEvidence] = []
    facts: list[RunFacts] = []
    inputs: list[InputFile] = []
    pairs = [named(given) for given in sources]
    for (site, path), name in zip(pairs, _names([path for _, path in pairs]), strict=True):
        if path.is_dir():
            found, evidence, files = _run(path, name)
            bundles += found
            runs.append(evidence)
            inputs += files
            facts.append(_facts(path, evidence))
        else:
            bundle = bundle_of(path, site)
            bundles.append(replace(bundle, name=name))
            inputs.append(InputFile(name, hashlib.sha256(bundle.data).hexdigest()))
    told = [replace(witness, name=Path(witness.name).name) for witness in witnesses]
    inputs += [InputFile(new.name, _digest(Path(old.name))) for new, old in zip(told, witnesses, strict=True)]
    attacked = None if empirical is None else _empirical(empirical)
    inputs += [] if empirical is None else [InputFile(empirical.name, _digest(empirical))]
    return Gathered(tuple(bundles), tuple(keys), tuple(told), tuple(runs), tuple(facts), attacked, tuple(inputs))


def _names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths, as many folders long as it takes to tell them apart."""
    whole = [path.resolve().parts for path in paths]
    longest = max((len(parts) for parts in whole), default=0)
    for length in range(1, longest + 1):
        names = ["/".join(parts[-(length + (parts[-1] == "ledger.jsonl")) :]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({place})" for place, path in enumerate(paths, start=1)]


def _run(directory: Path, name: str) -> tuple[list[Bundle], RunEvidence, list[InputFile]]:
    evidence = read_run(directory)
    witness = None if evidence.witness is None else replace(evidence.witness, name=f"{name}/witness.jsonl")
    bundles = []
    for path in sorted(directory.glob("sites/*/ledger.jsonl")):
        bundles.append(replace(bundle_of(path), name=f"{name}/{path.relative_to(directory).as_posix()}"))
    files = [
        InputFile(f"{name}/{part}", _digest(directory / part))
        for part in _RUN_FILES
        if (directory / part).is_file()
    ]
    files += [InputFile(each.name, hashlib.sha256(each.data).hexdigest()) for each in bundles]
    return bundles, replace(evidence, name=name, witness=witness), files


def _empirical(path: Path) -> EmpiricalAudit:
    try:
        return EmpiricalAudit.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"--empirical {path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(
            f"--empirical {path}: is not a file of `hanse audit run`: {where}: {first['msg']}"
        ) from error


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


def _facts(directory: Path, evidence: RunEvidence) -> RunFacts:
    """What the directory states; evidence of another party, so a field of another type is as good as missing."""
    result = _table(_json(directory / "result.json"))
    privacy, test = _table(result.get("privacy")), _table(result.get("test"))
    overall = _table(test.get("overall"))
    study = _study(directory / "study.toml")
    section = _table(study.get("privacy"))
    domains = [(name, _table(score)) for name, score in _table(test.get("by_domain")).items()]
    return RunFacts(
        name=evidence.name,
        run=evidence.run,
        study=_text(result.get("study")) or _text(_table(study.get("study")).get("name")),
        digest=_text(result.get("digest")),
        private=result["private"] if isinstance(result.get("private"), bool) else None,
        unit=_text(privacy.get("unit")) or _text(section.get("unit")),
        statement=_text(privacy.get("statement")),
        sampling=_text(privacy.get("sampling")),
        noise=_text(privacy.get("noise")),
        accountant=_text(privacy.get("accountant")),
        not_covered=tuple(each for each in _list(privacy.get("not_covered")) if isinstance(each, str)),
        max_grad_norm=_number(section.get("max_grad_norm")),
        rows_per_group=_whole(section.get("rows_per_group")) if section.get("unit") == "group" else None,
        batch_size=_whole(section.get("batch_size")),
        trainable=_text(_table(study.get("model")).get("trainable")),
        task=_text(_table(study.get("task")).get("kind")),
        rounds=_whole(result.get("rounds")),
        seed=_whole(result.get("seed")),
        accuracy=_number(overall.get("accuracy")),
        test_examples=_whole(overall.get("examples")),
        by_domain=tuple(
            (name, accuracy, examples)
            for name, score in domains
            if (accuracy := _number(score.get("accuracy"))) is not None
            and (examples := _whole(score.get("examples"))) is not None
        ),
        worst_domain=_text(test.get("worst_domain")),
        sites=tuple(_site(_table(site)) for site in _list(result.get("sites"))),
    )


def _site(site: dict[str, Any]) -> SiteRun:
    return SiteRun(
        name=_text(site.get("name")) or "not stated",
        declared_size=_whole(site.get("declared_size")),
        epsilon=_number(site.get("epsilon")),
        epsilon_budget=_number(site.get("epsilon_budget")),
        delta=_number(site.get("delta")),
        noise_multiplier=_number(site.get("noise_multiplier")),
        sample_rate=_number(site.get("sample_rate")),
        steps=_whole(site.get("steps")),
    )


def _study(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _json(path: Path) -> object:
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
