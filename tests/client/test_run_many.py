"""`run_many`: pulled lazily, bounded by its places, given as they end; and left without losing what was paid."""

import asyncio
import contextlib
import gc
import inspect
import itertools
import threading
import time
import tomllib
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

import anykontext as ak
from anykontext.client.many import places
from anykontext.sandbox import Emulator, Sandbox

from .conftest import KINDS, Twin, configured, picture
from .test_life import within

OURS = {"anykontext", "anykontext-leases", "anykontext-ledger"}  # threads of a client


def requests(count: int, **fields: Any) -> Iterator[ak.ImageRequest]:
    return (ak.ImageRequest("a cat", seed=seed, **fields) for seed in range(count))


def taken(
    twin: Twin, asked: Any, each: Callable[[ak.Outcome], Any] = lambda _: None, **options: Any
) -> list[ak.Outcome]:
    """All outcomes, in the order in which they come; `each` is called on every one, and awaited where it is async.

    The loop is left when it returns True.
    """
    found: list[ak.Outcome] = []
    if twin.is_sync:
        for outcome in twin.client.run_many(asked, **options):
            found.append(outcome)
            if each(outcome):
                break
        return found

    async def main() -> list[ak.Outcome]:
        async with contextlib.aclosing(twin.client.run_many(asked, **options)) as outcomes:
            async for outcome in outcomes:
                found.append(outcome)
                if await asyncio.to_thread(each, outcome):
                    break
        return found

    return twin.wait(main())  # type: ignore[no-any-return]


def test_each_request_has_its_outcome_and_its_place_among_them(twin: Twin, bfl: Emulator) -> None:
    asked = list(requests(12))

    outcomes = sorted(taken(twin, asked, concurrency=5), key=lambda one: one.index)

    assert list(range(12)) == [one.index for one in outcomes]
    assert list(range(12)) == [one.result.seed for one in outcomes if one.result]
    assert all(one.request is asked[one.index] for one in outcomes)
    assert [one.result.job_id for one in outcomes if one.result] == [one.job_id for one in outcomes]
    assert 12 == bfl.counters["submits"]


def test_a_slow_one_holds_no_other_back(twin: Twin, bfl: Emulator) -> None:
    bfl.slow_seconds = 1.0
    bfl.inject("submit-slow", times=1)
    times: list[float] = []

    outcomes = taken(twin, requests(4), lambda _: times.append(time.monotonic()), concurrency=2)

    assert {0, 1, 2, 3} == {one.index for one in outcomes}
    assert outcomes[-1].index in {0, 1}
    assert times[-1] - times[-2] > 0.1


@pytest.mark.parametrize(("kind", "asynchronous"), [("Client", False), ("AsyncClient", False), ("AsyncClient", True)])
def test_no_request_is_pulled_before_a_place_is_free(kind: str, *, asynchronous: bool, bfl: Emulator) -> None:
    pulled, counts = 0, list[int]()

    def endless() -> Iterator[ak.ImageRequest]:
        nonlocal pulled
        for request in requests(10**9):
            pulled += 1
            yield request

    async def endlessly() -> AsyncIterator[ak.ImageRequest]:
        for request in endless():
            yield request

    def look(_: ak.Outcome) -> bool:
        time.sleep(0.02)  # more of them end meanwhile
        counts.append(pulled)
        return len(counts) == 8

    with Twin(kind, configured(bfl)) as twin:
        taken(twin, endlessly() if asynchronous else endless(), look, concurrency=3)

    assert [given + 3 for given in range(8)] == counts
    assert 10 == pulled


def test_no_more_requests_are_alive_than_there_are_places(twin: Twin) -> None:
    alive: list[weakref.ref[ak.ImageRequest]] = []
    most = 0

    def noted() -> Iterator[ak.ImageRequest]:
        for _ in range(15):
            request = ak.ImageRequest("make it blue", picture())
            alive.append(weakref.ref(request))
            yield request
            del request

    def look(outcome: ak.Outcome) -> None:
        nonlocal most
        assert outcome.error is None
        if outcome.index % 4 == 0:
            gc.collect()
        most = max(most, sum(one() is not None for one in alive))

    if twin.is_sync:
        for outcome in twin.client.run_many(noted(), concurrency=3):
            look(outcome)
            del outcome
    else:

        async def main() -> None:
            async for outcome in twin.client.run_many(noted(), concurrency=3):
                look(outcome)
                del outcome

        twin.wait(main())

    assert 15 == len(alive)
    assert most <= 3 + 1  # and the one in the caller's hand


