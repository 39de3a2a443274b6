"""The gate by itself, with a clock of ours, and under the two drivers."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import anykontext as ak
from anykontext.engine.effects import Admit, Flow, NotAdmitted, Observed, Release, Sleep
from anykontext.engine.provider import Candidate
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.drive_sync import SyncDriver
from anykontext.io.gate import Asked, Gate
from anykontext.io.notify import Notifier
from anykontext.io.spool import Spool
from anykontext.model.errors import Kind

PRO, MAX = "flux-kontext-pro", "flux-kontext-max"
OUTAGES = frozenset({Kind.UNAVAILABLE, Kind.OUT_OF_CREDIT})
OUT = Kind.UNAVAILABLE


def candidate(name: str = "bfl", model: str = PRO, **settings: Any) -> Candidate:
    config = ak.Config(providers={name: {"api_key": "sandbox", "base_url": "http://127.0.0.1:1", **settings}})
    return Candidate(config.provider_list()[0], model)


class Lab:
    """A gate with a clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.drained: dict[str, str] = {}
        self.reads = 0
        self.woken: list[Asked] = []
        self.gate = Gate(self._drains, clock=lambda: self.now, fraction=lambda: 0.0)

    def _drains(self) -> Mapping[str, str]:
        self.reads += 1
        return dict(self.drained)

    def ask(self, who: Candidate, places: int = 1, heeds: frozenset[Kind] = OUTAGES) -> Asked:
        self.gate.refresh()
        return self.gate.ask(Admit(who, places, 60.0, heeds))

    def fail(self, who: Candidate, kind: Kind = OUT, times: int = 3, *, everywhere: bool = False) -> None:
        for _ in range(times):
            self.gate.observe(Observed(who, kind, everywhere))


@pytest.fixture
def lab() -> Lab:
    return Lab()


def told(asked: Asked) -> Any:
    """`in`, `waits`, or why not."""
    return "in" if asked.admitted else "waits" if asked.refused is None else asked.refused.message


# Places


def test_a_provider_and_its_models_have_places_of_their_own(lab: Lab) -> None:
    asked = [lab.ask(candidate(model=MAX)) for _ in range(7)] + [lab.ask(candidate()) for _ in range(19)]

    assert [*["in"] * 6, "waits", *["in"] * 18, "waits"] == [told(one) for one in asked]


@pytest.mark.parametrize(("own", "most"), [(2, 2), (30, 30)], ids=["lower", "higher"])
def test_max_in_flight_is_honoured_lower_and_higher(lab: Lab, own: int, most: int) -> None:
    asked = [lab.ask(candidate(max_in_flight=own)) for _ in range(40)]

    assert most == sum(one.admitted for one in asked)


def test_places_go_to_who_came_first(lab: Lab) -> None:
    who = candidate(max_in_flight=3)
    first, large, small = lab.ask(who, 2), lab.ask(who, 3), lab.ask(who, 1)

    assert ("in", "waits", "waits") == (told(first), told(large), told(small))  # one is free, and nobody overtakes
    lab.gate.give_back(first)
    assert ("in", "waits") == (told(large), told(small))
    lab.gate.give_back(large)
    assert "in" == told(small)


def test_who_waits_for_a_model_keeps_nobody_from_another_one(lab: Lab) -> None:
    full = [lab.ask(candidate(model=MAX)) for _ in range(6)]
    waits, other = lab.ask(candidate(model=MAX)), lab.ask(candidate())

    assert ("waits", "in") == (told(waits), told(other))
    lab.gate.give_back(full[0])
    assert "in" == told(waits)


def test_more_tasks_than_may_ever_run_at_once_are_refused_with_the_reason(lab: Lab) -> None:
    asked = lab.ask(candidate(max_in_flight=1), 3)

    assert asked.refused is not None
    assert (Kind.RATE_LIMITED, True) == (asked.refused.kind, "at most 1 at once" in asked.refused.message)
    assert "in" == told(lab.ask(candidate(max_in_flight=1)))


def test_who_leaves_the_queue_leaves_nothing_behind(lab: Lab) -> None:
    who = candidate(max_in_flight=1)
    held, left, waits = lab.ask(who), lab.ask(who), lab.ask(who)

    refused = lab.gate.end(left)
    lab.gate.give_back(held)
    lab.gate.give_back(held)  # twice is no harm
    lab.gate.give_back(left)

    assert refused is not None
    assert (Kind.RATE_LIMITED, "in") == (refused.kind, told(waits))
    lab.gate.give_back(waits)
    assert "in" == told(lab.ask(who))


# Submit rates


