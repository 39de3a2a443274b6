"""What the sync and the async client share: from the words of a call to the steps that the engine takes."""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from inspect import iscoroutinefunction
from typing import Any

from anykontext.adapting import InputImage
from anykontext.client.claims import Claims
from anykontext.client.past import placed
from anykontext.client.pictures import fitted, must_fetch
from anykontext.config import Config, RouteConfig
from anykontext.engine.job import Started, resumed
from anykontext.engine.misfit import Misfit
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate, Provider
from anykontext.io.inputs import load
from anykontext.io.journal import Journal
from anykontext.io.notify import Notifier, OnEvent
from anykontext.io.prepare import prepare_source
from anykontext.io.spool import Spool
from anykontext.io.trace import Tracer
from anykontext.ledger import JobRecord, Ledger, New, NewJob, is_ended, open_ledger
from anykontext.model.errors import (
    ConfigurationError,
    InvalidRequest,
    MissingKey,
    UnknownModel,
    UnknownProvider,
)
from anykontext.model.frozen import thaw
from anykontext.model.image import ImageSource
from anykontext.model.job import JobHandle, JobState
from anykontext.model.request import OTHER_WORDS, ImageRequest
from anykontext.model.words import near
from anykontext.plugins import Registry, default_registry
from anykontext.routing.plan import Excluded, Steps, plan

