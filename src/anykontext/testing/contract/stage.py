"""The stage of the tests with sockets: an emulator on loopback, clients of both kinds, and an engine in a hurry."""

import asyncio
import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from anykontext.client import AsyncClient, Client
from anykontext.config import Config
from anykontext.engine import pace
from anykontext.engine.policy import Policy
from anykontext.engine.watch import Watch
from anykontext.plugins import Plugin, Registry
from anykontext.sandbox import Emulator
from anykontext.testing.contract.base import Contract
from anykontext.testing.contract.orders import picture

SECONDS = 0.05
MEGAPIXELS = 0.02
CLIENTS: dict[str, Any] = {"Client": Client, "AsyncClient": AsyncClient}


def _hasty(watch: Watch, troubles: int, asked: float | None, *, first_s: float) -> float:
    return min(pace.repeat_after(watch, troubles, asked, first_s=first_s), 0.005)


class Twin:
    """A client of either kind; each call blocks."""

    def __init__(self, kind: str, config: Config, registry: Registry) -> None:
        self.client: Any = CLIENTS[kind](config, registry=registry)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait(self.client.close())
        self._runner.close()

    def wait(self, outcome: Any) -> Any:
        """The outcome itself, or what it is when awaited."""
        return self._runner.run(outcome) if inspect.iscoroutine(outcome) else outcome

    def run(self, request: Any, **options: Any) -> Any:
        """Run a request to its images."""
        return self.wait(self.client.run(request, **options))

    def submit(self, request: Any, **options: Any) -> Any:
        """Return as soon as it is accepted."""
        return self.wait(self.client.submit(request, **options))

    def resume(self, handle: str) -> Any:
        """Take up a job by its handle."""
        return self.wait(self.client.resume(handle))


class Stage:
    """An emulator that answers, and clients that are configured for it."""

    def __init__(self, emulator: Emulator, registry: Registry) -> None:
        self.emulator = emulator
        self.registry = registry

    def client(self, kind: str, **settings: Any) -> Twin:
        """A new client of either kind."""
        name = self.emulator.name
        config = Config(providers={name: {**self.emulator.config(), "poll_interval_s": 0.01, **settings}})
        return Twin(kind, config, self.registry)


class StagedContract(Contract):
    """The fixtures of what needs sockets; they are skipped, by that name, where there is no emulator."""

    @pytest.fixture
    def stage(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stage]:
        """The emulator on free ports, and an engine whose patience is tenths of a second."""
        if self.emulator is None:
            pytest.skip("capability: sockets: it has no emulator")
        from anykontext.sandbox.server import ServerThread

        self._hurry(monkeypatch)
        monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(httpx, "create_ssl_context", partial(_context, trust_env=False))
        emulator = self.emulator(seconds=SECONDS)
        emulator.megapixels = MEGAPIXELS
        emulator.slow_seconds = 0.3
        server = ServerThread()
        try:
            emulator.origins = {name: server.bind(emulator, name) for name in emulator.origin_names}
            server.start()
            plugin = Plugin(self.facts.name, "", self.home, (self.adapter,))
            yield Stage(emulator, Registry([plugin]))
        finally:
            server.stop()

    def _hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the engine is patient with stays; how long does not."""
        monkeypatch.setattr("anykontext.client.options.Policy", partial(Policy, submit_grace_s=0.2))
        monkeypatch.setattr("anykontext.engine.submit.FIRST_REPEAT_S", 0.02)
        monkeypatch.setattr("anykontext.engine.submit.PATIENCE_S", 0.1)
        monkeypatch.setattr("anykontext.engine.upload.FIRST_REPEAT_S", 0.02)
        monkeypatch.setattr("anykontext.engine.upload.PATIENCE_S", 0.1)
        monkeypatch.setattr("anykontext.engine.follow.repeat_after", _hasty)
        monkeypatch.setattr("anykontext.engine.follow.FETCH_MIN_S", 0.1)

    def input_picture(self) -> bytes:
        """An input image as a caller hands it over."""
        return picture()


_made: list[Any] = []
_create = httpx.create_ssl_context


def _context(*_: Any, **__: Any) -> Any:
    """The certificates of the world, read once and not for each of a hundred clients."""
    if not _made:
        _made.append(_create(trust_env=False))
    return _made[0]