@pytest.mark.parametrize(("kind", "count"), [("Client", 200), ("AsyncClient", 60)])
def test_hundreds_run_at_twenty_at_once(kind: str, count: int, bfl: Emulator) -> None:
    most: list[int] = []
    accept = bfl.tasks.accept  # type: ignore[attr-defined]
    bfl.tasks.accept = lambda *args: (accept(*args), most.append(bfl.tasks.active("sandbox")))[0]  # type: ignore[attr-defined]

    with Twin(kind, configured(bfl)) as twin:
        outcomes = taken(twin, requests(count), concurrency=20)

    assert set(range(count)) == {one.index for one in outcomes if one.result}
    assert count == bfl.counters["submits"]
    assert 5 < max(most) <= 20


def test_by_default_as_many_run_as_the_provider_takes(bfl: Emulator) -> None:
    bfl.inject("never-ends")
    pulled = itertools.count()
    with ak.Client(configured(bfl, max_in_flight=4)) as client:
        outcomes = client.run_many((ak.ImageRequest("a cat", seed=next(pulled)) for _ in range(99)), deadline=0.3)
        next(outcomes)
        outcomes.close()

    assert 4 == next(pulled)


@pytest.mark.parametrize(
    ("concurrency", "caps", "expected"),
    [
        (None, [24], 24),
        (None, [24, 24], 48),
        (None, [24, 100], 100),
        (None, [None, 24], 34),
        (7, [24], 7),
        (500, [1], 500),
    ],
)
def test_places_are_those_of_the_providers_within_reason(
    concurrency: int | None, caps: list[int | None], expected: int
) -> None:
    assert expected == places(concurrency, caps)


