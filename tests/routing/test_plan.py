from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.model.errors import BudgetExceeded, NoCandidate, UnsupportedOption
from anykontext.model.request import ImageRequest
from anykontext.routing.plan import plan
from anykontext_bfl import Bfl

CAT = ImageRequest("a cat")


def candidate(name: str, price: str | None = "0.04", model: str = "flux-kontext-pro") -> Candidate:
    listed = {} if price is None else {model: Decimal(price)}
    provider = Provider(name, Bfl(), {"api": "https://api.bfl.ai"}, lambda: SecretStr("bfl_secret_key"), listed=listed)
    return Candidate(provider, model)


def names(*candidates: Candidate, request: ImageRequest = CAT, **more: Any) -> list[str]:
    found = plan(request, [], candidates, Policy(), **more)
    return [step.candidate.provider.name for step in found.steps]


def test_ordered_keeps_the_order_given() -> None:
    assert ["b", "a"] == names(candidate("b", "0.05"), candidate("a", "0.04"))


def test_cheapest_goes_by_price() -> None:
    found = names(candidate("dear", "0.08"), candidate("cheap", "0.02"), candidate("fair"), strategy="cheapest")

    assert ["cheap", "fair", "dear"] == found


def test_equal_prices_keep_the_order_and_unknown_ones_come_last() -> None:
    found = names(candidate("u", None), candidate("x"), candidate("v", None), candidate("y"), strategy="cheapest")

    assert ["x", "y", "u", "v"] == found


@settings(deadline=None)
@given(prices=st.lists(st.sampled_from([None, "0", "0.01", "0.010", "0.02", "10"]), min_size=1, max_size=8))
def test_cheapest_is_a_stable_sort(prices: list[str | None]) -> None:
    candidates = [candidate(str(index), price) for index, price in enumerate(prices)]

    found = [int(name) for name in names(*candidates, strategy="cheapest")]

    def key(index: int) -> tuple[bool, Decimal, int]:
        return (prices[index] is None, Decimal(prices[index] or 0), index)

    assert sorted(range(len(prices)), key=key) == found


def test_the_price_of_n_images_is_n_times_the_price() -> None:
    found = plan(ImageRequest("a cat", num_images=3), [], [candidate("a")], Policy())

    assert (Decimal("0.12"), "listed") == (found.steps[0].price.amount, found.steps[0].price.basis)


def test_a_mode_may_have_a_price_of_its_own() -> None:
    listed = {"flux-kontext-pro": Decimal("0.04"), "flux-kontext-pro/edit": Decimal("0.07")}
    provider = Provider("a", Bfl(), {"api": "https://api.bfl.ai"}, lambda: SecretStr("k"), listed=listed)
    one = Candidate(provider, "flux-kontext-pro")

    assert (Decimal("0.07"), Decimal("0.04")) == (one.price("edit").amount, one.price("generate").amount)


def test_each_excluded_candidate_has_its_reason() -> None:
    found = plan(
        ImageRequest("a cat", aspect_ratio="16:9", num_images=7),
        [],
        [candidate("a"), candidate("b", model="flux-kontext-max"), candidate("c", model="flux-kontext-dev")],
        Policy(),
    )

    assert ["a"] == [one.candidate.provider.name for one in found.steps]
    assert {"b/flux-kontext-max": "num_images", "c/flux-kontext-dev": "model"} == {
        one.candidate.name: one.misfit.option for one in found.excluded
    }


def test_a_single_candidate_that_cannot_do_it_is_an_unsupported_option() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        plan(ImageRequest("a cat", aspect_ratio="3:1"), [], [candidate("bfl")], Policy())

    assert ("aspect_ratio", "3:1", "21:9", "bfl") == (
        *(caught.value.option, caught.value.asked),
        *(caught.value.allowed, caught.value.provider),
    )


def test_none_of_several_is_no_candidate_with_every_reason() -> None:
    with pytest.raises(NoCandidate) as caught:
        plan(ImageRequest("a cat", watermark="mine"), [], [candidate("a"), candidate("b")], Policy())

    assert {"a/flux-kontext-pro", "b/flux-kontext-pro"} == caught.value.reasons.keys()
    assert "watermark" in str(caught.value)
    assert "nothing was sent" in str(caught.value)


def test_what_is_too_dear_is_left_out() -> None:
    found = names(candidate("dear", "0.08"), candidate("fair", "0.04"), max_price=Decimal("0.04"))

    assert ["fair"] == found


def test_an_unknown_price_does_not_pass_a_cap() -> None:
    assert ["fair"] == names(candidate("unknown", None), candidate("fair"), max_price=Decimal("0.04"))


@pytest.mark.parametrize("price", ["0.05", None])
def test_when_all_are_too_dear_the_budget_is_exceeded(price: str | None) -> None:
    with pytest.raises(BudgetExceeded, match=r"max_price is 0\.04 USD"):
        plan(CAT, [], [candidate("a", price)], Policy(), max_price=Decimal("0.04"))


def test_the_cap_is_for_the_whole_request() -> None:
    with pytest.raises(BudgetExceeded):
        plan(ImageRequest("a cat", num_images=2), [], [candidate("a")], Policy(), max_price=Decimal("0.04"))


def test_strict_excludes_where_adjust_would_adjust() -> None:
    request = ImageRequest("a cat", steps=30)

    assert ["steps"] == [one.option for one in plan(request, [], [candidate("a")], Policy()).steps[0].adjustments]
    with pytest.raises(UnsupportedOption):
        plan(request, [], [candidate("a")], Policy(strict=True))


def test_a_webhook_is_possible_where_nobody_waits() -> None:
    request = ImageRequest("a cat", webhook_url="https://me.example/hook")

    assert ["a"] == names(candidate("a"), request=request, waits=False)
    with pytest.raises(UnsupportedOption):
        names(candidate("a"), request=request)


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
    found = plan(CAT, [], [candidate("a")], Policy())

    assert "bfl_secret_key" not in repr(found)
    assert "key" not in repr(found.steps[0].candidate.provider).replace("keys", "")
