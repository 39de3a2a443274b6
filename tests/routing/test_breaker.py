import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykontext.engine.policy import FAILOVER_ON, OUTAGES
from anykontext.model.errors import Kind
from anykontext.routing.breaker import CLOSED, PAUSES, SPREAD, Breaker, Position, failed, probed, says

OUT = Kind.UNAVAILABLE


def after(*kinds: Kind, now: float = 100.0, jitter: float = 0.0) -> Breaker:
    """A breaker after failures at one moment."""
    found = CLOSED
    for kind in kinds:
        found = failed(found, kind, now, jitter)
    return found


@pytest.mark.parametrize(
    ("kinds", "position"),
    [
        ((), Position.CLOSED),
        ((OUT, OUT), Position.CLOSED),
        ((OUT, OUT, OUT), Position.OPEN),
        ((OUT, Kind.OUTCOME_UNKNOWN, OUT), Position.OPEN),
        ((Kind.OUTCOME_UNKNOWN,) * 3, Position.OPEN),
        ((Kind.OUT_OF_CREDIT,), Position.OPEN),
        ((Kind.AUTHENTICATION_FAILED,), Position.OPEN),
    ],
)
def test_it_opens_after_so_many_failures_in_a_row(kinds: tuple[Kind, ...], position: Position) -> None:
    assert position is after(*kinds).position(100.0)


def test_open_it_stops_everyone_and_half_open_all_but_one() -> None:
    breaker = after(OUT, OUT, OUT)

    assert breaker.stops(104.9)
    assert not breaker.stops(105.0)
    assert Position.HALF_OPEN is breaker.position(105.0)
    assert probed(breaker, probing=True).stops(105.0)
    assert not probed(probed(breaker, probing=True), probing=False).stops(105.0)


def test_each_failed_probe_doubles_its_time_up_to_a_cap() -> None:
    breaker, times = after(OUT, OUT, OUT), [5.0]
    for _ in range(7):
        now = breaker.until
        breaker = failed(probed(breaker, probing=True), OUT, now, 0.0)
        times.append(breaker.until - now)

    assert [5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 120.0, 120.0] == times
    assert 100.0 == breaker.since
    assert not breaker.probing


def test_what_was_sent_before_it_opened_does_not_prolong_it() -> None:
    breaker = after(OUT, OUT, OUT)

    assert breaker == failed(breaker, OUT, 104.0, 0.0) == failed(breaker, Kind.OUT_OF_CREDIT, 104.0, 0.0)


@pytest.mark.parametrize("kind", PAUSES)
@given(jitter=st.floats(0, 1))
def test_jitter_makes_it_longer_and_never_by_more_than_a_part(kind: Kind, jitter: float) -> None:
    pause = PAUSES[kind]

    until = after(*[kind] * pause.after, jitter=jitter).until

    assert pause.first_s <= until - 100.0 <= pause.first_s * (1 + SPREAD)


def test_credit_is_looked_for_less_often_than_a_service() -> None:
    assert PAUSES[Kind.OUT_OF_CREDIT].first_s > PAUSES[OUT].first_s
    assert PAUSES[Kind.OUT_OF_CREDIT].longest_s > PAUSES[OUT].longest_s


@pytest.mark.parametrize("kind", [None, *Kind])
def test_every_kind_says_that_it_works_or_that_it_does_not_or_nothing(kind: Kind | None) -> None:
    works = {None, Kind.MODERATED, Kind.REQUEST_REJECTED, Kind.GENERATION_FAILED, Kind.JOB_NOT_FOUND}
    works |= {Kind.RESULT_EXPIRED}
    nothing = {Kind.RATE_LIMITED, Kind.DEADLINE_EXCEEDED, Kind.CANCELLED, Kind.PROTOCOL_ERROR}

    assert (True if kind in works else None if kind in nothing else False) == says(kind)


def test_lost_submits_are_heeded_by_routes_that_go_on_when_a_provider_is_unavailable() -> None:
    assert OUT is after(*[Kind.OUTCOME_UNKNOWN] * 3).kind
    assert OUT in FAILOVER_ON


def test_a_task_that_ends_in_an_outage_ends_in_one_that_the_breaker_knows() -> None:
    assert OUTAGES <= set(PAUSES)


@given(st.lists(st.tuples(st.sampled_from([*PAUSES, None]), st.floats(0, 200), st.floats(0, 1)), max_size=30))
def test_whatever_happens_it_is_half_open_again_in_the_end_and_a_success_closes_it(
    steps: list[tuple[Kind | None, float, float]],
) -> None:
    now, breaker = 0.0, CLOSED
    for kind, seconds, jitter in steps:
        now += seconds
        breaker = CLOSED if kind is None else failed(breaker, kind, now, jitter)

        longest = max(one.longest_s for one in PAUSES.values()) * (1 + SPREAD)
        assert not breaker.stops(now + longest)
        assert kind is not None or Position.CLOSED is breaker.position(now)
