"""`hanse contribution`: what each site added to a run's model, from the run record alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from server.economics.contribution import Question
    from server.kept_run import KeptRun

__all__ = ["contribution"]


def contribution(
    run: Annotated[Path, typer.Argument(help="Run directory of a study with federation.keep_updates = true.")],
    utility: Annotated[
        str, typer.Option(help="loss, accuracy, macro_f1, matthews_correlation or expected_calibration_error.")
    ] = "loss",
    union: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Nodes of one institution: they are valued as one. Repeat it."),
    ] = None,
    whole_run: Annotated[
        bool, typer.Option("--whole-run", help="One game for the whole run instead of one a round: quicker.")
    ] = False,
    evaluations: Annotated[
        int | None, typer.Option(min=1, help="Above ten sites: most coalitions scored in a game.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that score; 0 chooses.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Value each site: Shapley (exact up to ten sites), Banzhaf, leave-one-out, and signs of gaming.

    Writes contribution.json into the run directory. What was scored is kept there, so that an interrupted
    command goes on.
    """
    from server.economics.coalition_score import FIGURES
    from server.economics.contribution import Question, contributions, planned_evaluations
    from server.economics.contribution_record import contribution_record, write_contribution_record
    from server.economics.signs import Draws, signals, sketch
    from server.kept_run import open_kept_run
    from server.kept_updates import read_kept_updates

    if utility not in FIGURES:
        from common.errors import BadInput

        raise BadInput(f"--utility {utility}: must be one of {', '.join(FIGURES)}")
    opened = open_kept_run(run.resolve())
    unions = tuple(tuple(name.strip() for name in given.split(",")) for given in union or [])
    question = Question(utility, unions, whole_run, evaluations)
    planned = planned_evaluations(opened, question)
    with _executor(opened, question, workers, planned) as executor, _bar(planned, as_json) as tick:
        found = contributions(opened, question, executor, tick)
    rounds = [
        sketch(read_kept_updates(opened.directory.updates, number, opened.study).kept) for number in opened.present
    ]
    known = not opened.study.privacy.enabled and opened.declared_sizes.keys() >= set(opened.sites)
    draws = Draws(opened.drawn, opened.declared_sizes) if known else None
    seen, told_apart = signals(rounds, found.sites, draws)
    record = contribution_record(opened, found, seen, told_apart)
    write_contribution_record(opened.directory.contribution, record)
    if as_json:
        print(json.dumps(record, indent=2, sort_keys=True))
    else:
        _print(record, opened.directory.contribution)


@contextmanager
def _executor(run: KeptRun, question: Question, workers: int, planned: int) -> Iterator[Executor | None]:
    """Processes where scoring is slow enough to pay for starting them: where the encoder moves."""
    import os

    from common.wire import Phase
    from server.economics.coalition_score import moves_the_encoder

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slow = moves_the_encoder(run.study, Phase.TRAIN) and planned > 4 * cores
    wanted = workers or (cores if slow else 1)
    if wanted == 1:
        yield None
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(wanted, context, _one_thread, (max(1, cores // wanted),)) as pool:
        yield pool


def _one_thread(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@contextmanager
def _bar(planned: int, quiet: bool) -> Iterator[Any]:
    """A progress bar on a terminal; in any case the number of evaluations is told before the start."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from deploy.console import wide_console

    console = wide_console()
    if quiet:
        yield None
        return
    console.print(f"At most {planned} coalitions are to be scored; those known from before are not scored again.")
    columns = (TextColumn("scoring coalitions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=planned)
        yield lambda: progress.advance(task)


def _print(record: dict[str, Any], path: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    from deploy.console import wide_console

    console = wide_console()
    unions = any(site["owen"] is not None for site in record["sites"])
    table = Table(title="Contributions", title_justify="left")
    table.add_column("site")
    value = ["Shapley", *(["Owen"] if unions else []), "share"]
    for heading in (*value, "Banzhaf", "leave-one-out", "games"):
        table.add_column(heading, justify="right")
    table.add_column("signs")
    for site in record["sites"]:
        interval = "" if site["half_width"] is None else f" ± {site['half_width']:.6f}"
        table.add_row(
            escape(site["site"]),
            f"{site['shapley']:.6f}{interval}",
            *([f"{site['owen']:.6f}"] if unions else []),
            f"{site['ownership_millionths'] / 10_000:.2f} %",
            f"{site['banzhaf']:.6f}",
            f"{site['leave_one_out']:.6f}",
            str(site["games"]),
            escape(", ".join(sign["sign"] for sign in site["signs"])),
        )
    console.print(table)
    for site in record["sites"]:
        for sign in site["signs"]:
            console.print(f"{site['site']}: {sign['sign']}: {sign['because']}", markup=False, highlight=False)
    console.print(
        f"{record['method']}: from {record['base']:.6f} to {record['final']:.6f}, gain {record['gain']:.6f}, "
        f"of which nobody's {record['unattributed']:.6f}; {record['evaluations']} coalitions scored.",
        highlight=False,
    )
    if not record["copies_would_show"]:
        console.print("Whether sites hold the same data cannot be told here: too few rounds, or noise.")
    for line in [*record["caveats"], *([record["confidential"]] if record["confidential"] else [])]:
        console.print(line, markup=False)
    console.print(f"Written: {path}", markup=False, highlight=False)
