"""Prices that have grown old are told of; those of the future and of the user are not."""

from datetime import date

import pytest

from anykontext.model.money import Cost, Price
from anykontext.routing.prices import old_price

from .conftest import candidate, price

TODAY = date(2027, 11, 21)


@pytest.mark.parametrize(
    ("found", "old"),
    [
        (date(2026, 11, 20), True),
        (date(2026, 11, 21), False),
        (date(2027, 11, 21), False),
        (date(2030, 1, 1), False),
        (None, False),
    ],
)
def test_a_listed_price_is_old_after_a_year(found: date | None, old: bool) -> None:
    told = old_price(candidate("bfl-eu", found=found), "edit", TODAY)

    assert old == (told is not None)
    assert not told or ("[providers.bfl-eu.prices]" in told and str(found) in told)


def test_an_unknown_price_is_not_old() -> None:
    assert old_price(candidate("a", None), "edit", TODAY) is None


@pytest.mark.parametrize(
    ("line", "size", "amount"),
    [
        (price("0.04"), None, "0.04"),
        (price("0.04"), (1024, 1024), "0.04"),
        (price("0.05", "megapixel"), (1000, 2000), "0.10"),
        (price("0.05", "megapixel"), (512, 512), "0.0131072"),
        (price("0.05", "megapixel"), None, None),
    ],
)
def test_an_image_costs_its_price_or_its_megapixels_and_nothing_is_guessed(
    line: Price, size: tuple[int, int] | None, amount: str | None
) -> None:
    found = line.of_image(size)

    assert (amount is None) == (found.amount is None)
    assert found.amount is None or float(amount or 0) == pytest.approx(float(found.amount))
    assert ("unknown" if amount is None else "listed") == found.basis


def test_only_dollars_count_as_dollars() -> None:
    assert [None, None] == [Cost(None, "USD").usd, price("0.04", currency="EUR").of_image(None).usd]
