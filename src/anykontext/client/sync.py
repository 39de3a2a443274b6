"""The sync client."""

import os
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anykontext.adapting import InputImage
from anykontext.client.core import Core, edit_request, new_job_id
from anykontext.client.jobs import Job, followed, then
from anykontext.client.many import Outcomes, Threads, iterated, places
from anykontext.client.options import Options, split
from anykontext.client.shared import Shared
from anykontext.config import Config, Route
from anykontext.engine.attempt import Started
from anykontext.engine.check import ProviderCheck, check_provider, found
from anykontext.engine.job import run_job
from anykontext.engine.provider import Provider
from anykontext.io.drive_sync import SyncDriver
from anykontext.io.notify import Notifier
from anykontext.io.prepare import FETCH_S
from anykontext.io.threads import side_by_side
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
    from collections.abc import Callable

    import httpx

    from anykontext.engine.effects import Flow
    from anykontext.engine.watch import Watch
    from anykontext.model.image import ImageInput
    from anykontext.routing.plan import Steps


class Client:
    """Makes and edits images at whatever providers are configured. Safe to use from threads; not after a fork.

    Args:
        config: A `Config`, the path of a TOML file, or None to search for one (see `Config.load`).
        transport: `httpx` or `auto`.
        http_client: An `httpx.Client` of yours, for calls and downloads. It resolves names out of our sight, so
            downloads then go to the provider's known delivery hosts only. Give it a `keepalive_expiry` of at most
            2 seconds: a submit on a connection that its peer has closed looks like a lost one.
        registry: The adapters; None for those that are installed.

    Raises:
        ConfigurationError: The configuration cannot be used.
    """

    def __init__(
        self,
        config: "Config | str | os.PathLike[str] | None" = None,
        *,
        transport: str = "httpx",
        http_client: "httpx.Client | None" = None,
        registry: Registry | None = None,
    ) -> None:
        self._core = Core(config, transport, registry)
        self._shared = Shared(self._core.store, http_client, self._core.network)
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
        """A view of this client with defaults and keys of its own, on the same connections, places and ledger.

        It costs nothing, so make one for each of your customers, or for each request. Views may be made of views. To
        close one does nothing; the end of the client is the end of its views.

        Args:
            tags: Added to the tags of every request; the request's own win. `tenant` scopes idempotency keys.
            route: For calls that give none: a name, a `Route`, or a list of candidates. It beats the config's.
            keys: Keys by provider, given as `api_key` may be in the config, for this view alone. A text is read as in
                the config: "env:NAME" and "file:PATH" lead to keys of YOURS, so that whoever may choose the text may
                spend your money. Give a key that comes from somebody else as a `pydantic.SecretStr`, which is taken
                literally. The places of the provider stay common to all. The ledger knows no keys: what was submitted
                here is to be resumed, or recovered, by a view with the same ones.
            policy: For calls that give none.
            deadline: For calls that give none, in seconds for each; it beats the route's.

        Raises:
            InvalidRequest: The tags or an option are none.
            ConfigurationError: A key is none, or there is no such route.
            UnknownProvider: A key or the route names a provider that is not configured.
        """
        view = copy(self)
        view._core = self._core.view(tags, keys, route=route, policy=policy, deadline=deadline)
        view._is_view = True
        return view

    def edit(self, image: "ImageInput | list[ImageInput]", prompt: str, **options: Any) -> ImageResult:
        """Edit an image by words.

        Args:
            image: A path, bytes, URL, data URI, binary file or PIL image, or a list of these.
            prompt: What to do.
            **options: Fields of `ImageRequest`, and `provider`, `route`, `deadline` (seconds), `max_price` (USD),
                `policy` (`adjust` or `strict`), `on_event`.

        Raises:
            InvalidRequest: Found before anything was sent.
            ConfigurationError: Found before anything was sent.
            ProviderError: No image; `.maybe_charged` says whether money may have been spent, `.handle` resumes.
        """
        fields, given = split(options)
        return self.run(edit_request(image, prompt, fields), **given)

    def generate(self, prompt: str, **options: Any) -> ImageResult:
        """Make an image from words; options and errors as in `edit`."""
        fields, given = split(options)
        return self.run(ImageRequest(prompt, **fields), **given)

    def run(self, request: ImageRequest, **call_options: Any) -> ImageResult:
        """Run a request to its images; options and errors as in `edit`.

        With an `idempotency_key` that was used before: the same result, or the same job is waited for.
        """
        begun = self._begin(request, call_options, waits=True)
        if isinstance(begun, Job):
            return begun.wait(call_options.get("deadline"))
        options, steps, watch = begun
        outcome = self._driver.run(self._claimed(run_job(watch, steps.steps, options.policy), watch), options.notifier)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    def run_many(
        self, requests: "Iterable[ImageRequest]", *, concurrency: int | None = None, **call_options: Any
    ) -> Generator[Outcome, None, None]:
        """Run many requests at once, and yield the outcome of each as it ends; its `index` is its place among them.

        Whatever stops one request is the `error` of its outcome, and the others go on. What the iterable itself
        raises is raised after the outcomes of all that was pulled before. It is pulled in this thread, one request
        for each free place: a place is taken until the outcome is yielded, so a slow consumer holds everything back
        rather than filling the memory. `on_event` is called in the threads of the requests, each with its job's id.

        To leave the loop early, or `close()` the generator, stops the rest: submits in flight are waited for, up to
        30 s, and jobs that a provider has accepted are left to `recover`. A log line tells how many.

        Args:
            requests: Any iterable of `ImageRequest`, also an endless one.
            concurrency: How many requests are under way at once. None: as many tasks as the providers of the route
                run at once (10 for one that tells no limit), and at most 100.
            **call_options: As in `run`, for every request; a `deadline` is each one's own, from when it is pulled.

        Raises:
            InvalidRequest: `requests`, `concurrency` or an option is none; before anything is pulled.
            ConfigurationError: As above, or the ledger cannot be opened.
        """
        self._check_usable()
        options = self._core.options(call_options)
        count, pulled = places(concurrency, self._core.places(options)), iterated(requests)

        def whole(request: Any, attached: "Callable[[], None]") -> "Flow[ImageResult | ProviderError]":
            begun = self._begin(request, call_options, waits=True)
            if isinstance(begun, Job):
                attached()
                return begun.wait(call_options.get("deadline"))
            options, steps, watch = begun
            return (yield from self._claimed(run_job(watch, steps.steps, options.policy), watch))

        return Outcomes(Threads(whole, self._shared, pulled, count, options.on_event))

    def submit(self, request: ImageRequest, **call_options: Any) -> Job:
        """Return as soon as a provider has accepted; fails over until then. Options and errors as in `edit`.

        The job is followed by a thread until it ends, waited for or not.
        """
        begun = self._begin(request, call_options, waits=False)
        if isinstance(begun, Job):
            return begun
        options, steps, watch = begun
        ready, said = threading.Event(), list[Started]()

        def accepted(started: Started) -> None:
            said.append(started)
            ready.set()

        flow = followed(watch, steps.steps, replace(options.policy, waits=False), accepted)
        running = self._driver.begin(self._claimed(flow, watch), options.notifier)
        outcome = running.wait(ready)
        if isinstance(outcome, ProviderError) and not said:
            raise outcome
        job = Job(self._core, self._driver, watch.job_id, options, self._check_usable, started=said[0])
        job._following = running
        return job

    def _claimed(
        self, flow: "Flow[ImageResult | ProviderError]", watch: "Watch"
    ) -> "Flow[ImageResult | ProviderError]":
        """A flow at whose end the job is let go, so that others may take it up when it still runs."""
        claims, job_id = self._core.store.claims, watch.job_id
        return then(flow, lambda: claims.end(job_id), lambda: claims.leave(job_id))

    def resume(self, handle: "JobHandle | str | bytes | Mapping[str, Any]", **call_options: Any) -> Job:
        """Take up a job by its handle or its id, from this process or another; nothing is sent until `wait`.

        Raises:
            InvalidRequest: It is no handle, and no id that the ledger knows.
            ConfigurationError: Its provider, model or key is missing here.
        """
        self._check_usable()
        options = self._core.options(call_options)
        if isinstance(handle, str) and not handle.lstrip().startswith("{"):
            return self._job(self._core.store.record(handle), options)
        started: Started = self._core.resume(handle)
        assert started.accepted.handle is not None
        job_id = started.accepted.handle.job_id
        return Job(self._core, self._driver, job_id, options, self._check_usable, started=started)

    def job(self, job_id: str) -> Job:
        """A job of the ledger; nothing is sent.

        Raises:
            InvalidRequest: The ledger does not know it.
        """
        self._check_usable()
        return self._job(self._core.store.record(job_id), self._core.options({}))

    def jobs(
        self, *, state: "JobState | str | None" = None, since: Any = None, tag: str | None = None, limit: int = 100
    ) -> list[JobRecord]:
        """Jobs of the ledger, the newest first.

        Args:
            state: Only those in this state.
            since: Only those begun since then: a `datetime`, or seconds of the wall clock.
            tag: Only those with this tag: `name` or `name=value`.
            limit: At most so many.
        """
        self._check_usable()
        return self._core.store.records(state=state, since=since, tag=tag, limit=limit)

    def resolve(self, job_id: str, *, charged: bool) -> JobRecord:
        """Settle by your word what is at risk on a job, after a look at the provider's own list; nothing is sent.

        An unknown job has failed then, and its idempotency key may be used anew where nothing was charged.

        Args:
            job_id: Our id of the job.
            charged: Whether the provider has charged for it.

        Raises:
            InvalidRequest: The ledger does not know the job, a process works on it, or no money is at risk.
        """
        self._check_usable()
        return self._core.store.resolve(job_id, charged=charged)

    def forget(self, job_id: str | None = None, before: Any = None) -> int:
        """Delete from the ledger one job, or all that ended before a time; returns how many.

        Jobs that have not ended, and those with money at risk, stay.

        Args:
            job_id: Our id of the job.
            before: A `datetime`, or seconds of the wall clock.

        Raises:
            InvalidRequest: Neither or both are given, or the ledger does not know the job.
        """
        self._check_usable()
        return self._core.store.forget(job_id, before)

    def recover(self) -> list[Outcome]:
        """Collect every unfinished job of the ledger whose process is gone; nothing is submitted.

        A submit of which no reply is known ends as `OutcomeUnknown`; settle it with `jobs resolve`.
        """
        self._check_usable()
        jobs = [self._job(record, self._core.options({}), taken=True) for record in self._core.store.taken_over()]
        return side_by_side([partial(self._collected, index, job) for index, job in enumerate(jobs)])

    def _collected(self, index: int, job: Job) -> Outcome:
        try:
            return Outcome(index, None, job.wait(), None, job.id)
        except AnykontextError as error:
            return Outcome(index, None, None, error, job.id)

    def _job(self, record: JobRecord, options: Options, *, taken: bool = False) -> Job:
        return Job(self._core, self._driver, record.job_id, options, self._check_usable, record=record, taken=taken)

    def plan(self, request: ImageRequest, **call_options: Any) -> Plan:
        """Where a request would go, at what price, and why; `str(plan)` is a table. Options as in `edit`.

        Nothing is sent and no job is begun. No URL is fetched: its picture is planned without its size, and a note
        says so where that matters. A missing key is a reason in the plan; where nothing can do the request, the plan
        has no candidate, every reason, and what `run` would raise as its `error`.

        Raises:
            InvalidRequest: An image or an option is wrong.
            ConfigurationError: A provider, model or route is missing.
        """
        self._check_usable()
        return self._core.plan(request, call_options)

    def check(self) -> list[ProviderCheck]:
        """Ask every provider whether its key is valid and what is left, without spending.

        The balances are kept in the ledger, for `anykontext spend reconcile`.
        """
        self._check_usable()
        checks = [self._check(name) for name in self._core.providers]
        self._core.keep_balances(checks)
        return checks

    def spend(
        self, *, since: Any = None, until: Any = None, by: Sequence[str] = ("provider",), tag: str | None = None
    ) -> Spend:
        """What was spent, as the ledger knows it, and what is left of the budgets; `str(spend)` is a table.

        Args:
            since: Only submits since then: a `datetime`, or seconds of the wall clock.
            until: Only submits before then.
            by: What the rows are grouped by: any of `provider`, `model`, `day` (UTC), `tag:NAME` and `job`.
            tag: Only jobs with this tag: `name` or `name=value`.

        Raises:
            InvalidRequest: A time or a word is none.
        """
        self._check_usable()
        return self._core.spend(since=since, until=until, by=by, tag=tag)

    def _check(self, name: str) -> ProviderCheck:
        provider = self._core.providers[name]
        try:
            provider.key()
        except ConfigurationError as error:
            return found(provider, "missing", str(error))
        watch = self._driver.watch(new_job_id(), deadline_s=30.0)
        return self._driver.run(check_provider(watch, provider), Notifier())

    def _begin(
        self, request: ImageRequest, call_options: Mapping[str, Any], *, waits: bool
    ) -> "tuple[Options, Steps, Watch] | Job":
        """What is to be done, written down as a job; or the job that has the request's idempotency key."""
        self._check_usable()
        request = self._core.asked(request)
        options = self._core.options(call_options, request)
        watch = self._driver.watch(new_job_id(), options.deadline_s)

        def fetch_input(image: InputImage, provider: Provider) -> InputImage:
            return self._driver.fetch_input(image, provider, min(FETCH_S, options.deadline_s))

        steps, digest = self._core.steps(request, options, fetch_input, waits=waits)
        begun = self._core.store.begin(self._core.store.new_job(request, digest, options, watch.job_id))
        if isinstance(begun, JobRecord):
            return self._job(begun, options)
        watch.job_id, watch.attempt = begun
        self._core.journal.keep_leases()
        names = tuple(step.candidate.name for step in steps.steps)
        excluded = tuple((one.candidate.name, one.misfit.reason) for one in steps.excluded)
        options.notifier.event(watch.emit(Planned, candidates=names, excluded=excluded).event)
        return options, steps, watch

    @property
    def _driver(self) -> SyncDriver:
        return self._shared.driver

    def _check_usable(self) -> None:
        self._shared.check_usable()

    def close(self) -> None:
        """Close the client; neither it nor its views can be used afterwards. A view closes nothing.

        Calls that are under way in other threads end with an error that says what became of their jobs. A submit in
        flight is waited for, up to 30 s, and so is an image that can be fetched only once; Ctrl-C, or another `close`
        from another thread, ends that at once. Jobs that a provider has accepted are left to `recover`.
        """
        if not self._is_view:
            self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
