"""What a client and all of its views share: connections, the jobs that are followed, and one end for all of it."""

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from anykontext.client.store import Store
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.drive_sync import SyncDriver
from anykontext.io.network import Network, one_way_out
from anykontext.io.stopping import TICK_S
from anykontext.io.threads import Box
from anykontext.model.errors import AnykontextError

if TYPE_CHECKING:
    import httpx

CLOSED = "this client is closed"
FORKED = "this client was made before a fork; make a new one in the child process"
ELSEWHERE = "this AsyncClient belongs to another event loop; make one in each loop"


class Shared:
    """What a `Client` shares with its views."""

    def __init__(self, store: Store, http_client: "httpx.Client | None", network: Network) -> None:
        self.made: SyncDriver | None = None
        self._store = store
        self._http_client = http_client
        self._network = one_way_out(network, http_client)
        self._lock = threading.RLock()  # a signal handler may close the client at any time
        self._pid = os.getpid()
        self._closed = False
        self._ended = threading.Event()
        self._closer: int | None = None
        self._at_exit = partial(_close_at_exit, weakref.ref(self))

    @property
    def driver(self) -> SyncDriver:
        """Made when it is first needed, with the ledger: reading the certificates of the world takes a while.

        Raises:
            AnykontextError: The client was closed.
            LedgerError: The ledger cannot be opened.
        """
        with self._lock:
            if self.made is None:
                self.check_usable()
                self.made = SyncDriver(
                    self._store.spool,
                    journal=self._store.journal,
                    http_client=self._http_client,
                    network=self._network,
                    hold=self._store.claims.beside,
                    gate=self._store.gate,
                )
                atexit.register(self._at_exit)  # after the ledger's own, and so it is called before that
                if self._closed:  # by a signal handler, meanwhile
                    self.made.close()
            return self.made

    def check_usable(self) -> None:
        """Whether there are still connections, and they are this process's.

        Raises:
            AnykontextError: The client was closed, or made before a fork.
        """
        if self._closed:
            raise AnykontextError(CLOSED)
        if os.getpid() != self._pid:  # F66: connections and threads do not survive a fork
            raise AnykontextError(FORKED)

    def close(self) -> None:
        """End what is under way, and close the connections, and last the ledger.

        A submit in flight is waited for, and whatever else must not be lost. Called once more meanwhile, it lets go of
        that; called once more afterwards, it does nothing. Within a flow, in `on_event`, it does not wait.
        """
        if os.getpid() != self._pid:
            return  # there is nothing of it here
        with self._lock:
            first, self._closed = not self._closed, True
            self._closer = threading.get_ident() if first else self._closer
        inside = self.made is not None and self.made.flows.around
        if first and inside:
            Box(self._end).start()
        elif first:
            self._end()
        elif not inside:
            self._end_at_once()

    def _end(self) -> None:
        self._closer = threading.get_ident()
        try:
            if self.made is not None:
                self.made.close()
        finally:
            try:
                self._store.close()
            finally:
                self._ended.set()
                atexit.unregister(self._at_exit)

    def _end_at_once(self) -> None:
        """Another thread is closing the client, or this one is, interrupted by a signal, or it is over."""
        if self.made is not None and not self._ended.is_set():
            self.made.flows.let_go()
        while self._closer != threading.get_ident() and not self._ended.wait(TICK_S):
            pass

    def close_or_wait(self) -> None:
        """Close it, unless somebody does; let nothing go."""
        if not self._closed:
            self.close()
        while os.getpid() == self._pid and not self._ended.wait(TICK_S):
            pass


def _close_at_exit(found: "weakref.ref[Shared]") -> None:
    """Close a client that nobody has closed: what threads of the interpreter's end have in flight is not lost."""
    shared = found()
    if shared is None:
        return
    with contextlib.suppress(KeyboardInterrupt):  # it has let go then
        shared.close_or_wait()


class AsyncShared:
    """What an `AsyncClient` shares with its views; it belongs to the event loop that first uses it."""

    def __init__(self, store: Store, http_client: "httpx.AsyncClient | None", network: Network) -> None:
        self.made: AsyncDriver | None = None
        self.followed: set[asyncio.Task[Any]] = set()
        self._store = store
        self._http_client = http_client
        self._network = one_way_out(network, http_client)
        self._making: asyncio.Future[AsyncDriver] | None = None
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closers: set[asyncio.Task[Any] | None] = set()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether somebody closes it, or has."""
        return self._closed

    async def ready(self) -> AsyncDriver:
        """The driver, made when it is first needed, with the ledger, in a thread: the loop does not wait for a disk.

        Raises:
            AnykontextError: The client cannot be used, or its ledger cannot be opened.
        """
        self.check_usable()
        if self.made is None:
            if self._making is None:
                self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
                self._making.add_done_callback(self._was_made)
            await asyncio.shield(self._making)  # whoever is cancelled here, others may wait for it, and `close`
            self.check_usable()
        return self.driver

    @property
    def driver(self) -> AsyncDriver:
        """The driver, once `ready` has made it."""
        assert self.made is not None
        return self.made

    def _make(self) -> AsyncDriver:
        return AsyncDriver(
            self._store.spool,
            journal=self._store.journal,
            http_client=self._http_client,
            network=self._network,
            hold=self._store.claims.beside,
            gate=self._store.gate,
        )

    def _was_made(self, making: "asyncio.Future[AsyncDriver]") -> None:
        self._making = None  # where it failed, the next call tries again
        if not making.cancelled() and making.exception() is None:
            self.made = making.result()

    def follow(self, task: "asyncio.Task[Any]") -> None:
        """Let a task end when the client is closed; it may end badly, and nobody need ask it why."""
        self.followed.add(task)
        task.add_done_callback(self._has_ended)

    def _has_ended(self, task: "asyncio.Task[Any]") -> None:
        self.followed.discard(task)
        if not task.cancelled():
            task.exception()  # seen, or asyncio would complain

    def check_usable(self) -> None:
        """Whether there are still connections, and they are this process's and this loop's.

        Raises:
            AnykontextError: The client was closed, made before a fork, or belongs to another event loop.
        """
        if self._closed:
            raise AnykontextError(CLOSED)
        if os.getpid() != self._pid:  # F66: connections do not survive a fork
            raise AnykontextError(FORKED)
        self._check_loop()

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:  # F67
            raise AnykontextError(ELSEWHERE)

    async def close(self) -> None:
        """See `Shared.close`; a cancellation lets go of what must not be lost, too."""
        if os.getpid() != self._pid or (self._closing is not None and self._closing.done()):
            return
        self._check_loop()
        self._closed = True
        self._closers.add(asyncio.current_task())
        if self._closing is None:
            self._closing = asyncio.create_task(self._end())
        else:
            self._let_go()
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self._let_go()
            await asyncio.wait({self._closing})
            raise

    def _let_go(self) -> None:
        if self.made is not None:
            self.made.flows.let_go()

    async def _end(self) -> None:
        if self._making is not None:
            await asyncio.wait({self._making})
        if self.made is not None:
            await self.made.flows_ended()
        rest = self.followed - self._closers
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if self.made is not None:
            await self.made.close()
        await asyncio.to_thread(self._store.close)
