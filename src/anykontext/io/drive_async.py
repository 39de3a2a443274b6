"""The async driver: carries out the effects of a flow with httpx on one event loop.

A submit in flight is shielded: a cancellation waits for its reply, for a while, before it goes on its way.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

from anykontext.adapting import Purpose
from anykontext.engine.effects import (
    Admit,
    All,
    Download,
    Effect,
    Emit,
    Fault,
    Fetched,
    Flow,
    Heard,
    Loss,
    Lost,
    NotDownloaded,
    Persist,
    Release,
    Send,
    Sleep,
    Told,
    Upload,
)
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import hosts_of, is_delivery
from anykontext.engine.watch import Watch
from anykontext.io.download import afetch
from anykontext.io.exchange import LIMITS, Collected, chunks_of, lost, request_of, uploaded
from anykontext.io.guard import Forbidden, async_guarded_client
from anykontext.io.notify import Notifier
from anykontext.io.slots import Slots
from anykontext.io.spool import Spool

T = TypeVar("T")


class Stop:
    """The caller's wish to stop (a cancellation), seen by every task of a job."""

    def __init__(self) -> None:
        self.wish: asyncio.CancelledError | None = None
        self.at: float | None = None
        self.abandon = False
        self.wished = asyncio.Event()

    def request(self, wish: asyncio.CancelledError) -> None:
        """Ask to stop; asked twice, a submit in flight is let go."""
        self.abandon = self.wish is not None
        self.wish = self.wish or wish
        self.at = self.at or time.monotonic()
        self.wished.set()


class Stopped(Exception):  # it ends a task of ours, and is never seen by a caller
    """A flow was left because the caller asked to stop."""


