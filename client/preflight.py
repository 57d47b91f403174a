"""The preflight: a site proves on its actual model that training is private as written (PRIVACY P14).

It runs before any reservation, on random tokens, and sees training only from outside: one step of plain SGD at
rate 1 moves the weights by exactly the clipped sum, whatever computes it. That sum is held against gradients of
single units (examples, or persons with their rows) from plain autograd. Dropout is off meanwhile, since two passes
must agree.

The tolerance in float32 is 1e-3. Padding and batching change the order of float32 additions, which moved no
gradient by more than 1e-5 of its norm here, and the clipping keeps 1e-4 below C; what breaks the rule (a parameter
left out, counted twice, or mixed over a batch) moves it by a large part of its norm. Under bfloat16, whose numbers
are 2^-8 apart, a gradient may be off by 0.1 of its norm. No unit alone may pass C, with no tolerance in either.
Not seen: a parameter that the norm leaves out where it is under 1.4 % of the gradient of every unit looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from client.preflight_conditions import comparable
from client.preflight_texts import LENGTHS, PERSONS, random_texts
from client.trainer import LocalTrainer, SiteFacts, only_trainable
from client.training import LocalOptimizer, StepPlan, Trainee, train_privately
from common.errors import RunFailed
from common.model import Classifier
from common.study import Study

__all__ = ["PreflightCheck", "PreflightReport", "preflight", "require_preflight"]

_DIVISOR = 2.0**-20  # of the sum: makes a step so large that the weights' own rounding does not matter

Gradient = list[torch.Tensor]


@dataclass(frozen=True)
class PreflightCheck:
    """One thing that was proved, or not."""

    name: str
    """Which part trains, in which precision, and what was looked at."""
    passed: bool
    detail: str
    """What was found, with its numbers and limits."""


@dataclass(frozen=True)
class PreflightReport:
    """All that was looked at, in order."""

    checks: tuple[PreflightCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def require_preflight(classifier: Classifier, study: Study) -> None:
    """Run :func:`preflight` and go on only if all is well.

    Raises:
        RunFailed: a check failed; the message names the first.
    """
    for check in preflight(classifier, study).checks:
        if not check.passed:
            raise RunFailed(
                f"preflight: {check.name}: {check.detail}; this model would not train privately: change "
                "[model] base or trainable, and see all checks with: hanse preflight"
            )


def preflight(classifier: Classifier, study: Study) -> PreflightReport:
    """Look at every phase of ``study`` on ``classifier``, where it lies; leaves weights and modes as they were.

    Never touches a site's data: texts and labels are random. Nor does it draw from torch's own generators.
    """
    with comparable(classifier):
        trainer = _trainer_on_random_texts(classifier, study)
        checks = [check for head_only in _phases(study) for check in _prove_phase(trainer, study, head_only)]
    return PreflightReport(tuple(checks))


def _phases(study: Study) -> list[bool]:
    """For each phase whether it trains the head alone."""
    if study.model.trainable == "head":
        return [True]
    return [True, False] if study.model.warm_start_steps else [False]


def _prove_phase(trainer: LocalTrainer, study: Study, head_only: bool) -> list[PreflightCheck]:
    """The checks of one phase: in float32, and also in bfloat16 where the study trains in it."""
    part = "head" if head_only else study.model.trainable
    units = range(len(set(PERSONS)) if study.privacy.unit == "group" else len(LENGTHS))
    names = list(trainer.classifier.trainable(head_only))
    with only_trainable(trainer.classifier, head_only) as parameters:
        trainee = trainer.head_trainee(parameters, [np.array(units)]) if head_only else trainer.trainee(parameters)
        proof = _Proof(_Steps(replace(trainee, precision=nullcontext)), units, names, _FLOAT32)
        checks = _results(proof, _EVERY_CHECK, f"{part}, float32")
        if trainee.precision is not nullcontext:
            proof = _Proof(_Steps(trainee), units, names, _BFLOAT16)
            checks += _results(proof, _CHECKS_OF_BFLOAT16, f"{part}, bfloat16")
    return checks


@dataclass(frozen=True)
class _Tolerance:
    relative: float
    """Of a gradient's norm."""
    floor: float
    """A parameter's part is measured by its own norm, or by this share of the whole gradient's if larger."""


