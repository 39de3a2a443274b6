"""Amounts: what an image costs, and how we know it. Unknown is unknown, never zero."""

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Any, Literal, Self

from anykontext.model.words import near

Basis = Literal["reported", "listed", "unknown"]
UNITS = ("image", "megapixel")
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Cost:
    """What was or will be paid.

    Attributes:
        amount: The sum in `currency`, or None when it is not known.
        currency: An ISO 4217 code; every provider so far bills in USD or in credits of a fixed USD value.
        basis: `reported` by the provider for this very task, `listed` in a price table, or `unknown`.
    """

    amount: Decimal | None = None
    currency: str = "USD"
    basis: Basis = "unknown"

    def __add__(self, other: "Cost") -> "Cost":
        """The sum of two costs: unknown when either is, and only as sure as the less sure of the two."""
        if self.amount is None or other.amount is None or self.currency != other.currency:
            return Cost(None, self.currency)
        bases: tuple[Basis, Basis] = (self.basis, other.basis)
        return Cost(self.amount + other.amount, self.currency, "listed" if "listed" in bases else self.basis)

    @property
    def usd(self) -> Decimal | None:
        """The amount in USD; None where it is not known, or in another currency."""
        return self.amount if self.currency == "USD" else None

    def times(self, count: int | Decimal) -> "Cost":
        """The cost of `count` such images, or units of the price list."""
        return self if self.amount is None else Cost(self.amount * count, self.currency, self.basis)

    def to_json(self) -> dict[str, str | None]:
        """The JSON form: the amount as a string, so that no digit is lost."""
        amount = None if self.amount is None else str(self.amount)
        return {"amount": amount, "currency": self.currency, "basis": self.basis}

    def __str__(self) -> str:
        return "an unknown price" if self.amount is None else f"{self.amount} {self.currency} ({self.basis})"


@dataclass(frozen=True, slots=True)
class Price:
    """One line of a price list: an adapter's, or one that the user has set.

    Attributes:
        amount: What one `unit` costs, in `currency`.
        unit: What is counted: an `image`, or a `megapixel` (1,000,000 pixels) of what is made.
        currency: An ISO 4217 code. What is not in USD is shown, and counts as unknown wherever prices are compared.
        source: Where the amount was found.
        date: When it was found there; None for a price of the user's, which does not grow old.
        evidence: Why it is believed: `recorded`, `documented`, `code` or `inferred`, or a quirk id of the adapter.
    """

    amount: Decimal
    unit: str
    currency: str
    source: str
    date: date | None
    evidence: str

    @classmethod
    def set_by_user(cls, amount: Decimal) -> Self:
        """A price of one image in USD, as the configuration has it."""
        return cls(amount, "image", "USD", "the configuration", None, "")

    def of_unit(self) -> Cost:
        """What one unit costs."""
        return Cost(self.amount, self.currency, "listed")

    def of_image(self, size: tuple[int, int] | None) -> Cost:
        """What one image costs; not known where megapixels are billed and the size of the image is not known."""
        if self.unit == "image":
            return self.of_unit()
        return Cost(None, self.currency) if size is None else self.of_unit().times(Decimal(size[0] * size[1]) / 10**6)


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit in USD on what is spent and at risk together.

    Attributes:
        kind: Its name in messages, such as `daily`.
        limit: The limit.
        since: Submits from this time on count, in seconds of the wall clock.
        renews_at: When it begins anew, in seconds of the wall clock; None for one that does not.
        tag: Only jobs with this tag and value count.
        at_risk_only: Whether only money at risk counts: submits that were left, lost, or ended in doubt.
    """

    kind: str
    limit: Decimal
    since: float = 0.0
    renews_at: float | None = None
    tag: tuple[str, str] | None = None
    at_risk_only: bool = False


NOTHING = Cost(Decimal(0), "USD", "reported")


def usd(value: object) -> Decimal:
    """A sum of money in USD: from a text such as "0.04", or from a number.

    >>> usd("0.04")
    Decimal('0.04')

    Raises:
        ValueError: It is no such sum, or a negative one. The message does not repeat it.
    """
    if isinstance(value, Mapping):
        # `flux-1.1-pro = "0.04"` is a table `flux-1` with a key `1-pro` to TOML.
        raise ValueError("an amount is needed, not a table; a model with a dot in its name is written in quotes")
    text = str(value).strip() if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool) else ""
    if text.startswith("-"):
        raise ValueError("an amount must not be negative")
    if not _AMOUNT.fullmatch(text):
        raise ValueError('an amount in USD is needed, such as "0.04"')
    return Decimal(text)


def price_list(text: str, models: Collection[str]) -> dict[str, Price]:
    """Read an adapter's `prices.toml`: one table for each canonical model, or for `model/edit` and `model/generate`.

    All six keys are needed:

        ["flux-kontext-pro"]
        amount   = "0.04"          # a text, so that no digit is lost
        unit     = "image"         # or "megapixel": of 1,000,000 pixels of what is made
        currency = "USD"           # any; what is not in USD is shown, and not compared
        source   = "the vendor's pricing page"
        date     = "2026-11-20"    # when it was found there
        evidence = "documented"    # recorded, documented, code or inferred, or a quirk id of the adapter

    Raises:
        ValueError: The text does not have this format, or a model is none of `models`.
    """
    found = {}
    for name, table in tomllib.loads(text).items():
        model, _, mode = name.partition("/")
        if model not in models or (mode or "edit") not in {"edit", "generate"}:
            raise ValueError(f"unknown model {name!r}; {near(model, models)}")
        try:
            found[name] = _price(table)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _price(table: Any) -> Price:
    if not isinstance(table, Mapping):
        raise ValueError("a table is needed")
    known = [field.name for field in fields(Price)]
    for key in table.keys() - known:
        raise ValueError(f"unknown key {key!r}; {near(key, known)}")
    for key in known:
        if not isinstance(table.get(key), str) or not table[key]:
            raise ValueError(f"{key}: a text is needed")
    if table["unit"] not in UNITS:
        raise ValueError(f"unit: {' or '.join(UNITS)} is needed, not {table['unit']!r}")
    if not _CURRENCY.fullmatch(table["currency"]):
        raise ValueError(f"currency: three capital letters are needed, such as USD, not {table['currency']!r}")
    return Price(**{**table, "amount": usd(table["amount"]), "date": date.fromisoformat(table["date"])})
