"""What an async client does when it is first used, without holding up its event loop."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

import anykontext as ak
from anykontext.client import store
from anykontext.sandbox import Emulator

from .conftest import Twin, configured

SLOW_S = 0.4


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time."""
    opens = store.open_ledger

    def slowly(*args: Any, **more: Any) -> Any:
        time.sleep(SLOW_S)
        return opens(*args, **more)

    monkeypatch.setattr(store, "open_ledger", slowly)


async def first_of_many(client: ak.AsyncClient) -> ak.Outcome:
    return await anext(client.run_many([ak.ImageRequest("a cat")]))


@pytest.mark.parametrize(
    "use",
    [
        lambda client, _: client.generate("a cat"),
        lambda client, _: client.submit(ak.ImageRequest("a cat")),
        lambda client, job: client.resume(job.id),
        lambda client, job: client.resume(job.handle),
        lambda client, job: client.job(job.id),
        lambda client, _: client.jobs(),
        lambda client, _: client.recover(),
        lambda client, _: client.check(),
        lambda client, _: first_of_many(client),
        lambda client, _: client.with_options(tags={"a": "b"}).generate("a cat"),
    ],
    ids=["generate", "submit", "resume", "handle", "job", "jobs", "recover", "check", "run_many", "view"],
)
@pytest.mark.usefixtures("slow")
def test_a_ledger_that_opens_slowly_stalls_no_loop(use: Callable[[Any, Any], Any], bfl: Emulator) -> None:
    with Twin("Client", configured(bfl)) as twin:
        job = twin.submit()
        job.wait()

    async def main(client: ak.AsyncClient) -> tuple[float, float]:
        began = last = time.monotonic()
        gap, using = 0.0, asyncio.ensure_future(use(client, job))
        while not using.done():
            await asyncio.sleep(0.005)
            gap, last = max(gap, time.monotonic() - last), time.monotonic()
        await using
        return gap, time.monotonic() - began

    with Twin("AsyncClient", configured(bfl)) as twin:
        gap, took = twin.wait(main(twin.client))

    assert took >= SLOW_S
    assert gap < SLOW_S / 2


@pytest.mark.usefixtures("slow")
def test_one_ledger_is_opened_for_all_that_wait_whoever_is_cancelled(bfl: Emulator) -> None:
    async def main(client: ak.AsyncClient) -> list[Any]:
        first, *others = [asyncio.ensure_future(client.generate("a cat", seed=seed)) for seed in range(3)]
        await asyncio.sleep(SLOW_S / 4)
        first.cancel()
        return await asyncio.gather(first, *others, return_exceptions=True)

    with Twin("AsyncClient", configured(bfl)) as twin:
        cancelled, one, two = twin.wait(main(twin.client))

    assert isinstance(cancelled, asyncio.CancelledError)
    assert [1, 2] == [one.seed, two.seed]
    assert 2 == bfl.counters["submits"]


@pytest.mark.usefixtures("slow")
def test_a_client_that_is_closed_while_it_is_opened_is_closed(bfl: Emulator) -> None:
    async def main(client: ak.AsyncClient) -> None:
        using = asyncio.ensure_future(client.generate("a cat"))
        await asyncio.sleep(SLOW_S / 4)
        await client.close()
        with pytest.raises(ak.AnykontextError, match="closed"):
            await using

    with Twin("AsyncClient", configured(bfl)) as twin:
        twin.wait(main(twin.client))

    assert 0 == bfl.counters["submits"]


def test_a_ledger_that_could_not_be_opened_is_tried_again(bfl: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = store.open_ledger

    def full(*_: Any, **__: Any) -> Any:
        raise ak.ConfigurationError("the disk is full")

    with Twin("AsyncClient", configured(bfl)) as twin:
        monkeypatch.setattr(store, "open_ledger", full)
        with pytest.raises(ak.ConfigurationError, match="the disk is full"):
            twin.wait(twin.client.generate("a cat"))
        with pytest.raises(ak.ConfigurationError, match="the disk is full"):
            twin.wait(first_of_many(twin.client))
        monkeypatch.setattr(store, "open_ledger", opens)

        assert 7 == twin.wait(twin.client.generate("a cat", seed=7)).seed
