"""The async client: the sync one, awaited."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anykontext.adapting import InputImage
from anykontext.client.core import Core, edit_request, new_job_id
from anykontext.client.jobs import AsyncJob, followed, to_its_end
from anykontext.client.many import Tasks, iterated, places
from anykontext.client.options import Options, split
from anykontext.client.shared import AsyncShared
from anykontext.config import Config, Route
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
from anykontext.model.plan import Plan
from anykontext.model.request import ImageRequest
from anykontext.model.result import ImageResult
from anykontext.model.spend import Spend
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
        self._shared = AsyncShared(self._core.store, http_client, self._core.network)
        self._is_view = False

    def with_options(
        self,
        *,
        tags: "Mapping[str, str] | None" = None,
        route: str | Route | Sequence[Any] | None = None,
        keys: "Mapping[str, Any] | None" = None,
        policy: str | None = None,
        deadline: float | None = None,
    ) -> Self:
        """See `Client.with_options`; it is not awaited."""
        view = copy(self)
        view._core = self._core.view(tags, keys, route=route, policy=policy, deadline=deadline)
        view._is_view = True
        return view

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

    def run_many(
        self,
        requests: "Iterable[ImageRequest] | AsyncIterable[ImageRequest]",
        *,
        concurrency: int | None = None,
        **call_options: Any,
    ) -> AsyncGenerator[Outcome, None]:
        """See `Client.run_many`; `async for` goes over it. The iterable may be an async one.

        It is pulled in a task beside: one that is not async must not block. After leaving the loop early, the rest is
        stopped when the generator is closed; `contextlib.aclosing` does so at once.
        """
        options = self._core.options(call_options)
        count = places(concurrency, self._core.places(options))
        pulled: Iterator[Any] | AsyncIterator[Any]
        pulled = aiter(requests) if isinstance(requests, AsyncIterable) else iterated(requests)
        return Tasks(lambda request: self.run(request, **call_options), self._shared, pulled, count).outcomes()

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
        self._shared.follow(following)
        return job

    async def _claimed(
        self, flow: "Flow[ImageResult | ProviderError]", watch: "Watch", options: Options
    ) -> ImageResult | ProviderError:
        """Carry out a flow, and let the job go at its end, so that others may take it up when it still runs."""

        async def then(outcome: ImageResult | ProviderError | None) -> None:
            claims = self._core.store.claims
            if isinstance(outcome, ImageResult):
                claims.end(watch.job_id)
            else:
                await asyncio.to_thread(claims.leave, watch.job_id)

        return await self._driver.run(flow, options.notifier, then)

    async def resume(self, handle: "JobHandle | str | bytes | Mapping[str, Any]", **call_options: Any) -> AsyncJob:
        """See `Client.resume`."""
        self._check_usable()
        options = self._core.options(call_options)
        await self._shared.ready()
        if isinstance(handle, str) and not handle.lstrip().startswith("{"):
            return self._job(await asyncio.to_thread(self._core.store.record, handle), options)
        started = await asyncio.to_thread(self._core.resume, handle)
        assert started.accepted.handle is not None
        job_id = started.accepted.handle.job_id
        return AsyncJob(self._core, self._driver, job_id, options, self._check_usable, started=started)

    async def job(self, job_id: str) -> AsyncJob:
        """See `Client.job`."""
        await self._shared.ready()
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
        await self._shared.ready()
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

    async def plan(self, request: ImageRequest, **call_options: Any) -> Plan:
        """See `Client.plan`."""
        self._check_usable()
        return await asyncio.to_thread(self._core.plan, request, call_options)

    async def check(self) -> list[ProviderCheck]:
        """See `Client.check`; the providers are asked at the same time."""
        await self._shared.ready()
        checks = list(await asyncio.gather(*(self._check(name) for name in self._core.providers)))
        await asyncio.to_thread(self._core.keep_balances, checks)
        return checks

    async def spend(
        self, *, since: Any = None, until: Any = None, by: Sequence[str] = ("provider",), tag: str | None = None
    ) -> Spend:
        """See `Client.spend`."""
        self._check_usable()
        return await asyncio.to_thread(self._core.spend, since=since, until=until, by=by, tag=tag)

    async def _check(self, name: str) -> ProviderCheck:
        provider = self._core.providers[name]
        try:
            await asyncio.to_thread(provider.key)
        except ConfigurationError as error:
            return found(provider, "missing", str(error))
        watch = self._driver.watch(new_job_id(), deadline_s=30.0)
        return await self._driver.run(check_provider(watch, provider), Notifier())

    async def _begin(
        self, request: ImageRequest, call_options: Mapping[str, Any], *, waits: bool
    ) -> "tuple[Options, Steps, Watch] | AsyncJob":
        self._check_usable()
        request = self._core.asked(request)
        options = self._core.options(call_options, request)
        await self._shared.ready()
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
        return self._shared.driver

    def _check_usable(self) -> None:
        self._shared.check_usable()

    async def close(self) -> None:
        """See `Client.close`."""
        if not self._is_view:
            await self._shared.close()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
