"""What a study will take, before it runs: noise, epsilon by round, bytes on the wire, rough time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from common.base_model import resolve_base
from common.model import build_classifier
from common.privacy.accounting import epsilon_after
from common.schedule import planned_steps, schedule
from common.study import Study
from common.study_mechanism import calibrated_noise_multiplier, central_noise_multiplier, sample_rate
from common.virtual_sites import virtual_sites
from common.weights import bytes_of
from common.wire import Phase
from deploy.console import wide_console
from deploy.simulation import resources_for

__all__ = ["Forecast", "SiteForecast", "forecast", "print_forecast"]

_LORA_GRADIENTS_PER_SECOND = 40.0
"""Embedded sentences a second and core for LoRA on the embedded model, seen on one machine; only a rough guide."""


@dataclass(frozen=True)
class SiteForecast:
    """One site of a study."""

    name: str
    declared_size: int
    sample_rate: float
    noise_multiplier: float
    delta: float
    epsilon_by_round: tuple[float, ...]


@dataclass(frozen=True)
class Forecast:
    """A study before it runs."""

    study: str
    digest: str
    private: bool
    rounds: int
    steps: int
    trainable_parameters: int
    bytes_per_round: int
    """Tensors to and from all sites in a round of the main phase."""
    example_gradients: int
    """Expected over all sites, the warm start left out."""
    rough_seconds: float
    warnings: tuple[str, ...]
    sites: tuple[SiteForecast, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def forecast(study: Study) -> Forecast:
    """Load the study's data and model, and work out what the study will take; trains nothing.

    Raises:
        BadInput: data or model cannot be used.
    """
    base = resolve_base(study.model.base)
    public = virtual_sites(study)
    classifier = build_classifier(study, base)
    weights = classifier.weights()
    planned = schedule(study)
    main_steps = sum(p.steps for p in planned if p.phase is Phase.TRAIN)
    gradients = main_steps * study.privacy.batch_size * len(public.sites)
    resources = resources_for(study)
    sites = tuple(_site(study, site.name, site.declared_size) for site in public.sites)
    return Forecast(
        study=study.study.name,
        digest=study.digest(base.digest),
        private=study.privacy.enabled,
        rounds=len(planned),
        steps=planned_steps(study),
        trainable_parameters=sum(value.size for value in weights.values()),
        bytes_per_round=2 * bytes_of(weights) * len(sites),
        example_gradients=gradients,
        rough_seconds=gradients / (_LORA_GRADIENTS_PER_SECOND * resources.workers * resources.threads),
        warnings=public.report.warnings,
        sites=sites,
    )


def print_forecast(found: Forecast) -> None:
    """Print a forecast for people."""
    console = wide_console()
    for warning in found.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    console.print(f"Study {found.study}, digest {found.digest[:16]}", markup=False)
    console.print(
        f"{found.rounds} rounds, {found.steps} steps a site, {found.trainable_parameters:,} trainable parameters, "
        f"{found.bytes_per_round / 1e6:.1f} MB a round, about {found.example_gradients:,} example gradients "
        f"(roughly {found.rough_seconds / 60:.0f} min for the embedded model on this machine)"
    )
    if not found.private:
        console.print("NOT PRIVATE: privacy.enabled = false")
        return
    table = Table(title="Sites", title_justify="left")
    table.add_column("site")
    for column in ("declared size", "sample rate", "noise multiplier", "delta"):
        table.add_column(column, justify="right")
    shown = sorted({1, (found.rounds + 1) // 2, found.rounds})
    for number in shown:
        table.add_column(f"epsilon after round {number}", justify="right")
    for site in found.sites[:20]:
        table.add_row(
            site.name,
            str(site.declared_size),
            f"{site.sample_rate:.4f}",
            f"{site.noise_multiplier:.4f}",
            f"{site.delta:.1e}",
            *(f"{site.epsilon_by_round[number - 1]:.3f}" for number in shown),
        )
    console.print(table)
    if len(found.sites) > 20:
        console.print(f"and {len(found.sites) - 20} more sites")


def _site(study: Study, name: str, declared_size: int) -> SiteForecast:
    delta, rate = study.delta_of(declared_size), sample_rate(study, declared_size)
    if not study.privacy.enabled:
        return SiteForecast(name, declared_size, rate, 0.0, delta, ())
    if study.privacy.unit == "institution":
        noise, delta, rate = central_noise_multiplier(study), study.delta_of(study.data.sites), 1.0
        curve = epsilon_after(rate, noise, range(1, len(schedule(study)) + 1), delta)
        return SiteForecast(name, declared_size, rate, noise, delta, tuple(curve))
    noise = calibrated_noise_multiplier(study, name, declared_size)
    totals, steps = [], 0
    for planned in schedule(study):
        steps += planned.steps
        totals.append(steps)
    return SiteForecast(name, declared_size, rate, noise, delta, tuple(epsilon_after(rate, noise, totals, delta)))
