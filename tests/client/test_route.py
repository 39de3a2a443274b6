"""`Route`: one class for `[routes.NAME]` and for calls; and which setting of deadline, price and policy holds."""

import copy
import pickle
from decimal import Decimal
from typing import Any

import pytest

import anykontext as ak
from anykontext.model.errors import Kind
from anykontext.sandbox import Emulator

from .conftest import KINDS, Twin


def test_a_route_is_the_section_of_a_file() -> None:
    settings = {"strategy": "ordered", "failover_on": ["rate_limited"], "max_price_usd": "0.05", "deadline_s": 60}

    route = ak.Route(["bfl", "fal/flux-kontext-pro", {"provider": "kie", "weight": 3}], **settings)
    table = {"candidates": ["bfl", "fal/flux-kontext-pro", {"provider": "kie", "weight": 3}], **settings}

    assert route == ak.Config(routes={"x": table}).route_named("x")
    assert route == ak.Config(routes={"x": route}).route_named("x")
    assert ["bfl", "fal/flux-kontext-pro", "kie"] == [str(one) for one in route.candidates]
    assert (Kind.RATE_LIMITED,) == route.failover_on
    assert Decimal("0.05") == route.max_price_usd


def test_a_list_alone_is_the_cheapest_of_it() -> None:
    assert "cheapest" == ak.Route(["bfl", "fal"]).strategy


def test_it_is_a_value_that_shows_what_was_set() -> None:
    route = ak.Route(["bfl", {"provider": "fal", "weight": 2}], strategy="weighted", when_full="wait")

    assert "Route(['bfl', {'provider': 'fal', 'weight': 2.0}], strategy='weighted', when_full='wait')" == repr(route)
    assert route == eval(repr(route), {"Route": ak.Route})
    assert route == pickle.loads(pickle.dumps(route)) == copy.deepcopy(route)
    assert {route} == {copy.copy(route)}
    assert route != ak.Route(["bfl"])
    with pytest.raises(ValueError, match="frozen"):
        route.strategy = "ordered"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("candidates", "settings", "match"),
    [
        ([], {}, "the route is empty"),
        ("bfl", {}, "a list is needed, not a text"),
        (["bfl", 3], {}, "candidates: .* not a whole number"),
        ([{"provide": "bfl"}], {}, "no such setting"),
        (["bfl"], {"strategie": "ordered"}, "unknown setting 'strategie' of a route; did you mean 'strategy'"),
        (["bfl"], {"strategy": "chepest"}, "strategy: .*did you mean 'cheapest'"),
        (["bfl"], {"deadline_s": -1}, "deadline_s: a number above 0"),
        (["bfl"], {"failover_on": ["moderated"]}, "on_moderated"),
    ],
)
def test_what_is_none_is_named_with_the_nearest_word(candidates: Any, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ak.ConfigurationError, match=match):
        ak.Route(candidates, **settings)


@pytest.fixture
def two(bfl: Emulator) -> ak.Config:
    """One service under two names, at two prices."""
    service = {**bfl.config(), "adapter": "bfl", "poll_interval_s": 0.01}
    return ak.Config(
        providers={
            "dear": {**service, "prices": {"flux-kontext-pro": "0.09"}},
            "cheap": {**service, "prices": {"flux-kontext-pro": "0.01"}},
        },
        routes={"default": {"candidates": ["dear"]}, "low": {"candidates": ["dear", "cheap"]}},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_names_a_route_or_brings_one(kind: str, two: ak.Config) -> None:
    with Twin(kind, two) as twin:
        asked: dict[str, Any] = {
            "a name": "low",
            "a list": ["dear", "cheap"],
            "a Route": ak.Route(["dear", "cheap"], strategy="ordered"),
            "nothing": None,
        }
        taken = {name: twin.edit(route=route).provider for name, route in asked.items()}

        assert {"a name": "cheap", "a list": "cheap", "a Route": "dear", "nothing": "dear"} == taken
        for wrong, match in {"lwo": "did you mean 'low'", ("deer",): "did you mean 'dear'"}.items():
            with pytest.raises(ak.ConfigurationError, match=match):
                twin.edit(route=wrong)


def test_a_call_s_option_beats_the_route_s(two: ak.Config) -> None:
    route = ak.Route(["cheap"], max_price_usd="0.001", deadline_s=7)
    with ak.Client(two) as client:
        with pytest.raises(ak.BudgetExceeded):
            client.generate("a cat", route=route)
        assert "cheap" == client.generate("a cat", route=route, max_price="0.01").provider
        assert [7, 9] == [client._core.options({"route": route, "deadline": one}).deadline_s for one in (None, 9)]
