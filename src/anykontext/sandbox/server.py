"""Real HTTP on loopback: uvicorn's protocol on sockets of ours, one thread and one loop for all origins."""

import asyncio
import contextlib
import functools
import logging
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from anykontext.sandbox.emulator import Emulator

PICTURE_THREADS = 2
START_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 60
log = logging.getLogger("anykontext.sandbox")


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 with the transport in the app's reach, and without its access log."""

    def __init__(self, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={})
        # Per connection, because uvicorn's own loggers belong to the whole process.
        self.logger = log
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}
        # asyncio leaves this to sockets made with proto=TCP; without it every reply waits 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Front:
    """Stands before an emulator's app: dates the replies, and lets go quietly when the sandbox stops."""

    def __init__(self, app: ASGIApp, emulator: Emulator) -> None:
        self._app = app
        self._emulator = emulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._emulator.now(), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        try:
            await self._app(scope, receive, dated)
        except asyncio.CancelledError:
            if not scope["state"]["transport"].is_closing():
                raise


class ServerThread:
    """Serves emulators from one daemon thread."""

    def __init__(self) -> None:
        self._bound: list[tuple[socket.socket, Emulator, str]] = []
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="anykontext-sandbox", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def bind(self, emulator: Emulator, origin_name: str) -> str:
        """Take a free port for one of an emulator's origins; returns the origin."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._bound.append((sock, emulator, origin_name))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"

    def start(self) -> None:
        """Serve what was bound; returns when every origin accepts connections."""
        self._thread.start()
        self._ready.result(timeout=START_SECONDS)

    def stop(self) -> None:
        """Reset what is open, close the sockets, end the thread."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        for sock, _, _ in self._bound:
            sock.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # handed to the thread that waits in start()
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                log.exception("the sandbox broke down")

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(PICTURE_THREADS, thread_name_prefix="anykontext-sandbox"))
        state = ServerState()
        servers: list[asyncio.Server] = []
        try:
            for sock, emulator, origin_name in self._bound:
                config = _config(_Front(emulator.app(origin_name), emulator))
                make = functools.partial(_Protocol, config, state)
                servers.append(await self._loop.create_server(make, sock=sock, backlog=1024))
            self._ready.set_result(None)
            await self._stopping.wait()
        finally:
            await _shut(servers, state)


def _config(app: Any) -> Config:
    config = Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    return config


async def _shut(servers: list[asyncio.Server], state: ServerState) -> None:
    for server in servers:
        server.close()
    for connection in list(state.connections):
        if isinstance(connection, _Protocol):
            connection.transport.abort()
    await asyncio.sleep(0)  # the protocols learn of it before their handlers are cancelled
    handlers = list(state.tasks)
    for handler in handlers:
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)
