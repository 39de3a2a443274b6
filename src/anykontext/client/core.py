"""What the sync and the async client share: from the words of a call to the steps that the engine takes."""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from inspect import iscoroutinefunction
from typing import Any

from anykontext.adapting import InputImage
from anykontext.client.pictures import fitted, must_fetch
from anykontext.config import Config, RouteConfig
from anykontext.engine.job import Started, resumed
from anykontext.engine.misfit import Misfit
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.io.inputs import load
from anykontext.io.notify import Notifier, OnEvent
from anykontext.io.prepare import prepare_source
from anykontext.io.spool import Spool
from anykontext.model.errors import (
    ConfigurationError,
    InvalidRequest,
    MissingKey,
    UnknownModel,
    UnknownProvider,
)
from anykontext.model.image import ImageSource
from anykontext.model.job import JobHandle
from anykontext.model.request import OTHER_WORDS, ImageRequest
from anykontext.model.words import near
from anykontext.plugins import Registry, default_registry
from anykontext.routing.plan import Excluded, Steps, plan

FetchInput = Callable[[InputImage, Provider], InputImage]
CALL_OPTIONS = ("provider", "route", "deadline", "max_price", "policy", "on_event")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one call, checked; a call's beats the route's, which beats the config's.

    Attributes:
        provider: Only this provider.
        route: How the candidate is chosen.
        deadline_s: Seconds from end to end.
        max_price: In USD.
        policy: What the caller decided about going on.
        on_event: Told of events; must not block.
    """

    provider: str | None
    route: RouteConfig
    deadline_s: float
    max_price: Decimal | None
    policy: Policy
    on_event: OnEvent | None

    @property
    def notifier(self) -> Notifier:
        """What events are told to."""
        return Notifier(self.on_event)


class Core:
    """The decisions of a client that need no network; it reads input files and the configuration."""

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
        self.spool = Spool(self.config.home / "spool")

    def split(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tell call options and fields of the request apart.

        Raises:
            InvalidRequest: A word is neither.
        """
        known = {*ImageRequest.model_fields, *CALL_OPTIONS}
        for name in fields.keys() - known:
            ours = OTHER_WORDS.get(name)
            hint = f"here it is called {ours}" if ours else near(name, known)
            raise InvalidRequest(f"unknown option {name!r}; {hint}")
        options = {name: value for name, value in fields.items() if name in CALL_OPTIONS}
        return {name: value for name, value in fields.items() if name not in CALL_OPTIONS}, options

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of a call.

        Raises:
            InvalidRequest: An option is unknown or out of its range.
            ConfigurationError: There is no such route.
        """
        for name in given.keys() - set(CALL_OPTIONS):
            raise InvalidRequest(f"unknown option {name!r} of a call; {near(name, CALL_OPTIONS)}")
        route = self._route(given.get("route"))
        provider = given.get("provider")
        if provider is not None and not isinstance(provider, str):
            raise InvalidRequest(f"provider is a name, not {type(provider).__name__}")
        word = self.config.policy if given.get("policy") is None else given["policy"]
        if word not in ("adjust", "strict"):
            raise InvalidRequest(f"policy is 'adjust' or 'strict', not {word!r}")
        policy = Policy(
            strict=word == "strict",
            failover_on=frozenset(route.failover_on),
            on_maybe_charged=route.on_maybe_charged,
            on_moderated=route.on_moderated,
            waits_when_full=route.when_full == "wait",
        )
        deadline_s = seconds(given.get("deadline"), route.deadline_s)
        max_price = route.max_price_usd if given.get("max_price") is None else _usd(given["max_price"])
        on_event = given.get("on_event")
        awaited = iscoroutinefunction(on_event) or iscoroutinefunction(getattr(on_event, "__call__", None))  # noqa: B004 - looked at, not tested for
        if on_event is not None and (not callable(on_event) or awaited):
            raise InvalidRequest("on_event is a plain function that takes one event")
        return Options(provider, route, deadline_s, max_price, policy, on_event)

    def _route(self, asked: Any) -> RouteConfig:
        if asked is None or isinstance(asked, str):
            return self.config.route_named(asked)
        return asked if isinstance(asked, RouteConfig) else RouteConfig.of(asked)

    def steps(self, request: ImageRequest, options: Options, fetch_input: FetchInput, *, waits: bool) -> Steps:
        """Load and prepare the images, check keys, plan, and fit the images to each candidate.

        Nothing is sent to a provider; the spool is proven to be writable first.

        Raises:
            InvalidRequest: An image cannot be used, or the request cannot be done.
            ConfigurationError: A provider, model or key is missing, or the home folder cannot be written.
        """
        if request.idempotency_key is not None:
            raise InvalidRequest("idempotency_key needs the ledger, which comes with a later release; leave it out")
        candidates, keyless = self._with_keys(self._candidates(request, options))
        images = self.load(request.images)
        self.spool.ensure()
        images, candidates, unfetched = self._fetched(request, images, candidates, fetch_input)
        prepared = [prepare_source(image, self.config.input.metadata) for image in images]
        strategy = options.route.strategy
        if strategy not in {"ordered", "cheapest"}:
            raise ConfigurationError(f"the strategy {strategy!r} comes with a later release; use ordered or cheapest")
        steps = plan(
            request,
            [one.image for one in prepared],
            candidates,
            options.policy,
            strategy=strategy,
            max_price=options.max_price,
            waits=waits,
            prepared=[adjustment for one in prepared for adjustment in one.adjustments],
        )
        ready, unfit = fitted(steps.steps)
        return Steps(ready, (*steps.excluded, *unfit, *unfetched, *keyless))

    def _fetched(
        self, request: ImageRequest, images: list[InputImage], candidates: list[Candidate], fetch_input: FetchInput
    ) -> tuple[list[InputImage], list[Candidate], list[Excluded]]:
        """Fetch images given as URLs where a candidate needs their bytes or their size; it is out when that fails."""
        needing = [one for one in candidates if must_fetch(request, one)]
        if not needing or all(image.data is not None for image in images):
            return images, candidates, []
        try:
            return [fetch_input(image, needing[0].provider) for image in images], candidates, []
        except InvalidRequest as error:
            others = [one for one in candidates if one not in needing]
            if not others:
                raise
            return images, others, [Excluded(one, Misfit("images", "url", None, str(error))) for one in needing]

    def _candidates(self, request: ImageRequest, options: Options) -> list[Candidate]:
        model, pinned = request.canonical_model, request.pinned_provider
        if model not in self.registry.models():
            raise UnknownModel(f"unknown model {model!r}; {near(model, self.registry.models())}")
        if pinned and options.provider and pinned != options.provider:
            raise InvalidRequest(f"the model names provider {pinned!r}, and the call names {options.provider!r}")
        for name in request.provider_options.keys() - self.providers.keys() - self.registry.adapters.keys():
            raise InvalidRequest(f"provider_options: unknown provider {name!r}; {near(name, self.providers)}")
        only = pinned or options.provider
        if only is not None:
            return [Candidate(self.provider(only), model)]
        chosen = [one for one in options.route.candidates if one.model in {None, model}]
        if not chosen:
            names = ", ".join(map(str, options.route.candidates))
            raise InvalidRequest(f"no candidate of the route serves {model}: it has {names}")
        return [Candidate(self.provider(one.provider), model) for one in chosen]

    def provider(self, name: str) -> Provider:
        """A configured provider.

        Raises:
            UnknownProvider: There is none of this name.
        """
        if name not in self.providers:
            raise UnknownProvider(f"no provider {name!r} is configured; {near(name, self.providers)}")
        return self.providers[name]

    def _with_keys(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Excluded]]:
        """Those whose provider has a key, and the others; the error of the first when none has one."""
        usable: list[Candidate] = []
        missing: list[tuple[Candidate, MissingKey]] = []
        for candidate in candidates:
            try:
                candidate.provider.key()
                usable.append(candidate)
            except MissingKey as error:
                missing.append((candidate, error))
        if not usable:
            raise missing[0][1]
        return usable, [Excluded(one, Misfit("api_key", None, None, str(error))) for one, error in missing]

    def load(self, images: Sequence[ImageSource]) -> list[InputImage]:
        """Read and check input images; the config may narrow what is allowed.

        Raises:
            InvalidRequest: One cannot be read, is no image, or is of a kind that is not allowed.
        """
        kinds = {"path": "path", "url": "url"}
        for image in images:
            kind = kinds.get(image.form, "bytes")
            if kind not in self.config.input.allow:
                raise InvalidRequest(f"images given as {kind} are not allowed here ([input] allow)")
        return [load(image) for image in images]

    def resume(self, handle: "JobHandle | str | bytes | Mapping[str, Any]") -> Started:
        """What a handle names, as a job that goes on.

        Raises:
            InvalidRequest: It is no handle.
            UnknownProvider: Its provider is not configured here.
            UnknownModel: Its model is not one of the provider's.
        """
        if isinstance(handle, str) and not handle.lstrip().startswith("{"):
            raise InvalidRequest(
                "a job is resumed by its handle (JSON); resuming by job id needs the ledger, which comes later"
            )
        found = handle if isinstance(handle, JobHandle) else JobHandle.from_json(handle)
        provider = self.provider(found.provider)
        facts = provider.adapter.facts
        if facts.name != found.adapter:
            raise UnknownProvider(
                f"the handle was made by adapter {found.adapter!r}, and provider {provider.name!r} uses {facts.name!r}"
            )
        if found.model not in facts.models:
            raise UnknownModel(f"{provider.name} has no model {found.model!r}; {near(found.model, facts.models)}")
        provider.key()
        self.spool.ensure()
        return resumed(Candidate(provider, found.model), found)


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
        "ledger": config.ledger != type(config.ledger)(),
        "network": config.network != type(config.network)(),
    }
    for section, is_set in later.items():
        if is_set:
            raise ConfigurationError(
                f"[{section}] is not carried out by this release; take it out of the configuration"
            )


def seconds(value: Any, default: float) -> float:
    """A number of seconds above 0; the default for None.

    Raises:
        InvalidRequest: It is none.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**7:
        raise InvalidRequest(f"deadline is a number of seconds above 0, not {value!r}")
    return float(value)


def _usd(value: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise InvalidRequest(f"max_price is an amount in USD such as '0.05', not {value!r}") from None
    if not amount.is_finite() or amount < 0:
        raise InvalidRequest(f"max_price is an amount in USD of 0 or more, not {value!r}")
    return amount
