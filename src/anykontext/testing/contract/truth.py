"""What a state may say, whatever the reply: a value of its type and range, or nothing."""

import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from anykontext.adapting import Balance, Failed, Output, Refused, Running, State, Succeeded
from anykontext.testing.contract.bodies import replaced
from anykontext.testing.contract.orders import leaves

ODD_QUERY = "sig=aB%2F+%20x%3d&u=Ä%C3%84&e=2030-01-01T00%3A00%3A00Z"
ODD_HEADERS = ("-1", "-0.5", "nan", "inf", "-inf", "1e999", "x", "", "9" * 400)


def _whole(value: object) -> bool:
    return type(value) is int


def _seed(value: object) -> bool:
    return type(value) is int and value >= 0


def _amount(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value >= 0


def _fraction(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _wait(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, str) for one in value)


def _moment(value: object) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _finite(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite()


# Type -> attribute -> what it must be where it is not None.
RULES: dict[type, dict[str, Callable[[object], bool]]] = {
    Succeeded: {"seed": _seed, "cost_usd": _amount, "units": _amount, "prompt": _text, "flagged": _texts},
    Output: {"url": _text, "base64": _text, "expires_at": _moment},
    Running: {"raw_status": _text, "progress": _fraction, "queue_position": _whole},
    Failed: {"message": _text, "reasons": _texts},
    Refused: {"message": _text, "shape": _text, "reasons": _texts, "retry_after_s": _wait, "code": _whole},
    Balance: {"amount": _finite, "unit": _text, "usd": _finite},
}


def untrue(state: State | Output) -> list[str]:
    """What a state says that cannot be: each as `attribute = value`."""
    found = [
        f"{type(state).__name__}.{name} = {value!r:.80}"
        for name, rule in RULES.get(type(state), {}).items()
        if (value := getattr(state, name)) is not None and not rule(value)
    ]
    return found + [one for output in getattr(state, "outputs", ()) for one in untrue(output)]


def odd_link(link: str) -> str:
    """A link with a query in which every escape counts."""
    return f"{link}{'&' if '?' in link else '?'}{ODD_QUERY}"


def with_link(document: Any, link: str, other: str) -> Any:
    """A document with another link wherever a whole value is that link."""
    for path in [path for path, value in leaves(document) if value == link]:
        document = replaced(document, path, other)
    return document