FetchInput = Callable[[InputImage, Provider], InputImage]
NOT_ASKED = frozenset({"images", "idempotency_key", "tags", "webhook_url"})  # what another request may differ in
PERSON = "a person"  # who resolves, in the events of a job
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
        self.owner = uuid.uuid4().hex
        self.claims = Claims(lambda: self.journal, self.owner)
        self._journal: Journal | None = None
        self._lock = threading.Lock()

    @property
    def journal(self) -> Journal:
        """What writes into the ledger, which is opened when it is first needed.

        Raises:
            LedgerError: It cannot be opened: then nothing is sent.
        """
        with self._lock:
            if self._journal is None:
                section = self.config.ledger
                word = section.url.get_secret_value()
                url = self.config.home / "ledger.sqlite3" if word == "default" else word
                ledger = open_ledger(url, now=time.time, prompts=section.prompts)
                kept = section.prompts == "full" and word != "memory"  # a reply may echo the prompt
                tracer = Tracer(self.config.home / "traces") if kept else None
                self._journal = Journal(ledger, self.owner, tracer)
                keep_s = section.keep_days * 86_400
                ledger.forget(before=time.time() - keep_s)
                self.spool.trim(keep_s)
                if tracer is not None:
                    tracer.sweep(time.time() - keep_s)
            return self._journal

    @property
    def ledger(self) -> Ledger:
        """The ledger.

        Raises:
            LedgerError: As `journal` does.
        """
        return self.journal.ledger

    def close(self) -> None:
        """Close the ledger, if it was opened."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()

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

    def steps(
        self, request: ImageRequest, options: Options, fetch_input: FetchInput, *, waits: bool
    ) -> tuple[Steps, str]:
        """The plan of a request, and its digest: the same for the same request.

        Load and prepare the images, check keys, plan, and fit the images to each candidate.

        Nothing is sent to a provider; the spool is proven to be writable first.

        Raises:
            InvalidRequest: An image cannot be used, or the request cannot be done.
            ConfigurationError: A provider, model or key is missing, or the home folder cannot be written.
        """
        candidates, keyless = self._with_keys(self._candidates(request, options))
        images = self.load(request.images)
        self.spool.ensure()
        digest = digest_of(request, images)  # of what was asked: a URL is a URL, fetched or not
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
        return Steps(ready, (*steps.excluded, *unfit, *unfetched, *keyless)), digest

    def new_job(self, request: ImageRequest, digest: str, options: Options, job_id: str) -> NewJob:
        """The row of a job that is about to begin."""
        now = time.time()
        return NewJob(
            job_id=job_id,
            request_digest=digest,
            prompt=request.prompt,
            model=request.canonical_model,
            mode=request.mode,
            created_at=now,
            owner=self.owner,
            tags=request.tags,
            tenant=request.tags.get("tenant", ""),
            idempotency_key=request.idempotency_key,
            deadline_at=now + options.deadline_s,
        )

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

    def begin(self, new: NewJob) -> JobRecord | tuple[str, int]:
        """Write a job down and work on it: its id, and the number of its next attempt. Else the job to attach to.

        Raises:
            InvalidRequest: The idempotency key belongs to another request.
            LedgerError: It cannot be written down.
        """
        self.claims.begin(new.job_id)
        began = None
        try:
            began = self.ledger.begin(new).result()
        finally:
            if not isinstance(began, New):
                self.claims.end(new.job_id)
        if isinstance(began, New):
            return new.job_id, 0
        anew = self.claims.reopened(began)
        if anew is None:
            return began.job
        return anew.job_id, max((one.attempt + 1 for one in self.ledger.sends(anew.job_id)), default=0)

    def record(self, job_id: str) -> JobRecord:
        """A job of the ledger.

        Raises:
            InvalidRequest: The ledger does not know it.
        """
        found = self.ledger.job(job_id)
        if found is None:
            raise InvalidRequest(
                f"the ledger knows no job {job_id[:80]!r}; `anykontext jobs list` shows those it knows"
            )
        return found

    def records(
        self, *, state: Any = None, since: Any = None, tag: str | None = None, limit: int = 100
    ) -> list[JobRecord]:
        """Jobs of the ledger, the newest first.

        Raises:
            InvalidRequest: The state or the time is none.
        """
        if state is not None and state not in set(JobState):
            raise InvalidRequest(f"unknown state {state!r}; {near(str(state), [one.value for one in JobState])}")
        begun = _wall(since, "since")
        return self.ledger.jobs(state=None if state is None else JobState(state), since=begun, tag=tag, limit=limit)

    def resolve(self, job_id: str, *, charged: bool) -> JobRecord:
        """Settle by a person's word what is at risk; see `Client.resolve`.

        Raises:
            InvalidRequest: The ledger does not know the job, or there is nothing to settle.
        """
        before = self.record(job_id)
        if self.ledger.resolve(job_id, charged=charged, who=PERSON).result():
            return self.record(job_id)
        if not is_ended(before.state) and before.state is not JobState.UNKNOWN:
            raise InvalidRequest(
                f"{job_id} is {before.state} and may end by itself: `anykontext jobs resume {job_id}` waits for it"
            )
        raise InvalidRequest(f"{job_id} is {before.state}, and no money is at risk on it: there is nothing to resolve")

    def forget(self, job_id: str | None, before: Any) -> int:
        """Delete jobs that have ended; see `Client.forget`.

        Raises:
            InvalidRequest: Neither or both are given, the time is none, or the ledger does not know the job.
        """
        if (job_id is None) == (before is None):
            raise InvalidRequest("say which jobs are to be forgotten: one by its id, or all before a time")
        if job_id is not None:
            self.record(job_id)
        until = _wall(before, "before")
        gone = self.ledger.forget(job_id=job_id, before=until).result()
        tracer = self.journal.tracer
        if tracer is not None and job_id is not None and gone:
            tracer.forget(job_id)
        if tracer is not None and until is not None:
            tracer.sweep(until)
        return gone

    def taken_over(self) -> list[JobRecord]:
        """The unfinished jobs whose process is gone, now this client's to poll."""
        owned = [self.claims.take(one.job_id) for one in self.ledger.unfinished()]
        self.spool.ensure()
        return [one for one in owned if one is not None]

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


def _wall(value: Any, name: str) -> float | None:
    found = value.timestamp() if isinstance(value, datetime) else value
    if found is None or (isinstance(found, int | float) and not isinstance(found, bool)):
        return found
    raise InvalidRequest(f"{name} is a datetime, or seconds of the wall clock, not {value!r}")


def _usd(value: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise InvalidRequest(f"max_price is an amount in USD such as '0.05', not {value!r}") from None
    if not amount.is_finite() or amount < 0:
        raise InvalidRequest(f"max_price is an amount in USD of 0 or more, not {value!r}")
    return amount


def digest_of(request: ImageRequest, images: Sequence[InputImage]) -> str:
    """The SHA-256 of what a request asks for, with the content of its images: for idempotency keys."""
    fields = {name: getattr(request, name) for name in type(request).model_fields if name not in NOT_ASKED}
    parts = [json.dumps(thaw(fields), sort_keys=True, default=str)]
    parts += [sha256(image.data).hexdigest() if image.data is not None else image.url or "" for image in images]
    return sha256("\n".join(parts).encode()).hexdigest()
