"""What an adapter read, held to what such values can be: a strange one is unknown, and costs no paid image."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from anykontext.adapting import State, Succeeded


def sane(state: State) -> State:
    """The same state without values that cannot be: a seed that is no number, a cost that is none or below zero."""
    if not isinstance(state, Succeeded):
        return state
    seed, prompt = state.seed, state.prompt
    known = {
        "seed": seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else None,
        "prompt": prompt if isinstance(prompt, str) else None,
        "cost_usd": _amount(state.cost_usd),
        "units": _amount(state.units),
    }
    changed: dict[str, Any] = {name: value for name, value in known.items() if getattr(state, name) is not value}
    return replace(state, **changed) if changed else state


def _amount(value: object) -> Decimal | None:
    return value if isinstance(value, Decimal) and value.is_finite() and value >= 0 else None
