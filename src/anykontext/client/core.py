"""What the sync and the async client share: the decisions that need no network."""

import os
import uuid
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from decimal import Decimal
from typing import Any, Self

from anykontext.client import balances, spending
from anykontext.client.asking import lost_parts, trail_of
from anykontext.client.caps import budget_of
from anykontext.client.options import EMPTY, Options, read_options
from anykontext.client.past import placed
from anykontext.client.planning import FetchInput, Planner
from anykontext.client.speeds import Speeds
from anykontext.client.store import Store, tenant_of
from anykontext.config import Config
from anykontext.config.way_out import way_out
from anykontext.engine.attempt import Started, resumed
from anykontext.engine.check import ProviderCheck
from anykontext.engine.provider import Candidate, Provider
from anykontext.io.journal import Journal
from anykontext.io.spool import Spool
from anykontext.ledger import Ledger
from anykontext.model.errors import ConfigurationError, InvalidRequest, UnknownModel, UnknownProvider
from anykontext.model.frozen import Frozen
from anykontext.model.job import JobHandle
from anykontext.model.money import Cap
from anykontext.model.plan import Plan
from anykontext.model.request import ImageRequest
from anykontext.model.spend import Spend
from anykontext.model.words import near
from anykontext.plugins import Registry, default_registry
from anykontext.routing.budgets import caps_for
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
        self.config = _config_of(config, self.registry)
        self.network = way_out(self.config)
        self.providers = {one.name: one for one in self.config.provider_list(self.registry)}
        self.store = Store(self.config)
        speeds = Speeds(lambda: self.store.ledger)
        self.planner = Planner(
            self.config, self.registry, self.providers, gate=self.store.gate, left=self._left, durations=speeds
        )
        self.tags: Mapping[str, str] = Frozen()
        self.defaults: Mapping[str, Any] = Frozen()

    def view(self, tags: Any, keys: Any, **defaults: Any) -> Self:
        """The same, with tags for every request, keys of its own, and call options where a call gives none.

        Raises:
            InvalidRequest: The tags or an option are none.
            ConfigurationError: A key is none, or there is no such route.
            UnknownProvider: There is a key for a provider that is not configured.
        """
        view = copy(self)
        ours = ImageRequest("tags are checked as those of a request", tags={} if tags is None else tags).tags
        view.tags = Frozen({**self.tags, **ours})
        view.defaults = Frozen({**self.defaults, **{name: one for name, one in defaults.items() if one is not None}})
        read_options(self.config, {"route": ["any"], **view.defaults})  # calls may choose among routes that have none
        if "route" in view.defaults:
            view.places(view.options({}))
        if keys is not None:
            if not isinstance(keys, Mapping):
                raise ConfigurationError(f"keys is a table of keys by provider, not {type(keys).__name__}")
            for name in keys:
                if name not in self.providers:  # which may be a key in the wrong place
                    told = near(name, self.providers) if isinstance(name, str) else f"not {type(name).__name__}"
                    raise UnknownProvider(f"keys is a table of keys by the name of a provider; {told}")
            theirs = {name: (self.provider(name), self.config.key_for(name, keys[name])) for name in keys}
            others = {name: replace(one, key=key, other_account=True) for name, (one, key) in theirs.items()}
            view.providers = {**self.providers, **others}
            view.planner = copy(self.planner)
            view.planner.providers = view.providers
        return view

    def asked(self, request: Any) -> ImageRequest:
        """A request with the tags of this view; where both have one of the same name, the request's.

        Raises:
            InvalidRequest: It is none.
        """
        if not isinstance(request, ImageRequest):
            raise InvalidRequest(f"a request is an ImageRequest, not {type(request).__name__}")
        if not self.tags:
            return request
        return request.model_copy(update={"tags": Frozen({**self.tags, **request.tags})})

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

    def _is_known(self, request: ImageRequest) -> bool:
        """Whether the request's idempotency key was used before, so that there may be nothing to send."""
        key = request.idempotency_key
        return key is not None and self.ledger.has_key(tenant_of(request), key)

    def _left(self, request: ImageRequest, now: float) -> Sequence[tuple[Cap, Decimal]]:
        """What is left of the budgets that a request falls under; the ledger is asked where there are any.

        A request whose idempotency key is known may cost nothing more, so that its submit alone is held to them.
        """
        caps = caps_for(budget_of(self.config.budget), request.tags, now)
        if not caps or self._is_known(request):
            return ()
        return self.ledger.left(caps)

    def options(self, given: Mapping[str, Any], request: ImageRequest | None = None) -> Options:
        """The options of a call, filled up with those of this view, and under the budgets of the request.

        See `read_options`.
        """
        ours = {name: value for name, value in self.defaults.items() if given.get(name) is None}
        return read_options(self.config, {**given, **ours}, request.tags if request else EMPTY)

    def keep_balances(self, checks: Sequence[ProviderCheck]) -> None:
        """See `balances.keep`."""
        balances.keep(self.ledger, self.providers, checks)

    def spend(self, *, since: Any, until: Any, by: Any, tag: Any) -> Spend:
        """See `Client.spend`."""
        words = (by,) if isinstance(by, str) else by
        if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
            raise InvalidRequest(f"by is a list of words such as 'provider' and 'day', not {by!r:.80}")
        if tag is not None and not isinstance(tag, str):
            raise InvalidRequest(f"a tag is NAME or NAME=VALUE, not {tag!r:.80}")
        return spending.spend(self.store, since=since, until=until, by=tuple(words), tag=tag)

    def places(self, options: Options) -> list[int | None]:
        """How many tasks may run at once at each provider that a call may go to; None where no limit is known.

        Raises:
            UnknownProvider: One of them is not configured.
        """
        names = [options.provider] if options.provider else [one.provider for one in options.route.candidates]
        found = [self.provider(name) for name in dict.fromkeys(names)]
        return [one.adapter.facts.max_active if one.max_in_flight is None else one.max_in_flight for one in found]

    def steps(
        self, request: ImageRequest, options: Options, fetch_input: FetchInput, *, waits: bool
    ) -> tuple[Steps, str]:
        """The plan of a request; see `Planner.steps`. The spool is proven to be writable first."""
        self.spool.ensure()
        steps, digest = self.planner.steps(request, options, fetch_input, waits=waits)
        if not self._is_known(request):
            self.planner.check_open(request, options, steps)
        return steps, digest

    def plan(self, request: ImageRequest, given: Mapping[str, Any]) -> Plan:
        """Where a request would go; see `Planner.plan`. Nothing is sent, and no job is begun.

        Raises:
            ConfigurationError: The ledger or the spool cannot be written, so that the call itself would send nothing.
        """
        request, options = self.asked(request), self.options(given)
        self.spool.ensure()
        self.store.journal  # noqa: B018 - it is opened
        return self.planner.plan(request, options)

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
        candidate, sends = Candidate(provider, found.model), self.ledger.sends(found.job_id)
        lost = lost_parts(sends, attempt, parts, candidate.price(found.mode)) if parts else ()
        return resumed(candidate, found, attempt, parts, lost=lost, trail=trail_of(sends, attempt))


def _config_of(given: object, registry: Registry) -> Config:
    """A configuration, or the one that is read from a path or from the usual places.

    Raises:
        ConfigurationError: It is none, or not carried out by this release.
    """
    if not isinstance(given, Config | str | os.PathLike | None):
        what = type(given).__name__
        raise ConfigurationError(f"config is a Config(...), the path of a TOML file, or None, not {what}")
    config = given if isinstance(given, Config) else Config.load(given, registry=registry)
    if config.ledger.url.get_secret_value() not in {"default", "memory"}:
        place = config.where("ledger", "url")
        raise ConfigurationError(f'{place}: PostgreSQL comes with a later release; "default" or "memory" may be given')
    return config


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