def test_submits_keep_to_the_rate_of_the_provider(lab: Lab) -> None:
    who = candidate("kie")
    asked = [lab.ask(who) for _ in range(21)]

    assert [*["in"] * 20, "waits"] == [told(one) for one in asked]
    for one in asked[:20]:
        lab.gate.sent(who.provider, [one])
    lab.now += 9.5
    assert 0.5 == lab.gate.look(asked[20])
    assert "waits" == told(asked[20])
    lab.now += 0.5
    lab.gate.look(asked[20])
    assert "in" == told(asked[20])


def test_the_rate_counts_when_submits_leave_and_not_when_they_were_let_in(lab: Lab) -> None:
    who = candidate("kie")
    asked = [lab.ask(who) for _ in range(21)]
    lab.now += 15.0  # an upload comes first
    lab.gate.look(asked[20])
    assert "waits" == told(asked[20])

    for one in asked[:19]:
        lab.gate.sent(who.provider, [one])
    lab.gate.give_back(asked[19])  # it was never sent
    assert "in" == told(asked[20])
    lab.gate.sent(who.provider, [asked[20]])
    waits = lab.ask(who)
    lab.now += 9.5
    assert 0.5 == lab.gate.look(waits)


def test_who_did_not_wait_long_enough_is_told_of_the_rate(lab: Lab) -> None:
    for _ in range(20):
        lab.ask(candidate("kie"))

    refused = lab.gate.end(lab.ask(candidate("kie")))

    assert refused == NotAdmitted(Kind.RATE_LIMITED, "it takes 20 submits in 10 s, and ours were as many")


# Breakers


def test_an_outage_is_passed_over_and_one_job_at_a_time_finds_out_whether_it_is_over(lab: Lab) -> None:
    who = candidate()
    lab.fail(who)

    assert "passed over: unavailable for 0 s; tried again in 5 s" == told(lab.ask(who))
    lab.now += 5.0
    probe, other = lab.ask(who), lab.ask(who)
    assert "in" == told(probe)
    assert "one job is finding out" in told(other)
    lab.gate.observe(Observed(who, None))
    assert "in" == told(lab.ask(who))


def test_a_probe_that_ends_without_finding_out_lets_the_next_one_do_so(lab: Lab) -> None:
    who = candidate()
    lab.fail(who)
    lab.now += 5.0
    probe = lab.ask(who)

    lab.gate.observe(Observed(who, Kind.RATE_LIMITED))
    lab.gate.give_back(probe)

    assert "in" == told(lab.ask(who))


def test_a_failed_probe_opens_it_for_twice_as_long(lab: Lab) -> None:
    who = candidate()
    lab.fail(who)
    lab.now += 5.0
    probe = lab.ask(who)
    lab.fail(who, times=1)
    lab.gate.give_back(probe)

    lab.now += 9.9
    assert "tried again in 0 s" in told(lab.ask(who))
    lab.now += 0.1
    assert "in" == told(lab.ask(who))


def test_a_refusal_is_a_sign_of_life(lab: Lab) -> None:
    who = candidate()

    lab.fail(who, times=2)
    lab.gate.observe(Observed(who, Kind.MODERATED))
    lab.fail(who, times=2)

    assert "in" == told(lab.ask(who))


@pytest.mark.parametrize(
    ("kind", "everywhere", "other"),
    [(OUT, False, True), (OUT, True, False), (Kind.OUTCOME_UNKNOWN, True, False), (Kind.OUT_OF_CREDIT, False, False)],
)
def test_what_is_about_the_whole_provider_passes_all_its_models_over(
    lab: Lab, kind: Kind, everywhere: bool, other: bool
) -> None:
    lab.fail(candidate(), kind, everywhere=everywhere)

    assert not lab.ask(candidate()).admitted
    assert other == lab.ask(candidate(model=MAX)).admitted


def test_who_does_not_heed_an_outage_is_let_in(lab: Lab) -> None:
    lab.fail(candidate(), Kind.OUT_OF_CREDIT)

    assert "in" == told(lab.ask(candidate(), heeds=frozenset()))
    assert "in" == told(lab.ask(candidate(), heeds=frozenset({OUT})))
    assert "in" != told(lab.ask(candidate()))


def test_who_waits_for_a_place_is_told_of_an_outage_at_once(lab: Lab) -> None:
    who = candidate(max_in_flight=1)
    held, waits = lab.ask(who), lab.ask(who)

    lab.fail(who)

    assert ("in", "waits") != (told(held), told(waits))
    assert "passed over" in told(waits)


def test_the_credit_of_another_account_is_not_ours(lab: Lab) -> None:
    ours = candidate()
    theirs = Candidate(type(ours.provider)(**{**_fields(ours.provider), "other_account": True}), PRO)

    lab.fail(theirs, Kind.OUT_OF_CREDIT)
    assert "in" == told(lab.ask(ours))
    lab.fail(ours, Kind.OUT_OF_CREDIT)
    assert "in" == told(lab.ask(theirs))
    assert "in" != told(lab.ask(ours))


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


