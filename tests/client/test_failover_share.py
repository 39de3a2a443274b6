"""A candidate has a share of the deadline; what is left with it is followed on, and its image is not lost."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import anykontext as ak
from anykontext.engine.effects import Aside, Await, Detach, Emit, Sleep
from anykontext.io.notify import Notifier
from anykontext.model.events import Planned
from anykontext.sandbox import Emulator, Sandbox
from anykontext.testing.trace import replay

from .conftest import KINDS, Twin, picture

CONTINUE = {"strategy": "ordered", "attempt_share": 0.3, "on_maybe_charged": "continue"}


@pytest.fixture
def both() -> Iterator[dict[str, Emulator]]:
    """Two providers: tasks of the first never end, the second is quick."""
    with Sandbox(providers=["bfl", "fal"], seconds=0.05) as one:
        for emulator in one.emulators.values():
            emulator.megapixels = 0.02
        one.emulators["bfl"].inject("never-ends")
        yield dict(one.emulators)


@pytest.fixture(params=KINDS)
def two(request: pytest.FixtureRequest, both: dict[str, Emulator]) -> Iterator[Twin]:
    with Twin(request.param, config(both)) as twin:
        yield twin


def config(both: dict[str, Emulator]) -> ak.Config:
    return ak.Config(providers={name: {**one.config(), "poll_interval_s": 0.02} for name, one in both.items()})


def route(**settings: Any) -> ak.Route:
    return ak.Route(["bfl", "fal"], **{**CONTINUE, **settings})


def within(twin: Twin, seconds: float, what: Callable[[], bool]) -> bool:
    """Whether it comes true while the client's loop, if it has one, goes on."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        if twin.is_sync:
            time.sleep(0.02)
        else:
            twin.wait(asyncio.sleep(0.02))
    return True


def record(twin: Twin, job_id: str) -> Any:
    return twin.client._core.ledger.job(job_id)


def surplus(twin: Twin, job_id: str) -> list[dict[str, Any]]:
    events = twin.client._core.ledger.events(job_id)
    return [json.loads(one.detail)["result"] for one in events if one.what == "surplus"]


def test_a_candidate_that_takes_too_long_is_left_and_its_late_image_is_surplus(
    two: Twin, both: dict[str, Emulator]
) -> None:
    began = time.monotonic()
    result = two.edit(route=route(), deadline=2)

    assert time.monotonic() - began < 2
    assert "fal" == result.provider
    assert [("deadline_exceeded", True), ("succeeded", True)] == [
        (one.outcome, one.maybe_charged) for one in result.attempts
    ]
    both["bfl"].clear()

    assert within(two, 5, lambda: record(two, result.job_id).surplus)
    (late,) = surplus(two, result.job_id)
    assert "bfl" == late["provider"]
    assert two.client._core.spool.find(late["images"][0]["sha256"]) is not None
    assert [1, 1] == [one.counters["accepted"] for one in both.values()]


def test_a_share_ends_nothing_that_may_be_charged_unless_the_caller_lets_us_go_on(
    two: Twin, both: dict[str, Emulator]
) -> None:
    with pytest.raises(ak.DeadlineExceeded) as caught:
        two.edit(route=route(on_maybe_charged="raise"), deadline=0.8)

    error: Any = caught.value
    assert "bfl" == error.handle.provider
    assert error.maybe_charged
    assert 0 == both["fal"].counters["submits"]


def test_the_image_of_the_candidate_that_was_left_is_returned_when_the_next_one_fails(
    two: Twin, both: dict[str, Emulator]
) -> None:
    both["fal"].inject("failed")
    threading.Timer(1.0, both["bfl"].clear).start()

    result = two.edit(route=route(), deadline=2, seed=7)

    assert ("bfl", 7) == (result.provider, result.seed)
    assert ["succeeded", "generation_failed"] == [one.outcome for one in result.attempts]
    assert "succeeded" == record(two, result.job_id).state
    assert not record(two, result.job_id).surplus


def beside(job_id: str) -> Any:
    """A flow with another one on the side, for which it waits twice."""

    def nap() -> Any:
        yield Sleep(0.1)
        return "slept"

    aside = Aside(job_id, nap())
    yield Emit(Planned(job_id=job_id, provider=None, model=None, seconds=0.0, candidates=()))
    yield Detach(aside)
    early = (yield Await((aside,), 0.0)).value
    return early, (yield Await((aside,), 5.0)).value


