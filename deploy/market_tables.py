"""What is told of an auction, for people and for machines; no bid is."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from deploy.console import wide_console
from server.economics.accuracy_curve import AccuracyCurve
from server.economics.auction import Outcome, planned_sites
from server.economics.market_files import BidsFile
from server.economics.money import in_units
from server.economics.weighting import gap_closed

__all__ = ["outcome_json", "print_outcome"]

_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


def outcome_json(file: BidsFile, outcome: Outcome, curve: AccuracyCurve | None) -> dict[str, object]:
    """What may be told of an auction: no bid."""
    sizes = {bid.site: bid.declared_size for bid in file.bid}
    won = [(sizes[award.bid.site], award.bid.epsilon) for award in outcome.awards]
    expected = [
        {"epsilon_times": scale, "accuracy": curve.at([(size, epsilon * scale) for size, epsilon in won])}
        for scale in _SCALES
        if curve is not None
    ]
    return {
        "currency": file.call.currency,
        "void": outcome.void,
        "price_cents_per_value": float(outcome.price),
        "total_cents": outcome.total_cents,
        "budget_cents": file.terms().budget_cents,
        "gap_closed": gap_closed(outcome.value, file.value.public_precision),
        "sites": [vars(each) for each in planned_sites(outcome)],
        "curve": expected,
        "curve_error": None if curve is None else curve.error,
    }


def print_outcome(told: dict[str, Any]) -> None:
    """Print an auction as :func:`outcome_json` tells it, with ``plan`` and ``written`` beside it."""
    console = wide_console()
    if not told["sites"]:
        why = (
            "fewer sites than call.min_sites would take part" if told["void"] else "no bid fits budget and reserve"
        )
        console.print(f"Nobody takes part and nobody is paid: {why}.")
        return
    table = Table(title=f"Who takes part ({told['currency']})", title_justify="left")
    for heading in ("site", "epsilon", "weight", "payment"):
        table.add_column(heading, justify="left" if heading == "site" else "right")
    for site in told["sites"]:
        payment = in_units(site["payment_cents"])
        table.add_row(escape(site["name"]), f"{site['epsilon']:g}", f"{site['weight']:.6f}", payment)
    console.print(table)
    console.print(
        f"Price {told['price_cents_per_value'] / 100:.6f} for a unit of value; {in_units(told['total_cents'])} of "
        f"{in_units(told['budget_cents'])} paid; {100 * told['gap_closed']:.1f} % of the gap closed, as assumed.",
        highlight=False,
    )
    for point in told["curve"]:
        times, accuracy = point["epsilon_times"], point["accuracy"]
        console.print(f"  expected accuracy at {times:g} times these epsilons: {accuracy:.4f}", highlight=False)
    console.print("The study's part that follows:")
    console.print(told["plan"], markup=False, highlight=False)
    for path in told["written"]:
        console.print(f"Written: {path}", markup=False, highlight=False)
