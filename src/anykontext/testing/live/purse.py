"""The money of one live run: nothing that might pass the cap is begun, and what may have been charged counts whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby

from anykontext.model.errors import ConfigurationError, InvalidRequest, ProviderError
from anykontext.model.money import Cost


class OverCap(Exception):
    """A scene was not begun, because it might cost more than is left, or nobody knows what it costs."""


@dataclass
class Bill:
    """What one scene cost.

    Attributes:
        provider: Where.
        scene: Its name.
        amount: In USD.
        basis: `reported` by the provider, `listed` in a price list, or `assumed` as the environment says.
        certain: Whether an image was paid for; else it may have been, or not.
    """

    provider: str
    scene: str
    amount: Decimal
    basis: str
    certain: bool = False

    def paid(self, cost: Cost) -> None:
        """An image came: what it cost, or what was expected where the provider does not tell."""
        if cost.amount is not None:
            self.amount, self.basis = cost.amount, cost.basis
        self.certain = True

    def free(self) -> None:
        """Nothing was charged."""
        self.amount, self.certain = Decimal(0), True


@dataclass
class Purse:
    """What may be spent, and what was.

    Attributes:
        cap: What all of it may cost, in USD.
        unknown: What is counted where no price is known; None: such a scene is refused.
        bills: One for each scene that might cost something.
    """

    cap: Decimal
    unknown: Decimal | None = None
    bills: list[Bill] = field(default_factory=list)

    @property
    def spent(self) -> Decimal:
        """All that was, or may have been, charged."""
        return sum((bill.amount for bill in self.bills), Decimal(0))

    @contextmanager
    def paying(self, provider: str, scene: str, price: Cost, *, capped: bool = True) -> Iterator[Bill]:
        """A block that may cost `price`; an error in it counts fully, unless it says that nothing was charged.

        Args:
            provider: Where it is spent.
            scene: For what.
            price: As listed.
            capped: False for what no account can be charged for: it is begun whatever is left.

        Raises:
            OverCap: It is not begun.
        """
        bill = self._begin(provider, scene, price, capped=capped)
        try:
            yield bill
        except (InvalidRequest, ConfigurationError):  # found before anything was sent
            bill.free()
            raise
        except ProviderError as error:
            if not error.maybe_charged and not bill.certain:
                bill.free()
            raise

    def _begin(self, provider: str, scene: str, price: Cost, *, capped: bool) -> Bill:
        known = price.amount is not None
        amount = price.amount if known else self.unknown
        if amount is None and capped:
            raise OverCap(f"{provider}/{scene}: its price is unknown; ANYKONTEXT_LIVE_UNKNOWN_PRICE_USD may say one")
        amount = amount or Decimal(0)
        if capped and self.spent + amount > self.cap:
            raise OverCap(
                f"{provider}/{scene}: {amount} USD more than the {self.spent} USD so far would pass the cap of "
                f"{self.cap} USD (ANYKONTEXT_LIVE_MAX_USD)"
            )
        self.bills.append(Bill(provider, scene, amount, price.basis if known else "assumed"))
        return self.bills[-1]

    def told(self) -> list[str]:
        """What was spent, a line for each provider, and the sum."""
        lines = []
        for provider, found in groupby(sorted(self.bills, key=_provider), key=_provider):
            bills = list(found)
            sums = {basis: _total(bills, basis) for basis in ("reported", "listed", "assumed")}
            parts = [f"{amount} USD {basis}" for basis, amount in sums.items() if amount]
            maybe = sum((bill.amount for bill in bills if not bill.certain), Decimal(0))
            risk = f"; {maybe} USD may have been charged without a picture" if maybe else ""
            lines.append(f"{provider}: {', '.join(parts) or 'nothing'}{risk}")
        return [*lines, f"in all: {self.spent} USD of at most {self.cap} USD"]


def _provider(bill: Bill) -> str:
    return bill.provider


def _total(bills: list[Bill], basis: str) -> Decimal:
    return sum((bill.amount for bill in bills if bill.certain and bill.basis == basis), Decimal(0))
