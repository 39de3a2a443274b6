"""The async driver: carries out the effects of a flow with httpx on one event loop.

A submit in flight is shielded: a cancellation waits for its reply, for a while, before it goes on its way.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from anykontext.adapting import InputImage, Purpose
from anykontext.engine.effects import (
    Admit,
    All,
    Aside,
    Await,
    Detach,
    Download,
    Effect,
    Emit,
    Fault,
    Fetched,
    Flow,
    Heard,
    Loss,
    Lost,
    NotAdmitted,
    NotDownloaded,
    Observed,
    Persist,
    Release,
    Renew,
    Send,
    Sleep,
    Told,
    Upload,
)
from anykontext.engine.entries import Entry
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import hosts_of, is_delivery
from anykontext.engine.watch import Watch
from anykontext.io.aside import AsyncAsides, Hold, ended_among, no_hold
from anykontext.io.download import afetch
from anykontext.io.exchange import (
    CLOSED,
    LIMITS,
    STOPPED_CHECK,
    Collected,
    chunks_of,
    interrupted,
    late_image,
    lost,
    renewed,
    request_of,
    uploaded,
)
from anykontext.io.gate import FULL, Asked, Gate
from anykontext.io.guard import Forbidden, async_guarded_client
from anykontext.io.journal import Journal
from anykontext.io.network import NOT_THROUGH_PROXY, Network, Proxy, one_way_out
from anykontext.io.notify import Notifier
from anykontext.io.prepare import afetch_source
from anykontext.io.retry import Budgets, arepeated
from anykontext.io.spool import Spool
from anykontext.io.stopping import AGAIN_S, TICK_S, Closed, Flows, Stop, Stopped, stopped
from anykontext.io.threads import Box
from anykontext.io.trace import Tracing
from anykontext.model.errors import InvalidRequest

T = TypeVar("T")
L = TypeVar("L")
END_S = 1.0  # for a cancelled task to close its connection
LATE_S = 5.0  # beyond the time for a place: a slow disk, which tells what is drained
AsyncStop = Stop[asyncio.Event]


class AsyncDriver:
    """Runs flows on the event loop that first used it.

    Args:
        spool: Where finished images go.
        journal: What writes down what flows want kept; None keeps nothing.
        http_client: Used for the calls to providers in place of our own.
        network: The way out of our own connections; None for the straight one.
        hold: Told of jobs that are followed on the side; see `Asides`.
        gate: Who may submit where, and when; None for one of its own.
        random_fraction: For jitter.
        resolve: For the guard's name look-ups; None for the system's.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        journal: Journal | None = None,
        http_client: httpx.AsyncClient | None = None,
        network: Network | None = None,
        gate: Gate | None = None,
        hold: Hold = no_hold,
        random_fraction: Callable[[], float] = random.random,
        resolve: Any = None,
    ) -> None:
        self.spool = spool
        self.journal = journal
        self._own = http_client is None
        self._network = one_way_out(network, http_client)
        self._http = http_client or self._network.async_client(None, LIMITS)
        self._guarded: dict[frozenset[str], httpx.AsyncClient] = {}
        self._proxied: dict[Proxy, httpx.AsyncClient] = {}
        self.gate = gate or Gate()
        self._refreshing = asyncio.Lock()
        self._budgets = Budgets()
        self._random = random_fraction
        self._resolve = resolve
        self._closed = False
        self.flows = Flows(asyncio.Event)
        self.asides = AsyncAsides(hold, self.flows)

    async def close(self) -> None:
        """Stop the flows, wait for those that hold what must not be lost, and close the connections."""
        await self.flows_ended()
        self._closed = True
        for client in [*self._guarded.values(), *self._proxied.values(), *([self._http] if self._own else [])]:
            await client.aclose()

    async def flows_ended(self) -> None:
        """Stop the flows, and wait for those that hold what must not be lost; `flows.let_go` ends that at once."""
        self.flows.leave()
        while self.flows.busy:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.flows.changed.wait(), TICK_S)

    def watch(self, job_id: str, deadline_s: float) -> Watch:
        """The clock of a job that starts now."""
        now = time.monotonic()
        return Watch(job_id, deadline_s, now, now, datetime.now(UTC), self._random())

    async def run(
        self, flow: Flow[T], notifier: Notifier, then: Callable[[T | None], Awaitable[None]] | None = None
    ) -> T:
        """Carry out a flow and return its result.

        Args:
            flow: What to do.
            notifier: Told of its events.
            then: Called with the result, or None, when it has ended; the client is not closed before that is done.

        Raises:
            asyncio.CancelledError: The caller stopped it. What had been accepted was told by a `Submitted` event; the
                error of a submit that could not be waited for is the cause.
            AnykontextError: The client was closed meanwhile.
        """
        stop, result = Stop(asyncio.Event), None
        with self.flows.carried_out(stop):
            try:
                result = await _Run(self, notifier, stop).drive(flow)
            except Stopped:
                assert stop.wish is not None
                raise stopped(stop.wish, notifier) from None
            finally:
                if then is not None:
                    await then(result)
        if stop.wish is not None and not isinstance(stop.wish, Closed):
            raise interrupted(stop.wish, result, notifier.handle)
        return result

    def _client(self, url: str) -> httpx.AsyncClient:
        """The client for the calls to a provider's own hosts."""
        proxy = self._network.proxy_of(url)
        if proxy is None:
            return self._http
        if self._closed:
            raise RuntimeError(CLOSED)
        if proxy not in self._proxied:
            self._proxied[proxy] = self._network.async_client(proxy, LIMITS)
        return self._proxied[proxy]

    def keyless(self, url: str, provider: Provider) -> httpx.AsyncClient:
        """The client for a provider's links and untrusted polling URLs, which gets no key.

        Raises:
            Forbidden: The caller brought a client, or a proxy is on the way, which resolves names out of our sight,
                and the link does not lead to a delivery host of the provider.
            RuntimeError: The client was closed.
        """
        if not self._own:
            if not is_delivery(url, provider):
                raise Forbidden("not a delivery host of this provider, and your http_client resolves names itself")
            return self._http
        if self._network.proxy_of(url) is not None:
            if not is_delivery(url, provider):
                raise Forbidden(f"not a delivery host of this provider, and {NOT_THROUGH_PROXY}")
            return self._client(url)
        allowed = hosts_of(provider)
        if self._closed:
            raise RuntimeError(CLOSED)
        if allowed not in self._guarded:
            self._guarded[allowed] = async_guarded_client(allowed, resolve=self._resolve, verify=self._network.tls)
        return self._guarded[allowed]

    def of_download(self, what: Download) -> httpx.AsyncClient:
        """The client for a download; an image that came as base64 needs none, whoever brought the client.

        Raises:
            Forbidden: As `keyless` does.
            RuntimeError: As `keyless` does.
        """
        return self._http if what.url is None else self.keyless(what.url, what.provider)

    def told(self, fetched: Fetched, what: Download) -> Fetched:
        """What came of a download; one that failed names the proxy on its way."""
        return self._network.told(fetched, what.url)

    async def fetch_input(self, image: InputImage, provider: Provider, within_s: float) -> InputImage:
        """Fetch an input image given as a URL; the provider's own hosts may be private, as for its downloads.

        Raises:
            InvalidRequest: It could not be fetched, or is no image.
        """
        if image.url is None or image.data is not None:
            return image
        if self._network.proxy_of(image.url) is not None:
            raise InvalidRequest(f"{image.name} is not fetched: {NOT_THROUGH_PROXY}; give the image's bytes")
        try:
            client = self.keyless(image.url, provider)
        except Forbidden as error:
            raise InvalidRequest(f"{image.name} is not fetched: {error}") from error
        return await afetch_source(image, client, within_s=within_s)

    async def exchange(self, send: Send, used: dict[str, SecretStr] | None = None) -> Heard:
        """One HTTP exchange, as long as it takes; `within_s` is held by who calls this.

        The key that was sent goes into `used`, by provider.
        """
        try:
            url = send.address.url
            client = self.keyless(url, send.provider) if send.address.guarded else self._client(url)
            request, key = request_of(send, _body(send))
            if used is not None and key is not None:
                used[send.provider.name] = SecretStr(key)
            response = await client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                collected = Collected(send, response.status_code, response.headers, key)
                async for chunk in response.aiter_raw():
                    if not collected.add(chunk):
                        break
            finally:
                await response.aclose()
            return self._network.told(collected.heard(), send.address.url)
        except Exception as error:  # noqa: BLE001 - whatever it is, the provider may hold the request: the flow decides
            return self._network.told(lost(error), send.address.url)

    async def repeated(self, send: Send, used: dict[str, SecretStr] | None = None) -> Heard:
        """An exchange that costs nothing, made again when it is lost on the way; who calls this holds `within_s`."""
        return await arepeated(send, lambda one: self.exchange(one, used), self._budgets.of(send), self.jitter)

    async def admit(self, what: Admit, held: list[Asked]) -> NotAdmitted | None:
        """Wait at the gate, and note in `held` what was let in: a cancellation never falls between."""
        until, ready = time.monotonic() + what.within_s, asyncio.Event()
        await self._refreshed()
        asked = self.gate.ask(what, ready.set)
        try:
            while not asked.decided and (left_s := until - time.monotonic()) > 0:
                await self._refreshed()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ready.wait(), min(self.gate.look(asked), left_s))
        finally:
            refused = self.gate.end(asked)
            if refused is None:
                held.append(asked)
        return refused

    async def _refreshed(self) -> None:
        """Let the gate know which providers are drained; the loop does not wait for the disk."""
        if self.gate.stale:
            async with self._refreshing:
                if self.gate.stale:
                    await _beside(self.gate.refresh)

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


