"""`hanse market`: buy privacy at auction or at a posted price, pay contributions, simulate an economy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import BadInput

if TYPE_CHECKING:
    from server.economics.accuracy_curve import AccuracyCurve
    from server.economics.market_files import BidsFile
    from server.economics.rewards import Limits

__all__ = ["app"]

app = typer.Typer(help="The market for privacy, and payment of contributions.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Key = Annotated[Path | None, typer.Option(help="The coordinator's signing key; see: hanse release key.")]
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


@app.command("run")
def run_market(
    bids: Annotated[Path, typer.Argument(metavar="BIDS.toml", help="The call and the sealed bids.")],
    out: Annotated[Path | None, typer.Option(help="New folder for plan.toml and payments.json.")] = None,
    key: _Key = None,
    past: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="RUN", help="A finished run to fit the accuracy curve to; three or more."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Run a sealed auction: who takes part, at what price, and the study plan that follows.

    Without --out it prints and writes nothing.
    """
    from common.privacy.ledger.keys import load_site_key
    from deploy.market_tables import outcome_json, print_outcome
    from server.economics.auction import run_auction
    from server.economics.auction_result import plan_fragment, write_auction
    from server.economics.market_files import read_bids

    if (out is None) != (key is None):
        raise BadInput("--out and --key: payments are written signed; give both or neither")
    file = read_bids(bids)
    outcome = run_auction(file.bids(), file.terms())
    curve = _curve(file, past or [])
    written = write_auction(file, outcome, load_site_key(key), out) if out and key else []
    told = outcome_json(file, outcome, curve) | {
        "plan": plan_fragment(outcome),
        "written": list(map(str, written)),
    }
    if as_json:
        print(json.dumps(told, indent=2, sort_keys=True))
        return
    print_outcome(told)


@app.command()
def price(
    sellers: Annotated[Path, typer.Argument(metavar="SELLERS.toml", help="Gain, and sites with cost and cap.")],
    as_json: _Json = False,
) -> None:
    """Find the price per unit of epsilon that is best for the coordinator when sites answer in their interest."""
    from server.economics.market_files import read_sellers
    from server.economics.stackelberg import equilibrium

    file = read_sellers(sellers)
    found = equilibrium(file.sellers(), file.worth())
    if as_json:
        print(json.dumps({**vars(found)}, indent=2, sort_keys=True))
        return
    from rich.markup import escape
    from rich.table import Table

    from deploy.console import wide_console

    table = Table(title=f"Posted price {found.price:.6f} per unit of epsilon", title_justify="left")
    for heading in ("site", "epsilon", "payment"):
        table.add_column(heading, justify="left" if heading == "site" else "right")
    for site, epsilon in found.epsilons.items():
        table.add_row(escape(site), f"{epsilon:.6f}", f"{found.payments[site]:.6f}")
    console = wide_console()
    console.print(table)
    console.print(f"Gain {found.gain:.6f}, less payments {found.utility:.6f}.", highlight=False)


@app.command()
def pay(
    run: Annotated[Path, typer.Argument(help="Run directory; for policy shapley with contribution.json.")],
    pot: Annotated[str, typer.Option(help="What is shared, such as 10000.00.")],
    key: Annotated[Path, typer.Option(help="The coordinator's signing key; see: hanse release key.")],
    policy: Annotated[str, typer.Option(help="shapley, equal or size.")] = "shapley",
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SITE=]FLOOR:CAP", help="Least and most a site gets; either may be empty. Repeat it."
        ),
    ] = None,
    payments: Annotated[Path | None, typer.Option(help="The auction's payments.json, of the same key.")] = None,
    as_json: _Json = False,
) -> None:
    """Share a pot among the sites of a run, to the cent, with a signed statement for each in RUN/payouts."""
    from common.privacy.ledger.keys import load_site_key
    from server.economics.auction_result import payments_from
    from server.economics.money import cents_of
    from server.economics.payout import Pot, statements_of, write_statements
    from server.economics.rewards import Policy
    from server.finished_run import run_to_pay

    if policy not in {each.value for each in Policy}:
        raise BadInput(f"--policy {policy}: must be shapley, equal or size")
    signing = load_site_key(key)
    paid = run_to_pay(run)
    auction = payments_from(payments, signing.public_hex) if payments else {}
    currency = _currency(payments)
    limits = _limits(limit or [], list(paid.sizes))
    shared = Pot(cents_of(pot, "--pot"), currency, Policy(policy), limits, auction)
    statements = statements_of(paid, shared)
    folders = write_statements(statements, signing, run / "payouts")
    if as_json:
        print(
            json.dumps({"statements": [vars(s) for s in statements], "written": list(map(str, folders))}, indent=2)
        )
        return
    from rich.markup import escape
    from rich.table import Table

    from deploy.console import wide_console
    from server.economics.money import in_units

    table = Table(title=f"Payouts in {currency}, by {policy}", title_justify="left")
    for heading in ("site", "contribution", "payout", "for privacy", "share of the model"):
        table.add_column(heading, justify="left" if heading == "site" else "right")
    for each in statements:
        value = "-" if each.contribution is None else f"{each.contribution:.6f}"
        owned = f"{each.ownership_millionths / 10_000:.4f} %"
        table.add_row(escape(each.site), value, in_units(each.payout_cents), in_units(each.auction_cents), owned)
    console = wide_console()
    console.print(table)
    console.print(
        f"Kept: {in_units(statements[0].kept_cents)}. Signed statements: {run / 'payouts'}", markup=False
    )


