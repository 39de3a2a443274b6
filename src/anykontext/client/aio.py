"""The async client: the sync one, awaited."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anykontext.adapting import InputImage
from anykontext.client.core import Core, edit_request, new_job_id
from anykontext.client.jobs import AsyncJob, followed, to_its_end
from anykontext.client.options import Options, split
from anykontext.config import Config
from anykontext.engine.check import ProviderCheck, check_provider, found
from anykontext.engine.job import run_job
from anykontext.engine.provider import Provider
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.notify import Notifier
from anykontext.io.prepare import FETCH_S
from anykontext.ledger import JobRecord
from anykontext.model.errors import AnykontextError, ConfigurationError, ProviderError
from anykontext.model.events import Planned
from anykontext.model.job import JobHandle, JobState
from anykontext.model.outcome import Outcome
from anykontext.model.request import ImageRequest
from anykontext.model.result import ImageResult
from anykontext.plugins import Registry

if TYPE_CHECKING:
    import httpx

    from anykontext.engine.effects import Flow
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
        self._http_client = http_client
        self._made: AsyncDriver | None = None
        self._followed: set[asyncio.Task[Any]] = set()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def edit(self, image: "ImageInput | list[ImageInput]", prompt: str, **options: Any) -> ImageResult:
        """See `Client.edit`."""
        fields, given = split(options)
        return await self.run(edit_request(image, prompt, fields), **given)

    async def generate(self, prompt: str, **options: Any) -> ImageResult:
        """See `Client.generate`."""
        fields, given = split(options)
        return await self.run(ImageRequest(prompt, **fields), **given)

    async def run(self, request: ImageRequest, **call_options: Any) -> ImageResult:
        """See `Client.run`."""
        begun = await self._begin(request, call_options, waits=True)
        if isinstance(begun, AsyncJob):
            return await begun.wait(call_options.get("deadline"))
        options, steps, watch = begun
        outcome = await self._claimed(run_job(watch, steps.steps, options.policy), watch, options)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    async def submit(self, request: ImageRequest, **call_options: Any) -> AsyncJob:
        """See `Client.submit`; the job is followed by a task."""
        begun = await self._begin(request, call_options, waits=False)
        if isinstance(begun, AsyncJob):
            return begun
        options, steps, watch = begun
        ready = asyncio.get_running_loop().create_future()
        flow = followed(watch, steps.steps, replace(options.policy, waits=False), ready.set_result)
        following = asyncio.create_task(self._claimed(flow, watch, options))
        wished = False
        while not following.done() and (wished or not ready.done()):
            try:
                await asyncio.wait({following} if wished else {following, ready}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                wished = True
                following.cancel()
        if not ready.done() or wished:
            outcome = await following
            assert isinstance(outcome, ProviderError)
            raise outcome
        job = AsyncJob(self._core, self._driver, watch.job_id, options, self._check_usable, started=ready.result())
        job._following = following
        self._followed.add(following)
        following.add_done_callback(self._followed.discard)
        return job

    async def _claimed(
        self, flow: "Flow[ImageResult | ProviderError]", watch: "Watch", options: Options
    ) -> ImageResult | ProviderError:
        """Carry out a flow, and let the job go at its end, so that others may take it up when it still runs."""
        claims, outcome = self._core.store.claims, None
        try:
            outcome = await self._driver.run(flow, options.notifier)
            return outcome
        finally:
            if isinstance(outcome, ImageResult):
                claims.end(watch.job_id)
            else:
                await asyncio.to_thread(claims.leave, watch.job_id)

    async def resume(self, handle: "JobHandle | str | bytes | Mapping[str, Any]", **call_options: Any) -> AsyncJob:
        """See `Client.resume`."""
        self._check_usable()
        options = self._core.options(call_options)
        if isinstance(handle, str) and not handle.lstrip().startswith("{"):
            return self._job(self._core.store.record(handle), options)
        started = self._core.resume(handle)
        assert started.accepted.handle is not None
        job_id = started.accepted.handle.job_id
        return AsyncJob(self._core, self._driver, job_id, options, self._check_usable, started=started)

    async def job(self, job_id: str) -> AsyncJob:
        """See `Client.job`."""
        self._check_usable()
        return self._job(await asyncio.to_thread(self._core.store.record, job_id), self._core.options({}))

    async def jobs(
        self, *, state: "JobState | str | None" = None, since: Any = None, tag: str | None = None, limit: int = 100
    ) -> list[JobRecord]:
        """See `Client.jobs`."""
        self._check_usable()
        return await asyncio.to_thread(self._core.store.records, state=state, since=since, tag=tag, limit=limit)

    async def resolve(self, job_id: str, *, charged: bool) -> JobRecord:
        """See `Client.resolve`."""
        self._check_usable()
        return await asyncio.to_thread(self._core.store.resolve, job_id, charged=charged)

    async def forget(self, job_id: str | None = None, before: Any = None) -> int:
        """See `Client.forget`."""
        self._check_usable()
        return await asyncio.to_thread(self._core.store.forget, job_id, before)

    async def recover(self) -> list[Outcome]:
        """See `Client.recover`."""
        self._check_usable()
        records: list[JobRecord] = []
        try:
            await to_its_end(lambda: records.extend(self._core.store.taken_over()))
            jobs = [self._job(record, self._core.options({}), taken=True) for record in records]
            return list(await asyncio.gather(*(self._collected(index, job) for index, job in enumerate(jobs))))
        except asyncio.CancelledError:
            for record in records:
                await asyncio.to_thread(self._core.store.claims.leave, record.job_id)
            raise

    async def _collected(self, index: int, job: AsyncJob) -> Outcome:
        try:
            return Outcome(index, None, await job.wait(), None, job.id)
        except AnykontextError as error:
            return Outcome(index, None, None, error, job.id)

    def _job(self, record: JobRecord, options: Options, *, taken: bool = False) -> AsyncJob:
        return AsyncJob(
            self._core, self._driver, record.job_id, options, self._check_usable, record=record, taken=taken
        )

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
    ) -> "tuple[Options, Steps, Watch] | AsyncJob":
        self._check_usable()
        options = self._core.options(call_options)
        watch = self._driver.watch(new_job_id(), options.deadline_s)
        loop = asyncio.get_running_loop()

        def fetch_input(image: InputImage, provider: Provider) -> InputImage:
            """From the thread that plans, on the loop that the connections belong to."""
            fetching = self._driver.fetch_input(image, provider, min(FETCH_S, options.deadline_s))
            return asyncio.run_coroutine_threadsafe(fetching, loop).result()

        def begin() -> "tuple[Steps, JobRecord | tuple[str, int]]":
            """Plan, and write the job down, off the loop."""
            steps, digest = self._core.steps(request, options, fetch_input, waits=waits)
            return steps, self._core.store.begin(self._core.store.new_job(request, digest, options, watch.job_id))

        planning = asyncio.ensure_future(asyncio.to_thread(begin))
        try:
            steps, begun = await asyncio.shield(planning)
        except asyncio.CancelledError:
            planning.add_done_callback(self._forsake)
            raise
        if isinstance(begun, JobRecord):
            return self._job(begun, options)
        watch.job_id, watch.attempt = begun
        self._core.journal.keep_leases()
        names = tuple(step.candidate.name for step in steps.steps)
        excluded = tuple((one.candidate.name, one.misfit.reason) for one in steps.excluded)
        options.notifier.event(watch.emit(Planned, candidates=names, excluded=excluded).event)
        return options, steps, watch

    def _forsake(self, planning: "asyncio.Future[tuple[Steps, JobRecord | tuple[str, int]]]") -> None:
        """Nobody is there any more to submit what was begun: it must not be waited for by others."""
        if not planning.cancelled() and planning.exception() is None:
            _, begun = planning.result()
            if not isinstance(begun, JobRecord):
                planning.get_loop().run_in_executor(None, self._core.store.claims.leave, begun[0])

    @property
    def _driver(self) -> AsyncDriver:
        """Made when it is first needed, with the ledger."""
        if self._made is None:
            self._made = AsyncDriver(self._core.spool, journal=self._core.journal, http_client=self._http_client)
        return self._made

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
            followed = [*self._followed]
            for following in followed:
                following.cancel()
            await asyncio.gather(*followed, return_exceptions=True)
            if self._made is not None:
                await self._made.close()
            await asyncio.to_thread(self._core.store.close)

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