async def _beside(action: Callable[[], T]) -> T:
    """Do something in a daemon thread: unlike one of the loop's own, it keeps nobody from ending when it hangs."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def take(box: Box[T]) -> None:
        if not done.done():
            done.set_result(box.result())

    def tell(box: Box[T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits any more
            loop.call_soon_threadsafe(take, box)

    Box(action, then=tell).start()
    return await done


class _Run:
    """One flow being carried out, with the places that it holds."""

    def __init__(
        self, driver: AsyncDriver, notifier: Notifier, stop: AsyncStop, tracing: Tracing | None = None
    ) -> None:
        self.driver = driver
        self.notifier = notifier
        self.stop = stop
        self.used: dict[str, SecretStr] = {}  # the key that was last sent, by provider
        self.held: list[Asked] = []
        self.above: tuple[Asked, ...] = ()  # what is held by the flow of which this one is a part
        self.asides: dict[Aside, asyncio.Task[Any]] = {}
        self.tracing = tracing or Tracing(driver.journal.tracer if driver.journal else None)

    async def drive(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                value = await self._perform(effect)
                told = Told(value, time.monotonic(), datetime.now(UTC), self.driver.jitter())
                self.tracing.note(effect, told)
                effect = flow.send(told)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a generator's value is untyped
        finally:
            flow.close()
            for asked in self.held:
                self.driver.gate.give_back(asked)

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Persist(entry):
                return await self._keep(entry)
            case Emit(event):
                return self.notifier.event(event)
            case Release(candidate):
                return self._release(candidate)
            case Observed():
                return self.driver.gate.observe(effect)
            case Sleep(seconds):
                return await self._pause(seconds)
            case Send(call=call) if call.purpose is Purpose.SUBMIT:
                return await self._submit(effect)
            case All(flows):
                return await self._all(flows)
            case Detach(aside):
                return self._detach(aside)
            case Send(call=call) if call.purpose is Purpose.CHECK:
                return await self._check(effect)
            case Renew():
                return await self._renew(effect)
            case Download(last_chance=True):
                return await self._last_chance(effect)
        return await self._unless_stopped(effect)

    async def _keep(self, entry: Entry) -> Exception | None:
        """Write an entry into the ledger, whatever is cancelled meanwhile; the loop does not wait for the disk."""
        journal = self.driver.journal
        if journal is None:
            return None
        written, there = journal.write(entry), asyncio.Event()
        loop = asyncio.get_running_loop()
        written.add_done_callback(lambda _: loop.call_soon_threadsafe(there.set))
        with self.stop.holding():
            while not written.done():
                await self._interruptible(there.wait())
        return journal.verdict(entry, written)

    async def _check(self, send: Send) -> Heard:
        try:
            heard: Heard = await self._unless_stopped(send)
        except Stopped:
            return STOPPED_CHECK
        return heard

    async def _renew(self, effect: Renew) -> bool:
        try:
            found: bool = await self._unless_stopped(effect)
        except Stopped:
            return False
        return found

    async def _unless_stopped(self, effect: Effect) -> Any:
        if self.stop.wished.is_set():
            raise Stopped
        match effect:
            case Send():
                late = Lost(Loss.AFTER_SENDING, f"no whole reply within {effect.within_s:.0f} s")
                return await self._within(self.driver.repeated(effect, self.used), effect.within_s, late)
            case Download():
                return await self._within(self._fetch(effect), effect.within_s + 1.0, late_image(effect))
            case Await(asides, within_s):
                return await self._await(asides, within_s)
            case Admit(within_s=within_s):
                admitting = self.driver.admit(effect, self.held)
                return await self._within(admitting, within_s + LATE_S, FULL)
            case Upload():
                late_upload = Lost(Loss.AFTER_SENDING, f"not uploaded within {effect.within_s:.0f} s")
                return await self._within(_beside(lambda: uploaded(effect, self.used)), effect.within_s, late_upload)
            case Renew():
                return await self._within(_beside(lambda: renewed(effect, self.used)), effect.within_s, late=False)
        raise AssertionError(effect)

    async def _last_chance(self, effect: Download) -> Fetched:
        """Fetch what can never be fetched again, after a wish to stop, too: for the grace of a submit."""
        with self.stop.holding():
            fetched = await self._held(self._fetch(effect), effect.within_s + 1.0, lambda: self.stop.image_until)
            if fetched is None and self.stop.wished.is_set():
                raise Stopped
            if isinstance(fetched, NotDownloaded) and self.stop.wished.is_set():
                await self._wait(AGAIN_S, (), self.stop.let_go)
            return late_image(effect) if fetched is None else fetched

    async def _fetch(self, effect: Download) -> Fetched:
        try:
            client = self.driver.of_download(effect)
            return self.driver.told(await afetch(client, effect, self.driver.spool), effect)
        except (Forbidden, RuntimeError) as error:  # the latter: the client was closed
            return NotDownloaded(Fault.FORBIDDEN, str(error))

    def _release(self, candidate: Candidate) -> None:
        for held in [one for one in self.held if one.candidate is candidate]:
            self.held.remove(held)
            self.driver.gate.give_back(held)

    async def _interruptible(self, waiting: Awaitable[Any]) -> None:
        """Wait for something during which a cancellation is a wish to stop, not an end in the middle of a flow."""
        try:
            await waiting
        except asyncio.CancelledError as wish:
            self.stop.request(wish)

    async def _wait(self, seconds: float, tasks: Iterable[asyncio.Future[Any]], until: asyncio.Event) -> None:
        """Wait until one of the tasks has ended or the event is set, and at most so long."""
        rung = asyncio.ensure_future(until.wait())
        every = {*tasks, rung}
        await self._interruptible(asyncio.wait(every, timeout=seconds, return_when=asyncio.FIRST_COMPLETED))
        rung.cancel()

    async def _end(self, task: asyncio.Future[Any]) -> None:
        """Cancel a task, and see it go, so that it leaves nothing behind on the loop."""
        if not task.done():
            task.cancel()
            await self._interruptible(asyncio.wait({task}, timeout=END_S))
        if task.done() and not task.cancelled():
            task.exception()  # seen, or asyncio would complain

    async def _pause(self, seconds: float) -> None:
        if not self.stop.wished.is_set() and seconds > 0:
            await self._wait(seconds, (), self.stop.wished)

    async def _submit(self, send: Send) -> Heard:
        """Send a submit, and wait for its reply even after a cancellation: for `grace_s`, or until it comes again."""
        with self.stop.holding(send.grace_s):
            if self.stop.wished.is_set():
                return Lost(Loss.INTERRUPTED, "stopped before it was sent")
            self.driver.gate.sent(send.provider, (*self.held, *self.above))
            sending = self.driver.exchange(send, self.used)
            heard = await self._held(sending, send.within_s, lambda: self.stop.submit_until)
            if heard is not None:
                return heard
            why = "interrupted" if self.stop.wished.is_set() else f"no reply within {send.within_s:.0f} s"
            return Lost(Loss.AFTER_SENDING, f"{why} while the submit was in flight")

    async def _held(self, action: Coroutine[Any, Any, T], within_s: float, until: Callable[[], float]) -> T | None:
        """Do something that must not be lost; None: it took too long, or was let go.

        After a wish to stop it goes on, until that time at most.
        """
        doing, end = asyncio.ensure_future(action), time.monotonic() + within_s
        while not doing.done():
            left_s = min(end, until()) - time.monotonic()
            if left_s <= 0 or self.stop.let_go.is_set():
                break
            await self._wait(left_s, [doing], self.stop.let_go if self.stop.wished.is_set() else self.stop.wished)
        await self._end(doing)
        return doing.result() if doing.done() and not doing.cancelled() else None

    async def _within(self, action: Coroutine[Any, Any, T], within_s: float, late: L) -> T | L:
        """Do something that may be repeated freely, for at most `within_s` and until a wish to stop."""
        doing, end = asyncio.ensure_future(action), time.monotonic() + within_s
        while not doing.done() and not self.stop.wished.is_set() and time.monotonic() < end:
            await self._wait(end - time.monotonic(), [doing], self.stop.wished)
        await self._end(doing)
        if self.stop.wished.is_set():
            raise Stopped
        return doing.result() if doing.done() and not doing.cancelled() else late

    def _detach(self, aside: Aside) -> None:
        trace = self.tracing.beside(1)[0]
        self.asides[aside] = self.driver.asides.begin(
            aside, lambda stop: _Run(self.driver, Notifier(), stop, trace).drive(aside.flow)
        )

    async def _await(self, asides: tuple[Aside, ...], within_s: float) -> tuple[int, Any] | None:
        tasks, end = [self.asides[one] for one in asides], time.monotonic() + within_s
        while (found := ended_among(tasks)) is None and (left_s := end - time.monotonic()) > 0:
            if self.stop.wished.is_set():
                raise Stopped
            await self._wait(left_s, tasks, self.stop.wished)
        return found

    async def _all(self, flows: tuple[Flow[Any], ...]) -> list[Any]:
        """Run flows side by side; none is left before all have ended (gather semantics)."""
        runs = [_Run(self.driver, self.notifier, self.stop, one) for one in self.tracing.beside(len(flows))]
        for run in runs:
            run.above = (*self.above, *self.held)
        tasks = [asyncio.ensure_future(one.drive(flow)) for one, flow in zip(runs, flows, strict=True)]
        while not all(task.done() for task in tasks):
            await self._interruptible(asyncio.wait(tasks))
        errors = [error for task in tasks if (error := task.exception()) is not None]
        if errors:
            raise errors[0]
        return [task.result() for task in tasks]
