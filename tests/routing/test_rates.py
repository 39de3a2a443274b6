from hypothesis import given
from hypothesis import strategies as st

from anykontext.adapting import SubmitRate
from anykontext.routing.rates import Times, noted, wait_s

KIE = SubmitRate(20, 10.0, "kie-11")


def test_so_many_leave_at_once_and_the_next_when_the_first_is_old_enough() -> None:
    times: Times = ()
    for number in range(20):
        assert 0.0 == wait_s(KIE, times, 1, number / 10)
        times = noted(KIE, times, 1, number / 10)

    assert 8.0 == wait_s(KIE, times, 1, 2.0)
    assert 0.0 == wait_s(KIE, times, 1, 10.0)


def test_several_submits_leave_together_or_not_at_all() -> None:
    times = noted(KIE, noted(KIE, (), 18, 0.0), 1, 4.0)

    assert 0.0 == wait_s(KIE, times, 1, 5.0)
    assert 5.0 == wait_s(KIE, times, 2, 5.0)
    assert 9.0 == wait_s(KIE, times, 20, 5.0)


def test_more_than_the_rate_ever_allows_would_wait_for_ever() -> None:
    assert float("inf") == wait_s(KIE, (), 21, 0.0)


@given(
    st.integers(1, 6),
    st.floats(0.5, 20),
    st.lists(st.tuples(st.integers(1, 6), st.floats(0, 5)), min_size=1, max_size=40),
)
def test_no_window_ever_has_more_than_the_rate(most: int, seconds: float, asked: list[tuple[int, float]]) -> None:
    rate, times, left, now = SubmitRate(most, seconds, "-"), (), list[float](), 0.0
    for submits, later in asked:
        now += later
        if submits > most:
            continue
        now += wait_s(rate, times, submits, now) + 1e-9
        assert 0.0 == wait_s(rate, times, submits, now)
        times = noted(rate, times, submits, now)
        left += [now] * submits

        assert len([one for one in left if now - one < seconds]) <= most
    assert len(times) <= most
