from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykontext.model.money import NOTHING, Cost, Price, price_list, usd

LISTED, REPORTED = Cost(Decimal("0.04"), "USD", "listed"), Cost(Decimal("0.07"), "USD", "reported")


def test_sums_are_exact() -> None:
    assert Decimal("0.3") == (Cost(Decimal("0.1"), "USD", "listed") + Cost(Decimal("0.2"), "USD", "listed")).amount


@pytest.mark.parametrize(
    ("first", "second", "amount", "basis"),
    [
        (LISTED, LISTED, Decimal("0.08"), "listed"),
        (LISTED, REPORTED, Decimal("0.11"), "listed"),
        (REPORTED, LISTED, Decimal("0.11"), "listed"),
        (REPORTED, REPORTED, Decimal("0.14"), "reported"),
        (NOTHING, LISTED, Decimal("0.04"), "listed"),
        (NOTHING, REPORTED, Decimal("0.07"), "reported"),
        (LISTED, Cost(), None, "unknown"),
        (Cost(), REPORTED, None, "unknown"),
        (NOTHING, Cost(), None, "unknown"),
        (LISTED, Cost(Decimal(1), "EUR", "listed"), None, "unknown"),
    ],
)
def test_a_sum_is_only_as_sure_as_the_less_sure_and_unknown_stays_unknown(
    first: Cost, second: Cost, amount: Decimal | None, basis: str
) -> None:
    found = first + second

    assert (amount, basis) == (found.amount, found.basis)


@given(count=st.integers(0, 1000))
def test_so_many_images_cost_so_much(count: int) -> None:
    assert Decimal("0.04") * count == LISTED.times(count).amount
    assert Cost() == Cost().times(count)


def test_json_keeps_every_digit() -> None:
    assert {"amount": "0.0400", "currency": "USD", "basis": "listed"} == Cost(
        Decimal("0.0400"), "USD", "listed"
    ).to_json()
    assert {"amount": None, "currency": "USD", "basis": "unknown"} == Cost().to_json()


def test_a_cost_tells_itself() -> None:
    assert ("0.04 USD (listed)", "an unknown price") == (str(LISTED), str(Cost()))


@pytest.mark.parametrize(
    ("given", "amount"), [("0.04", "0.04"), (" 1 ", "1"), (2, "2"), (0.05, "0.05"), (Decimal("0.1"), "0.1"), ("0", "0")]
)
def test_amounts_are_read_exactly(given: Any, amount: str) -> None:
    assert Decimal(amount) == usd(given)


@pytest.mark.parametrize(
    "given",
    ["", "x", "-1", -1, "1e3", "nan", "inf", float("nan"), True, None, [], {"1-pro": "0.04"}, "1,5", "0x1", "1_0"],
)
def test_what_is_no_amount_is_a_value_error_that_does_not_repeat_it(given: Any) -> None:
    with pytest.raises(ValueError, match="amount"):
        usd(given)


LINE = """["{name}"]
amount = "{amount}"
unit = "{unit}"
currency = "{currency}"
source = "a page"
date = "2026-11-20"
evidence = "documented"
"""


def line(**more: str) -> str:
    return LINE.format(**{"name": "flux-kontext-pro", "amount": "0.04", "unit": "image", "currency": "USD", **more})


def test_a_price_list_is_read() -> None:
    text = line() + line(name="flux-1.1-pro/generate", amount="0.05")

    found = price_list(text, ["flux-kontext-pro", "flux-1.1-pro"])

    assert isinstance(found["flux-kontext-pro"], Price)
    assert {"flux-kontext-pro": Decimal("0.04"), "flux-1.1-pro/generate": Decimal("0.05")} == {
        name: price.amount for name, price in found.items()
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (line(name="flux-kontext-por"), "did you mean 'flux-kontext-pro'"),
        (line(name="flux-kontext-pro/video"), "unknown model"),
        (line(unit="credit"), "unit"),
        (line(currency="euros"), "currency"),
        (line(amount="free"), "amount"),
        (line() + 'sauce = "x"\n', "unknown key 'sauce'"),
        (line().replace('source = "a page"', ""), "source: a text is needed"),
        (line().replace("2026-11-20", "yesterday"), "flux-kontext-pro"),
        ("flux = 1", "unknown model"),
        ('"flux-kontext-pro" = 1', "a table is needed"),
    ],
)
def test_a_wrong_price_list_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        price_list(text, ["flux-kontext-pro"])
