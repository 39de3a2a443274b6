"""Balances that `check` reads, kept in the ledger, and compared with what it knows to be spent meanwhile."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from anykontext.engine.check import ProviderCheck
from anykontext.engine.provider import Provider
from anykontext.ledger import BalanceRecord, Ledger
from anykontext.model.errors import AnykontextError
from anykontext.model.spend import EXACT

log = logging.getLogger("anykontext")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A provider's own account of a time beside the ledger's, in USD.

    Attributes:
        provider: Its name in the configuration.
        before: The earlier reading of its balance; None where there is none.
        after: The latest one; None where it tells no balance.
        spent: What the ledger knows to have been paid for submits between the two.
        at_risk: What may have been paid for such submits.
        unknown: How many of these submits cost, or put at risk, an amount that nobody knows.
        message: What is to be said of it.
    """

    provider: str
    before: BalanceRecord | None
    after: BalanceRecord | None
    spent: Decimal
    at_risk: Decimal
    unknown: int
    message: str

    @property
    def change(self) -> Decimal | None:
        """By how much the balance fell; a top-up counts as negative."""
        if self.before is None or self.after is None or self.before.usd is None or self.after.usd is None:
            return None
        return EXACT.subtract(self.before.usd, self.after.usd)

    @property
    def difference(self) -> Decimal | None:
        """What left the balance beyond the ledger's sum, money at risk included."""
        return None if self.change is None else EXACT.subtract(self.change, EXACT.add(self.spent, self.at_risk))

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping."""
        return {
            "provider": self.provider,
            "before": self.before and self.before.to_json(),
            "after": self.after and self.after.to_json(),
            "balance_change": _text(self.change),
            "ledger": {"amount": f"{self.spent:f}", "at_risk": f"{self.at_risk:f}", "unknown": self.unknown},
            "difference": _text(self.difference),
            "currency": "USD",
            "message": self.message,
        }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def keep(ledger: Ledger, providers: Mapping[str, Provider], checks: Sequence[ProviderCheck]) -> None:
    """Write down the balances that were read; a check is one all the same where that cannot be done."""
    try:
        written = [
            ledger.note_balance(one.provider, _origin(providers[one.provider]), one.amount, one.unit or "", one.usd)
            for one in checks
            if one.amount is not None
        ]
        for future in written:
            future.result()
    except AnykontextError as error:
        log.warning("the balances could not be kept for `anykontext spend reconcile`: %s", error)


def reconcile(ledger: Ledger, provider: Provider, check: ProviderCheck, since: float | None) -> Reconciled:
    """Compare the balance that `check` has just read and kept with one before it: the last, or the first since.

    The ledger knows no keys: what views made by `with_options(keys=...)` have submitted counts under the provider's
    name, and left the balances of other accounts. It shows as less that left this one.
    """
    found = ledger.balances(provider.name, _origin(provider))
    if check.amount is None or not found:
        why = "it tells no balance" if check.key == "ok" else check.message
        return _without(provider, None, f"there is nothing to compare: {why}")
    *earlier, after = found
    earlier = [one for one in earlier if since is None or one.read_at >= since]
    if not earlier:
        return _without(provider, after, "this is the first reading; a later one is compared with it")
    before = earlier[-1 if since is None else 0]
    if before.usd is None or after.usd is None:
        return _without(provider, after, f"there is nothing to compare: the value of its {after.unit} is not known")
    rows = ledger.spend(since=before.read_at, until=after.read_at)
    row = next((one for one in rows if one.group["provider"] == provider.name), None)
    sums = (row.spent, row.at_risk, row.unknown) if row else (Decimal(0), Decimal(0), 0)
    bare = Reconciled(provider.name, before, after, *sums, "")
    return Reconciled(provider.name, before, after, *sums, _explained(bare))


def _without(provider: Provider, after: BalanceRecord | None, message: str) -> Reconciled:
    return Reconciled(provider.name, None, after, Decimal(0), Decimal(0), 0, message)


def _explained(one: Reconciled) -> str:
    """What may explain a difference."""
    assert one.difference is not None
    if one.difference == 0:
        return "they agree, if what is at risk was charged" if one.at_risk else "they agree"
    if one.difference > 0:
        causes = ["jobs of other machines or programs on this account", "prices that are not the listed ones"]
        causes += [f"{one.unknown} submits of unknown price"] if one.unknown else []
        return f"{one.difference:f} USD more left the balance: {', or '.join(causes)}"
    causes = ["a top-up or a refund", "charges that come later", "jobs under other keys (`with_options(keys=...)`)"]
    causes += ["money at risk that was not charged"] if one.at_risk else []
    return f"{-one.difference:f} USD less left the balance: {', or '.join(causes)}"


def _origin(provider: Provider) -> str:
    return provider.origins["api"]
