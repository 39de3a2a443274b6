from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykontext.model.money import Cap
from anykontext.routing.budgets import Budget, Limits, Period, at_risk_cap, bounds, caps_for, of_budget

NOON = datetime(2026, 11, 21, 12, 30, tzinfo=UTC).timestamp()
DAY = (datetime(2026, 11, 21, tzinfo=UTC).timestamp(), datetime(2026, 11, 22, tzinfo=UTC).timestamp())
MONTH = (datetime(2026, 11, 1, tzinfo=UTC).timestamp(), datetime(2026, 12, 1, tzinfo=UTC).timestamp())
PERIODS: tuple[Period, ...] = ("daily", "monthly")
moments = st.floats(0, datetime(2200, 1, 1, tzinfo=UTC).timestamp())


@given(moments, st.sampled_from(PERIODS))
def test_a_time_lies_in_its_period_and_the_next_one_begins_where_it_ends(now: float, period: Period) -> None:
    begin, end = bounds(period, now)

    assert begin <= now < end
    assert (begin, end) == bounds(period, begin)
    assert end == bounds(period, end)[0]
    assert (begin, end) == bounds(period, end - 1)


@given(moments)
def test_a_month_is_one_of_the_calendar_of_utc(now: float) -> None:
    begin, end = (datetime.fromtimestamp(at, UTC) for at in bounds("monthly", now))

    assert (1, 0, 0, 1, 0, 0) == (begin.day, begin.hour, begin.minute, end.day, end.hour, end.minute)
    assert 12 * begin.year + begin.month + 1 == 12 * end.year + end.month


@given(moments)
def test_a_day_has_24_hours_and_lies_in_one_month(now: float) -> None:
    begin, end = bounds("daily", now)

    assert timedelta(days=1).total_seconds() == end - begin
    assert bounds("monthly", begin) == bounds("monthly", end - 1)


def test_a_request_is_under_the_caps_of_all_and_of_its_values_of_tags() -> None:
    limits = {"customer": Limits(daily=Decimal(1)), "team": Limits(monthly=Decimal(9))}
    budget = Budget(Limits(Decimal(20), Decimal(300)), limits)

    assert (
        Cap("daily", Decimal(20), *DAY),
        Cap("monthly", Decimal(300), *MONTH),
        Cap("daily", Decimal(1), *DAY, tag=("customer", "acme")),
    ) == caps_for(budget, {"customer": "acme", "other": "x"}, NOON)


@pytest.mark.parametrize("budget", [Budget(), Budget(tags={"customer": Limits(Decimal(1), Decimal(2))})])
def test_a_request_without_the_tag_is_under_no_cap(budget: Budget) -> None:
    assert () == caps_for(budget, {"team": "acme"}, NOON)


def test_what_is_left_is_said_with_whose_it_is_and_when_it_begins_anew() -> None:
    cap = Cap("daily", Decimal("20.00"), *DAY, tag=("customer", "acme"))

    assert (
        "of the daily budget of 20.00 USD for customer=acme 0.03 USD are left; it begins anew at 2026-11-22 00:00 UTC"
    ) == of_budget(cap, Decimal("0.03"))
    assert "anew" not in of_budget(at_risk_cap(Decimal(1)), Decimal(0))
