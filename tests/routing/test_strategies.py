"""Every strategy puts every fitting candidate in its place once, and the same one for the same situation."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.config.sections import Strategy as Written
from anykontext.engine.policy import Policy
from anykontext.model.request import ImageRequest
from anykontext.routing.plan import plan
from anykontext.routing.rules import Rules, Strategy
from anykontext.routing.situation import Situation
from anykontext.routing.strategies import ENOUGH, STRATEGIES

from .conftest import CAT, candidate

PRICES = [None, "0", "0.01", "0.010", "0.02", "10"]
FEW = [1.0] * (ENOUGH - 1)


def order(
    prices: Sequence[str | None],
    strategy: str,
    request: ImageRequest = CAT,
    *,
    explore: float = 0.0,
    weights: Sequence[float] = (),
    durations: Sequence[Sequence[float]] = (),
    **situation: Any,
) -> list[int]:
    """The candidates by their place in the route, in the order of the plan."""
    names = [f"{index}/flux-kontext-pro" for index in range(len(prices))]
    found = plan(
        request,
        [],
        [candidate(str(index), price) for index, price in enumerate(prices)],
        Policy(),
        rules=Rules(strategy, explore=explore, weights=dict(zip(names, weights, strict=False))),  # type: ignore[arg-type]
        situation=Situation(0.0, durations=dict(zip(names, durations, strict=False)), **situation),
    )
    return [int(step.candidate.provider.name) for step in found.steps]


def test_the_table_has_every_strategy_that_a_route_may_name() -> None:
    assert set(get_args(Written)) == set(get_args(Strategy)) == STRATEGIES.keys()


@settings(deadline=None, max_examples=200)
@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    drawn=st.lists(
        st.tuples(
            st.sampled_from(PRICES),
            st.floats(1e-6, 1e6),
            st.lists(st.floats(0.1, 100), max_size=2 * ENOUGH),
        ),
        min_size=1,
        max_size=6,
    ),
    explore=st.floats(0, 1),
    turn=st.integers(0, 10**9),
    fraction=st.floats(0, 1),
)
def test_every_candidate_comes_exactly_once_and_the_same_inputs_give_the_same_order(
    strategy: str, drawn: list[tuple[str | None, float, list[float]]], **more: Any
) -> None:
    prices, weights, durations = zip(*drawn, strict=True)

    found = order(prices, strategy, weights=weights, durations=durations, **more)

    assert list(range(len(prices))) == sorted(found)
    assert found == order(prices, strategy, weights=weights, durations=durations, **more)


def test_ordered_keeps_the_order_of_the_route() -> None:
    assert [0, 1, 2] == order(["0.05", "0.04", None], "ordered")


@settings(deadline=None)
@given(prices=st.lists(st.sampled_from(PRICES), min_size=1, max_size=8))
def test_cheapest_is_a_stable_sort_with_unknown_prices_last(prices: list[str | None]) -> None:
    def key(index: int) -> tuple[bool, Decimal, int]:
        return (prices[index] is None, Decimal(prices[index] or 0), index)

    assert sorted(range(len(prices)), key=key) == order(prices, "cheapest")


def test_cheapest_picks_the_cheaper_where_the_dearer_is_listed_first_and_counts_the_images() -> None:
    three = ImageRequest("a cat", num_images=3)
    found = plan(
        three,
        [],
        [candidate("dear", "0.08"), candidate("cheap", "0.04")],
        Policy(),
        rules=Rules("cheapest"),
        situation=Situation(0.0),
    )

    assert [("cheap", Decimal("0.12")), ("dear", Decimal("0.24"))] == [
        (one.candidate.provider.name, one.price.amount) for one in found.steps
    ]


@settings(deadline=None)
@given(durations=st.lists(st.lists(st.floats(0.1, 100), max_size=2 * ENOUGH), min_size=1, max_size=6))
def test_fastest_goes_by_the_median_and_keeps_the_listed_order_where_too_little_is_known(
    durations: list[list[float]],
) -> None:
    known = [index for index, seconds in enumerate(durations) if len(seconds) >= ENOUGH]
    fresh = [index for index in range(len(durations)) if index not in known]

    found = order(["0.04"] * len(durations), "fastest", durations=durations)

    assert sorted(known, key=lambda index: median(durations[index])) + fresh == found


def test_one_slow_answer_does_not_make_a_candidate_slow() -> None:
    assert [1, 0] == order([None] * 2, "fastest", durations=[[5.0] * 9, [1.0] * 8 + [900.0]])


@pytest.mark.parametrize(
    ("fraction", "explore", "first"),
    [(0.0, 0.1, 1), (0.049, 0.1, 1), (0.051, 0.1, 2), (0.1, 0.1, 0), (0.0, 0.0, 0), (0.9, 0.1, 0), (0.99, 1.0, 2)],
)
def test_now_and_then_a_candidate_of_which_little_is_known_goes_first(
    fraction: float, explore: float, first: int
) -> None:
    found = order([None] * 3, "fastest", durations=[[5.0] * 9, FEW, []], explore=explore, fraction=fraction)

    assert [first, *(index for index in range(3) if index != first)] == found


def test_nothing_is_explored_where_nothing_is_known() -> None:
    assert [0, 1] == order([None] * 2, "fastest", durations=[FEW, []], explore=1.0, fraction=0.9)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (9.0, 1.0), (0.5, 2.0, 7.5), (1.0, 1.0, 1.0, 97.0)])
def test_weights_are_the_shares_of_the_first_and_of_the_second_place(weights: tuple[float, ...]) -> None:
    grid = 2_000
    orders = [
        order([None] * len(weights), "weighted", weights=weights, fraction=(step + 0.5) / grid) for step in range(grid)
    ]
    firsts, pairs = Counter(found[0] for found in orders), Counter(tuple(found[:2]) for found in orders)
    total = sum(weights)

    for index, weight in enumerate(weights):
        assert weight / total == pytest.approx(firsts[index] / grid, abs=0.002)
        for other, share in enumerate(weights):
            if other != index:
                expected = weight / total * share / (total - weight)
                assert expected == pytest.approx(pairs[index, other] / grid, abs=0.004)


@settings(deadline=None)
@given(count=st.integers(1, 6), start=st.integers(0, 1000))
def test_round_robin_gives_each_the_same_number_of_turns_and_keeps_the_cycle(count: int, start: int) -> None:
    found = [order([None] * count, "round-robin", turn=start + turn) for turn in range(count)]

    assert set(range(count)) == {one[0] for one in found}
    assert all((a + 1) % count == b for one in found for a, b in pairwise(one))


def test_round_robin_turns_among_those_that_fit() -> None:
    found = [
        plan(
            CAT,
            [],
            [candidate("a"), candidate("out", model="flux-kontext-dev"), candidate("b")],
            Policy(),
            rules=Rules("round-robin"),
            situation=Situation(0.0, turn=turn),
        )
        .steps[0]
        .candidate.provider.name
        for turn in range(4)
    ]

    assert ["a", "b", "a", "b"] == found
