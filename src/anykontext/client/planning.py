"""From a request to the steps that the engine takes: images are read, keys looked for, candidates planned."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import Protocol

from anykontext.adapting import InputImage
from anykontext.client.options import Options
from anykontext.client.pictures import fitted, must_fetch, not_exposed, unfetched
from anykontext.client.turns import Turns
from anykontext.client.warnings import old_prices, warn_once
from anykontext.config import Config
from anykontext.config.main import DEFAULT_ROUTE
from anykontext.engine.misfit import Misfit
from anykontext.engine.provider import Candidate, Provider
from anykontext.io.inputs import load
from anykontext.io.prepare import prepare_source
from anykontext.model.errors import InvalidRequest, Kind, MissingKey, UnknownModel, UnknownProvider
from anykontext.model.frozen import thaw
from anykontext.model.image import ImageSource
from anykontext.model.money import Cap
from anykontext.model.plan import ExcludedCandidate, Plan, PlannedCandidate
from anykontext.model.request import ImageRequest
from anykontext.model.words import near
from anykontext.plugins import Registry
from anykontext.routing.plan import Excluded, Steps, plan, refusal
from anykontext.routing.rules import Rules
from anykontext.routing.situation import Situation

FetchInput = Callable[[InputImage, Provider], InputImage]
NOT_ASKED = frozenset({"images", "idempotency_key", "tags", "webhook_url"})  # what another request may differ in


class Gate(Protocol):
    """What knows which candidates take nothing now; it may block."""

    def closed(self, candidates: Sequence[Candidate], heeds: frozenset[Kind]) -> Mapping[str, str]:
        """Candidates that are not to be tried, by name, and why; outages are those of the kinds in `heeds`."""

    def drained(self, candidates: Sequence[Candidate]) -> Mapping[str, str]:
        """Candidates whose provider was drained by hand, by name, and why."""


Durations = Callable[[], Mapping[str, Sequence[float]]]
Left = Callable[[ImageRequest, float], Sequence[tuple[Cap, Decimal]]]


class Planner:
    """Plans requests over the providers of a configuration. A copy, for a view, shares the turns.

    Args:
        config: The configuration.
        registry: The adapters.
        providers: The providers, by name.
        gate: Which candidates take nothing now; None where all do.
        left: What is left of the caps that a request falls under, at a time; None where there are none.
        durations: What candidates took of late, by name; asked for only where the strategy goes by it.
        turns: Whose turn it is; None for turns of its own.
        now: Seconds of the wall clock.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        providers: Mapping[str, Provider],
        *,
        gate: Gate | None = None,
        left: Left | None = None,
        durations: Durations | None = None,
        turns: Turns | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.registry = registry
        self.providers = providers
        self.gate = gate
        self.left = left
        self.durations = durations
        self.turns = turns or Turns()
        self._now = now

    def steps(
        self, request: ImageRequest, options: Options, fetch_input: FetchInput, *, waits: bool
    ) -> tuple[Steps, str]:
        """The plan of a request, and its digest: the same for the same request.

        Load and prepare the images, check keys, plan, and fit the images to each candidate. It is the route's turn.

        Nothing is sent to a provider.

        Raises:
            InvalidRequest: An image cannot be used, or the only candidate cannot do it.
            NoCandidate: None of several candidates can do it.
            BudgetExceeded: A price or a budget forbids it.
            ConfigurationError: A provider, model or key is missing.
        """
        candidates = self._candidates(request, options)
        keyless = _keyless(candidates)
        if len(keyless) == len(candidates):
            raise MissingKey(next(iter(keyless.values())))
        images = self.load(request.images)
        digest = digest_of(request, images)  # of what was asked: a URL is a URL, fetched or not
        usable = [one for one in candidates if one.name not in keyless]
        images, usable, unfetched = self._fetched(request, images, usable, fetch_input)
        out = {id(one.candidate) for one in unfetched}
        situation = replace(self.situation(request, options, candidates, takes_turn=True), keyless=keyless)
        candidates = [one for one in candidates if id(one) not in out]
        steps = self._planned(request, images, candidates, options, situation, waits=waits)
        if not steps.steps:
            raise refusal([*steps.excluded, *unfetched])
        warn_once(old_prices(steps.steps, situation.now))
        return replace(steps, excluded=(*steps.excluded, *unfetched)), digest

    def plan(self, request: ImageRequest, options: Options) -> Plan:
        """What `steps` would say now. No turn is taken, and no URL fetched: its picture is planned without its size.

        Raises:
            InvalidRequest: An image cannot be used, or an option is none.
            ConfigurationError: A provider or model is missing. A missing key is a reason, and no error.
        """
        candidates = self._candidates(request, options)
        images = self.load(request.images)
        situation = replace(self.situation(request, options, candidates), keyless=_keyless(candidates))
        images, notes = unfetched(request, images, candidates)
        waits = request.webhook_url is None  # with one, it may be meant for `submit`
        steps = self._planned(request, images, candidates, options, situation, waits=waits, fits=not notes)
        if self.gate is not None:
            steps = steps.without(self.gate.closed([one.candidate for one in steps.steps], options.policy.heeds))
        only = named_in(request, options)
        return Plan(
            route=self._name_of(options),
            strategy=options.route.strategy,
            candidates=tuple(
                PlannedCandidate(one.candidate.provider.name, one.candidate.model, one.price, one.adjustments)
                for one in steps.steps
            ),
            excluded=tuple(
                ExcludedCandidate(one.candidate.provider.name, one.candidate.model, one.misfit.reason)
                for one in steps.excluded
            ),
            notes=(*notes, *old_prices(steps.steps, situation.now).values()),
            error=None if steps.steps else refusal(steps.excluded, named=only is not None),
            provider=only,
        )

    def check_open(self, request: ImageRequest, options: Options, steps: Steps) -> None:
        """Refuse a request before its job is begun when every candidate of it is drained: nothing would be sent.

        An outage is none of its business: where all are out, the one that was out for longest is tried all the same.

        Raises:
            NoCandidate: With every reason.
            Unavailable: The one that the caller has named is drained.
        """
        left = steps if self.gate is None else steps.without(self.gate.drained([one.candidate for one in steps.steps]))
        if not left.steps:
            raise refusal(left.excluded, named=named_in(request, options) is not None)

    def situation(
        self, request: ImageRequest, options: Options, candidates: Sequence[Candidate], *, takes_turn: bool = False
    ) -> Situation:
        """What is known at this moment beside the request and the configuration.

        Args:
            request: What is asked for.
            options: The options of the call.
            candidates: In the order of the route.
            takes_turn: Whether the turn of the route and the random fraction are used up by it; else who plans next
                gets the same ones.
        """
        now = self._now()
        by_speed = options.route.strategy == "fastest" and len(candidates) > 1
        turn, fraction = self.turns.take(candidates) if takes_turn else self.turns.look(candidates)
        return Situation(
            now=now,
            durations=self.durations() if by_speed and self.durations else {},
            left=() if self.left is None else self.left(request, now),
            turn=turn,
            fraction=fraction,
        )

    def _planned(
        self,
        request: ImageRequest,
        images: Sequence[InputImage],
        candidates: Sequence[Candidate],
        options: Options,
        situation: Situation,
        *,
        waits: bool,
        fits: bool = True,
    ) -> Steps:
        """The candidates in order; `fits` says that the images are there and become what each takes."""
        prepared = [prepare_source(image, self.config.input.metadata) for image in images]
        rules = rules_of(options, request.canonical_model)
        steps = plan(
            request,
            [one.image for one in prepared],
            candidates,
            options.policy,
            rules=rules,
            situation=situation,
            waits=waits,
            prepared=[adjustment for one in prepared for adjustment in one.adjustments],
        )
        if not fits:
            return steps
        ready, unfit = fitted(steps.steps)
        ready, exposed = not_exposed(ready, rules)
        return Steps(ready, (*steps.excluded, *unfit, *exposed))

    def _name_of(self, options: Options) -> str | None:
        """The name of the route that was taken; None for one that was given in the call."""
        named = next((name for name, route in self.config.routes.items() if route is options.route), None)
        implied = not self.config.routes and options.route == self.config.route_named()
        return DEFAULT_ROUTE if implied else named

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
        model, pinned, only = request.canonical_model, request.pinned_provider, named_in(request, options)
        if model not in self.registry.models():
            raise UnknownModel(f"unknown model {model!r}; {near(model, self.registry.models())}")
        if pinned and options.provider and pinned != options.provider:
            raise InvalidRequest(f"the model names provider {pinned!r}, and the call names {options.provider!r}")
        for name in request.provider_options.keys() - self.providers.keys() - self.registry.adapters.keys():
            raise InvalidRequest(f"provider_options: unknown provider {name!r}; {near(name, self.providers)}")
        if only is not None:
            return [Candidate(self.provider(only), model)]
        chosen = [one for one in options.route.candidates if one.model in {None, model}]
        if not chosen:
            names = ", ".join(map(str, options.route.candidates))
            raise InvalidRequest(f"no candidate of the route serves {model}: it has {names}")
        providers = dict.fromkeys(one.provider for one in chosen)  # "bfl" and "bfl/flux-kontext-pro" may be one
        return [Candidate(self.provider(one), model) for one in providers]

    def provider(self, name: str) -> Provider:
        """A configured provider.

        Raises:
            UnknownProvider: There is none of this name.
        """
        if name not in self.providers:
            raise UnknownProvider(f"no provider {name!r} is configured; {near(name, self.providers)}")
        return self.providers[name]

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


