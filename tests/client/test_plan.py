"""`plan`: where a request would go, at what price, and why; and what the strategies do to requests that are sent."""

import json
import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.client import warnings
from anykontext.client.speeds import FRESH_S, Speeds
from anykontext.client.turns import Turns
from anykontext.model.request import MODELS
from anykontext.sandbox import Emulator, Sandbox

from .conftest import KINDS, Twin, picture

PRO = "flux-kontext-pro"
KEYS = {name: {"api_key": "sandbox:sandbox"} for name in ("bfl", "fal", "kie", "together")}
EDIT = ak.ImageRequest("make it blue", picture())
GENERATE = ak.ImageRequest("a cat")


@pytest.fixture(params=KINDS)
def planned(request: pytest.FixtureRequest) -> Callable[..., ak.Plan]:
    """The plan of a client of either kind, for a configuration of its own."""

    def run(asked: ak.ImageRequest, providers: Any = KEYS, settings: Any = None, **options: Any) -> ak.Plan:
        routes = {} if settings is None else {"default": {"candidates": list(providers), **settings}}
        with Twin(request.param, ak.Config(providers=providers, routes=routes)) as twin:
            found: ak.Plan = twin.wait(twin.client.plan(asked, **options))
            assert [] == twin.wait(twin.client.jobs())
            return found

    return run


def order(plan: ak.Plan) -> list[str]:
    return [one.provider for one in plan.candidates]


def reasons(plan: ak.Plan) -> dict[str, str]:
    return {one.provider: one.reason for one in plan.excluded}


def test_a_plan_is_cheapest_first_with_prices_and_adjustments_and_begins_no_job(
    planned: Callable[..., ak.Plan],
) -> None:
    found = planned(ak.ImageRequest("make it blue", picture(), safety_tolerance=6))

    assert ["kie", "bfl", "fal", "together"] == order(found)
    assert [Decimal("0.025"), Decimal("0.04")] == [one.price.amount for one in found.candidates[:2]]
    assert [(6, 2), (6, 2), None, (6, None)] == [
        next(((a.asked, a.sent) for a in one.adjustments if a.option == "safety_tolerance"), None)
        for one in found.candidates
    ]
    assert ("default", "cheapest", (), None) == (found.route, found.strategy, found.excluded, found.error)


def test_the_json_form_is_that_of_the_command(planned: Callable[..., ak.Plan]) -> None:
    found = planned(ak.ImageRequest("a cat", num_images=5, size=(1024, 1024)), {"bfl": {}, "together": KEYS["bfl"]})

    assert {
        "route": "default",
        "strategy": "cheapest",
        "candidates": [
            {
                "provider": "together",
                "model": PRO,
                "price": {"amount": "0.20", "currency": "USD", "basis": "listed"},
                "adjustments": [],
            }
        ],
        "excluded": [{"provider": "bfl", "model": PRO, "reason": reasons(found)["bfl"]}],
    } == json.loads(json.dumps(found.to_json()))


def test_the_text_is_an_aligned_table_with_every_reason(planned: Callable[..., ak.Plan]) -> None:
    lines = str(planned(EDIT, settings={"public_uploads": False, "strategy": "ordered"})).splitlines()

    assert "route default, ordered" == lines[0]
    assert ["#", "PROVIDER", "MODEL", "PRICE", "ADJUSTMENTS"] == lines[1].split()
    assert {"1  bfl", "2  fal", "3  together"} == {line[: line.index(PRO)].strip() for line in lines[2:5]}
    assert 1 == len({line.index(PRO) for line in lines[2:5]})
    assert "  kie/flux-kontext-pro: it would put the input image on a public URL" in "\n".join(lines)


def test_without_any_key_the_plan_says_so_and_a_call_would_raise(planned: Callable[..., ak.Plan]) -> None:
    found = planned(EDIT, {"bfl": {"api_key": "env:NO_SUCH_KEY"}, "fal": {"api_key": "env:NOR_THIS_ONE"}})

    assert () == found.candidates
    assert "NO_SUCH_KEY" in reasons(found)["bfl"]
    assert isinstance(found.error, ak.MissingKey)