class AsyncDriver:
    """Runs flows on the event loop that first used it.

    Args:
        spool: Where finished images go.
        http_client: Used for the calls to providers in place of our own.
        random_fraction: For jitter.
        resolve: For the guard's name look-ups; None for the system's.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        http_client: httpx.AsyncClient | None = None,
        random_fraction: Callable[[], float] = random.random,
        resolve: Any = None,
    ) -> None:
        self.spool = spool
        self._own = http_client is None
        self._http = http_client or httpx.AsyncClient(limits=LIMITS, trust_env=False, follow_redirects=False)
        self._guarded: dict[frozenset[str], httpx.AsyncClient] = {}
        self._free = asyncio.Condition()
        self._slots = Slots()
        self._random = random_fraction
        self._resolve = resolve

    async def close(self) -> None:
        """Close the connections."""
        for client in [*self._guarded.values(), *([self._http] if self._own else [])]:
            await client.aclose()

    def watch(self, job_id: str, deadline_s: float) -> Watch:
        """The clock of a job that starts now."""
        now = time.monotonic()
        return Watch(job_id, deadline_s, now, now, datetime.now(UTC), self._random())

    async def run(self, flow: Flow[T], notifier: Notifier) -> T:
        """Carry out a flow and return its result.

        Raises:
            asyncio.CancelledError: The caller stopped it. What had been accepted was told by a `Submitted` event; the
                error of a submit that could not be waited for is the cause.
        """
        stop = Stop()
        try:
            result = await _Run(self, notifier, stop).drive(flow)
        except Stopped:
            assert stop.wish is not None
            raise stop.wish from None
        if stop.wish is not None:
            raise stop.wish from (result if isinstance(result, Exception) else None)
        return result

    def keyless(self, url: str, provider: Provider) -> httpx.AsyncClient:
        """The client for a provider's links and untrusted polling URLs, which gets no key.

        Raises:
            Forbidden: The caller brought a client, which resolves names out of our sight, and the link does not lead
                to a delivery host of the provider.
        """
        if not self._own:
            if not is_delivery(url, provider):
                raise Forbidden("not a delivery host of this provider, and your http_client resolves names itself")
            return self._http
        allowed = hosts_of(provider)
        if allowed not in self._guarded:
            self._guarded[allowed] = async_guarded_client(allowed, resolve=self._resolve)
        return self._guarded[allowed]

    async def exchange(self, send: Send) -> Heard:
        """One HTTP exchange, as long as it takes; `within_s` is held by who calls this."""
        try:
            client = self.keyless(send.address.url, send.provider) if send.address.guarded else self._http
            request, key = request_of(send, _body(send))
            response = await client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                collected = Collected(send, response.status_code, response.headers, key)
                async for chunk in response.aiter_raw():
                    if not collected.add(chunk):
                        break
            finally:
                await response.aclose()
            return collected.heard()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            return lost(error)

    async def admit(self, candidate: Candidate, places: int, within_s: float) -> bool:
        """Wait for free places."""
        async with self._free:
            try:
                async with asyncio.timeout(within_s):
                    await self._free.wait_for(lambda: self._slots.take(candidate, places))
            except TimeoutError:
                return False
        return True

    async def release(self, candidate: Candidate, places: int) -> None:
        """Give places back."""
        self._slots.give_back(candidate, places)
        async with self._free:
            self._free.notify_all()

    def jitter(self) -> float:
        """A random fraction of 0 to 1."""
        return self._random()


def _body(send: Send) -> AsyncIterator[bytes] | None:
    parts = chunks_of(send)
    if parts is None:
        return None

    async def stream() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return stream()


class _Run:
    """One flow being carried out, with the places that it holds."""

    def __init__(self, driver: AsyncDriver, notifier: Notifier, stop: Stop) -> None:
        self.driver = driver
        self.notifier = notifier
        self.stop = stop
        self.held: list[tuple[Candidate, int]] = []

    async def drive(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                value = await self._perform(effect)
                effect = flow.send(Told(value, time.monotonic(), datetime.now(UTC), self.driver.jitter()))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a generator's value is untyped
        finally:
            flow.close()
            for candidate, places in self.held:
                await self.driver.release(candidate, places)

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Persist(entry):
                return self.notifier.entry(entry)
            case Emit(event):
                return self.notifier.event(event)
            case Release(candidate):
                return await self._release(candidate)
            case Sleep(seconds):
                return await self._pause(seconds)
            case Send(call=call) if call.purpose is Purpose.SUBMIT:
                return await self._submit(effect)
        if self.stop.wished.is_set():
            raise Stopped
        match effect:
            case Send():
                late = Lost(Loss.AFTER_SENDING, f"no whole reply within {effect.within_s:.0f} s")
                return await self._within(self.driver.exchange(effect), effect.within_s, late)
            case Download():
                late_image = NotDownloaded(Fault.LOST, f"not fetched within {effect.within_s:.0f} s")
                return await self._within(self._fetch(effect), effect.within_s + 1.0, late_image)
            case Admit(candidate, places, within_s):
                if not await self._within(self.driver.admit(candidate, places, within_s), within_s + 1.0, late=False):
                    return False
                self.held.append((candidate, places))
                return True
            case All(flows):
                return await self._all(flows)
            case Upload():
                late_upload = Lost(Loss.AFTER_SENDING, f"not uploaded within {effect.within_s:.0f} s")
                return await self._within(asyncio.to_thread(uploaded, effect), effect.within_s, late_upload)
        raise AssertionError(effect)

    async def _fetch(self, effect: Download) -> Fetched:
        try:
            client = self.driver.keyless(effect.url or "", effect.provider)
        except Forbidden as error:
            return NotDownloaded(Fault.FORBIDDEN, str(error))
        return await afetch(client, effect, self.driver.spool)

    async def _release(self, candidate: Candidate) -> None:
        for held in [one for one in self.held if one[0] is candidate]:
            self.held.remove(held)
            await self.driver.release(*held)

    async def _interruptible(self, waiting: Awaitable[Any]) -> None:
        """Wait for something during which a cancellation is a wish to stop, not an end in the middle of a flow."""
        try:
            await waiting
        except asyncio.CancelledError as wish:
            self.stop.request(wish)

    async def _pause(self, seconds: float) -> None:
        if not self.stop.wished.is_set() and seconds > 0:
            wished = asyncio.ensure_future(self.stop.wished.wait())
            await self._interruptible(asyncio.wait({wished}, timeout=seconds))
            wished.cancel()

    async def _submit(self, send: Send) -> Heard:
        """Send a submit, and wait for its reply even after a cancellation: for `grace_s`, or until it comes again."""
        if self.stop.wished.is_set():
            return Lost(Loss.INTERRUPTED, "stopped before it was sent")
        sending = asyncio.ensure_future(self.driver.exchange(send))
        until = time.monotonic() + send.within_s
        while not sending.done():
            if self.stop.at is not None:
                until = min(until, self.stop.at + send.grace_s)
            left_s = until - time.monotonic()
            if left_s <= 0 or self.stop.abandon:
                sending.cancel()
                why = "interrupted" if self.stop.wished.is_set() else f"no reply within {send.within_s:.0f} s"
                return Lost(Loss.AFTER_SENDING, f"{why} while the submit was in flight")
            wished = asyncio.ensure_future(self.stop.wished.wait())
            others = set() if self.stop.wished.is_set() else {wished}
            await self._interruptible(
                asyncio.wait({sending, *others}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            )
            wished.cancel()
        return sending.result()

    async def _within(self, action: Coroutine[Any, Any, T], within_s: float, late: T) -> T:
        """Do something that may be repeated freely, for at most `within_s`."""
        doing = asyncio.ensure_future(action)
        wished = asyncio.ensure_future(self.stop.wished.wait())
        try:
            await asyncio.wait({doing, wished}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if self.stop.wished.is_set():
                raise Stopped
            return doing.result() if doing.done() else late
        except asyncio.CancelledError as wish:
            self.stop.request(wish)
            raise Stopped from None
        finally:
            wished.cancel()
            doing.cancel()

    async def _all(self, flows: tuple[Flow[Any], ...]) -> list[Any]:
        """Run flows side by side; none is left before all have ended (gather semantics)."""
        tasks = [asyncio.ensure_future(_Run(self.driver, self.notifier, self.stop).drive(flow)) for flow in flows]
        while not all(task.done() for task in tasks):
            await self._interruptible(asyncio.wait(tasks))
        errors = [error for task in tasks if (error := task.exception()) is not None]
        if errors:
            raise errors[0]
        return [task.result() for task in tasks]
