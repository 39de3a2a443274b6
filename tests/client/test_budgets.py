"""Budgets as a caller meets them: what is refused, what is said, and that nothing was sent."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import pytest

import anykontext as ak
from anykontext.client.core import Core
from anykontext.sandbox import Emulator, Sandbox

from .conftest import KINDS, Twin, configured, picture

pytestmark = pytest.mark.sandbox
Begin = Callable[..., AbstractContextManager[Twin]]


@pytest.fixture(params=KINDS)
def begin(request: pytest.FixtureRequest, bfl: Emulator) -> Begin:
    """A client of either kind under a budget; an image costs 0.04 USD."""

    def make(**budget: Any) -> Twin:
        config = configured(bfl)
        return Twin(request.param, ak.Config(providers=config.providers, budget=budget))

    return make


def refused(twin: Twin, *words: str, **options: Any) -> None:
    with pytest.raises(ak.BudgetExceeded) as caught:
        twin.edit(**options)
    for word in words:
        assert word in str(caught.value)


def submits(emulator: Emulator) -> int:
    return emulator.counters["submits"]


def open_jobs(twin: Twin) -> list[Any]:
    return [one for one in twin.wait(twin.client.jobs()) if one.state in {"queued", "running"}]


@pytest.mark.parametrize("period", ["daily", "monthly"])
def test_what_is_over_a_budget_is_not_sent_and_says_what_is_left_and_until_when(
    begin: Begin, bfl: Emulator, period: str
) -> None:
    with begin(**{f"{period}_usd": "0.07"}) as twin:
        twin.edit()
        with pytest.raises(ak.BudgetExceeded) as caught:
            twin.edit()
        assert open_jobs(twin) == []

    assert 1 == submits(bfl)
    assert f"of the {period} budget of 0.07 USD" in str(caught.value)
    assert "0.03 USD" in str(caught.value)
    assert re.search(r"20\d\d-\d\d-\d\d (at )?00:00 UTC", str(caught.value))


def test_all_images_of_a_request_are_held_to_it_together(begin: Begin, bfl: Emulator) -> None:
    with begin(daily_usd="0.11") as twin:
        refused(twin, num_images=3)
        twin.edit(num_images=2)

    assert 2 == submits(bfl)


def test_what_certainly_cost_nothing_gives_its_part_back(begin: Begin, bfl: Emulator) -> None:
    with begin(daily_usd="0.04") as twin:
        bfl.inject("moderated")
        with pytest.raises(ak.Moderated):
            twin.edit()
        bfl.clear()

        assert 7 == twin.edit(seed=7).seed


def test_what_may_have_been_paid_counts_until_it_is_settled(begin: Begin, bfl: Emulator) -> None:
    with begin(daily_usd="0.04") as twin:
        bfl.inject("submit-lost")
        with pytest.raises(ak.OutcomeUnknown) as caught:
            twin.edit()
        bfl.clear()
        refused(twin)
        twin.wait(twin.client.resolve(caught.value.job_id, charged=False))

        assert 7 == twin.edit(seed=7).seed


def test_each_value_of_a_tag_has_a_budget_of_its_own(begin: Begin, bfl: Emulator) -> None:
    with begin(tags={"customer": {"daily_usd": "0.04"}}) as twin:
        twin.edit(tags={"customer": "acme"})
        refused(twin, "for customer=acme", tags={"customer": "acme"})
        twin.edit(tags={"customer": "other"})
        twin.edit()
        twin.edit()

    assert 4 == submits(bfl)


@pytest.fixture
def two(home: Any) -> Iterator[tuple[Emulator, Emulator]]:
    with Sandbox(providers=["bfl", "kie"], seconds=0.05) as sandbox:
        for emulator in sandbox.emulators.values():
            emulator.megapixels = 0.02
        yield sandbox.emulators["bfl"], sandbox.emulators["kie"]


def route_of(two: tuple[Emulator, Emulator], budget: dict[str, Any], **settings: Any) -> ak.Config:
    bfl, kie = ({**one.config(), "poll_interval_s": 0.01} for one in two)
    kie["prices"] = {"flux-kontext-pro": "0.025"}
    route = {"candidates": ["bfl", "kie"], "strategy": "ordered", **settings}
    return ak.Config(providers={"bfl": bfl, "kie": kie}, routes={"default": route}, budget=budget)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cheaper_candidate_serves_when_the_first_one_is_over_the_budget(
    kind: str, two: tuple[Emulator, Emulator]
) -> None:
    with Twin(kind, route_of(two, {"daily_usd": "0.03"})) as twin:
        plan = twin.wait(twin.client.plan(ak.ImageRequest("make it blue", picture())))
        assert "kie" == twin.edit().provider
        refused(twin)

    assert ["kie"] == [one.provider for one in plan.candidates]
    ((excluded, reason),) = [(one.provider, one.reason) for one in plan.excluded]
    assert "bfl" == excluded
    assert "0.04" in reason
    assert "daily budget of 0.03 USD" in reason
    assert [0, 1] == [submits(one) for one in two]


@pytest.mark.parametrize(("limit", "served"), [("0.04", True), ("0.03", False)])
def test_going_on_after_what_may_be_paid_is_bounded(two: tuple[Emulator, Emulator], limit: str, served: bool) -> None:
    two[0].inject("submit-lost")
    with Twin("Client", route_of(two, {"max_at_risk_usd": limit}, on_maybe_charged="continue")) as twin:
        try:
            assert "kie" == twin.edit().provider
        except (ak.ProviderError, ak.BudgetExceeded):
            assert not served
        assert open_jobs(twin) == []
        (risky,) = twin.wait(twin.client.jobs())
        assert risky.at_risk

    assert [1, int(served)] == [submits(one) for one in two]


@pytest.mark.parametrize("kind", KINDS)
def test_who_loses_a_race_for_the_rest_of_a_budget_has_sent_nothing(
    kind: str, bfl: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Core, "_left", lambda *_: ())  # at the time of the plan there was room
    with Twin(kind, ak.Config(providers=configured(bfl).providers, budget={"daily_usd": "0.03"})) as twin:
        refused(twin, "it was not sent", "0.04 USD more would be spent", "begins anew")
        assert open_jobs(twin) == []
        assert [] == list(twin.wait(twin.client.spend()).rows)

    assert 0 == submits(bfl)


def test_a_result_that_was_paid_is_given_again_when_the_budget_is_used_up(begin: Begin, bfl: Emulator) -> None:
    with begin(daily_usd="0.04") as twin:
        first = twin.edit(idempotency_key="k")
        assert first.image.sha256 == twin.edit(idempotency_key="k").image.sha256
        refused(twin, idempotency_key="other")

    assert 1 == submits(bfl)


def test_a_budget_begins_anew_with_the_day_of_utc(begin: Begin, bfl: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    real, day_s = time.time, 86_400
    shift = [day_s - real() % day_s - 60]  # to a minute before midnight
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    with begin(daily_usd="0.04") as twin:
        twin.client._core.planner._now = time.time
        twin.edit()
        refused(twin)
        shift[0] += 120
        twin.edit()

    assert 2 == submits(bfl)


def test_what_is_left_is_told_with_what_was_spent(begin: Begin, bfl: Emulator) -> None:
    with begin(daily_usd="1", max_at_risk_usd="2", tags={"customer": {"monthly_usd": "3"}}) as twin:
        twin.edit(tags={"customer": "acme"})
        spend = twin.wait(twin.client.spend())
        narrowed = twin.wait(twin.client.spend(tag="customer=new"))

    told = [("daily", None, "0.96"), ("at-risk", None, "2"), ("monthly", {"customer": "acme"}, "2.96")]
    assert told == [(one["kind"], one["tag"], one["left"]) for one in spend.to_json()["budgets"]]
    assert Decimal(3) == narrowed.budgets[-1].left
    assert "monthly for customer=acme: 2.96 of 3 USD are left; it begins anew at " in str(spend)
