import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.adapting import Call, Purpose, Reply
from anykontext.engine.effects import Loss, Lost
from anykontext.engine.pace import WAIT_MAX_S, poll_after, repeat_after, retry_after
from anykontext.engine.watch import Watch

CALL = Call(Purpose.POLL, "GET", "/")


def reply(status: int, **headers: str) -> Reply:
    return Reply(CALL, status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def watch(jitter: float = 0.5) -> Watch:
    return Watch("job_1", 60, 0, 0, None, jitter)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [200, 201, 302, 400, 404, 500, 502])
def test_retry_after_counts_on_429_and_503_only(status: int) -> None:
    assert retry_after(reply(status, retry_after="3")) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Fri, 20 Nov 2026 12:00:07 GMT", 7.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("Friday, 20-Nov-26 12:00:07 GMT", 7.0),
        ("9" * 400, 1e9),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("1_0", None),
        ("0x10", None),
        ("nan", None),
        ("inf", None),
        ("\u00b2", None),
        ("\u0663", None),
        ("Fri, 99 Nov 2026 12:00:07 GMT", None),
    ],
)
def test_f08_f09_retry_after_is_seconds_or_a_date_against_the_replys_own(text: str, seconds: float | None) -> None:
    found = retry_after(reply(429, retry_after=text, date="Fri, 20 Nov 2026 12:00:00 GMT"))

    assert seconds == found


def test_f09_a_date_without_the_replys_own_tells_nothing() -> None:
    assert retry_after(reply(503, retry_after="Fri, 20 Nov 2026 12:00:07 GMT")) is None


def test_f64_a_wrong_clock_here_does_not_matter_and_a_broken_date_is_no_error() -> None:
    assert retry_after(reply(503, retry_after="Fri, 20 Nov 2026 12:00:07 GMT", date="yesterday")) is None


def test_a_lost_exchange_asks_for_nothing() -> None:
    assert retry_after(Lost(Loss.AFTER_SENDING, "x")) is None


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60), date=st.none() | st.text(max_size=60))
def test_no_header_raises_and_none_gives_a_wait_that_is_no_number(text: str, date: str | None) -> None:
    found = retry_after(reply(429, retry_after=text, **({} if date is None else {"date": date})))

    assert found is None or 0 <= found <= 1e12


@given(troubles=st.integers(1, 10**6), jitter=st.floats(0, 1), first_s=st.floats(0.01, 5))
def test_a_wait_of_our_own_is_at_most_five_seconds(troubles: int, jitter: float, first_s: float) -> None:
    wait = repeat_after(watch(jitter), troubles, None, first_s=first_s)

    assert first_s / 2 <= wait <= WAIT_MAX_S


def test_a_provider_that_asks_for_no_wait_is_not_hammered() -> None:
    assert repeat_after(watch(), 1, 0.0, first_s=1.0) == 0.5


def test_polls_are_spread_by_a_tenth() -> None:
    assert [0.95, 1.0, 1.05] == pytest.approx([poll_after(watch(jitter), 1.0) for jitter in (0, 0.5, 1)])