class TestErrors:
    """What stops one request, several, or the whole."""

    def test_a_failure_is_the_outcome_of_its_request_alone(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("moderated", times=1)
        asked = [*requests(2), "no request", *requests(2, safety_tolerance=6, model="flux-kontext-max")]

        outcomes = sorted(taken(twin, asked, policy="strict"), key=lambda one: one.index)

        assert "AnykontextError" not in {type(one.error).__name__ for one in outcomes}
        assert 1 == sum(isinstance(one.error, ak.Moderated) for one in outcomes)
        assert 3 == sum(one.result is not None for one in outcomes)
        assert isinstance(outcomes[2].error, ak.InvalidRequest)
        assert (None, None) == (outcomes[2].request, outcomes[2].job_id)
        (refused,) = (one for one in outcomes if isinstance(one.error, ak.Moderated))
        assert refused.job_id == refused.error.job_id  # type: ignore[union-attr]
        assert refused.request is asked[refused.index]

    def test_what_the_iterable_raises_comes_after_the_outcomes_of_what_it_gave(self, twin: Twin) -> None:
        def broken() -> Iterator[ak.ImageRequest]:
            yield from requests(3)
            raise KeyError("row 4")

        outcomes: list[ak.Outcome] = []
        with pytest.raises(KeyError, match="row 4"):
            taken(twin, broken(), outcomes.append, concurrency=8)

        assert {0, 1, 2} == {one.index for one in outcomes if one.result}

    def test_a_fault_of_ours_costs_no_other_its_outcome(self, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = twin.client._core.steps

        def faulty(request: ak.ImageRequest, *args: Any, **more: Any) -> Any:
            if request.seed == 2:
                raise RuntimeError("a fault")
            return steps(request, *args, **more)

        monkeypatch.setattr(twin.client._core, "steps", faulty)
        outcomes: list[ak.Outcome] = []
        with pytest.raises(RuntimeError, match="a fault"):
            taken(twin, requests(3), outcomes.append, concurrency=3)

        assert {0, 1} == {one.index for one in outcomes if one.result}

    def test_each_has_the_whole_deadline(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")

        outcomes = taken(twin, requests(3), concurrency=1, deadline=0.25)

        assert [ak.DeadlineExceeded] * 3 == [type(one.error) for one in outcomes]
        assert 3 == bfl.counters["accepted"]

    @pytest.mark.parametrize(
        ("asked", "options", "match"),
        [
            ([], {"concurrency": 0}, "concurrency is a whole number from 1"),
            ([], {"concurrency": True}, "concurrency"),
            ([], {"concurrency": "4"}, "concurrency"),
            ([], {"deadlin": 4}, "did you mean 'deadline'"),
            ([], {"route": "nowhere"}, "unknown route"),
            ([], {"provider": "bffl"}, "did you mean 'bfl'"),
            (ak.ImageRequest("a cat"), {}, "iterable of ImageRequests, not ImageRequest"),
            ("a cat", {}, "not str"),
            (3, {}, "not int"),
        ],
    )
    def test_a_wrong_call_is_refused_before_anything_is_pulled(
        self, twin: Twin, asked: Any, options: dict[str, Any], match: str
    ) -> None:
        with pytest.raises((ak.InvalidRequest, ak.ConfigurationError), match=match):
            twin.client.run_many(asked, **options)

    def test_the_sync_client_names_the_other_for_an_async_iterable(self, bfl: Emulator) -> None:
        async def one() -> AsyncIterator[ak.ImageRequest]:
            yield ak.ImageRequest("a cat")

        with ak.Client(configured(bfl)) as client, pytest.raises(ak.InvalidRequest, match=r"AsyncClient\.run_many"):
            client.run_many(one())  # type: ignore[arg-type]

    def test_nothing_asked_is_nothing_given(self, twin: Twin) -> None:
        assert [] == taken(twin, [])


def test_events_know_their_job(twin: Twin) -> None:
    events: list[ak.Event] = []

    outcomes = taken(twin, requests(4), on_event=events.append)

    finished = [one.job_id for one in events if isinstance(one, ak.Finished)]
    assert {one.job_id for one in outcomes} == {one.job_id for one in events}
    assert sorted(finished) == sorted(one.job_id or "" for one in outcomes)


def test_a_request_that_is_there_twice_is_paid_once(twin: Twin, bfl: Emulator) -> None:
    outcomes = taken(twin, [ak.ImageRequest("a cat", idempotency_key="k")] * 3)

    assert 1 == len({one.job_id for one in outcomes})
    assert [0, 1, 2] == sorted(one.index for one in outcomes if one.result)
    assert 1 == bfl.counters["submits"]


def test_a_view_gives_its_tags_to_all(twin: Twin) -> None:
    found: list[ak.Outcome] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "client", twin.client.with_options(tags={"batch": "7"}))
        found += taken(twin, requests(2))

    records = twin.wait(twin.client.jobs(tag="batch=7"))
    assert {one.job_id for one in found} == {one.job_id for one in records}


async def begun(bfl: Emulator, count: int) -> None:
    async with asyncio.timeout(10):
        while bfl.counters["accepted"] < count:  # noqa: ASYNC110 - it is counted in another thread
            await asyncio.sleep(0.01)


def collected(kind: str, bfl: Emulator) -> list[Any]:
    """What another client gets of jobs that were left, once they end."""
    bfl.clear()
    with Twin(kind, configured(bfl)) as other:
        return [one.result and one.result.seed for one in other.wait(other.client.recover())]


class TestLeaving:
    """Whoever leaves the loop loses nothing that was paid."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_submits_in_flight_are_waited_for_and_what_was_accepted_is_left_to_recover(
        self, kind: str, bfl: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        bfl.slow_seconds = 0.5
        bfl.inject("submit-slow")
        bfl.inject("never-ends")

        def in_flight(_: ak.Outcome) -> bool:
            return within(10, lambda: bfl.counters["accepted"] == 2)

        with Twin(kind, configured(bfl)) as twin:
            assert 1 == len(taken(twin, [*requests(2), "no request"], in_flight, concurrency=3))
            records = twin.wait(twin.client.jobs())
            assert [1, 1] == [len(twin.client._core.ledger.handles(one.job_id)) for one in records]
            assert set() == twin.client._core.store.claims._working
            assert any("left with 2 requests" in message for message in caplog.messages)

        assert [0, 1] == sorted(collected(kind, bfl))
        assert 2 == bfl.counters["submits"]
        assert within(5, lambda: not OURS & {one.name for one in threading.enumerate()})

    def test_one_that_the_collector_finds_stops_them_without_waiting_in_its_thread(self, bfl: Emulator) -> None:
        bfl.inject("never-ends")

        def leave(client: ak.Client) -> None:
            outcomes = client.run_many([*requests(2), "no request"], concurrency=3)  # type: ignore[list-item]
            cycle = [outcomes]
            cycle.append(cycle)  # type: ignore[arg-type]
            next(outcomes)
            assert within(10, lambda: bfl.counters["accepted"] == 2)

        with ak.Client(configured(bfl)) as client:
            working, lock = client._core.store.claims._working, client._shared.driver.flows._lock
            leave(client)
            with lock:  # as a thread may have it that allocates while the collector's turn has come
                collecting = threading.Thread(target=gc.collect, daemon=True)
                collecting.start()
                collecting.join(5)
                assert not collecting.is_alive()
            assert within(5, lambda: not working)
        assert [0, 1] == sorted(collected("Client", bfl))

    def test_ctrl_c_stops_them_and_goes_on(self, bfl: Emulator) -> None:
        bfl.inject("never-ends")

        def stopped() -> Iterator[ak.ImageRequest]:
            yield from requests(2)
            assert within(10, lambda: bfl.counters["polls"] >= 2)
            raise KeyboardInterrupt  # as a signal handler raises it in this thread

        with ak.Client(configured(bfl)) as client, pytest.raises(KeyboardInterrupt):
            list(client.run_many(stopped()))

        assert [0, 1] == sorted(collected("Client", bfl))

    def test_a_cancellation_stops_them_and_goes_on(self, bfl: Emulator) -> None:
        bfl.slow_seconds = 0.4
        bfl.inject("submit-slow")
        bfl.inject("never-ends")

        async def main(client: ak.AsyncClient) -> None:
            async def go_over() -> None:
                async for _ in client.run_many(requests(3)):
                    pass

            task = asyncio.create_task(go_over())
            await begun(bfl, 3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [1, 1, 1] == [len(client._core.ledger.handles(one.job_id)) for one in await client.jobs()]

        with Twin("AsyncClient", configured(bfl)) as twin:
            twin.wait(main(twin.client))

        assert [0, 1, 2] == sorted(collected("AsyncClient", bfl))

    def test_a_break_alone_stops_them_and_goes_on(self, bfl: Emulator) -> None:
        bfl.inject("never-ends")

        async def main(client: ak.AsyncClient) -> None:
            async for _ in client.run_many([*requests(2), "no request"]):  # type: ignore[list-item]
                await begun(bfl, 2)
                break

        with Twin("AsyncClient", configured(bfl)) as twin:
            twin.wait(main(twin.client))

        assert [0, 1] == sorted(collected("AsyncClient", bfl))

    def test_a_cancellation_that_comes_twice_lets_the_submits_go(self, bfl: Emulator) -> None:
        bfl.slow_seconds = 30.0
        bfl.inject("submit-slow")

        async def main(client: ak.AsyncClient) -> None:
            task = asyncio.create_task(anext(client.run_many(requests(2))))  # type: ignore[arg-type]
            await begun(bfl, 2)
            task.cancel()
            await asyncio.sleep(0.1)
            task.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 5
            assert {"unknown"} == {one.state for one in await client.jobs()}

        with Twin("AsyncClient", configured(bfl)) as twin:
            twin.wait(main(twin.client))

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_client_that_is_closed_meanwhile_says_so(self, kind: str, bfl: Emulator) -> None:
        bfl.inject("never-ends")

        def close(_: ak.Outcome) -> None:
            assert within(10, lambda: bfl.counters["accepted"] == 2)
            if inspect.iscoroutine(closing := twin.client.close()):
                asyncio.run_coroutine_threadsafe(closing, twin._runner.get_loop()).result(10)

        with Twin(kind, configured(bfl)) as twin, pytest.raises(ak.AnykontextError, match="closed"):
            taken(twin, [*requests(2), "no request", *requests(3)], close, concurrency=3)

        assert [0, 1] == sorted(collected(kind, bfl))

    def test_one_that_is_never_begun_does_nothing(self, twin: Twin, bfl: Emulator) -> None:
        pulled: list[int] = []

        def noted() -> Iterable[ak.ImageRequest]:
            pulled.append(1)
            yield ak.ImageRequest("a cat")

        twin.client.run_many(noted())

        assert ([], 0) == (pulled, bfl.counters["submits"])


@pytest.mark.parametrize("raised", [SystemExit, asyncio.CancelledError])
def test_what_on_event_raises_beyond_errors_reaches_the_caller(twin: Twin, raised: type[BaseException]) -> None:
    def strange(_: ak.Event) -> None:
        raise raised("strange")

    with pytest.raises(raised):
        taken(twin, requests(2), on_event=strange)


def test_an_iterable_that_is_cancelled_by_itself_does_not_look_complete(bfl: Emulator) -> None:
    async def asked() -> AsyncIterator[ak.ImageRequest]:
        yield ak.ImageRequest("a cat")
        raise asyncio.CancelledError

    with Twin("AsyncClient", configured(bfl)) as twin, pytest.raises(asyncio.CancelledError):
        taken(twin, asked())


def test_a_budget_that_ends_a_job_midway_names_the_job_whose_money_is_at_risk() -> None:
    settings = {"candidates": ["bfl", "fal"], "strategy": "ordered", "on_maybe_charged": "continue"}
    with Sandbox(providers=["bfl", "fal"], seconds=0.0, faults=["bfl:submit-lost"]) as sandbox:
        providers = tomllib.loads(sandbox.config_toml())["providers"]
        with ak.Client(
            ak.Config(providers=providers, routes={"default": settings}, budget={"daily_usd": "0.05"})
        ) as client:
            (outcome,) = client.run_many([ak.ImageRequest("a cat")])
            (job,) = client.jobs()

    assert isinstance(outcome.error, ak.BudgetExceeded)
    assert (job.job_id, True) == (outcome.job_id, outcome.error.maybe_charged)
    assert "fal/flux-kontext-pro: it was not sent" in str(outcome.error)