@pytest.mark.parametrize(
    ("asked", "options", "error"),
    [
        (GENERATE, {"max_price": "0.01"}, ak.BudgetExceeded),
        (ak.ImageRequest("a cat", watermark="mine"), {"provider": "bfl"}, ak.UnsupportedOption),
        (ak.ImageRequest("a cat", guidance=3, steps=9), {"policy": "strict"}, ak.NoCandidate),
    ],
)
def test_a_plan_without_a_candidate_knows_what_the_call_would_raise(
    planned: Callable[..., ak.Plan], asked: ak.ImageRequest, options: dict[str, Any], error: type[Exception]
) -> None:
    found = planned(asked, **options)

    assert ((), error) == (found.candidates, type(found.error))
    assert all(found.excluded)
    assert "no candidate" in str(found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_can_be_planned_at_every_provider_also_where_it_is_not_hosted(kind: str) -> None:
    with Twin(kind, ak.Config(providers=KEYS)) as twin:
        adapters = {name: one.adapter.facts.models for name, one in twin.client._core.providers.items()}
        for model in MODELS:
            asked = ak.ImageRequest("a cat", picture() if "kontext" in model else (), model=model)
            found = twin.wait(twin.client.plan(asked))
            alone = {name: twin.wait(twin.client.plan(asked, provider=name)) for name in adapters}

            without = {name for name, models in adapters.items() if model not in models}
            assert without <= reasons(found).keys()
            assert without <= {name for name, one in alone.items() if isinstance(one.error, ak.UnsupportedOption)}


def test_a_provider_that_was_named_is_the_head_of_the_table(planned: Callable[..., ak.Plan]) -> None:
    found = planned(GENERATE, provider="bfl")

    assert str(found).startswith("only bfl, as asked; limits are those of route default\n")


def test_a_plan_is_refused_where_the_call_could_keep_nothing(
    planned: Callable[..., ak.Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "file" / "home"))

    with pytest.raises(ak.ConfigurationError, match="cannot be written"):
        planned(GENERATE)


@pytest.mark.parametrize(
    ("asked", "options", "error"),
    [
        (lambda: ak.ImageRequest("x", "no/such/file.png"), {}, ak.InvalidRequest),
        (lambda: GENERATE, {"route": ""}, ak.ConfigurationError),
        (lambda: GENERATE, {"timeout": 5}, ak.InvalidRequest),
        (lambda: GENERATE, {"deadline": float("inf")}, ak.InvalidRequest),
        (lambda: GENERATE, {"deadline": 10**400}, ak.InvalidRequest),
        (lambda: GENERATE, {"max_price": True}, ak.InvalidRequest),
        (lambda: GENERATE, {"max_price": "1e400"}, ak.InvalidRequest),
        (lambda: ak.ImageRequest("x", model="flux-kontext-prom"), {}, ak.UnknownModel),
        (lambda: GENERATE, {"route": "nowhere"}, ak.ConfigurationError),
        (lambda: GENERATE, {"max_price": "cheap"}, ak.InvalidRequest),
    ],
)
def test_what_is_wrong_with_the_request_is_raised(
    planned: Callable[..., ak.Plan], asked: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        planned(asked(), **options)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"timeout": 5}, "here it is called deadline"),
        ({"max_price": "0,05"}, "max_price: an amount in USD is needed, .* and this is '0,05'"),
        ({"deadline": 0}, "deadline: a number above 0 is needed, and this is 0"),
    ],
)
def test_a_wrong_option_is_answered_with_the_right_one(
    planned: Callable[..., ak.Plan], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ak.InvalidRequest, match=told):
        planned(GENERATE, **given)


def test_a_deadline_may_be_any_number(planned: Callable[..., ak.Plan]) -> None:
    assert planned(GENERATE, deadline=Decimal("2.5")).candidates


def test_a_candidate_that_a_route_names_in_two_ways_is_one(planned: Callable[..., ak.Plan]) -> None:
    found = planned(GENERATE, route=ak.Route(["fal", f"fal/{PRO}", "bfl"], strategy="ordered"))

    assert ["fal", "bfl"] == order(found)


@pytest.mark.parametrize("given", [5, b"x", {"providers": {}}])
@pytest.mark.parametrize("make", [ak.Client, ak.AsyncClient])
def test_what_is_no_configuration_is_answered_with_what_is(make: Any, given: object) -> None:
    with pytest.raises(ak.ConfigurationError, match=r"Config\(\.\.\.\), the path of a TOML file, or None, not "):
        make(given)


def test_a_ledger_that_is_not_carried_out_yet_is_refused_when_the_client_is_made() -> None:
    config = ak.Config(providers=KEYS, ledger={"url": "postgresql://me:a-secret@db/x"})

    with pytest.raises(ak.ConfigurationError, match='"default" or "memory" may be given') as refused:
        ak.Client(config)
    assert "a-secret" not in str(refused.value)


@pytest.mark.parametrize("route", [["fal", "kie"], ak.Route(["fal", "kie"], strategy="ordered")])
def test_a_route_of_the_call_has_no_name(planned: Callable[..., ak.Plan], route: Any) -> None:
    found = planned(GENERATE, route=route)

    assert (None, {"fal", "kie"}) == (found.route, set(order(found)))
    assert str(found).startswith("a route given in the call, ")


def test_regions_and_public_urls_leave_out_what_is_not_known_to_be_allowed(planned: Callable[..., ak.Plan]) -> None:
    eu = {**KEYS, "bfl-eu": {"adapter": "bfl", "base_url": "https://api.eu.bfl.ai", "api_key": "sandbox"}}
    link = ak.ImageRequest("make it blue", "https://cdn.example/cat.jpg", aspect_ratio="1:1")

    assert ["bfl-eu"] == order(planned(EDIT, eu, {"regions": ["eu"]}))
    assert {"bfl", "fal", "together"} == set(order(planned(EDIT, settings={"public_uploads": False})))
    assert "kie" in order(planned(link, settings={"public_uploads": False}))


