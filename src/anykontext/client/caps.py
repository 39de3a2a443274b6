"""The caps of `[budget]` that a request falls under at this moment."""

import time
from collections.abc import Mapping

from anykontext.config.sections import BudgetConfig
from anykontext.model.frozen import Frozen
from anykontext.model.money import Cap
from anykontext.routing.budgets import Budget, Limits, at_risk_cap, caps_for


def budget_of(section: BudgetConfig) -> Budget:
    """`[budget]` without the configuration around it."""
    tags = {name: Limits(one.daily_usd, one.monthly_usd) for name, one in section.tags.items()}
    return Budget(Limits(section.daily_usd, section.monthly_usd), Frozen(tags))


def caps_of(section: BudgetConfig, tags: Mapping[str, str]) -> tuple[Cap, ...]:
    """The caps on a request with these tags."""
    return caps_for(budget_of(section), tags, time.time())


def at_risk_of(section: BudgetConfig) -> Cap | None:
    """The cap on going on after something that may have been paid."""
    return None if section.max_at_risk_usd is None else at_risk_cap(section.max_at_risk_usd)
