"""How long the last successes took: the read that the strategy `fastest` goes by."""

from collections.abc import Iterator

import pytest

from anykontext.ledger import Ledger, open_ledger

from .conftest import A, Clock, handle, intend, new

DAY_S = 86_400


@pytest.fixture
def ledger(clock: Clock) -> Iterator[Ledger]:
    with open_ledger("memory", now=clock) as one:
        yield one


def run(ledger: Ledger, clock: Clock, job_id: str, seconds: float, provider: str = "bfl", kind: str = "") -> None:
    """A job of one submit that took so long, and failed in this way."""
    ledger.begin(new(job_id)).result()
    assert intend(ledger, job_id, provider=provider)
    ledger.accepted(job_id, 0, 0, handle(job_id), owner=A).result()
    clock.at += seconds
    ledger.sent_end(job_id, 0, 0, "accepted", owner=A, kind=kind or None, maybe_charged=not kind).result()


def test_the_last_successes_of_each_candidate_come_with_the_newest_last(ledger: Ledger, clock: Clock) -> None:
    for number, seconds in enumerate([9.0, 5.0, 6.0, 7.0]):
        run(ledger, clock, f"bfl{number}", seconds)
    run(ledger, clock, "fal", 2.0, provider="fal")

    found = ledger.durations(3)

    assert {("bfl", "flux-kontext-pro"): [5.0, 6.0, 7.0], ("fal", "flux-kontext-pro"): [2.0]} == {
        name: [round(one, 3) for one in seconds] for name, seconds in found.items()
    }


def test_only_successes_of_the_last_thirty_days_count(ledger: Ledger, clock: Clock) -> None:
    run(ledger, clock, "old", 5.0)
    clock.at += 31 * DAY_S
    run(ledger, clock, "failed", 1.0, kind="generation_failed")
    ledger.begin(new("running")).result()
    assert intend(ledger, "running")

    assert {} == ledger.durations()
