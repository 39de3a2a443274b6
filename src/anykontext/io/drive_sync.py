"""The sync driver: carries out the effects of a flow with httpx and threads.

A flow runs in a thread of its own while the caller waits: Ctrl-C can then never fall between a reply and what is
recorded of it. Each exchange has its thread too, so that a deadline holds whatever the socket does.
"""

import concurrent.futures
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

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
from anykontext.io.aside import Asides, Hold, first_ended, no_hold
from anykontext.io.bounded import bounded
from anykontext.io.download import fetch
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
from anykontext.io.gate import Asked, Gate
from anykontext.io.guard import Forbidden, guarded_client
from anykontext.io.journal import Journal
from anykontext.io.network import NOT_THROUGH_PROXY, Network, Proxy, one_way_out
from anykontext.io.notify import Notifier
from anykontext.io.prepare import fetch_source
from anykontext.io.retry import Budgets, repeated
from anykontext.io.spool import Spool
from anykontext.io.stopping import AGAIN_S, TICK_S, Closed, Flows, Stop, Stopped, stopped
from anykontext.io.threads import Box, side_by_side
from anykontext.io.trace import Tracing
from anykontext.model.errors import InvalidRequest

T = TypeVar("T")
L = TypeVar("L")
END_S = 0.2  # for questions in progress when the client is closed; they are free, and can be asked again
SyncStop = Stop[threading.Event]


