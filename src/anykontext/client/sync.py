"""The sync client, and the shortcuts on a client of their own."""

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anykontext.adapting import InputImage
from anykontext.client.core import Core, Options, edit_request, new_job_id
from anykontext.client.jobs import Job
from anykontext.config import Config
from anykontext.engine.check import ProviderCheck, check_provider, found
from anykontext.engine.job import Started, run_job, submit_job
from anykontext.engine.provider import Provider
from anykontext.io.drive_sync import SyncDriver
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
        self._driver = SyncDriver(self._core.spool, http_client=http_client)
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
        fields, given = self._core.split(options)
        return self.run(edit_request(image, prompt, fields), **given)

    def generate(self, prompt: str, **options: Any) -> ImageResult:
        """Make an image from words; options and errors as in `edit`."""
        fields, given = self._core.split(options)
        return self.run(ImageRequest(prompt, **fields), **given)

    def run(self, request: ImageRequest, **call_options: Any) -> ImageResult:
        """Run a request to its images; options and errors as in `edit`."""
        options, steps, watch = self._begin(request, call_options, waits=True)
        outcome = self._driver.run(run_job(watch, steps.steps, options.policy), options.notifier)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    def submit(self, request: ImageRequest, **call_options: Any) -> Job:
        """Return as soon as a provider has accepted; fails over until then. Options and errors as in `edit`."""
        options, steps, watch = self._begin(request, call_options, waits=False)
        policy = replace(options.policy, waits=False)
        outcome = self._driver.run(submit_job(watch, steps.steps, policy), options.notifier)
        if isinstance(outcome, ProviderError):
            raise outcome
        return Job(self._driver, outcome, watch.job_id, options, self._check_usable)

    def resume(self, handle: "JobHandle | str | bytes | Mapping[str, Any]", **call_options: Any) -> Job:
        """Take up a job by its handle, from this process or another; nothing is sent until `wait`.

        Raises:
            InvalidRequest: It is no handle.
            ConfigurationError: Its provider, model or key is missing here.
        """
        self._check_usable()
        options = self._core.options(call_options)
        started: Started = self._core.resume(handle)
        assert started.accepted.handle is not None
        return Job(self._driver, started, started.accepted.handle.job_id, options, self._check_usable)

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
    ) -> "tuple[Options, Steps, Watch]":
        self._check_usable()
        options = self._core.options(call_options)
        watch = self._driver.watch(new_job_id(), options.deadline_s)

        def fetch_input(image: InputImage, provider: Provider) -> InputImage:
            return self._driver.fetch_input(image, provider, min(FETCH_S, options.deadline_s))

        steps = self._core.steps(request, options, fetch_input, waits=waits)
        names = tuple(step.candidate.name for step in steps.steps)
        excluded = tuple((one.candidate.name, one.misfit.reason) for one in steps.excluded)
        options.notifier.event(watch.emit(Planned, candidates=names, excluded=excluded).event)
        return options, steps, watch

    def _check_usable(self) -> None:
        if self._closed:
            raise AnykontextError("this client is closed")
        if os.getpid() != self._pid:  # F66: connections and threads do not survive a fork
            raise AnykontextError("this client was made before a fork; make a new one in the child process")

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        if not self._closed:
            self._closed = True
            self._driver.close()

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
