"""The async client: the sync one, awaited."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anykontext.adapting import InputImage
from anykontext.client.core import Core, Options, edit_request, new_job_id
from anykontext.client.jobs import AsyncJob
from anykontext.config import Config
from anykontext.engine.check import ProviderCheck, check_provider, found
from anykontext.engine.job import run_job, submit_job
from anykontext.engine.provider import Provider
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.notify import Notifier
from anykontext.io.prepare import FETCH_S
from anykontext.model.errors import AnykontextError, ConfigurationError, ProviderError
from anykontext.model.events import Planned
from anykontext.model.job import JobHandle
from anykontext.model.request import ImageRequest
from anykontext.model.result import ImageResult
from anykontext.plugins import Registry

if TYPE_CHECKING:
    import httpx

    from anykontext.engine.watch import Watch
    from anykontext.model.image import ImageInput
    from anykontext.routing.plan import Steps


class AsyncClient:
    """`Client`, awaited. It belongs to the event loop that first uses it; see `Client` for what it takes."""

    def __init__(
        self,
        config: "Config | str | os.PathLike[str] | None" = None,
        *,
        transport: str = "httpx",
        http_client: "httpx.AsyncClient | None" = None,
        registry: Registry | None = None,
    ) -> None:
        self._core = Core(config, transport, registry)
        self._driver = AsyncDriver(self._core.spool, http_client=http_client)
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def edit(self, image: "ImageInput | list[ImageInput]", prompt: str, **options: Any) -> ImageResult:
        """See `Client.edit`."""
        fields, given = self._core.split(options)
        return await self.run(edit_request(image, prompt, fields), **given)

    async def generate(self, prompt: str, **options: Any) -> ImageResult:
        """See `Client.generate`."""
        fields, given = self._core.split(options)
        return await self.run(ImageRequest(prompt, **fields), **given)

    async def run(self, request: ImageRequest, **call_options: Any) -> ImageResult:
        """See `Client.run`."""
        options, steps, watch = await self._begin(request, call_options, waits=True)
        outcome = await self._driver.run(run_job(watch, steps.steps, options.policy), options.notifier)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    async def submit(self, request: ImageRequest, **call_options: Any) -> AsyncJob:
        """See `Client.submit`."""
        options, steps, watch = await self._begin(request, call_options, waits=False)
        policy = replace(options.policy, waits=False)
        outcome = await self._driver.run(submit_job(watch, steps.steps, policy), options.notifier)
        if isinstance(outcome, ProviderError):
            raise outcome
        return AsyncJob(self._driver, outcome, watch.job_id, options, self._check_usable)

    async def resume(self, handle: "JobHandle | str | bytes | Mapping[str, Any]", **call_options: Any) -> AsyncJob:
        """See `Client.resume`."""
        self._check_usable()
        options = self._core.options(call_options)
        started = self._core.resume(handle)
        assert started.accepted.handle is not None
        return AsyncJob(self._driver, started, started.accepted.handle.job_id, options, self._check_usable)

    async def check(self) -> list[ProviderCheck]:
        """See `Client.check`; the providers are asked at the same time."""
        self._check_usable()
        return list(await asyncio.gather(*(self._check(name) for name in self._core.providers)))

    async def _check(self, name: str) -> ProviderCheck:
        provider = self._core.providers[name]
        try:
            provider.key()
        except ConfigurationError as error:
            return found(provider, "missing", str(error))
        watch = self._driver.watch(new_job_id(), deadline_s=30.0)
        return await self._driver.run(check_provider(watch, provider), Notifier())

    async def _begin(
        self, request: ImageRequest, call_options: Mapping[str, Any], *, waits: bool
    ) -> "tuple[Options, Steps, Watch]":
        self._check_usable()
        options = self._core.options(call_options)
        watch = self._driver.watch(new_job_id(), options.deadline_s)
        loop = asyncio.get_running_loop()

        def fetch_input(image: InputImage, provider: Provider) -> InputImage:
            """From the thread that plans, on the loop that the connections belong to."""
            fetching = self._driver.fetch_input(image, provider, min(FETCH_S, options.deadline_s))
            return asyncio.run_coroutine_threadsafe(fetching, loop).result()

        steps = await asyncio.to_thread(self._core.steps, request, options, fetch_input, waits=waits)
        names = tuple(step.candidate.name for step in steps.steps)
        excluded = tuple((one.candidate.name, one.misfit.reason) for one in steps.excluded)
        options.notifier.event(watch.emit(Planned, candidates=names, excluded=excluded).event)
        return options, steps, watch

    def _check_usable(self) -> None:
        if self._closed:
            raise AnykontextError("this client is closed")
        if os.getpid() != self._pid:  # F66: connections do not survive a fork
            raise AnykontextError("this client was made before a fork; make a new one in the child process")
        self._check_loop()

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:  # F67
            raise AnykontextError("this AsyncClient belongs to another event loop; make one in each loop")

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        if not self._closed:
            self._check_loop()
            self._closed = True
            await self._driver.close()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
