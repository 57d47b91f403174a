"""What a market is run from: `BIDS.toml` of an auction, `SELLERS.toml` of a posted price. Parsed once, here."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import BadInput
from common.study import Name, NonNegative, Positive
from common.toml_faults import Wording, faults
from server.economics.auction import Bid, Call
from server.economics.money import cents_of, rate_of
from server.economics.stackelberg import Gain, Seller, log_gain, precision_gain
from server.economics.weighting import precision

__all__ = ["BidsFile", "SellersFile", "read_bids", "read_sellers"]

_File = TypeVar("_File", bound=BaseModel)
_Size = Annotated[int, Field(ge=1)]
_MEND = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "missing": "is required",
    "literal_error": "must be {expected}",
    "string_type": 'must be a text, such as "1200.50"',
    "finite_number": "must be a finite number",
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CallSection(_Section):
    """What was published before bids came in."""

    budget: str
    """Money, such as ``"1000.00"``."""
    currency: Annotated[str, Field(min_length=1, max_length=10)] = "EUR"
    reserve: str = ""
    """Most money for one unit of value; empty: no limit."""
    min_sites: _Size = 1


class ValueSection(_Section):
    """What an update is worth (``server.economics.weighting``); to be fitted on public data."""

    spread: NonNegative
    """s^2, variance of one clipped gradient."""
    noise_constant: NonNegative
    """kappa, for noise of ``kappa / (n epsilon)^2``."""
    public_precision: Positive
    """P0, of the public base model."""


class BidSection(_Section):
    """One site's sealed bid, and what is certified of it."""

    site: Name
    declared_size: _Size
    epsilon: Positive
    price: str
    """Money it wants for taking part."""


class BidsFile(_Section):
    """An auction, before it is run."""

    call: CallSection
    value: ValueSection
    bid: Annotated[list[BidSection], Field(min_length=1)]

    def terms(self) -> Call:
        """The call in cents; raises ``BadInput`` on an amount that is none."""
        reserve = rate_of(self.call.reserve, "call.reserve") if self.call.reserve else None
        return Call(cents_of(self.call.budget, "call.budget"), reserve, self.call.min_sites)

    def bids(self) -> list[Bid]:
        """The bids with their values; raises ``BadInput`` on an amount that is none."""
        return [
            Bid(each.site, cents_of(each.price, f"bid {each.site}: price"), self._value(each), each.epsilon)
            for each in self.bid
        ]

    def _value(self, bid: BidSection) -> Fraction:
        return precision(bid.declared_size, bid.epsilon, self.value.spread, self.value.noise_constant)


class GainSection(_Section):
    """What epsilons are worth to the coordinator, in money."""

    kind: Literal["precision", "log"] = "precision"
    scale: Positive
    spread: NonNegative = 1.0
    noise_constant: NonNegative = 0.0
    public_precision: Positive = 1.0


class SellerSection(_Section):
    """A site that would sell epsilon."""

    site: Name
    cost: Positive
    """c: epsilon costs it ``c epsilon^2 / 2``."""
    cap: Positive | None = None
    declared_size: _Size | None = None
    """For a gain by precision."""
    weight: Positive | None = None
    """For a logarithmic gain."""


class SellersFile(_Section):
    """A posted price, before it is found."""

    gain: GainSection
    seller: Annotated[list[SellerSection], Field(min_length=1)]

    def sellers(self) -> list[Seller]:
        """Those who answer the price."""
        return [
            Seller(each.site, each.cost, float("inf") if each.cap is None else each.cap) for each in self.seller
        ]

    def worth(self) -> Gain:
        """The coordinator's gain; raises ``BadInput`` where a seller lacks what it needs."""
        key = "declared_size" if self.gain.kind == "precision" else "weight"
        missing = [each.site for each in self.seller if getattr(each, key) is None]
        if missing:
            raise BadInput(f'seller {missing[0]}: {key}: is required for gain.kind = "{self.gain.kind}"')
        if self.gain.kind == "log":
            return log_gain([each.weight or 0.0 for each in self.seller], self.gain.scale)
        sizes = [each.declared_size or 1 for each in self.seller]
        gain = self.gain
        if gain.noise_constant == 0:
            raise BadInput("gain.noise_constant = 0: epsilon would cost nothing in accuracy; must be above 0")
        return precision_gain(sizes, gain.spread, gain.noise_constant, gain.public_precision, gain.scale)


def read_bids(path: Path) -> BidsFile:
    """Read an auction; raises ``BadInput`` with a line for each fault."""
    return _read(path, BidsFile)


def read_sellers(path: Path) -> SellersFile:
    """Read sellers and gain of a posted price; raises ``BadInput`` with a line for each fault."""
    return _read(path, SellersFile)


def _read(path: Path, kind: type[_File]) -> _File:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: is not valid TOML: {error}") from error
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        lines = faults(error, tree, Wording(kind, _MEND))
        raise BadInput("\n".join(f"{path}: {line}" for line in lines)) from None
