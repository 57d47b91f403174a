"""What each kind of entry says beyond the common fields: one frozen record a kind, closed tables all of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import BadInput
from common.privacy.terms import BudgetTerms

__all__ = [
    "GENESIS",
    "Approved",
    "Closed",
    "Details",
    "Head",
    "Kind",
    "Lowering",
    "Opened",
    "Outcome",
    "Policy",
    "RefundReason",
    "Refused",
    "Released",
    "Reserved",
    "Settled",
    "details_from_json",
    "kind_of",
]

Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sequence: TypeAlias = Annotated[int, Field(ge=1, le=2**53 - 1)]
ShortText: TypeAlias = Annotated[str, Field(max_length=200)]

Outcome: TypeAlias = Literal["completed", "failed", "deadline", "cancelled", "operator"]
"""How a round ended. Only ``completed`` may refund; ``operator`` closes what a crash left open."""

RefundReason: TypeAlias = Literal["public-fact", "earlier-output"]
"""Why a reserved step was not run, where that may be refunded (PRIVACY P7)."""


class Kind(StrEnum):
    """The kinds of entries."""

    OPEN = "open"
    """A budget for a dataset."""
    POLICY = "policy"
    """A policy is adopted; it may lower a budget."""
    APPROVE = "approve"
    """The officer approves a study."""
    RESERVE = "reserve"
    """A plan, or a round, before any gradient touches data."""
    SETTLE = "settle"
    """A round's reservation ends."""
    REFUSE = "refuse"
    """A request was turned down; it costs nothing."""
    RELEASE = "release"
    """Something left that was never reserved here."""
    CLOSE = "close"
    """Every budget of the dataset grants nothing more."""


class _Details(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Head(_Details):
    """The end of a ledger at some moment: the last entry's place and hash. Sequence 0: before the first."""

    sequence: Annotated[int, Field(ge=0, le=2**53 - 1)]
    hash: Digest


GENESIS = Head(sequence=0, hash="0" * 64)
"""The head of an empty ledger."""


class Opened(_Details):
    """``open``: the terms, how they are counted, and the digest of the guard's build (P1); "" if unknown."""

    terms: BudgetTerms
    accountant: ShortText
    build: ShortText


class Lowering(_Details):
    """From here on, ``budget`` grants up to ``epsilon`` only."""

    budget: Sequence
    epsilon: Annotated[float, Field(gt=0)]


class Policy(_Details):
    """``policy``: digest of the policy adopted, or none; a budget lowered, or none (P6)."""

    policy: Digest | None
    lower: Lowering | None


class Approved(_Details):
    """``approve``: the study of the entry; when the approval ends (RFC 3339 date), or none."""

    expires: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] | None


class Reserved(_Details):
    """``reserve``: charged to ``budget``, the sequence of its ``open`` entry.

    ``plan`` is the digest of what the coordinator asked for in the round. An entry without a round reserves
    a whole study under a plan. ``retry_of`` is the entry of the first try, where a filter pays again (P9).
    """

    budget: Sequence
    plan: Digest | None
    coordinator: ShortText
    retry_of: Sequence | None


class Settled(_Details):
    """``settle``: the entry's mechanism is what ``reservation`` counts for from here on (P7)."""

    reservation: Sequence
    outcome: Outcome
    refund: RefundReason | None


class Refused(_Details):
    """``refuse``: a word for why, from a list that the policy module keeps."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class Released(_Details):
    """``release``: re-entered after a loss (charged whole, P8), or given to a trusted coordinator (P19).

    ``lost`` is the head that the ledger did not know.
    """

    budget: Sequence
    why: Literal["re-entered", "trusted-coordinator"]
    plan: Digest | None
    lost: Head | None


class Closed(_Details):
    """``close``: the dataset's budgets grant nothing more; ``lost`` as in :class:`Released`."""

    why: Literal["finished", "written-off"]
    lost: Head | None


Details: TypeAlias = Opened | Policy | Approved | Reserved | Settled | Refused | Released | Closed
"""What an entry says beyond the common fields."""

_KINDS: dict[Kind, type[Details]] = {
    Kind.OPEN: Opened,
    Kind.POLICY: Policy,
    Kind.APPROVE: Approved,
    Kind.RESERVE: Reserved,
    Kind.SETTLE: Settled,
    Kind.REFUSE: Refused,
    Kind.RELEASE: Released,
    Kind.CLOSE: Closed,
}


def kind_of(details: Details) -> Kind:
    """The kind of entry that carries such details."""
    return next(kind for kind, known in _KINDS.items() if known is type(details))


def details_from_json(kind: Kind, data: object) -> Details:
    """Details of an entry of ``kind``, checked in full: exactly the known fields, types and bounds."""
    try:
        return _KINDS[kind].model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "details"
        raise BadInput(f"{kind} entry: {where}: {first['msg']}") from error
