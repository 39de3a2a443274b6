"""What was spent, and what is left of each budget, as the ledger knows it."""

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from anykontext.client.caps import at_risk_of, budget_of
from anykontext.client.store import Store, wall
from anykontext.config.sections import BudgetConfig
from anykontext.ledger import Ledger
from anykontext.model.errors import InvalidRequest
from anykontext.model.money import Cap
from anykontext.model.spend import BudgetLeft, Spend, SpendGroup, Sum
from anykontext.routing.budgets import Budget, bounds, caps_for


def spend(store: Store, *, since: Any, until: Any, by: Any, tag: str | None) -> Spend:
    """See `Client.spend`."""
    words = (by,) if isinstance(by, str) else tuple(by)
    if len(set(words)) != len(words):
        raise InvalidRequest("spend is grouped by each word once")
    if tag is not None and not tag.partition("=")[0]:
        raise InvalidRequest(f"a tag is NAME or NAME=VALUE, not {tag[:80]!r}")
    times = {"since": wall(since, "since"), "until": wall(until, "until")}
    try:
        found = store.ledger.spend(**times, by=words, tag=tag)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    rows = tuple(SpendGroup(row.group, Sum(row.spent), Sum(row.at_risk), row.unknown, row.sends) for row in found)
    return Spend(words, rows, tuple(BudgetLeft(*one) for one in budgets(store.ledger, store.config.budget, tag)))


def budgets(ledger: Ledger, section: BudgetConfig, tag: str | None = None) -> Sequence[tuple[Cap, Decimal]]:
    """What is left of each budget, for each value of a tag that has spent this month; `tag` narrows these."""
    budget, at_risk, now = budget_of(section), at_risk_of(section), time.time()
    caps = [*caps_for(Budget(budget.all), {}, now), *([] if at_risk is None else [at_risk])]
    only, equals, value = (tag or "").partition("=")
    for name in budget.tags:
        if tag is None or name == only:
            values = [value] if equals else ledger.tag_values(name, since=bounds("monthly", now)[0])
            for one in values:
                caps += caps_for(Budget(tags={name: budget.tags[name]}), {name: one}, now)
    return ledger.left(caps)
