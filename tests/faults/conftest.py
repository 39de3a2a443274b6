"""The fault server, and one way to ask it with either client."""

import asyncio
import gc
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

import anykontext as ak
from anykontext.engine import pace
from anykontext.engine.policy import Policy
from anykontext.engine.watch import Watch

from .server import FaultServer, jpeg

KEY = "bfl_k3y-THAT-n0body-may-see-0123456789"
GRACE_S = 0.15


@pytest.fixture(autouse=True, scope="module")
def one_tls_context() -> Iterator[None]:
    """The certificates of the world are read once, and not for each of hundreds of clients."""
    context = httpx.create_ssl_context(trust_env=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", lambda *_, **__: context)
        yield


@pytest.fixture
def server() -> Iterator[FaultServer]:
    one = FaultServer()
    yield one
    one.close()


@pytest.fixture
def stranger() -> Iterator[FaultServer]:
    """Another host, which must never see a key."""
    one = FaultServer()
    yield one
    one.close()


@dataclass
class Asked:
    """What came of one call, and all that could be seen of it on the way."""

    outcome: Any
    events: list[ak.Event]
    seconds: float
    logged: str

    @property
    def error(self) -> ak.ProviderError:
        assert isinstance(self.outcome, ak.ProviderError), self.outcome
        return self.outcome

    @property
    def result(self) -> ak.ImageResult:
        assert isinstance(self.outcome, ak.ImageResult), repr(self.outcome)
        return self.outcome

    def told(self) -> str:
        """Everything that a caller could print, store or log of it."""
        found = self.outcome
        parts = [repr(found), str(found), repr(self.events), self.logged]
        handles = [event.handle for event in self.events if isinstance(event, ak.Submitted)]
        parts += [handle.to_json() for handle in handles] + [repr(handles)]
        seen: BaseException | None = found if isinstance(found, BaseException) else None
        while seen is not None:
            parts += [repr(seen), repr(vars(seen)), *map(repr, seen.args)]
            seen = seen.__cause__ or seen.__context__
        if isinstance(found, ak.ImageResult):
            parts += [repr(found.raw), repr(found.attempts), repr(found.errors)]
        return "\n".join(parts)


Ask = Callable[..., Asked]


def hasty(watch: Watch, troubles: int, asked: float | None, *, first_s: float) -> float:
    return min(pace.repeat_after(watch, troubles, asked, first_s=first_s), 0.005)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The patience of the engine and the drivers, in tenths of a second; what it is patient with stays."""
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("anykontext.client.options.Policy", partial(Policy, submit_grace_s=GRACE_S))
    monkeypatch.setattr("anykontext.engine.submit.FIRST_REPEAT_S", 0.02)
    monkeypatch.setattr("anykontext.engine.submit.PATIENCE_S", 0.1)
    monkeypatch.setattr("anykontext.engine.follow.repeat_after", hasty)
    monkeypatch.setattr("anykontext.engine.follow.FETCH_MIN_S", 0.1)
    monkeypatch.setattr("anykontext.io.exchange.CONNECT_S", 0.15)


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, server: FaultServer, caplog: pytest.LogCaptureFixture) -> Ask:
    """Ask for one edit, with either client; every log record of every library is kept."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpcore")
    caplog.set_level(logging.DEBUG, "httpx")

    def ask(image: bytes | None = None, *, base_url: str | None = None, http: Any = None, **options: Any) -> Asked:
        config = configured(base_url or server.url)
        events: list[ak.Event] = []
        options = {"deadline": 20, "on_event": events.append, **options}
        began = time.monotonic()
        outcome = (_sync if request.param == "Client" else _async)(config, image or jpeg(), http, options)
        return Asked(outcome, events, time.monotonic() - began, "\n".join(map(_record, caplog.records)))

    return ask


class Twin:
    """A client of either kind that stays open over several calls, each of which blocks."""

    def __init__(self, kind: str, base_url: str) -> None:
        config = configured(base_url)
        self.runner = asyncio.Runner()
        self.client: Any = ak.Client(config) if kind == "Client" else ak.AsyncClient(config)

    def __enter__(self) -> Self:
        self.runner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.wait(self.client.close())
        self.runner.__exit__(*error)

    def wait(self, outcome: Any) -> Any:
        return self.runner.run(outcome) if inspect.iscoroutine(outcome) else outcome

    def edit(self, **options: Any) -> ak.ImageResult:
        return self.wait(self.client.edit(jpeg(), "make it blue", **{"deadline": 20, **options}))  # type: ignore[no-any-return]


def configured(base_url: str) -> ak.Config:
    return ak.Config(providers={"bfl": {"api_key": KEY, "base_url": base_url, "poll_interval_s": 0.01}})


def _record(record: logging.LogRecord) -> str:
    return f"{record.name} {record.getMessage()} {record.args!r} {record.exc_text or ''}"


def _sync(config: ak.Config, image: bytes, http: Any, options: dict[str, Any]) -> Any:
    own = http[0]() if http else None
    try:
        with ak.Client(config, http_client=own) as client:
            return client.edit(image, "make it blue", **options)
    except ak.AnykontextError as error:
        return error
    finally:
        if own:
            own.close()


def _async(config: ak.Config, image: bytes, http: Any, options: dict[str, Any]) -> Any:
    complaints: list[Any] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        own = http[1]() if http else None
        try:
            async with ak.AsyncClient(config, http_client=own) as client:
                return await client.edit(image, "make it blue", **options)
        except ak.AnykontextError as error:
            return error
        finally:
            if own:
                await own.aclose()
            gc.collect(1)  # an exception that nobody retrieved is complained of when its task goes

    outcome = asyncio.run(main())
    assert not complaints
    return outcome
