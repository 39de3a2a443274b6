"""What a client and all of its views share: connections, the jobs that are followed, and one end for all of it."""

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from anykontext.client.store import Store
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.drive_sync import Running, SyncDriver
from anykontext.io.network import Network, one_way_out
from anykontext.model.errors import AnykontextError

if TYPE_CHECKING:
    import httpx

LEFT_S = 2.0  # for followers to see that the client is closed, and to write down what they know
CLOSED = "this client is closed"
FORKED = "this client was made before a fork; make a new one in the child process"
ELSEWHERE = "this AsyncClient belongs to another event loop; make one in each loop"


class Shared:
    """What a `Client` shares with its views."""

    def __init__(self, store: Store, http_client: "httpx.Client | None", network: Network) -> None:
        self.made: SyncDriver | None = None
        self.followed: set[Running[Any]] = set()
        self._store = store
        self._http_client = http_client
        self._network = one_way_out(network, http_client)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    @property
    def driver(self) -> SyncDriver:
        """Made when it is first needed, with the ledger: reading the certificates of the world takes a while."""
        with self._lock:
            if self.made is None:
                self.made = SyncDriver(
                    self._store.spool,
                    journal=self._store.journal,
                    http_client=self._http_client,
                    network=self._network,
                    hold=self._store.claims.beside,
                    gate=self._store.gate,
                )
            return self.made

    def follow(self, running: Running[Any]) -> None:
        """Let a flow end when the client is closed."""
        with self._lock:
            self.followed = {one for one in self.followed if not one.done.is_set()} | {running}

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
        """End what is followed, and close the connections and the ledger; once more does nothing."""
        if self._closed:
            return
        self._closed = True
        for running in self.followed:
            running.leave()
        until = time.monotonic() + LEFT_S
        for running in self.followed:
            running.done.wait(max(until - time.monotonic(), 0.0))
        if self.made is not None:
            self.made.close()
        self._store.close()


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
        self._closed = False

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
        """Let a task end when the client is closed."""
        self.followed.add(task)
        task.add_done_callback(self.followed.discard)

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
        """End what is followed, and close the connections and the ledger; once more does nothing."""
        if self._closed:
            return
        self._check_loop()
        self._closed = True
        if self._making is not None:
            await asyncio.wait({self._making})
        followed = [*self.followed]
        for task in followed:
            task.cancel()
        await asyncio.gather(*followed, return_exceptions=True)
        if self.made is not None:
            await self.made.close()
        await asyncio.to_thread(self._store.close)
