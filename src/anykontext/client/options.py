"""The options of one call: checked, and filled up from the route and the configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from inspect import iscoroutinefunction
from typing import Any

from anykontext.client.caps import at_risk_of, caps_of
from anykontext.config import Config, Route, fields
from anykontext.engine.policy import Policy
from anykontext.io.notify import Notifier, OnEvent
from anykontext.model.errors import InvalidRequest
from anykontext.model.frozen import Frozen
from anykontext.model.money import usd
from anykontext.model.request import OTHER_WORDS, ImageRequest
from anykontext.model.words import near

EMPTY: Mapping[str, str] = Frozen()
CALL_OPTIONS = ("provider", "route", "deadline", "max_price", "policy", "on_event")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one call, checked; a call's beats the route's, which beats the config's.

    Attributes:
        provider: Only this provider.
        route: How the candidate is chosen.
        deadline_s: Seconds from end to end.
        max_price: In USD.
        policy: What the caller decided about going on.
        on_event: Told of events; must not block.
    """

    provider: str | None
    route: Route
    deadline_s: float
    max_price: Decimal | None
    policy: Policy
    on_event: OnEvent | None

    @property
    def notifier(self) -> Notifier:
        """What events are told to."""
        return Notifier(self.on_event)


def split(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell call options and fields of the request apart.

    Raises:
        InvalidRequest: A word is neither.
    """
    known = {*ImageRequest.model_fields, *CALL_OPTIONS}
    for name in fields.keys() - known:
        raise InvalidRequest(f"unknown option {name!r}; {_hint(name, known)}")
    options = {name: value for name, value in fields.items() if name in CALL_OPTIONS}
    return {name: value for name, value in fields.items() if name not in CALL_OPTIONS}, options


def _hint(name: str, known: Iterable[str]) -> str:
    ours = OTHER_WORDS.get(name)
    return f"here it is called {ours}" if ours else near(name, known)


def read_options(config: Config, given: Mapping[str, Any], tags: Mapping[str, str] = EMPTY) -> Options:
    """The options of a call, under the budgets of a request with these tags.

    Raises:
        InvalidRequest: An option is unknown or out of its range.
        ConfigurationError: There is no such route.
    """
    for name in given.keys() - set(CALL_OPTIONS):
        raise InvalidRequest(f"unknown option {name!r} of a call; {_hint(name, CALL_OPTIONS)}")
    route = _route(config, given.get("route"))
    provider = given.get("provider")
    if provider is not None and not isinstance(provider, str):
        raise InvalidRequest(f"provider is a name, not {type(provider).__name__}")
    word = config.policy if given.get("policy") is None else given["policy"]
    if word not in ("adjust", "strict"):
        raise InvalidRequest(f"policy is 'adjust' or 'strict', not {word!r}")
    policy = Policy(
        strict=word == "strict",
        failover_on=frozenset(route.failover_on),
        on_maybe_charged=route.on_maybe_charged,
        on_moderated=route.on_moderated,
        waits_when_full=route.when_full == "wait",
        attempt_share=route.attempt_share,
        breaker=route.breaker,
        caps=caps_of(config.budget, tags),
        at_risk_cap=at_risk_of(config.budget),
    )
    deadline_s = seconds(given.get("deadline"), route.deadline_s)
    max_price = route.max_price_usd if given.get("max_price") is None else _usd(given["max_price"])
    on_event = given.get("on_event")
    awaited = iscoroutinefunction(on_event) or iscoroutinefunction(getattr(on_event, "__call__", None))  # noqa: B004 - looked at, not tested for
    if on_event is not None and (not callable(on_event) or awaited):
        raise InvalidRequest("on_event is a plain function that takes one event")
    return Options(provider, route, deadline_s, max_price, policy, on_event)


def _route(config: Config, asked: Any) -> Route:
    if asked is None or isinstance(asked, str):
        return config.route_named(asked)
    return asked if isinstance(asked, Route) else Route(asked)


def seconds(value: Any, default: float) -> float:
    """A number of seconds above 0; the default for None.

    Raises:
        InvalidRequest: It is none.
    """
    if value is None:
        return default
    try:
        return fields.seconds(value)
    except ValueError as error:
        raise InvalidRequest(f"deadline: {error}, and this is {_shown(value)}") from None


def _usd(value: Any) -> Decimal:
    try:
        return usd(value)
    except ValueError as error:
        raise InvalidRequest(f"max_price: {error}, and this is {_shown(value)}") from None


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.60}"
    except ValueError:  # a number of thousands of digits
        return f"a value of type {type(value).__name__}"