def test_a_flow_on_the_side_is_replayed_from_the_trace(two: Twin) -> None:
    job_id = two.edit(provider="fal").job_id
    tracer = two.client._core.journal.tracer
    tracer.forget(job_id)

    outcome = two.wait(two.client._shared.driver.run(beside(job_id), Notifier()))

    assert (None, (0, "slept")) == outcome
    assert outcome == replay(tracer.lines(job_id), beside(job_id))


def test_a_job_that_is_left_at_the_deadline_is_still_followed(two: Twin, both: dict[str, Emulator]) -> None:
    both["fal"].inject("never-ends")

    with pytest.raises(ak.DeadlineExceeded) as caught:
        two.edit(route=route(), deadline=0.8)
    job_id: Any = caught.value.job_id  # type: ignore[attr-defined]

    assert "fal" == caught.value.handle.provider  # type: ignore[attr-defined]
    assert "running" == record(two, job_id).state
    both["bfl"].clear()
    assert within(two, 5, lambda: record(two, job_id).state == "succeeded")
    assert "bfl" == record(two, job_id).result["provider"]


def test_the_key_gives_the_image_that_the_caller_got_and_all_that_was_spent(
    two: Twin, both: dict[str, Emulator]
) -> None:
    both["fal"].inject("submit-slow")
    both["fal"].slow_seconds = 0.6

    def clear() -> None:
        while not both["fal"].counters["submits"]:
            time.sleep(0.01)
        both["bfl"].clear()

    threading.Thread(target=clear, daemon=True).start()
    first = two.edit(route=route(), deadline=2, idempotency_key="k")
    assert ("fal", "0.08", ["succeeded"] * 2) == (
        first.provider, str(first.spent.amount), [one.outcome for one in first.attempts],
    )  # fmt: skip

    again = two.edit(route=route(), deadline=2, idempotency_key="k")
    by_id = two.wait(two.wait(two.client.resume(first.job_id)).wait())

    assert [first.image.sha256] * 2 == [again.image.sha256, by_id.image.sha256]
    assert [(first.spent, "fal")] * 2 == [(one.spent, one.provider) for one in (again, by_id)]
    assert ["succeeded"] * 2 == [one.outcome for one in again.attempts]
    (late,) = surplus(two, first.job_id)
    assert "bfl" == late["provider"]


def test_a_job_whose_attempts_all_end_on_the_side_has_ended(two: Twin, both: dict[str, Emulator]) -> None:
    both["fal"].inject("never-ends")
    for one in both.values():
        one.inject("failed")
    with pytest.raises(ak.DeadlineExceeded) as caught:
        two.edit(route=route(), deadline=0.8)
    job_id: Any = caught.value.job_id  # type: ignore[attr-defined]
    for one in both.values():
        one.clear()

    assert within(two, 5, lambda: record(two, job_id).state == "failed")
    assert not record(two, job_id).at_risk


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_closes_lets_a_left_attempt_go_to_others(kind: str, both: dict[str, Emulator]) -> None:
    both["fal"].inject("never-ends")
    with Twin(kind, config(both)) as first, pytest.raises(ak.DeadlineExceeded):
        first.edit(route=route(), deadline=0.8)
    both["bfl"].clear()
    both["fal"].clear()

    with Twin(kind, config(both)) as second:
        (outcome, *_) = second.wait(second.client.recover())

        assert outcome.result is not None
    assert [1, 1] == [one.counters["accepted"] for one in both.values()]


def test_nobody_else_takes_a_job_up_while_an_attempt_that_was_left_is_followed(
    two: Twin, both: dict[str, Emulator]
) -> None:
    both["fal"].inject("never-ends")
    with pytest.raises(ak.DeadlineExceeded) as caught:
        two.edit(route=route(), deadline=0.8)
    store = two.client._core.store

    assert store.owner == record(two, caught.value.job_id).owner  # type: ignore[attr-defined]
    assert [] == store.taken_over()


def test_a_caller_that_stops_does_not_lose_the_attempt_that_was_left(two: Twin, both: dict[str, Emulator]) -> None:
    both["fal"].inject("never-ends")

    async def cancelled() -> None:
        running = asyncio.ensure_future(two.client.edit(picture(), "blue", route=route(), deadline=2))
        while not both["fal"].counters["accepted"]:  # noqa: ASYNC110 - the emulator counts in another thread
            await asyncio.sleep(0.02)
        running.cancel()
        await running

    if two.is_sync:
        threading.Timer(0.9, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt if two.is_sync else asyncio.CancelledError):
        two.edit(route=route(), deadline=2) if two.is_sync else two.wait(cancelled())
    (job,) = two.client._core.ledger.jobs()
    both["bfl"].clear()

    assert within(two, 5, lambda: record(two, job.job_id).state == "succeeded")
