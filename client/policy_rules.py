"""What a policy says to a study: a function of plan, policy and ledger alone (PRIVACY P15).

The rules stand in one table, in the order in which they are asked. The first that is broken decides the code
that the ledger keeps, so that two sites with the same policy give the same answer whatever their data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from client.policy import Policy
from common.errors import PolicyRefusal
from common.privacy.granting import Refusal
from common.privacy.spending import gauge, price
from common.schedule import schedule
from common.study import Study
from common.study_mechanism import round_mechanism

__all__ = ["CODES", "PolicyRequest", "check_policy", "policy_request", "refusals"]


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """What a study asks of a site, and all that the site's ledger says about it."""

    study: Study
    study_digest: str
    """SHA-256 (hex) of the study and its base model."""
    noise_multiplier: float
    """As calibrated with the site's budget; 0 where the site adds no noise."""
    study_epsilon: float
    """The study's epsilon for this site."""
    round_epsilon: float
    """Epsilon of the dearest round, taken alone; 0 where the site is charged nothing."""
    approved: bool
    """Whether the ledger holds an approval of the study that has not ended."""
    today: date
    """In UTC; passed in, so that the answer is a function of its arguments."""


def policy_request(
    policy: Policy, study: Study, study_digest: str, noise_multiplier: float, approved: bool, today: date
) -> PolicyRequest:
    """What ``study`` asks of the policy's site; the dearest round is priced only where the policy bounds it."""
    dearest = 0.0
    if policy.budget.epsilon_per_round is not None and noise_multiplier > 0:
        steps = max(planned.steps for planned in schedule(study))
        mechanism = round_mechanism(study, policy.dataset.declared_size, noise_multiplier, steps)
        dearest = gauge(policy.terms, price(policy.terms, mechanism))
    return PolicyRequest(
        study=study,
        study_digest=study_digest,
        noise_multiplier=noise_multiplier,
        study_epsilon=study.epsilon_of(policy.site.name),
        round_epsilon=dearest,
        approved=approved or policy.allow.approval == "none",
        today=today,
    )


def check_policy(policy: Policy, request: PolicyRequest) -> None:
    """Agree to a study, or raise :class:`Refusal` with the first code of :data:`CODES` that applies.

    The refusal's message is one line that names the field, the value asked, what the policy allows, and the
    mend. It is told to the coordinator.
    """
    for refusal in refusals(policy, request):
        raise refusal


def refusals(policy: Policy, request: PolicyRequest) -> tuple[Refusal, ...]:
    """Every rule that the study breaks, in the order of :data:`CODES`; none: the policy agrees."""
    broken = ((code, rule(policy, request)) for code, rule in _RULES)
    return tuple(Refusal(code, PolicyRefusal(message)) for code, message in broken if message)


def _approval(policy: Policy, request: PolicyRequest) -> str | None:
    if policy.allow.approval == "none" or request.approved:
        return None
    return (
        f"study.name = {_shown(request.study.study.name)}: policy allows approved studies only; "
        f"the officer approves it with `hanse policy approve {request.study_digest}`"
    )


def _expiry(policy: Policy, request: PolicyRequest) -> str | None:
    ends = policy.allow.expires
    if ends is None or request.today <= ends:
        return None
    return f"today = {request.today}: policy allows studies up to {ends}; the officer moves allow.expires"


def _unit(policy: Policy, request: PolicyRequest) -> str | None:
    asked = request.study.privacy
    if not asked.enabled or asked.unit == policy.dataset.unit:
        return None
    return (
        f"privacy.unit = {_shown(asked.unit)}: policy allows {_shown(policy.dataset.unit)} alone; "
        "set the study's unit to it"
    )


def _group_column(policy: Policy, request: PolicyRequest) -> str | None:
    asked, own = request.study.privacy, policy.dataset.group_column
    if not asked.enabled or asked.unit != "group" or policy.dataset.unit != "group" or asked.group_column == own:
        return None
    return (
        f"privacy.group_column = {_shown(asked.group_column)}: policy allows {_shown(own)} alone; "
        "set the study's column to it"
    )


def _delta(policy: Policy, request: PolicyRequest) -> str | None:
    if not request.study.privacy.noised_at_sites:
        return None
    asked = request.study.delta_of(policy.dataset.declared_size)
    if asked == policy.delta:
        return None
    return f"privacy.delta = {asked!r}: policy allows {policy.delta!r} alone; set the study's delta to it"


def _private(policy: Policy, request: PolicyRequest) -> str | None:
    if request.study.privacy.enabled or policy.dataset.public:
        return None
    return (
        "privacy.enabled = false: policy allows true alone, the dataset is not public; set privacy.enabled = true"
    )