@app.command()
def loop(
    periods: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 24,
    sites: Annotated[int, typer.Option(min=1, max=1000, help="Sites at the start.")] = 6,
    entry: Annotated[float, typer.Option(min=0, max=1, help="Chance in a period that a site comes.")] = 0.3,
    feedback: Annotated[
        bool, typer.Option(help="Value bids by what past contributions say of a site's quality.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the economy.")] = 0,
    as_json: _Json = False,
) -> None:
    """Simulate an economy of many periods: call, auction, training, contribution, payment, feedback, entry, exit.

    The mechanisms are the real ones; training is a formula (docs/economics.md).
    """
    from dataclasses import asdict

    from server.economics.economy import Economy, simulate_economy, summary

    economy = Economy(periods=periods, founders=sites, entry=entry, feedback=feedback, seed=seed)
    found = simulate_economy(economy)
    total = summary(found)
    if as_json:
        told = {"economy": asdict(economy), "periods": [asdict(each) for each in found], "summary": total}
        print(json.dumps(told, indent=2, sort_keys=True))
        return
    from rich.table import Table

    from deploy.console import wide_console
    from server.economics.money import in_units

    table = Table(title="A simulated economy (training is a formula)", title_justify="left")
    for heading in ("period", "present", "in", "out", "reserve", "trained", "paid", "bonus", "score", "funds"):
        table.add_column(heading, justify="left" if heading == "reserve" else "right")
    for each in found:
        money = (in_units(sum(each.payments.values())), in_units(sum(each.bonuses.values())))
        counts = (str(each.period), str(each.present), str(len(each.entered)), str(len(each.left)), each.reserve)
        table.add_row(*counts, str(len(each.winners)), *money, f"{each.score:.4f}", in_units(each.funds))
    console = wide_console()
    console.print(table)
    console.print(
        f"Score of the first third {total['score_first_third']:.4f}, of the last {total['score_last_third']:.4f}; "
        f"{total['entered']:.0f} sites came, {total['left']:.0f} left.",
        highlight=False,
    )


def _curve(file: BidsFile, runs: list[Path]) -> AccuracyCurve | None:
    from server.economics.accuracy_curve import fitted_curve, past_run

    return fitted_curve([past_run(each) for each in runs], file.value) if runs else None


def _currency(payments: Path | None) -> str:
    if payments is None:
        return "EUR"
    return str(json.loads(payments.read_text(encoding="utf-8"))["body"]["currency"])  # verified before


def _limits(given: list[str], sites: list[str]) -> dict[str, Limits]:
    from server.economics.money import cents_of
    from server.economics.rewards import Limits

    found: dict[str, Limits] = {}
    for text in given:
        name, equals, amounts = text.rpartition("=")
        floor, colon, cap = amounts.partition(":")
        if not colon or (equals and name not in sites):
            raise BadInput(f"--limit {text}: write [SITE=]FLOOR:CAP with a site of {', '.join(sites)}")
        limits = Limits(
            cents_of(floor, f"--limit {text}: floor") if floor else 0,
            cents_of(cap, f"--limit {text}: cap") if cap else None,
        )
        found |= dict.fromkeys([name] if equals else sites, limits)
    return found