# Drains


def test_a_drain_is_heeded_within_a_second_and_so_is_its_end(lab: Lab) -> None:
    assert "in" == told(lab.ask(candidate()))
    lab.drained["bfl"] = "drained by me"
    assert "in" == told(lab.ask(candidate()))

    lab.now += 1.0
    assert "drained by me; `anykontext undrain bfl` lets it take jobs again" == told(lab.ask(candidate()))
    assert "in" == told(lab.ask(candidate("fal")))
    del lab.drained["bfl"]
    lab.now += 1.0

    assert "in" == told(lab.ask(candidate()))
    assert 3 == lab.reads


def test_who_waits_for_a_place_is_told_of_a_drain(lab: Lab) -> None:
    who = candidate(max_in_flight=1)
    lab.ask(who)
    waits = lab.ask(who)
    lab.drained["bfl"] = "drained by me"

    lab.now += 1.0
    lab.gate.refresh()
    lab.gate.look(waits)

    assert told(waits).startswith("drained by me")


def test_a_ledger_that_cannot_be_read_stops_nothing(lab: Lab) -> None:
    def unreadable() -> Mapping[str, str]:
        raise OSError("gone")

    gate = Gate(unreadable)
    gate.refresh()

    assert gate.ask(Admit(candidate(), 1, 0.0)).admitted


# What a plan shows


def test_a_plan_shows_what_is_closed_and_why(lab: Lab) -> None:
    lab.fail(candidate(), everywhere=True)
    lab.drained["kie"] = "drained by me"
    route = [candidate(), candidate(model=MAX), candidate("kie"), candidate("fal")]

    closed = lab.gate.closed(route)

    assert [f"bfl/{PRO}", f"bfl/{MAX}", f"kie/{PRO}"] == list(closed)
    assert "unavailable for 0 s" in closed[f"bfl/{PRO}"]
    assert "undrain kie" in closed[f"kie/{PRO}"]
    assert {f"kie/{PRO}"} == set(lab.gate.closed(route, frozenset()))


def test_when_all_are_out_the_one_that_was_first_is_still_tried(lab: Lab) -> None:
    lab.fail(candidate())
    lab.now += 1.0
    lab.fail(candidate("fal"))
    lab.drained["kie"] = "drained by me"

    assert {f"fal/{PRO}", f"kie/{PRO}"} == set(lab.gate.closed([candidate("fal"), candidate(), candidate("kie")]))


# Under the drivers


class Places:
    """Counts who is in at once."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.done = threading.Lock(), 0, 0, 0

    def change(self, by: int) -> None:
        with self.lock:
            self.now += by
            self.most = max(self.most, self.now)
            self.done += by < 0


def stay(who: Candidate, places: Places, seconds: float = 0.005) -> Flow[None]:
    told = yield Admit(who, 1, 30.0)
    assert told.value is None
    places.change(1)
    yield Sleep(seconds)
    places.change(-1)
    yield Release(who)


@pytest.fixture
def driver(spool: Spool) -> Iterator[SyncDriver]:
    one = SyncDriver(spool)
    yield one
    one.close()


def test_fifty_threads_on_five_places_are_never_more_than_five_at_once(driver: SyncDriver) -> None:
    who, places = candidate(max_in_flight=5), Places()

    began = time.monotonic()
    running = [driver.begin(stay(who, places), Notifier()) for _ in range(50)]
    threads = [threading.Thread(target=one.wait) for one in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert (5, 50) == (places.most, places.done)
    assert time.monotonic() - began < 5.0


def test_hundreds_of_tasks_on_five_places_are_never_more_than_five_at_once(spool: Spool) -> None:
    who, places = candidate(max_in_flight=5), Places()

    async def main() -> None:
        driver = AsyncDriver(spool)
        await asyncio.gather(*(driver.run(stay(who, places, 0.001), Notifier()) for _ in range(300)))
        await driver.close()

    asyncio.run(main())

    assert (5, 300) == (places.most, places.done)


def test_waiters_that_are_cancelled_leave_the_place_to_the_others(spool: Spool) -> None:
    who, places = candidate(max_in_flight=1), Places()

    async def main() -> None:
        driver = AsyncDriver(spool)
        held = asyncio.ensure_future(driver.run(stay(who, places, 0.05), Notifier()))
        await asyncio.sleep(0.01)
        waiters = [asyncio.ensure_future(driver.run(stay(who, places), Notifier())) for _ in range(10)]
        await asyncio.sleep(0.01)
        for waiter in waiters[::2]:
            waiter.cancel()
        ends = await asyncio.gather(held, *waiters, return_exceptions=True)
        await driver.close()
        assert 5 == sum(isinstance(one, asyncio.CancelledError) for one in ends)

    asyncio.run(main())

    assert (1, 6) == (places.most, places.done)
