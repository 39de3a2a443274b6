"""In which order the candidates that fit are tried: one function for each strategy, and a table of them (pure).

Chance and turns are passed in with the situation, so that the same inputs give the same order. Whatever the strategy,
every step comes exactly once.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from statistics import median

from anykontext.engine.submit import Step
from anykontext.routing.rules import Rules
from anykontext.routing.situation import Situation

ENOUGH = 5  # durations that make a median worth believing
UNKNOWN_LAST = Decimal("Infinity")

Order = Callable[[Sequence[Step], Rules, Situation], list[Step]]


def ordered(steps: Sequence[Step], rules: Rules, situation: Situation) -> list[Step]:
    """As the route lists them."""
    del rules, situation
    return list(steps)


def cheapest(steps: Sequence[Step], rules: Rules, situation: Situation) -> list[Step]:
    """By the expected price of this request; equal prices keep the order of the route, unknown ones come last."""
    del rules, situation
    return sorted(steps, key=lambda step: UNKNOWN_LAST if step.price.usd is None else step.price.usd)


def fastest(steps: Sequence[Step], rules: Rules, situation: Situation) -> list[Step]:
    """By the median of what each took of late; those of which too little is known follow as the route lists them.

    Now and then one of the latter goes first, so that something becomes known of it. Where nothing is known of any,
    there is nothing to compare with, and the order is the route's.
    """
    medians = {
        id(step): median(found)
        for step in steps
        if len(found := situation.durations.get(step.candidate.name, ())) >= ENOUGH
    }
    known = sorted((step for step in steps if id(step) in medians), key=lambda step: medians[id(step)])
    fresh = [step for step in steps if id(step) not in medians]
    if known and fresh and situation.fraction < rules.explore:
        tried = fresh.pop(int(situation.fraction / rules.explore * len(fresh)))
        return [tried, *known, *fresh]
    return [*known, *fresh]


def weighted(steps: Sequence[Step], rules: Rules, situation: Situation) -> list[Step]:
    """One by chance, by the weights; then one of the rest in the same way, until none is left.

    What a draw leaves of the fraction is again evenly spread over 0 to 1, and makes the next draw.
    """
    rest, found, fraction = list(steps), list[Step](), situation.fraction
    while rest:
        weights = [rules.weight(step.candidate) for step in rest]
        at, index = fraction * sum(weights), 0
        while index < len(rest) - 1 and at >= weights[index]:
            at -= weights[index]
            index += 1
        fraction = min(max(at / weights[index], 0.0), 1.0)
        found.append(rest.pop(index))
    return found


def round_robin(steps: Sequence[Step], rules: Rules, situation: Situation) -> list[Step]:
    """As the route lists them, beginning one further on at each turn."""
    del rules
    first = situation.turn % len(steps) if steps else 0
    return [*steps[first:], *steps[:first]]


STRATEGIES: Mapping[str, Order] = {
    "ordered": ordered,
    "cheapest": cheapest,
    "fastest": fastest,
    "weighted": weighted,
    "round-robin": round_robin,
}
