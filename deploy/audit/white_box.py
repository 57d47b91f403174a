"""The white-box audit: canaries of norm C in known directions, seen in every step of one run of the real loop.

Each of m canaries goes in by its own coin; in each step the length of the released sum along every canary's
direction is read. Five bounds come from that, none of which may pass the claim.

===============  ==============================================================================================
component        one step's noise, the sampler's draws known, composed by PLD: the main figure
profile test     the best rule of half of the canaries against the claim's whole curve, on the other half
one run          guesses on all canaries (``common.audit.one_run``)
one run, curve   the same guesses against the claim's curve; the figure is read as a Gaussian mechanism's
Gaussian         errors of a threshold from half of the canaries; a claim about Gaussian mechanisms alone
===============  ==============================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.audit.component import component_bound
from common.audit.one_run import Guesses, count_guesses, one_run_epsilon
from common.audit.one_run_trade_off import one_run_mu, refutes
from common.audit.trade_off import ProfileCurve, curve_of, gaussian_epsilon
from common.audit.trials import Trials, best_rule, count_trials, mu_lower_bound, profile_test
from common.errors import BadInput
from common.privacy.mechanism import SampledGaussian
from deploy.audit.canaries import CanaryNetwork, coins, with_canaries
from deploy.audit.pipeline import Released
from deploy.audit.registration import Guessing
from deploy.audit.result import Bound
from deploy.audit.site_copy import SiteCopy

__all__ = ["CANARY_NORM", "Observations", "component_figure", "observe", "white_box_bounds"]

CANARY_NORM = 100.0
"""Of a canary's gradient before clipping, in units of C: a step that clips too late is moved by as much."""


@dataclass(frozen=True, eq=False)
class Observations:
    """What one run showed of its canaries."""

    projections: NDArray[np.float64]
    """Length of the released sum along each direction, in units of C: ``(steps, canaries)``."""
    drawn: NDArray[np.bool_]
    """Whether the canary was in the step's batch: ``(steps, canaries)``."""
    included: NDArray[np.bool_]
    """Whether its coin put it into the data: ``(canaries,)``."""
    batches: tuple[NDArray[np.int64], ...]
    """Rows of every batch as they reached the network; a real site's stay there."""
    rows: int
    """Of the data, canaries that went in included."""


def observe(copy: SiteCopy, canaries: int, seed: int) -> Observations:
    """Train the whole study once at the copy, with canaries, and keep what every step released along them."""
    included = coins(canaries, seed)
    audited = with_canaries(copy.texts, included, CANARY_NORM * copy.study.privacy.max_grad_norm)
    projections: list[NDArray[np.float64]] = []
    drawn: list[NDArray[np.bool_]] = []
    batches: list[NDArray[np.int64]] = []

    def watch(network: CanaryNetwork, rows: NDArray[np.int64], released: Released) -> None:
        projections.append(network.projections(released["canary table"], released["canary line"]))
        seen = np.zeros(canaries, dtype=bool)
        codes = audited.codes[rows]
        seen[codes[codes >= 0]] = True
        drawn.append(seen)
        batches.append(rows)

    copy.train(copy.trainer(audited, watch))
    return Observations(np.array(projections), np.array(drawn), included, tuple(batches), len(audited.texts))


def white_box_bounds(
    seen: Observations, claimed: SampledGaussian, claim: tuple[float, float], guessing: Guessing, confidence: float
) -> tuple[Bound, ...]:
    """The five bounds, each true with ``confidence`` by itself.

    Args:
        seen: the observations.
        claimed: mechanism of the run.
        claim: (epsilon, delta).
        guessing: how many guesses, fixed beforehand.
        confidence: of each bound.
    """
    scores = _scores(seen.projections, claimed)
    curve = curve_of(claimed)
    return (
        component_figure(seen, claimed, claim, confidence),
        _profile(scores, seen.included, curve, claim[0], confidence),
        _one_run(scores[:, 0], seen.included, claim, guessing.one_run, confidence),
        _one_run_curve(scores[:, 0], seen.included, curve, claim, guessing.curve, confidence),
        _gaussian(scores[:, 0], seen.included, claim, confidence),
    )


def _scores(projections: NDArray[np.float64], claimed: SampledGaussian) -> NDArray[np.float64]:
    """Three scores of each canary over the run: exact log-likelihood ratio, sum, and the largest step."""
    q, variance = claimed.sample_rate, claimed.noise_multiplier**2
    usable = np.nan_to_num(projections, nan=1e6, posinf=1e6, neginf=-1e6).clip(-1e6, 1e6)
    ratio = np.logaddexp(np.log1p(-q) if q < 1 else -np.inf, np.log(q) + (usable - 0.5) / variance)
    return np.stack([ratio.sum(0), usable.sum(0), usable.max(0)], axis=1)


