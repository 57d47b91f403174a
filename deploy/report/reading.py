"""Reads a run directory into :class:`RunFacts`; writes nothing there, also while the run still goes."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from common.errors import AuditFailure, BadInput
from common.privacy.ledger.rules import verified_entries
from common.privacy.spending import Claim, claim, gauge, price
from common.schedule import schedule
from common.study import Study
from common.study_file import read_study
from deploy.report.facts import LedgerFacts, RunFacts, RunState, SiteFacts
from server.records import RoundRecord

__all__ = ["last_event", "read_json", "read_ledger", "read_rounds", "read_run", "state_of"]

_QUIET_SECONDS = 900.0
"""A run without an event for so long is taken to have stopped."""
_TAIL_BYTES = 1 << 18


def read_run(directory: Path, ledgers: bool = True) -> RunFacts:
    """Everything that a page says of a run.

    Args:
        directory: of the run, finished or going.
        ledgers: also verify and price the exported ledgers, which takes about a second.

    Raises:
        BadInput: no run directory, or a file in it is damaged.
    """
    if not (directory / "study.toml").is_file():
        raise BadInput(f"{directory}: is not a run directory (it holds no study.toml)")
    study = read_study(directory / "study.toml")
    result = read_json(directory / "result.json")
    rounds = read_rounds(directory / "rounds.jsonl")
    event = last_event(directory)
    return RunFacts(
        name=directory.resolve().name,
        identifier=str((read_json(directory / "run.json") or {}).get("run", "")),
        state=state_of(result is not None, event),
        study=study,
        planned_rounds=len(schedule(study)),
        rounds=rounds,
        sites=_sites(study, result, rounds),
        ledgers=_ledgers(directory) if ledgers else {},
        result=result,
        message=str(event.get("message", "")) if event.get("event") == "failed" else "",
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object in a file, None without the file; raises :class:`BadInput` where it is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: holds no JSON object")
    return value


def read_rounds(path: Path) -> tuple[RoundRecord, ...]:
    """The finished rounds of a ``rounds.jsonl``; a last line that is still being written is left out.

    Raises:
        BadInput: another line is no round record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(RoundRecord.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, BadInput) as error:
            if number < len(lines):
                raise BadInput(f"{path}: line {number} is not a round record") from error
    return tuple(records)


def last_event(directory: Path) -> dict[str, Any]:
    """The newest whole event of ``events.jsonl``; empty before the first."""
    try:
        with (directory / "events.jsonl").open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            return event
    return {}


def state_of(has_result: bool, event: dict[str, Any]) -> RunState:
    """Where a run stands, from its result and its newest event."""
    if has_result:
        return "finished"
    if event.get("event") == "failed":
        return "failed"
    return "going" if time.time() - float(event.get("time", 0.0)) < _QUIET_SECONDS else "stopped"


def read_ledger(bundle: Path) -> LedgerFacts | None:
    """What an exported ledger claims, in all and for each run; None where it does not verify.

    The report is no audit: a ledger that fails is left out here, and ``hanse audit ledger`` says why.
    """
    try:
        data = bundle.read_bytes()
        key = json.loads(data.partition(b"\n")[0])["public_key"]
        history = verified_entries(data, key).history
    except (OSError, ValueError, KeyError, TypeError, AuditFailure, BadInput):
        return None
    by_run = {}
    for (_, _, run), place in history.runs.items():
        budget = history.budgets[place]
        charged = gauge(budget.terms, price(budget.terms, budget.charged()))
        by_run[run] = (place, Claim(max(budget.claim, charged), budget.terms.delta))
    datasets = dict.fromkeys(budget.dataset for budget in history.budgets.values())
    claims = [claim(history, dataset) for dataset in datasets]
    whole = Claim(sum(each.epsilon for each in claims), sum(each.delta for each in claims))
    return LedgerFacts(whole, len(history.budgets), by_run)


def _ledgers(directory: Path) -> dict[str, LedgerFacts]:
    found = {}
    for bundle in sorted((directory / "sites").glob("*/ledger.jsonl")):
        facts = read_ledger(bundle)
        if facts is not None:
            found[unquote(bundle.parent.name)] = facts
    return found


def _sites(study: Study, result: dict[str, Any] | None, rounds: tuple[RoundRecord, ...]) -> tuple[SiteFacts, ...]:
    if result is not None:
        named = {str(site["name"]): site for site in result["sites"]}
    else:
        named = {entry.site: {} for record in rounds for entry in record.sites}
    return tuple(_site(study, name, told, rounds) for name, told in named.items())


def _site(study: Study, name: str, told: dict[str, Any], rounds: tuple[RoundRecord, ...]) -> SiteFacts:
    mine = [entry for record in rounds for entry in record.sites if entry.site == name]
    seconds = [entry.seconds for entry in mine if entry.replied]
    replied = sum(entry.replied for entry in mine)
    spent = told.get("epsilon", mine[-1].epsilon if mine else None)
    return SiteFacts(
        name=name,
        declared_size=told.get("declared_size"),
        rounds_replied=told.get("rounds_replied", replied),
        epsilon=spent,
        epsilon_budget=told.get("epsilon_budget", study.epsilon_of(name) if study.privacy.enabled else None),
        delta=told.get("delta"),
        noise_multiplier=told.get("noise_multiplier"),
        sample_rate=told.get("sample_rate"),
        steps=told.get("steps"),
        median_seconds=statistics.median(seconds) if seconds else None,
        silent=len(mine) - replied,
    )
