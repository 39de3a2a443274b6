"""A sandbox, and a client of either kind that is called in the same way."""

import asyncio
import gc
import inspect
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from PIL import Image

import anykontext as ak
from anykontext.engine import pace
from anykontext.engine.policy import Policy
from anykontext.engine.watch import Watch
from anykontext.sandbox import Emulator, Sandbox

KINDS = ["Client", "AsyncClient"]


def picture() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(out, "PNG")
    return out.getvalue()


@pytest.fixture(autouse=True, scope="module")
def one_tls_context() -> Iterator[None]:
    """The certificates of the world are read once, and not for each of hundreds of clients."""
    context = httpx.create_ssl_context(trust_env=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", lambda *_, **__: context)
        yield


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def hasty(watch: Watch, troubles: int, asked: float | None, *, first_s: float) -> float:
    return min(pace.repeat_after(watch, troubles, asked, first_s=first_s), 0.005)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience of the engine, in tenths of a second; what it is patient with stays."""
    monkeypatch.setattr("anykontext.client.options.Policy", partial(Policy, submit_grace_s=0.2))
    monkeypatch.setattr("anykontext.engine.submit.FIRST_REPEAT_S", 0.02)
    monkeypatch.setattr("anykontext.engine.submit.PATIENCE_S", 0.1)
    monkeypatch.setattr("anykontext.engine.follow.repeat_after", hasty)
    monkeypatch.setattr("anykontext.engine.follow.FETCH_MIN_S", 0.1)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(providers=["bfl"], seconds=0.05) as one:
        one.emulators["bfl"].megapixels = 0.02
        yield one


@pytest.fixture
def bfl(sandbox: Sandbox) -> Emulator:
    return sandbox.emulators["bfl"]


def configured(emulator: Emulator, **settings: Any) -> ak.Config:
    return ak.Config(providers={"bfl": {**emulator.config(), "poll_interval_s": 0.01, **settings}})


class Twin:
    """A client of either kind; each call blocks. It leaves no task and no unheard exception behind."""

    def __init__(self, kind: str, config: ak.Config) -> None:
        self.is_sync = kind == "Client"
        self.client: Any = ak.Client(config) if self.is_sync else ak.AsyncClient(config)
        self._runner = asyncio.Runner()
        self._complaints: list[Any] = []

    def __enter__(self) -> Self:
        self._runner.get_loop().set_exception_handler(lambda _, context: self._complaints.append(context))
        return self

    def __exit__(self, *error: object) -> None:
        self.wait(self.client.close())
        gc.collect()
        self._runner.close()
        assert not self._complaints

    def wait(self, outcome: Any) -> Any:
        """The outcome itself, or what it is when awaited."""
        return self._runner.run(outcome) if inspect.iscoroutine(outcome) else outcome

    def edit(self, image: Any = None, prompt: str = "make it blue", **options: Any) -> Any:
        return self.wait(self.client.edit(picture() if image is None else image, prompt, **options))

    def generate(self, prompt: str = "a cat", **options: Any) -> Any:
        return self.wait(self.client.generate(prompt, **options))

    def submit(self, **fields: Any) -> Any:
        return self.wait(self.client.submit(ak.ImageRequest("make it blue", picture(), **fields)))


@pytest.fixture(params=KINDS)
def twin(request: pytest.FixtureRequest, bfl: Emulator) -> Iterator[Twin]:
    with Twin(request.param, configured(bfl)) as one:
        yield one