def _task(policy: Policy, request: PolicyRequest) -> str | None:
    asked = request.study.task.kind
    return _not_listed("task.kind", asked, list(policy.allow.tasks), "allow.tasks")


def _model(policy: Policy, request: PolicyRequest) -> str | None:
    if "*" in policy.allow.models:
        return None
    return _not_listed("model.base", request.study.model.base, policy.allow.models, "allow.models")


def _trainable(policy: Policy, request: PolicyRequest) -> str | None:
    asked = request.study.model.trainable
    return _not_listed("model.trainable", asked, list(policy.allow.trainable), "allow.trainable")


def _strategy(policy: Policy, request: PolicyRequest) -> str | None:
    asked = request.study.federation.strategy
    return _not_listed("federation.strategy", asked, list(policy.allow.strategies), "allow.strategies")


def _sites(policy: Policy, request: PolicyRequest) -> str | None:
    asked, least = request.study.federation.min_sites, policy.allow.min_sites
    if asked >= least:
        return None
    return f"federation.min_sites = {asked}: policy allows {least} or more; raise it to {least}"


def _labels(policy: Policy, request: PolicyRequest) -> str | None:
    asked, own = request.study.task.labels, policy.disclose.labels
    if set(asked) == set(own) or request.study.task.kind == "masked-language-modeling":  # which learns none
        return None
    return f"task.labels = {_shown(asked)}: policy allows {_shown(own)}; name exactly these, in any order"


def _batch(policy: Policy, request: PolicyRequest) -> str | None:
    asked, size = request.study.privacy.batch_size, policy.dataset.declared_size
    if asked <= size:
        return None
    return f"privacy.batch_size = {asked}: policy allows its declared size {size} at most; lower it"


def _noise(policy: Policy, request: PolicyRequest) -> str | None:
    least = policy.allow.min_noise_multiplier
    if not request.study.privacy.noised_at_sites or _batch(policy, request) or request.noise_multiplier >= least:
        return None  # for too large a batch no noise can be calibrated
    return (
        f"noise_multiplier = {request.noise_multiplier:.6g} as calibrated: policy allows {least:g} or more; "
        "lower privacy.epsilon, which takes more noise"
    )


def _study_epsilon(policy: Policy, request: PolicyRequest) -> str | None:
    most = policy.budget.epsilon_per_study
    if not request.study.privacy.noised_at_sites or most is None or request.study_epsilon <= most:
        return None
    return (
        f"privacy.epsilon = {request.study_epsilon!r}: policy allows {most!r} at most for one study; "
        "lower it, for this site alone with [[site]] epsilon"
    )


def _round_epsilon(policy: Policy, request: PolicyRequest) -> str | None:
    most = policy.budget.epsilon_per_round
    if not request.study.privacy.noised_at_sites or most is None or request.round_epsilon <= most:
        return None
    return (
        f"epsilon of the dearest round = {request.round_epsilon:.6g}: policy allows {most:g} at most; "
        "lower federation.steps_per_round or spread the warm start over more rounds"
    )


def _not_listed(field: str, asked: str, allowed: list[str], key: str) -> str | None:
    if asked in allowed:
        return None
    return (
        f"{field} = {_shown(asked)}: policy allows {', '.join(map(_shown, allowed))}; "
        f"choose one of these, or ask the officer to add it to {key}"
    )


def _shown(value: str | list[str]) -> str:
    """A value on one line, whatever characters it holds."""
    text = repr(value) if isinstance(value, list) else f'"{repr(value)[1:-1]}"'
    return text if len(text) <= 80 else f"{text[:77]}..."


_RULES: tuple[tuple[str, Callable[[Policy, PolicyRequest], str | None]], ...] = (
    ("not-approved", _approval),
    ("policy-expired", _expiry),
    ("unit-differs", _unit),
    ("group-column-differs", _group_column),
    ("delta-differs", _delta),
    ("not-private", _private),
    ("task-not-allowed", _task),
    ("model-not-allowed", _model),
    ("trainable-not-allowed", _trainable),
    ("strategy-not-allowed", _strategy),
    ("too-few-sites", _sites),
    ("labels-differ", _labels),
    ("batch-too-large", _batch),
    ("noise-too-small", _noise),
    ("epsilon-per-study", _study_epsilon),
    ("epsilon-per-round", _round_epsilon),
)

CODES = tuple(code for code, _ in _RULES)
"""The closed list of words that a refusal of the policy is recorded with, in the order of asking."""
