from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.model.errors import (
    AnykontextError,
    BudgetExceeded,
    MissingKey,
    NoCandidate,
    Unavailable,
    UnsupportedOption,
)
from anykontext.model.money import Cap
from anykontext.model.request import ImageRequest
from anykontext.routing.plan import Steps, plan, refusal
from anykontext.routing.rules import Rules
from anykontext.routing.situation import Situation
from anykontext_bfl import Bfl
from anykontext_kie import Kie

from .conftest import CAT, NOW, candidate, price

ADJUST = Policy()


def planned(
    *candidates: Candidate,
    request: ImageRequest = CAT,
    policy: Policy = ADJUST,
    situation: Situation = NOW,
    waits: bool = True,
    **rules: Any,
) -> Steps:
    return plan(request, [], candidates, policy, rules=Rules(**rules), situation=situation, waits=waits)


def names(*candidates: Candidate, **more: Any) -> list[str]:
    return [step.candidate.provider.name for step in planned(*candidates, **more).steps]


def refused(*candidates: Candidate, **more: Any) -> AnykontextError:
    found = planned(*candidates, **more)
    assert not found.steps
    return refusal(found.excluded)


def reasons(*candidates: Candidate, **more: Any) -> dict[str, str]:
    found = planned(*candidates, **more)
    return {one.candidate.provider.name: one.misfit.reason for one in found.excluded}


def test_the_price_of_n_images_is_n_times_the_price() -> None:
    found = planned(candidate("a"), request=ImageRequest("a cat", num_images=3))

    assert (Decimal("0.12"), "listed") == (found.steps[0].price.amount, found.steps[0].price.basis)


def test_a_mode_may_have_a_price_of_its_own() -> None:
    listed = {"flux-kontext-pro": price("0.04"), "flux-kontext-pro/edit": price("0.07")}
    provider = Provider("a", Bfl(), {"api": "https://api.bfl.ai"}, lambda: SecretStr("k"), listed=listed)
    one = Candidate(provider, "flux-kontext-pro")

    assert (Decimal("0.07"), Decimal("0.04")) == (one.price("edit").amount, one.price("generate").amount)


def test_each_excluded_candidate_has_its_reason() -> None:
    found = planned(
        candidate("a"),
        candidate("b", model="flux-kontext-max"),
        candidate("c", model="flux-kontext-dev"),
        request=ImageRequest("a cat", aspect_ratio="16:9", num_images=7),
    )

    assert ["a"] == [one.candidate.provider.name for one in found.steps]
    assert {"b/flux-kontext-max": "num_images", "c/flux-kontext-dev": "model"} == {
        one.candidate.name: one.misfit.option for one in found.excluded
    }


def test_a_single_candidate_that_cannot_do_it_is_an_unsupported_option() -> None:
    error = refused(candidate("bfl"), request=ImageRequest("a cat", aspect_ratio="3:1"))

    assert isinstance(error, UnsupportedOption)
    assert ("aspect_ratio", "3:1", "21:9", "bfl") == (error.option, error.asked, error.allowed, error.provider)


def test_none_of_several_is_no_candidate_with_every_reason() -> None:
    error = refused(candidate("a"), candidate("b"), request=ImageRequest("a cat", watermark="mine"))

    assert isinstance(error, NoCandidate)
    assert {"a/flux-kontext-pro", "b/flux-kontext-pro"} == error.reasons.keys()
    assert "watermark" in str(error)
    assert "nothing was sent" in str(error)


@pytest.mark.parametrize("amount", ["0.08", None])
def test_what_is_too_dear_or_of_unknown_price_is_left_out(amount: str | None) -> None:
    assert ["fair"] == names(candidate("dear", amount), candidate("fair"), max_price=Decimal("0.04"))


def test_an_unknown_price_passes_a_cap_where_the_route_allows_it() -> None:
    found = names(candidate("dear", "0.08"), candidate("u", None), max_price=Decimal("0.04"), unknown_price=True)

    assert ["u"] == found


@pytest.mark.parametrize("amount", ["0.05", None])
def test_when_all_are_too_dear_the_budget_is_exceeded(amount: str | None) -> None:
    error = refused(candidate("a", amount), max_price=Decimal("0.04"))

    assert isinstance(error, BudgetExceeded)
    assert "max_price is 0.04 USD" in str(error)


def test_the_cap_is_for_the_whole_request() -> None:
    two = ImageRequest("a cat", num_images=2)

    assert isinstance(refused(candidate("a"), request=two, max_price=Decimal("0.04")), BudgetExceeded)


def test_what_is_left_of_a_budget_excludes_what_costs_more() -> None:
    daily = Cap("daily", Decimal(20), renews_at=1_763_769_600.0)
    low = replace(NOW, left=[(Cap("monthly", Decimal(9)), Decimal(9)), (daily, Decimal("0.03"))])

    assert ["cheap"] == names(candidate("a"), candidate("cheap", "0.03"), candidate("u", None), situation=low)
    assert (
        "it would cost 0.04 USD, and of the daily budget of 20 USD 0.03 USD are left; "
        "it begins anew at 2025-11-22 00:00 UTC"
    ) == reasons(candidate("a"), situation=low)["a"]
    assert isinstance(refused(candidate("a"), candidate("b", None), situation=low), BudgetExceeded)


