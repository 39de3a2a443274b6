"""What a price forbids: caps on one request, budgets, and price lists that have grown old (pure)."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from anykontext.engine.misfit import Misfit
from anykontext.engine.provider import Candidate
from anykontext.engine.submit import Step
from anykontext.model.money import Cap, Cost, Price
from anykontext.routing.budgets import of_budget
from anykontext.routing.rules import Rules

OLD = timedelta(days=365)


def check_price(step: Step, rules: Rules) -> None:
    """The cap of the call or the route on one request.

    Raises:
        Misfit: The candidate is too dear, or of unknown price where that is not allowed.
    """
    cap, amount = rules.max_price, step.price.usd
    if cap is None or (amount is None and rules.unknown_price) or (amount is not None and amount <= cap):
        return
    if amount is not None:
        raise Misfit("max_price", str(cap), str(amount), f"it would cost {amount} USD, and max_price is {cap} USD")
    why = f'{_unknown(step.price)}, and max_price is {cap} USD; {_set_one(step)}, or set unknown_price = "allow"'
    raise Misfit("max_price", str(cap), None, why)


def check_budgets(step: Step, left: Sequence[tuple[Cap, Decimal]]) -> None:
    """What is left of each cap that the request falls under.

    Raises:
        Misfit: One has no room for it. Nobody can say that an unknown price is within a limit.
    """
    amount = step.price.usd
    for cap, rest in left:
        if amount is not None and amount <= rest:
            continue
        if amount is None:
            why = f"{_unknown(step.price)}, and no budget can hold it: {of_budget(cap, rest)}; {_set_one(step)}"
            raise Misfit("budget", None, str(rest), why)
        why = f"it would cost {amount:f} USD, and {of_budget(cap, rest)}"
        raise Misfit("budget", str(amount), str(rest), why)


def _unknown(price: Cost) -> str:
    listed = "" if price.amount is None else f": it is listed as {price.amount} {price.currency}"
    return f"its price in USD is not known{listed}"


def _set_one(step: Step) -> str:
    return f"write one into [providers.{step.candidate.provider.name}.prices]"


def is_old(price: Price, today: date) -> bool:
    """Whether a listed price was found more than a year ago; one of the configuration has no date, and no age."""
    return price.date is not None and today - price.date > OLD


def old_price(candidate: Candidate, mode: str, today: date) -> str | None:
    """What is to be said of a listed price that is old; None when there is nothing to say."""
    price = candidate.listed(mode)
    if price is None or not is_old(price, today):
        return None
    name = candidate.provider.name
    return (
        f"the listed prices of {name} are of {price.date}, more than a year ago, and may be wrong; "
        f"write yours into [providers.{name}.prices]"
    )
