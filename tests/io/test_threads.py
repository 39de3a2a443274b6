import threading
import time

import pytest

from anykontext.io.threads import CREW, side_by_side


def test_results_come_in_their_order() -> None:
    assert list(range(100)) == side_by_side([lambda number=number: number for number in range(100)])


def test_things_are_done_at_the_same_time_by_a_crew_of_bounded_size() -> None:
    together = threading.Barrier(CREW, timeout=10)
    most = 0

    def work() -> None:
        nonlocal most
        together.wait()
        most = max(most, threading.active_count())

    before = threading.active_count()
    side_by_side([work] * (3 * CREW))

    assert CREW <= most - before + 1 <= CREW + 1


def test_what_one_raises_waits_for_the_others() -> None:
    ended = []

    def late() -> None:
        time.sleep(0.05)
        ended.append("late")

    def bad() -> None:
        raise KeyError("bad")

    with pytest.raises(KeyError, match="bad"):
        side_by_side([bad, late])

    assert ["late"] == ended


def test_nothing_to_do_is_done_at_once() -> None:
    assert [] == side_by_side([])
