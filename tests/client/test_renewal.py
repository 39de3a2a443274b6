"""Keys that are changed while jobs run: the refused exchange is made once more with the new one, at both clients."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import anykontext as ak
from anykontext.sandbox import Emulator, Sandbox
from anykontext_bfl.emulator import api

from .conftest import KINDS, Twin, configured, picture

pytestmark = pytest.mark.sandbox
OLD, NEW, OTHER = "sandbox-old", "sandbox-new", "sandbox-other"


class Keys:
    """What the emulator accepts, and a callable that gives keys and counts how often it is called."""

    def __init__(self, *given: str) -> None:
        self.accepted = set(given[-1:])
        self.given = given
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return self.given[min(self.calls, len(self.given)) - 1]

    def __contains__(self, key: object) -> bool:
        return key in self.accepted


@pytest.fixture(params=KINDS)
def open_twin(request: pytest.FixtureRequest, bfl: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of either kind whose keys are these, at an emulator that accepts the last of them."""
    opened: list[Twin] = []

    def open_it(keys: Keys) -> Twin:
        monkeypatch.setattr(api, "KEYS", keys)
        opened.append(Twin(request.param, configured(bfl, api_key=keys)))
        return opened[-1].__enter__()

    yield open_it
    for one in opened:
        one.__exit__()


def test_a_submit_refused_for_its_key_is_sent_once_more_with_the_new_one(open_twin: Any, bfl: Emulator) -> None:
    keys = Keys(OLD, NEW)
    twin = open_twin(keys)

    result = twin.edit()

    assert (2, 2, 1) == (keys.calls, bfl.counters["submits"], bfl.counters["accepted"])
    assert ["succeeded"] == [one.outcome for one in result.attempts]


@pytest.mark.parametrize(("given", "submits"), [((OLD,), 1), ((OLD, OTHER), 2)])
def test_the_same_key_or_a_second_refusal_ends_as_a_refused_key(
    open_twin: Any, bfl: Emulator, given: tuple[str, ...], submits: int
) -> None:
    keys = Keys(*given)
    twin = open_twin(keys)
    keys.accepted = set()

    with pytest.raises(ak.AuthenticationFailed) as raised:
        twin.edit()

    assert (2, submits, 0) == (keys.calls, bfl.counters["submits"], bfl.counters["accepted"])
    assert not raised.value.maybe_charged


@pytest.mark.parametrize("kind", KINDS)
def test_a_poll_refused_for_its_key_goes_on_with_the_new_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = f"{OLD}:1", f"{NEW}:1"
    keys = Keys(old, new)
    keys.accepted = {old}
    monkeypatch.setattr("anykontext_fal.emulator.door.KEYS", keys)

    def change(event: object) -> None:
        if isinstance(event, ak.Submitted):
            keys.accepted = {new}

    with Sandbox(providers=["fal"], seconds=0.1) as sandbox:
        fal = sandbox.emulators["fal"]
        fal.megapixels = 0.02
        section = {**fal.config(), "api_key": keys, "poll_interval_s": 0.05}
        with Twin(kind, ak.Config(providers={"fal": section})) as twin:
            assert twin.generate(on_event=change).images

    assert (2, 1) == (keys.calls, fal.counters["submits"])


def test_a_check_asks_for_a_new_key(open_twin: Any) -> None:
    twin = open_twin(Keys(OLD, NEW))

    assert ["ok"] == [one.key for one in twin.wait(twin.client.check())]


def test_jobs_refused_together_ask_for_one_new_key(open_twin: Any, bfl: Emulator) -> None:
    keys = Keys(OLD, NEW)
    twin = open_twin(keys)

    if twin.is_sync:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: twin.edit(), range(8)))
    else:

        async def together() -> list[Any]:
            return await asyncio.gather(*(twin.client.edit(picture(), "make it blue") for _ in range(8)))

        made = twin.wait(together())

    assert (8, 2, 8) == (len(made), keys.calls, bfl.counters["accepted"])


def test_a_callable_that_takes_its_time_does_not_hold_the_loop_up(bfl: Emulator, monkeypatch: Any) -> None:
    monkeypatch.setattr(api, "KEYS", {NEW})
    calls, seen = Counter[str](), threading.Event()

    async def main() -> Any:
        loop, reached = asyncio.get_running_loop(), asyncio.Event()

        def slow() -> str:
            calls["key"] += 1
            if calls["key"] == 1:
                return OLD
            loop.call_soon_threadsafe(reached.set)
            assert seen.wait(5)  # the loop goes on meanwhile
            return NEW

        async def beside() -> None:
            await reached.wait()
            seen.set()

        async with ak.AsyncClient(configured(bfl, api_key=slow)) as client:
            made, _ = await asyncio.gather(client.edit(picture(), "make it blue"), beside())
            return made

    assert asyncio.run(main()).images
