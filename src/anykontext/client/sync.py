"""The sync client, and the shortcuts on a client of their own."""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anykontext.adapting import InputImage
from anykontext.client.core import Core, edit_request, new_job_id
from anykontext.client.jobs import Job, followed, then
from anykontext.client.options import Options, split
from anykontext.config import Config
from anykontext.engine.check import ProviderCheck, check_provider, found
from anykontext.engine.job import Started, run_job
from anykontext.engine.provider import Provider
from anykontext.io.drive_sync import Running, SyncDriver
from anykontext.io.notify import Notifier
from anykontext.io.prepare import FETCH_S
from anykontext.io.threads import side_by_side
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


LEFT_S = 2.0  # for followers to see that the client is closed, and to write down what they know


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
        self._http_client = http_client
        self._made: SyncDriver | None = None
        self._lock = threading.Lock()
        self._followed: set[Running[Any]] = set()
        self._pid = os.getpid()
        self._closed = False

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
        with self._lock:
            self._followed = {one for one in self._followed if not one.done.is_set()} | {running}
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
            InvalidRequest: The ledger does not know the job, it may still end by itself, or no money is at risk.
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

    def check(self) -> list[ProviderCheck]:
        """Ask every provider whether its key is valid and what is left, without spending."""
        self._check_usable()
        return [self._check(name) for name in self._core.providers]

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
        options = self._core.options(call_options)
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
        """Made when it is first needed, with the ledger: reading the certificates of the world takes a while."""
        with self._lock:
            if self._made is None:
                self._made = SyncDriver(self._core.spool, journal=self._core.journal, http_client=self._http_client)
            return self._made

    def _check_usable(self) -> None:
        if self._closed:
            raise AnykontextError("this client is closed")
        if os.getpid() != self._pid:  # F66: connections and threads do not survive a fork
            raise AnykontextError("this client was made before a fork; make a new one in the child process")

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        if not self._closed:
            self._closed = True
            for running in self._followed:
                running.leave()
            until = time.monotonic() + LEFT_S
            for running in self._followed:
                running.done.wait(max(until - time.monotonic(), 0.0))
            if self._made is not None:
                self._made.close()
            self._core.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


_lock = threading.Lock()
_shared: dict[int, Client] = {}


def _client() -> Client:
    """The client of the shortcuts: one for each process, a new one after a fork."""
    with _lock:
        if os.getpid() not in _shared:
            _shared[os.getpid()] = Client()
        return _shared[os.getpid()]


def edit(image: "ImageInput | list[ImageInput]", prompt: str, **options: Any) -> ImageResult:
    """`Client.edit` on a shared client with the default configuration."""
    return _client().edit(image, prompt, **options)


def generate(prompt: str, **options: Any) -> ImageResult:
    """`Client.generate` on a shared client with the default configuration."""
    return _client().generate(prompt, **options)