def named_in(request: ImageRequest, options: Options) -> str | None:
    """The one provider that the request or the call names; None where the route chooses."""
    return request.pinned_provider or options.provider


def rules_of(options: Options, model: str) -> Rules:
    """What the route of a call lays down for planning a request for this model."""
    route = options.route
    return Rules(
        strategy=route.strategy,
        max_price=options.max_price,
        unknown_price=route.unknown_price == "allow",
        regions=route.regions,
        public_uploads=route.public_uploads,
        explore=route.explore,
        weights={
            f"{one.provider}/{model}": one.weight for one in reversed(route.candidates) if one.model in {None, model}
        },
    )


def _keyless(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Candidates whose provider has no key, and where it was looked for."""
    found = {}
    for candidate in candidates:
        try:
            candidate.provider.key()
        except MissingKey as error:
            found[candidate.name] = str(error)
    return found


def digest_of(request: ImageRequest, images: Sequence[InputImage]) -> str:
    """The SHA-256 of what a request asks for, with the content of its images: for idempotency keys."""
    fields = {name: getattr(request, name) for name in type(request).model_fields if name not in NOT_ASKED}
    parts = [json.dumps(thaw(fields), sort_keys=True, default=str)]
    parts += [sha256(image.data).hexdigest() if image.data is not None else image.url or "" for image in images]
    return sha256("\n".join(parts).encode()).hexdigest()