_FLOAT32 = _Tolerance(relative=1e-3, floor=1e-2)
_BFLOAT16 = _Tolerance(relative=0.1, floor=1.0)


class _KnownNoise:
    """Noise that is no noise: every entry is moved by exactly one standard deviation."""

    private: ClassVar[bool] = False

    def poisson_batch(self, population: int, sample_rate: float) -> NDArray[np.int64]:
        return np.arange(population)

    def noisy_sum(self, total: torch.Tensor, standard_deviation: float) -> torch.Tensor:
        return total.detach() + standard_deviation


class _Steps:
    """A trainee seen from outside: gradients by plain autograd, and what a private step moves."""

    def __init__(self, trainee: Trainee) -> None:
        self._trainee = trainee
        self._start = [parameter.detach().clone() for parameter in trainee.parameters]

    def plain_gradient(self, index: int) -> Gradient:
        """Gradient of one unit in a batch of its own, with nothing of the private path involved.

        That of an example's loss, or of the mean over a person's rows.
        """
        network, parameters = self._trainee.network, list(self._trainee.parameters)
        network.train()
        (batch,) = self._trainee.batches(np.array([index]))
        with self._trainee.precision(), self._trainee.perturbed(batch):
            logits = network(**batch.inputs).logits
        loss = self._trainee.losses(logits, batch).mean()
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return [gradient.float() for gradient in found]

    def private_sum(self, indexes: Sequence[int], max_grad_norm: float, noise_multiplier: float = 0.0) -> Gradient:
        """The noisy clipped sum of a batch, as one private step moves the weights by it."""
        plan = StepPlan(1.0, noise_multiplier, max_grad_norm, _DIVISOR, steps=1)
        sgd = LocalOptimizer("sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0)
        try:
            train_privately(self._trainee, plan, sgd, [np.array(indexes, np.int64)], _KnownNoise())
            pairs = zip(self._start, self._trainee.parameters, strict=True)
            return [(start - parameter.detach()) * _DIVISOR for start, parameter in pairs]
        finally:
            with torch.no_grad():
                for start, parameter in zip(self._start, self._trainee.parameters, strict=True):
                    parameter.copy_(start)


class _Proof:
    """Private steps held against plain gradients; each method tells whether they agree, and by what numbers."""

    def __init__(self, steps: _Steps, units: range, names: list[str], tolerance: _Tolerance) -> None:
        self._steps, self._units, self._names, self._tolerance = steps, units, names, tolerance
        self._known_norms: list[float] = []

    def alone(self) -> tuple[bool, str]:
        loose = 4 * max(self._norms())
        return self._agree((self._steps.private_sum([index], loose), self._plain(index)) for index in self._units)

    def in_a_batch(self) -> tuple[bool, str]:
        loose = 4 * max(self._norms())
        return self._agree(
            [(self._steps.private_sum(self._units, loose), self._weighted([1.0] * len(self._units)))]
        )

    def clipped(self) -> tuple[bool, str]:
        """C is below every gradient's norm, so that each unit must be scaled, and each by another factor."""
        norm = min(self._norms()) / 2
        factors = [norm / own for own in self._norms()]

        def pairs() -> Iterator[tuple[Gradient, Gradient]]:
            whole = self._steps.private_sum(self._units, norm)
            yield whole, self._weighted(factors)
            for index in self._units:
                others = self._steps.private_sum([other for other in self._units if other != index], norm)
                contribution = [one - other for one, other in zip(whole, others, strict=True)]
                del others
                yield contribution, [part * factors[index] for part in self._plain(index)]

        alone = _largest(_norm(self._steps.private_sum([index], norm)) / norm for index in self._units)
        agree, detail = self._agree(pairs())
        return agree and alone <= 1, f"a unit alone moves the sum by {alone:.5f} C (at most 1); {detail}"

    def empty(self) -> tuple[bool, str]:
        still = _largest(float(value.abs().max()) for value in self._steps.private_sum([], 1.0))
        noised = self._steps.private_sum([], 1.0, noise_multiplier=1.0)
        off = _largest(float((value - 1).abs().max()) for value in noised)
        return (
            still == 0.0 and off < 1e-3,
            f"moves weights by {still:.1e} without noise, and by the noise within {off:.1e} (at most 1e-03)",
        )

    def _plain(self, index: int) -> Gradient:
        """A unit's own gradient; computed each time, for several of a large model fill the memory."""
        return self._steps.plain_gradient(index)

    def _norms(self) -> list[float]:
        if not self._known_norms:
            norms = [_norm(self._plain(index)) for index in self._units]
            if not all(0 < norm < float("inf") for norm in norms):
                raise RunFailed("a plain gradient is zero or not finite, which proves nothing")
            self._known_norms = norms
        return self._known_norms

    def _weighted(self, factors: Sequence[float]) -> Gradient:
        """The sum of all units' gradients, each times its factor."""
        total = [part * factors[0] for part in self._plain(self._units[0])]
        for index, factor in zip(self._units[1:], factors[1:], strict=True):
            for held, part in zip(total, self._plain(index), strict=True):
                held.add_(part, alpha=factor)
        return total

    def _agree(self, pairs: Iterable[tuple[Gradient, Gradient]]) -> tuple[bool, str]:
        """Whether each gradient found is the one wanted, in every parameter's part."""
        worst, limit = (0.0, self._names[0]), self._tolerance.relative
        for found, wanted in pairs:
            floor = self._tolerance.floor * _norm(wanted)
            for name, one, other in zip(self._names, found, wanted, strict=True):
                error = float((one - other).norm()) / max(float(other.norm()), floor)
                worst = max(worst, (_largest([error]), name))
        return worst[0] <= limit, f"off by {worst[0]:.1e} of the norm (at most {limit:.0e}), most in {worst[1]}"


_Look = Callable[[_Proof], tuple[bool, str]]
_EVERY_CHECK: Mapping[str, _Look] = {
    "a unit alone has its own gradient": _Proof.alone,
    "a batch has the gradients of its units": _Proof.in_a_batch,
    "every parameter is clipped, every unit to C": _Proof.clipped,
    "an empty batch is noise alone": _Proof.empty,
}
_CHECKS_OF_BFLOAT16 = {name: look for name, look in _EVERY_CHECK.items() if look is _Proof.clipped}
"""It holds units alone, in company and as a whole to C; the rest knows no precision, or was proved in float32."""


def _results(proof: _Proof, checks: Mapping[str, _Look], where: str) -> list[PreflightCheck]:
    """What the checks of one phase in one precision find; whatever breaks inside one is its failure."""
    found = []
    for name, look in checks.items():
        try:
            passed, detail = look(proof)
        except Exception as error:  # noqa: BLE001 - any error here means that training would not work
            passed, detail = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
        found.append(PreflightCheck(f"{where}: {name}", passed, detail))
    return found


def _largest(values: Iterable[float]) -> float:
    """The largest; infinite where one is NaN, which compares as neither larger nor smaller."""
    return max(float("inf") if math.isnan(value) else value for value in values)


def _norm(gradient: Gradient) -> float:
    return float(torch.stack([part.norm() for part in gradient]).norm())


def _trainer_on_random_texts(classifier: Classifier, study: Study) -> LocalTrainer:
    """The site's own trainer, with its collator, on random texts."""
    texts = random_texts(classifier, study)
    return LocalTrainer(SiteFacts("preflight", 0, texts.units), study, texts, classifier, noise_multiplier=0.0)
