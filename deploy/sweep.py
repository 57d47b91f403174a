"""A grid of studies over one ledger per virtual site: what tuning costs is counted, run by run (PRIVACY P21).

Every run keeps the study's name, and so its sites' ledgers (decision 0006); a key that would give a run ledgers of
its own cannot be swept. A sweep lies in one folder: ``sweep.json`` names its grid, each run has its own folder.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from common.errors import BadInput
from common.files import write_json
from common.study import Study
from common.study_file import write_study
from deploy.default_study import load_study

__all__ = ["SweepRun", "grid", "last_words", "plan_sweep", "run_sweep"]

_FILE = "sweep.json"
_MOST = 1000
_NO_KEY = {
    "study.name": "the name says which ledgers pay, and a sweep shares one for each site (P21)",
    "privacy.enabled": "without privacy nothing is charged; run it apart and compare with hanse report",
}


@dataclass(frozen=True)
class SweepRun:
    """One point of the grid."""

    name: str
    """Its folder's name, such as ``epsilon=1,trainable=head``."""
    overrides: tuple[str, ...]
    """As ``--set`` takes them."""
    study: Study
    directory: Path

    @property
    def is_finished(self) -> bool:
        """Whether its result is there."""
        return (self.directory / "result.json").is_file()


def grid(over: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Parse ``KEY=VALUE,VALUE...``, each key once; a list in brackets is one value.

    Raises:
        BadInput: no such shape, a key twice, a value twice, or a key that cannot be swept.
    """
    found: dict[str, tuple[str, ...]] = {}
    for each in over:
        key, equals, told = each.partition("=")
        values = tuple(value.strip() for value in re.split(r",(?![^\[]*\])", told))
        if not equals or not key.strip() or not all(values):
            raise BadInput(f"--over {each}: must be KEY=VALUE,VALUE such as privacy.epsilon=1,2,4")
        if key in _NO_KEY:
            raise BadInput(f"--over {each}: {key} cannot be swept: {_NO_KEY[key]}")
        if key in found or len(set(values)) < len(values):
            raise BadInput(f"--over {each}: names a key or a value twice")
        found[key] = values
    if not found:
        raise BadInput("--over: give at least one, such as --over privacy.epsilon=1,2,4,8")
    return found


def plan_sweep(study: Path | None, overrides: Sequence[str], over: Sequence[str], out: Path) -> list[SweepRun]:
    """Every run of the grid, each study checked before the first one starts; the folder is made or taken up again.

    Raises:
        BadInput: a study is not a legal one, or the folder holds another sweep.
    """
    axes = grid(over)
    points = list(itertools.product(*axes.values()))
    if len(points) > _MOST:
        raise BadInput(f"--over: {len(points)} runs are more than {_MOST}")
    runs = []
    for values in points:
        mine = [f"{key}={value}" for key, value in zip(axes, values, strict=True)]
        name = ",".join(f"{_short(key, axes)}={_in_name(value)}" for key, value in zip(axes, values, strict=True))
        checked = load_study(study, [*overrides, *mine])
        runs.append(SweepRun(name, tuple(mine), checked, out / name))
    if len({run.name for run in runs}) < len(runs):
        raise BadInput("--over: two values differ only in characters that no folder's name can hold")
    _take_up(out, runs)
    return runs


def run_sweep(
    runs: Sequence[SweepRun], at_once: int, said: Callable[[SweepRun, str], None], sites: Path | None = None
) -> list[SweepRun]:
    """Run what is not finished, each in a process of its own; one that was interrupted is resumed.

    Args:
        runs: from :func:`plan_sweep`.
        at_once: how many run at the same time.
        said: told of each run that begins or ends.
        sites: folder of virtual sites with policies, as ``hanse simulate --sites`` takes it.

    Returns:
        The runs that failed; what each said last is in ``NAME.log``.
    """
    stopped = Event()

    def work(run: SweepRun) -> bool:
        if stopped.is_set():
            return True
        said(run, "begins")
        code = _simulate(run, sites, stopped)
        said(run, "done" if code == 0 else f"failed with exit code {code}")
        return code == 0

    waiting = [run for run in runs if not run.is_finished]
    with ThreadPoolExecutor(at_once) as pool:
        ended = {run.name: pool.submit(work, run) for run in waiting}
        try:
            return [run for run in waiting if not ended[run.name].result()]
        except KeyboardInterrupt:
            stopped.set()  # the runs are told by the terminal too; each keeps what is finished
            raise


def _simulate(run: SweepRun, sites: Path | None, stopped: Event) -> int:
    study = run.directory.with_name(f".{run.name}.toml")
    if (run.directory / "study.toml").is_file():
        arguments = ["--resume", str(run.directory)]
    else:
        write_study(run.study, study)
        arguments = [str(study), "--out", str(run.directory), *(["--sites", str(sites)] if sites else [])]
    command = [sys.executable, "-m", "deploy.cli", "simulate", *arguments, "--json"]
    log = run.directory.with_name(f"{run.name}.log")
    with log.open("ab") as stream, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream) as child:
        while True:
            try:
                code = child.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if stopped.is_set():
                    child.terminate()
    study.unlink(missing_ok=True)
    if code == 0:
        log.unlink(missing_ok=True)
    return code


def last_words(run: SweepRun) -> str:
    """The last line that a failed run left."""
    log = run.directory.with_name(f"{run.name}.log")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return lines[-1] if lines else "it said nothing"


def _take_up(out: Path, runs: Sequence[SweepRun]) -> None:
    """Make the folder, or check that it holds this sweep."""
    name = runs[0].study.study.name
    told: dict[str, object] = {run.name: json.loads(run.study.to_json()) for run in runs}
    file = out / _FILE
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        known: Mapping[str, object] = before.get("runs", {})
        changed = [run.name for run in runs if run.name in known and known[run.name] != told[run.name]]
        if changed or before.get("study") != name:
            raise BadInput(
                f"--out {out}: holds another sweep (run {(changed or ['?'])[0]} differs); name a new folder"
            )
        told = {**known, **told}
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {out}: is not empty and holds no sweep; name a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be created: {error.strerror}") from None
    write_json(file, {"study": name, "runs": told})


def _short(key: str, axes: Mapping[str, object]) -> str:
    """The last part of a key, or all of it where two keys end alike."""
    last = key.rpartition(".")[2]
    return key if sum(other.rpartition(".")[2] == last for other in axes) > 1 else last


def _in_name(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@+-]", "_", value.strip("\"'"))[:60]