def test_a_closed_candidate_is_passed_over_with_the_reason_given_in_the_order_that_was_found() -> None:
    found = planned(*map(candidate, "abc"), strategy="round-robin", situation=replace(NOW, turn=1))
    left = found.without({"a/flux-kontext-pro": "it failed three times"})

    assert ["b", "c"] == [one.candidate.provider.name for one in left.steps]
    assert [("a", "it failed three times")] == [
        (one.candidate.provider.name, one.misfit.reason) for one in left.excluded
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_when_all_are_closed_there_is_no_candidate_for_now(count: int) -> None:
    found = planned(*map(candidate, "ab"[:count]))
    error = refusal(found.without({f"{one}/flux-kontext-pro": "it is drained" for one in "ab"}).excluded)

    assert isinstance(error, NoCandidate)
    assert "later" in str(error)
    assert {"it is drained"} == set(error.reasons.values())


def test_one_that_was_named_and_is_closed_is_unavailable() -> None:
    found = planned(candidate("a")).without({"a/flux-kontext-pro": "it is drained"})
    error = refusal(found.excluded, named=True)

    assert isinstance(error, Unavailable)
    assert "a/flux-kontext-pro: it is drained (nothing was charged)" in str(error)


@pytest.mark.parametrize(("count", "kept"), [(20, ["a", "kie"]), (21, ["a"])])
def test_more_tasks_than_the_submit_rate_ever_lets_through_together_are_no_candidate(
    count: int, kept: list[str]
) -> None:
    kie = Candidate(
        Provider("kie", Kie(), {"api": "https://api.kie.ai"}, lambda: SecretStr("k"), max_in_flight=90),
        "flux-kontext-pro",
    )
    found = planned(candidate("a"), kie, request=ImageRequest("a cat", num_images=count))

    assert kept == [one.candidate.provider.name for one in found.steps]
    assert all("at most 20" in one.misfit.reason for one in found.excluded)


def test_money_excludes_only_what_could_be_done_but_for_it() -> None:
    empty = replace(NOW, left=[(Cap("daily", Decimal(1)), Decimal(0))])

    assert isinstance(refused(candidate("a"), situation=empty, regions=("eu",)), UnsupportedOption)


def test_a_missing_key_is_a_reason_and_the_error_where_it_is_the_only_one() -> None:
    keyless = replace(NOW, keyless={"a/flux-kontext-pro": "set A_KEY", "b/flux-kontext-pro": "set B_KEY"})

    assert {"a": "set A_KEY"} == reasons(candidate("a"), candidate("c"), situation=keyless)
    assert isinstance(refused(candidate("a"), candidate("b"), situation=keyless), MissingKey)
    mixed = refused(candidate("a"), candidate("c", model="flux-kontext-dev"), situation=keyless)
    assert isinstance(mixed, NoCandidate)
    assert "set A_KEY" in str(mixed)


def test_strict_excludes_where_adjust_would_adjust() -> None:
    request = ImageRequest("a cat", steps=30)

    assert ["steps"] == [one.option for one in planned(candidate("a"), request=request).steps[0].adjustments]
    assert isinstance(refused(candidate("a"), request=request, policy=Policy(strict=True)), UnsupportedOption)


def test_a_webhook_is_possible_where_nobody_waits() -> None:
    request = ImageRequest("a cat", webhook_url="https://me.example/hook")

    assert ["a"] == names(candidate("a"), request=request, waits=False)
    assert isinstance(refused(candidate("a"), request=request), UnsupportedOption)


def test_a_model_that_bills_megapixels_is_planned_by_the_size() -> None:
    by_area = candidate("area", "0.05", "flux-1.1-pro", unit="megapixel")
    wide = ImageRequest("a cat", size=(1280, 800), num_images=2)

    assert Decimal("0.1024") == planned(by_area, request=wide).steps[0].price.amount


def test_a_price_of_another_currency_is_shown_and_not_compared() -> None:
    euros = candidate("euros", "0.01", currency="EUR")

    assert ["fair", "euros"] == names(euros, candidate("fair"), strategy="cheapest")
    assert "0.01 EUR" in reasons(euros, candidate("fair"), max_price=Decimal(1))["euros"]


@pytest.mark.parametrize(
    ("most", "model", "limits"),
    [
        (None, "flux-kontext-pro", (24, None)),
        (None, "flux-kontext-max", (24, 6)),
        (2, "flux-kontext-max", (2, 6)),
        (100, "flux-kontext-pro", (100, None)),
        (0, "flux-kontext-pro", (0, None)),
    ],
)
def test_the_limit_of_the_config_is_honoured_higher_or_lower(most: int | None, model: str, limits: Any) -> None:
    provider = Provider("a", Bfl(), {"api": "https://api.bfl.ai"}, lambda: SecretStr("k"), max_in_flight=most)

    assert limits == Candidate(provider, model).limits


def test_neither_a_provider_nor_a_step_shows_the_key() -> None:
    found = planned(candidate("a"))

    assert "bfl_secret_key" not in repr(found)
    assert "key" not in repr(found.steps[0].candidate.provider).replace("keys", "")
