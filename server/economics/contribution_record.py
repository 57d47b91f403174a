"""`contribution.json`: what a run's sites were found to have added, as written and as read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import BadInput
from common.files import atomically
from server.economics.contribution import Valuation
from server.economics.rewards import WHOLE_MODEL, ownership
from server.economics.signs import Signal
from server.kept_run import KeptRun

__all__ = ["contribution_record", "read_contribution_record", "write_contribution_record"]

_FORMAT = 1
_CONFIDENTIAL = (
    "Rests on updates without privacy of their own: it stays with the coordinator and is in no statement (P19)."
)


def contribution_record(
    run: KeptRun, found: Valuation, signals: Sequence[Signal], copies_would_show: bool
) -> dict[str, Any]:
    """The content of the file."""
    owned = ownership(found.values())
    by_site: dict[str, list[dict[str, Any]]] = {each.site: [] for each in found.sites}
    for signal in signals:
        by_site[signal.site].append(
            {"sign": signal.sign.value, "because": signal.because, "with": signal.with_site}
        )
    return {
        "format": _FORMAT,
        "study": run.digest,
        "run": run.run,
        "utility": found.figure,
        "base": found.base,
        "final": found.final,
        "gain": found.final - found.base,
        "unattributed": found.unattributed,
        "method": _method(found),
        "exact": found.exact,
        "confidence": found.confidence,
        "evaluations": found.evaluations,
        "games": [list(rounds) for rounds in found.rounds],
        "sites": [
            {
                **asdict(each),
                "by_round": list(each.by_round),
                "value": found.values()[each.site],
                "value_half_width": each.half_width if each.owen is None else None,
                "ownership_millionths": owned.parts[each.site],
                "declared_size": run.declared_sizes.get(each.site),
                "signs": by_site[each.site],
            }
            for each in found.sites
        ],
        "copies_would_show": copies_would_show,
        "confidential": _CONFIDENTIAL if run.study.privacy.noised_centrally else None,
        "caveats": _caveats(run, found),
    }


def write_contribution_record(path: Path, record: dict[str, Any]) -> None:
    """Write the file for its owner alone (a temporary file is made 0600)."""
    with atomically(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_contribution_record(path: Path) -> dict[str, Any]:
    """Read the file back.

    Raises:
        BadInput: there is none, or it is not one.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; run `hanse contribution {path.parent}` first")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        owned = sum(int(site["ownership_millionths"]) for site in record["sites"])
        told = all({"site", "value", "value_half_width"} <= site.keys() for site in record["sites"])
        if record["format"] != _FORMAT or not told or not 0 <= owned <= WHOLE_MODEL or not record["method"]:
            raise ValueError("format or shares")
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: is not a contribution record of Hanse; compute it anew") from error
    return record


def _method(found: Valuation) -> str:
    unions = any(each.owen is not None for each in found.sites)
    value = "Owen value between institutions" if unions else "Shapley value"
    how = "exact" if found.exact else "estimated from permutations"
    games = (
        "one game a round, summed" if len(found.rounds) > 1 or len(found.rounds[0]) == 1 else "one game, replayed"
    )
    return f"{value}, {how}; {games}; utility {found.figure} on the public validation set"


def _caveats(run: KeptRun, found: Valuation) -> list[str]:
    said = []
    if any(each.games < len(found.rounds) for each in found.sites):
        said.append("Sites were absent from rounds and get 0 there: sites that are alike may be paid unlike.")
    if len(found.rounds) > 1 and run.study.federation.strategy in {"fedavgm", "fedadam", "fedyogi"}:
        said.append(
            "What the server's momentum moved in a round is nobody's here; --whole-run credits it to sites."
        )
    if run.study.privacy.enabled:
        said.append(
            "Noise moves values from run to run; before money is tied to them, repeat the study over seeds."
        )
    return said