def component_figure(
    seen: Observations, claimed: SampledGaussian, claim: tuple[float, float], confidence: float
) -> Bound:
    """The main figure: one step's noise from every step of every canary, composed by PLD."""
    inside, outside = seen.projections[seen.drawn], seen.projections[~seen.drawn]
    if not min(inside.size, outside.size):
        raise BadInput("canaries: none was drawn, or every one in every step; use more")
    found = component_bound(outside, inside, claimed, claim[1], confidence)
    most = mu_lower_bound(Trials(outside.size, 0, inside.size, 0), confidence)
    return Bound(
        method="component",
        epsilon=found.epsilon,
        exceeds=found.epsilon > claim[0],
        detail=f"{inside.size:,} steps with a canary and {outside.size:,} without; noise multiplier at most "
        f"{found.noise_multiplier:.4g}, claimed {claimed.noise_multiplier:.4g}",
        ceiling=f"sees a noise multiplier down to {1 / most:.2g}; it takes the sampler on trust, which N tests",
    )


def _profile(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    curve: ProfileCurve,
    claimed: float,
    confidence: float,
) -> Bound:
    half = len(included) // 2
    rule = best_rule(scores[:half][~included[:half]], scores[:half][included[:half]], curve)
    tested, there = scores[half:, rule.score], included[half:]
    trials = count_trials(tested[~there], tested[there], rule.threshold)
    verdict = profile_test(trials, curve, confidence)
    return Bound(
        method="profile test",
        epsilon=None,
        exceeds=verdict.refuted,
        detail=f"true positives at least {verdict.true_positive_rate:.4g} at false positives up to "
        f"{verdict.false_positive_rate:.4g}; the claim of {claimed:.4g} allows {verdict.most_allowed:.4g}",
        ceiling=f"{trials.excluded} canaries out show no false positive rate below "
        f"{1 - (1 - confidence) ** (1 / max(1, trials.excluded)):.2g}",
    )


def _one_run(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    claim: tuple[float, float],
    guesses: int,
    confidence: float,
) -> Bound:
    made = _guessed(scores, included, guesses)
    found = one_run_epsilon(made, claim[1], confidence)
    most = one_run_epsilon(Guesses(made.canaries, made.made, made.made), claim[1], confidence)
    return Bound(
        method="one run",
        epsilon=found,
        exceeds=found > claim[0],
        detail=f"{made.right} of {made.made} guesses right on {made.canaries} canaries",
        ceiling=_ceiling(most, claim[0]),
    )


def _one_run_curve(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    curve: ProfileCurve,
    claim: tuple[float, float],
    guesses: int,
    confidence: float,
) -> Bound:
    made = _guessed(scores, included, guesses)
    most = one_run_mu(Guesses(made.canaries, made.made, made.made), confidence)
    return Bound(
        method="one run, curve",
        epsilon=gaussian_epsilon(one_run_mu(made, confidence), claim[1]),
        exceeds=refutes(made, curve, confidence),
        detail=f"{made.right} of {made.made} guesses right on {made.canaries} canaries; the figure reads the run "
        "as a Gaussian mechanism, the verdict is about the claim's own curve",
        ceiling=_ceiling(gaussian_epsilon(most, claim[1]), claim[0]),
    )


def _gaussian(
    scores: NDArray[np.float64], included: NDArray[np.bool_], claim: tuple[float, float], confidence: float
) -> Bound:
    half = len(included) // 2
    first, there = scores[:half], included[:half]
    threshold = float((np.median(first[there]) + np.median(first[~there])) / 2)
    tested, truth = scores[half:], included[half:]
    trials = count_trials(tested[~truth], tested[truth], threshold)
    most = mu_lower_bound(Trials(trials.excluded, 0, trials.included, 0), confidence)
    return Bound(
        method="Gaussian",
        epsilon=gaussian_epsilon(mu_lower_bound(trials, confidence), claim[1]),
        exceeds=False,
        detail=f"{trials.false_positives} of {trials.excluded} and {trials.false_negatives} of {trials.included} "
        "guesses wrong; no verdict, since a sampled run is no Gaussian mechanism",
        ceiling=_ceiling(gaussian_epsilon(most, claim[1]), claim[0]),
    )


def _guessed(scores: NDArray[np.float64], included: NDArray[np.bool_], guesses: int) -> Guesses:
    return count_guesses(scores, included, guesses // 2, guesses - guesses // 2)


def _ceiling(most: float, claimed: float) -> str:
    words = f"with every guess right it would be {most:.3g}"
    return words if most > claimed else f"{words}: it can never contradict this claim"
