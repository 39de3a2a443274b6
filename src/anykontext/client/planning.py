"""From a request to the steps that the engine takes: images are read, keys looked for, candidates planned."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from anykontext.adapting import InputImage
from anykontext.client.options import Options
from anykontext.client.pictures import fitted, must_fetch
from anykontext.config import Config
from anykontext.engine.misfit import Misfit
from anykontext.engine.provider import Candidate, Provider
from anykontext.io.inputs import load
from anykontext.io.prepare import prepare_source
from anykontext.model.errors import ConfigurationError, InvalidRequest, MissingKey, UnknownModel, UnknownProvider
from anykontext.model.frozen import thaw
from anykontext.model.image import ImageSource
from anykontext.model.request import ImageRequest
from anykontext.model.words import near
from anykontext.plugins import Registry
from anykontext.routing.plan import Excluded, Steps, plan

FetchInput = Callable[[InputImage, Provider], InputImage]
NOT_ASKED = frozenset({"images", "idempotency_key", "tags", "webhook_url"})  # what another request may differ in


class Planner:
    """Plans requests over the providers of a configuration.

    Args:
        config: The configuration.
        registry: The adapters.
        providers: The providers, by name.
    """

    def __init__(self, config: Config, registry: Registry, providers: Mapping[str, Provider]) -> None:
        self.config = config
        self.registry = registry
        self.providers = providers

    def steps(
        self, request: ImageRequest, options: Options, fetch_input: FetchInput, *, waits: bool
    ) -> tuple[Steps, str]:
        """The plan of a request, and its digest: the same for the same request.

        Load and prepare the images, check keys, plan, and fit the images to each candidate.

        Nothing is sent to a provider.

        Raises:
            InvalidRequest: An image cannot be used, or the request cannot be done.
            ConfigurationError: A provider, model or key is missing.
        """
        candidates, keyless = self._with_keys(self._candidates(request, options))
        images = self.load(request.images)
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


def digest_of(request: ImageRequest, images: Sequence[InputImage]) -> str:
    """The SHA-256 of what a request asks for, with the content of its images: for idempotency keys."""
    fields = {name: getattr(request, name) for name in type(request).model_fields if name not in NOT_ASKED}
    parts = [json.dumps(thaw(fields), sort_keys=True, default=str)]
    parts += [sha256(image.data).hexdigest() if image.data is not None else image.url or "" for image in images]
    return sha256("\n".join(parts).encode()).hexdigest()