def test_a_url_is_not_fetched_and_its_picture_is_planned_without_its_size(planned: Callable[..., ak.Plan]) -> None:
    found = planned(ak.ImageRequest("make it blue", "https://nobody.invalid/cat.jpg"))

    assert {"bfl", "fal", "kie", "together"} == set(order(found))
    (note,) = (one for one in found.notes if "not fetched" in one)
    assert "together/flux-kontext-pro" in note
    assert f"note: {note}" in str(found)


# --------------------------------------------------------------------------- what a plan leaves to the next request


@pytest.fixture
def two(sandbox: Sandbox) -> dict[str, Any]:
    """One emulator under two names."""
    settings = {**sandbox.emulators["bfl"].config(), "adapter": "bfl", "poll_interval_s": 0.01}
    return {"a": settings, "b": settings}


@pytest.fixture(params=KINDS)
def twins(request: pytest.FixtureRequest, two: dict[str, Any]) -> Iterator[Callable[..., Twin]]:
    open_: list[Twin] = []

    def make(**route: Any) -> Twin:
        config = ak.Config(providers=two, routes={"default": {"candidates": ["a", "b"], **route}})
        open_.append(Twin(request.param, config).__enter__())
        return open_[-1]

    yield make
    for one in open_:
        one.__exit__(None, None, None)


@pytest.mark.sandbox
def test_round_robin_takes_turns_and_a_plan_takes_none(twins: Callable[..., Twin]) -> None:
    twin = twins(strategy="round-robin")
    found = []
    for _ in range(3):
        plans = [order(twin.wait(twin.client.plan(GENERATE)))[0] for _ in range(2)]
        found.append((*plans, twin.generate().provider))

    assert [("a", "a", "a"), ("b", "b", "b"), ("a", "a", "a")] == found


@pytest.mark.sandbox
def test_a_plan_by_chance_is_what_the_next_request_does(twins: Callable[..., Twin]) -> None:
    twin = twins(strategy="weighted", candidates=["a", {"provider": "b", "weight": 3}])
    draws = iter([0.9, 0.1, 0.3, 0.2, 0.9])
    twin.client._core.planner.turns = Turns(lambda: next(draws))

    pairs = [(order(twin.wait(twin.client.plan(GENERATE)))[0], twin.generate().provider) for _ in range(4)]

    assert [("b", "b"), ("a", "a"), ("b", "b"), ("a", "a")] == pairs


@pytest.mark.sandbox
def test_fastest_goes_by_what_the_ledger_knows(twins: Callable[..., Twin]) -> None:
    twin = twins(strategy="fastest", explore=0)
    for _ in range(5):
        twin.generate(provider="b")

    assert ["b", "a"] == order(twin.wait(twin.client.plan(GENERATE)))
    assert "b" == twin.generate().provider


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_provider_reports_wins_over_what_is_listed(kind: str, bfl: Emulator) -> None:
    settings = {**bfl.config(), "poll_interval_s": 0.01, "prices": {PRO: "0.99"}}
    with Twin(kind, ak.Config(providers={"bfl": settings})) as twin:
        cost = twin.generate().cost
        (row,) = twin.client._core.ledger.spend()

    assert (Decimal("0.04"), "reported") == (cost.amount, cost.basis)
    assert (Decimal("0.04"), 0) == (row.spent, row.at_risk)


class Ledger:
    def __init__(self) -> None:
        self.reads = 0

    def durations(self) -> dict[tuple[str, str], list[float]]:
        self.reads += 1
        return {("bfl", PRO): [float(self.reads)]}


def test_durations_are_read_again_after_some_seconds_only() -> None:
    now, ledger = [100.0], Ledger()
    speeds = Speeds(lambda: ledger, lambda: now[0])  # type: ignore[arg-type, return-value]

    found = [speeds(), speeds()]
    now[0] += FRESH_S
    found.append(speeds())

    assert [{f"bfl/{PRO}": [number]} for number in (1.0, 1.0, 2.0)] == found


@pytest.mark.sandbox
def test_an_old_price_list_is_warned_of_once_for_each_provider_and_noted_in_every_plan(
    twins: Callable[..., Twin], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "_told", set())
    twin = twins()
    twin.client._core.planner._now = lambda: 4e9  # the year 2096
    with caplog.at_level(logging.WARNING, "anykontext"):
        plans = [twin.wait(twin.client.plan(GENERATE)) for _ in range(2)]
        assert [] == caplog.messages
        for _ in range(2):
            twin.generate()

    assert [2, 2] == [len(one.notes) for one in plans]
    assert ["a", "b"] == sorted(text.split()[4] for text in caplog.messages if "more than a year" in text)