class SyncDriver:
    """Runs flows.

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
        http_client: httpx.Client | None = None,
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
        self._http = http_client or self._network.client(None, LIMITS)
        self._guarded: dict[frozenset[str], httpx.Client] = {}
        self._proxied: dict[Proxy, httpx.Client] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._busy = 0
        self.gate = gate or Gate()
        self._budgets = Budgets()
        self._random = random_fraction
        self._resolve = resolve
        self._closed = False
        self.flows = Flows(threading.Event)
        self.asides = Asides(hold, self.flows)

    def close(self) -> None:
        """Stop the flows, wait for those that hold what must not be lost, and close the connections.

        A signal meanwhile, and `flows.let_go` in another thread, end the waiting at once.
        """
        self.flows.leave()
        try:
            self._wait_for_flows()
        except BaseException:  # a signal handler raised
            self.flows.let_go()
            self._wait_for_flows()
            raise
        finally:
            self._close_connections()

    def _wait_for_flows(self) -> None:
        while self.flows.busy:
            self.flows.changed.wait(TICK_S)

    def _close_connections(self) -> None:
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._busy == 0, END_S)
        for client in [*self._guarded.values(), *self._proxied.values(), *([self._http] if self._own else [])]:
            client.close()

    def watch(self, job_id: str, deadline_s: float) -> Watch:
        """The clock of a job that starts now."""
        now = time.monotonic()
        return Watch(job_id, deadline_s, now, now, datetime.now(UTC), self._random())

    def run(self, flow: Flow[T], notifier: Notifier) -> T:
        """Carry out a flow and return its result.

        Raises:
            KeyboardInterrupt: The caller stopped it. What had been accepted was told by a `Submitted` event; the
                error of a submit that could not be waited for is the cause. The same goes for whatever else a signal
                handler raises: `SystemExit`, or the time limit of a task queue.
        """
        return self.begin(flow, notifier).wait()

    def begin(self, flow: Flow[T], notifier: Notifier) -> "Running[T]":
        """Carry out a flow in a thread of its own, waited for or not."""
        stop = Stop(threading.Event)

        def carry_out() -> T:
            with self.flows.carried_out(stop):
                return _Run(self, notifier, stop).drive(flow)

        return Running(Box(carry_out), stop, notifier)

    def keep(self, entry: Entry) -> Exception | None:
        """Write an entry into the ledger; None when it is there, else what went wrong."""
        if self.journal is None:
            return None
        written = self.journal.write(entry)
        concurrent.futures.wait([written])
        return self.journal.verdict(entry, written)

    def _client(self, url: str) -> httpx.Client:
        """The client for the calls to a provider's own hosts."""
        proxy = self._network.proxy_of(url)
        if proxy is None:
            return self._http
        with self._lock:
            if proxy not in self._proxied:
                self._proxied[proxy] = self._network.client(proxy, LIMITS)
            return self._proxied[proxy]

    def keyless(self, url: str, provider: Provider) -> httpx.Client:
        """The client for a provider's links and untrusted polling URLs, which gets no key.

        Raises:
            Forbidden: The caller brought a client, or a proxy is on the way, which resolves names out of our sight,
                and the link does not lead to a delivery host of the provider.
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
        with self._lock:
            if allowed not in self._guarded:
                self._guarded[allowed] = guarded_client(allowed, resolve=self._resolve, verify=self._network.tls)
            return self._guarded[allowed]

    def of_download(self, what: Download) -> httpx.Client:
        """The client for a download; an image that came as base64 needs none, whoever brought the client.

        Raises:
            Forbidden: As `keyless` does.
        """
        return self._http if what.url is None else self.keyless(what.url, what.provider)

    def told(self, fetched: Fetched, what: Download) -> Fetched:
        """What came of a download; one that failed names the proxy on its way."""
        return self._network.told(fetched, what.url)

    def fetch_input(self, image: InputImage, provider: Provider, within_s: float) -> InputImage:
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
        return fetch_source(image, client, within_s=within_s)

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """A connection is needed in this block, so that `close` waits for its end.

        Raises:
            RuntimeError: The driver was closed.
        """
        with self._idle:
            if self._closed:
                raise RuntimeError(CLOSED)
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def exchange(self, send: Send, used: dict[str, SecretStr] | None = None) -> Heard:
        """One HTTP exchange. Who calls this waits for `within_s`; then it ends by itself, and leaves no thread.

        The key that was sent goes into `used`, by provider.
        """
        until = time.monotonic() + send.within_s
        try:
            url = send.address.url
            client = self.keyless(url, send.provider) if send.address.guarded else self._client(url)
            request, key = request_of(send, chunks_of(send))
            if used is not None and key is not None:
                used[send.provider.name] = SecretStr(key)
            with (
                self.using(),
                bounded(lambda: until - time.monotonic()),
                contextlib.closing(client.send(request, stream=True, auth=None, follow_redirects=False)) as response,
            ):
                collected = Collected(send, response.status_code, response.headers, key)
                for chunk in response.iter_raw():
                    if not collected.add(chunk):
                        break
            return self._network.told(collected.heard(), send.address.url)
        except Exception as error:  # noqa: BLE001 - whatever it is, the provider may hold the request: the flow decides
            return self._network.told(lost(error), send.address.url)

    def repeated(self, send: Send, stop: SyncStop, used: dict[str, SecretStr] | None = None) -> Heard:
        """An exchange that costs nothing, made again when it is lost on the way; as long as `exchange` in all."""
        return repeated(
            send, lambda one: self.exchange(one, used), self._budgets.of(send), self.jitter, stop.wished.is_set
        )

    def admit(self, what: Admit, stop: SyncStop) -> Asked:
        """Wait at the gate until it is decided, or the time is over, or the caller stops."""
        until, ready = time.monotonic() + what.within_s, threading.Event()
        self.gate.refresh()
        asked = self.gate.ask(what, ready.set)
        while not asked.decided and time.monotonic() < until and not stop.wished.is_set():
            self.gate.refresh()
            stop.heed()
            ready.wait(min(TICK_S, self.gate.look(asked), max(until - time.monotonic(), 0.0)))
        self.gate.end(asked)
        return asked

    def jitter(self) -> float:
        """A random fraction of 0 to 1."""
        return self._random()


class Running(Generic[T]):
    """A flow that is being carried out in a thread of its own."""

    def __init__(self, box: Box[T], stop: SyncStop, notifier: Notifier) -> None:
        self.done = box.done
        self._box = box
        self._stop = stop
        self._notifier = notifier

    def wait(self, until: threading.Event | None = None) -> T:
        """Wait for the end of the flow, or for an event; then the value is None. Signals as `SyncDriver.run` tells.

        Raises:
            AnykontextError: The client was closed meanwhile.
        """
        event, end = until or self._box.done, self._box.done
        while not (event.is_set() or end.is_set()):
            try:
                self._box.start()
                event.wait(TICK_S)
            except BaseException as wish:  # only a signal handler raises here
                let_go = self._stop.let_go.is_set()
                self._stop.request(wish)
                event = end
                if let_go or not self._box.started:
                    raise
        if event is not end and event.is_set():
            return None  # type: ignore[return-value]  # the event came first
        asked = self._stop.wish
        try:
            result: T = self._box.result()
        except Stopped:
            assert asked is not None
            raise stopped(asked, self._notifier) from None
        if asked is not None and not isinstance(asked, Closed):
            raise interrupted(asked, result, self._notifier.handle)
        return result

    @property
    def is_late(self) -> bool:
        """Whether it was asked to end, and had its time."""
        return self._stop.is_late

    def forsake(self) -> None:
        """As `leave`, by a mark alone: for the garbage collector, which may come while this thread has any lock."""
        self._stop.is_forsaken = True

    def leave(self) -> None:
        """Ask the flow to end at its next step; what runs at a provider runs on."""
        self._stop.leave()

    def let_go(self) -> None:
        """Ask it to end at once, and let go of a submit in flight."""
        self._stop.leave()
        self._stop.let_go.set()


class _Run:
    """One flow being carried out, with the places that it holds."""

    def __init__(self, driver: SyncDriver, notifier: Notifier, stop: SyncStop, tracing: Tracing | None = None) -> None:
        self.driver = driver
        self.notifier = notifier
        self.stop = stop
        self.used: dict[str, SecretStr] = {}  # the key that was last sent, by provider
        self.held: list[Asked] = []
        self.above: tuple[Asked, ...] = ()  # what is held by the flow of which this one is a part
        self.asides: dict[Aside, Box[Any]] = {}
        self.tracing = tracing or Tracing(driver.journal.tracer if driver.journal else None)

    def drive(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                self.stop.heed()
                value = self._perform(effect)
                told = Told(value, time.monotonic(), datetime.now(UTC), self.driver.jitter())
                self.tracing.note(effect, told)
                effect = flow.send(told)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a generator's value is untyped
        finally:
            flow.close()
            for asked in self.held:
                self.driver.gate.give_back(asked)

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Persist(entry):
                return self._keep(entry)
            case Emit(event):
                return self.notifier.event(event)
            case Release(candidate):
                return self._release(candidate)
            case Observed():
                return self.driver.gate.observe(effect)
            case Sleep(seconds):
                return self._pause(seconds)
            case Send(call=call) if call.purpose is Purpose.SUBMIT:
                return self._submit(effect)
            case All(flows):
                return self._all(flows)
            case Detach(aside):
                return self._detach(aside)
            case Send(call=call) if call.purpose is Purpose.CHECK:
                return self._check(effect)
            case Renew():
                return self._renew(effect)
            case Download(last_chance=True):
                return self._last_chance(effect)
        return self._unless_stopped(effect)

    def _keep(self, entry: Entry) -> Exception | None:
        with self.stop.holding():
            return self.driver.keep(entry)

    def _pause(self, seconds: float) -> None:
        self.stop.wished.wait(seconds)

    def _check(self, send: Send) -> Heard:
        try:
            heard: Heard = self._unless_stopped(send)
        except Stopped:
            return STOPPED_CHECK
        return heard

    def _renew(self, effect: Renew) -> bool:
        try:
            found: bool = self._unless_stopped(effect)
        except Stopped:
            return False
        return found

    def _unless_stopped(self, effect: Effect) -> Any:
        if self.stop.wished.is_set():
            raise Stopped
        match effect:
            case Send():
                late = Lost(Loss.AFTER_SENDING, f"no whole reply within {effect.within_s:.0f} s")
                return self._in_thread(
                    lambda: self.driver.repeated(effect, self.stop, self.used), effect.within_s, late
                )
            case Download():
                return self._in_thread(lambda: self._fetch(effect), effect.within_s + 1.0, late_image(effect))
            case Await(asides, within_s):
                return self._await(asides, within_s)
            case Admit():
                return self._admit(effect)
            case Upload():
                late_upload = Lost(Loss.AFTER_SENDING, f"not uploaded within {effect.within_s:.0f} s")
                return self._in_thread(lambda: uploaded(effect, self.used), effect.within_s, late_upload)
            case Renew():
                return self._in_thread(lambda: renewed(effect, self.used), effect.within_s, late=False)
        raise AssertionError(effect)

    def _last_chance(self, effect: Download) -> Fetched:
        """Fetch what can never be fetched again, after a wish to stop, too: for the grace of a submit."""
        with self.stop.holding():
            self._unless_let_go()
            box = Box(lambda: self._fetch(effect)).start()
            until = time.monotonic() + effect.within_s + 1.0
            while not box.done.is_set():
                self._unless_let_go()
                if time.monotonic() >= until:
                    return late_image(effect)
                box.done.wait(TICK_S)
            fetched = box.result()
            if isinstance(fetched, NotDownloaded) and self.stop.wished.is_set():
                self.stop.let_go.wait(AGAIN_S)
            return fetched

    def _unless_let_go(self) -> None:
        if self.stop.let_go.is_set() or time.monotonic() >= self.stop.image_until:
            raise Stopped

    def _fetch(self, effect: Download) -> Fetched:
        try:
            client = self.driver.of_download(effect)
            with self.driver.using():
                return self.driver.told(fetch(client, effect, self.driver.spool), effect)
        except (Forbidden, RuntimeError) as error:  # the latter: the client was closed
            return NotDownloaded(Fault.FORBIDDEN, str(error))

    def _admit(self, what: Admit) -> NotAdmitted | None:
        asked = self.driver.admit(what, self.stop)
        if asked.admitted:
            self.held.append(asked)
        elif self.stop.wished.is_set():
            raise Stopped
        return asked.refused

    def _release(self, candidate: Candidate) -> None:
        for held in [one for one in self.held if one.candidate is candidate]:
            self.held.remove(held)
            self.driver.gate.give_back(held)

    def _submit(self, send: Send) -> Heard:
        """Send a submit, and wait for its reply even after Ctrl-C: for `grace_s`, or until Ctrl-C comes again."""
        with self.stop.holding(send.grace_s):
            if self.stop.wished.is_set():
                return Lost(Loss.INTERRUPTED, "stopped before it was sent")
            self.driver.gate.sent(send.provider, (*self.held, *self.above))
            box = Box(lambda: self.driver.exchange(send, self.used)).start()
            until = time.monotonic() + send.within_s
            while not box.done.is_set():
                if time.monotonic() >= min(until, self.stop.submit_until) or self.stop.let_go.is_set():
                    wished = self.stop.wished.is_set()
                    why = "interrupted" if wished else f"no reply within {send.within_s:.0f} s"
                    return Lost(Loss.AFTER_SENDING, f"{why} while the submit was in flight")
                box.done.wait(TICK_S)
            return box.result()

    def _in_thread(self, action: Callable[[], T], within_s: float, late: L) -> T | L:
        """Do something that may be repeated freely, for at most `within_s`."""
        box = Box(action).start()
        until = time.monotonic() + within_s
        while not box.done.is_set():
            if time.monotonic() >= until:
                return late
            box.done.wait(min(TICK_S, max(until - time.monotonic(), 0.0)))
            if self.stop.wished.is_set():
                raise Stopped
        return box.result()

    def _detach(self, aside: Aside) -> None:
        trace = self.tracing.beside(1)[0]
        self.asides[aside] = self.driver.asides.begin(
            aside, lambda stop: _Run(self.driver, Notifier(), stop, trace).drive(aside.flow)
        )

    def _await(self, asides: tuple[Aside, ...], within_s: float) -> tuple[int, Any] | None:
        found = first_ended([self.asides[one] for one in asides], within_s, self.stop.wished.is_set)
        if found is None and self.stop.wished.is_set():
            raise Stopped
        return found

    def _all(self, flows: tuple[Flow[Any], ...]) -> list[Any]:
        """Run flows side by side; none is left before all have ended (gather semantics)."""
        runs = [_Run(self.driver, self.notifier, self.stop, one) for one in self.tracing.beside(len(flows))]
        for run in runs:
            run.above = (*self.above, *self.held)
        return side_by_side([partial(run.drive, flow) for run, flow in zip(runs, flows, strict=True)])
