"""What the sync and the async client share: the decisions that need no network."""

import os
import uuid
from collections.abc import Mapping
from typing import Any

from anykontext.client.options import Options, read_options
from anykontext.client.past import placed
from anykontext.client.planning import FetchInput, Planner
from anykontext.client.store import Store
from anykontext.config import Config
from anykontext.engine.job import Started, resumed
from anykontext.engine.provider import Candidate, Provider
from anykontext.io.journal import Journal
from anykontext.io.spool import Spool
from anykontext.ledger import Ledger
from anykontext.model.errors import ConfigurationError, InvalidRequest, UnknownModel, UnknownProvider
from anykontext.model.job import JobHandle
from anykontext.model.request import ImageRequest
from anykontext.model.words import near
from anykontext.plugins import Registry, default_registry
from anykontext.routing.plan import Steps


class Core:
    """The decisions of a client; it reads input files and the configuration."""

    def __init__(
        self, config: "Config | str | os.PathLike[str] | None", transport: str, registry: Registry | None
    ) -> None:
        if transport not in {"httpx", "auto"}:
            later = transport == "aiohttp"
            why = "comes with a later release" if later else f"is unknown; {near(transport, ['httpx', 'auto'])}"
            raise ConfigurationError(f"the transport {transport!r} {why}")
        self.registry = registry or default_registry()
        self.config = config if isinstance(config, Config) else Config.load(config, registry=self.registry)
        _check_carried_out(self.config)
        self.providers = {one.name: one for one in self.config.provider_list(self.registry)}
        self.store = Store(self.config)
        self.planner = Planner(self.config, self.registry, self.providers)

    @property
    def journal(self) -> Journal:
        """See `Store.journal`."""
        return self.store.journal

    @property
    def ledger(self) -> Ledger:
        """See `Store.ledger`."""
        return self.store.ledger

    @property
    def spool(self) -> Spool:
        """Where finished images lie."""
        return self.store.spool

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of a call; see `read_options`."""
        return read_options(self.config, given)

    def steps(
        self, request: ImageRequest, options: Options, fetch_input: FetchInput, *, waits: bool
    ) -> tuple[Steps, str]:
        """The plan of a request; see `Planner.steps`. The spool is proven to be writable first."""
        self.spool.ensure()
        return self.planner.steps(request, options, fetch_input, waits=waits)

    def provider(self, name: str) -> Provider:
        """See `Planner.provider`."""
        return self.planner.provider(name)

    def resume(self, handle: "JobHandle | str | bytes | Mapping[str, Any]") -> Started:
        """What a handle names, as a job that goes on.

        Raises:
            InvalidRequest: It is no handle.
            UnknownProvider: Its provider is not configured here.
            UnknownModel: Its model is not one of the provider's.
        """
        found = handle if isinstance(handle, JobHandle) else JobHandle.from_json(handle)
        self.spool.ensure()
        return self.started(found, *placed(found, self.ledger.handles(found.job_id)))

    def started(self, found: JobHandle, attempt: int = 0, parts: tuple[int, ...] = ()) -> Started:
        """A job that goes on from a handle, at a provider as it is configured here.

        Raises:
            UnknownProvider: Its provider is not configured here.
            UnknownModel: Its model is not one of the provider's.
        """
        provider = self.provider(found.provider)
        facts = provider.adapter.facts
        if facts.name != found.adapter:
            raise UnknownProvider(
                f"the handle was made by adapter {found.adapter!r}, and provider {provider.name!r} uses {facts.name!r}"
            )
        if found.model not in facts.models:
            raise UnknownModel(f"{provider.name} has no model {found.model!r}; {near(found.model, facts.models)}")
        provider.key()
        return resumed(Candidate(provider, found.model), found, attempt, parts)


def edit_request(image: Any, prompt: Any, fields: Mapping[str, Any]) -> ImageRequest:
    """The request of `edit`.

    Raises:
        InvalidRequest: There is no image or no prompt, or a field is wrong.
    """
    if image is None or (isinstance(image, list | tuple) and not image):
        raise InvalidRequest("an edit needs at least one input image; `generate` makes one from words alone")
    return ImageRequest(prompt, image, **fields)


def new_job_id() -> str:
    """An id of ours, known before the first byte leaves."""
    return f"job_{uuid.uuid4().hex}"


def _check_carried_out(config: Config) -> None:
    """Refuse settings that a later release carries out: a cap on money or a proxy that is not heeded is a trap."""
    later = {
        "budget": config.budget != type(config.budget)(),
        "network": config.network != type(config.network)(),
    }
    for section, is_set in later.items():
        if is_set:
            raise ConfigurationError(
                f"[{section}] is not carried out by this release; take it out of the configuration"
            )
