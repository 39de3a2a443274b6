"""`plan`: the table and the JSON of a plan, and the exit code of the request itself."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from anykontext.io.drive_sync import SyncDriver

CONFIG = """
[providers.bfl]
api_key = "env:NO_SUCH_KEY"
[providers.kie]
api_key = "0123456789"
[providers.fal]
api_key = "id:0123456789"
[routes.default]
candidates = ["bfl", "kie", "fal"]
[routes.eu]
candidates = ["kie", "fal"]
regions = ["eu"]
[budget]
daily_usd = "0.10"
[budget.tags.customer]
daily_usd = "0.03"
"""


@pytest.fixture(autouse=True)
def config(work: Path) -> None:
    (work / "anykontext.toml").write_text(CONFIG)


def test_it_shows_where_an_edit_would_go_at_what_price_and_why_not_elsewhere(cli: Callable[..., Any]) -> None:
    ended = cli("plan", "photo.jpg", "make it blue", "--safety-tolerance", "0", "-q")

    lines = ended.out.splitlines()
    assert 0 == ended.code
    assert "route default, cheapest" == lines[0]
    assert ["1", "kie"] == lines[2].split()[:2]
    assert ["2", "fal"] == lines[3].split()[:2]
    assert "0.025 USD" in lines[2]
    assert "safety_tolerance: 0 became 1" in lines[3]
    (excluded,) = [line for line in lines if "bfl/flux-kontext-pro: " in line]
    assert "NO_SUCH_KEY" in excluded


def test_a_tag_brings_its_budget(cli: Callable[..., Any]) -> None:
    found = cli("plan", "a cat", "--tag", "customer=acme", "--json").json

    assert ["kie"] == [one["provider"] for one in found["candidates"]]
    assert "customer=acme" in next(one["reason"] for one in found["excluded"] if one["provider"] == "fal")


def test_json_is_the_documented_object(cli: Callable[..., Any]) -> None:
    found = cli("plan", "a cat", "--num-images", "2", "--json").json

    assert {"route", "strategy", "candidates", "excluded"} == found.keys()
    assert [("kie", "0.050"), ("fal", "0.08")] == [
        (one["provider"], one["price"]["amount"]) for one in found["candidates"]
    ]
    assert all({"provider", "model", "price", "adjustments"} == one.keys() for one in found["candidates"])
    assert [{"provider", "model", "reason"}] == [set(one) for one in found["excluded"]]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("a cat", "--max-price", "0.01"), 8, "max_price"),
        (("a cat", "--num-images", "9"), 8, "daily budget"),
        (("a cat", "--provider", "kie", "--aspect-ratio", "4:5"), 2, "3:4"),
        (("a cat", "--route", "eu"), 2, "is not known"),
        (("a cat", "--provider", "bfl"), 3, "NO_SUCH_KEY"),
    ],
)
def test_without_a_candidate_it_tells_every_reason_and_ends_as_the_request_would(
    cli: Callable[..., Any], words: tuple[str, ...], code: int, reason: str
) -> None:
    ended = cli("plan", *words, "--json")

    assert (code, []) == (ended.code, ended.json["candidates"])
    assert reason in " ".join(one["reason"] for one in ended.json["excluded"])
    assert code == cli("generate", *words).code
    assert "\nError: " in ended.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "PROMPT is missing"),
        (("a cat", "--tag", "customer"), "'customer' is not of the form name=value"),
        (("a cat", "--tag", "a=1", "--tag", "a=2"), "'a=2' is given twice"),
        (("photo.jpg",), "PROMPT is missing"),
        (("a", "cat"), "there is no file 'a'"),
        (("photo.jpg", "x", "--sandbox", "--config", "anykontext.toml"), "leave out --config"),
    ],
)
def test_a_bad_command_line_is_refused(cli: Callable[..., Any], words: tuple[str, ...], told: str) -> None:
    cli("plan", *words).refused(told)


def test_providers_warns_of_price_lists_that_are_old(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anykontext.routing.prices.OLD", timedelta(days=100_000))  # whatever the day of the test
    assert "more than a year" not in cli("providers").err
    monkeypatch.setattr("anykontext.routing.prices.OLD", timedelta(days=-10_000))

    told = [line for line in cli("providers", "--json").err.splitlines() if "more than a year" in line]

    assert ["bfl", "fal", "kie", "together"] == sorted(line.split("listed prices of ")[1].split()[0] for line in told)


@pytest.mark.sandbox
def test_it_plans_in_the_sandbox_and_opens_no_connection(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(SyncDriver, "run")
    monkeypatch.delattr(SyncDriver, "fetch_input")

    ended = cli("plan", "photo.jpg", "make it blue", "--sandbox", "--json")

    assert 0 == ended.code
    assert {"bfl", "fal", "kie", "together"} <= {one["provider"] for one in ended.json["candidates"]}
