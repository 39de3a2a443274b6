"""From a configuration to the engine's providers: what its adapters know, overridden by what the user set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from anykontext.adapting import Adapter, Facts
from anykontext.config.explain import dotted
from anykontext.config.key import Key
from anykontext.config.keys import Variables
from anykontext.config.sections import NetworkConfig, ProviderConfig, Route
from anykontext.config.source import Keys, Source
from anykontext.config.unknown import settings_of
from anykontext.engine.provider import Provider
from anykontext.engine.signing import is_loopback
from anykontext.model.errors import ConfigurationError, MissingKey, UnknownModel
from anykontext.model.frozen import Frozen
from anykontext.model.money import Price
from anykontext.model.words import near
from anykontext.plugins import Registry


class Sections(Protocol):
    """The part of a `Config` that is needed here."""

    @property
    def providers(self) -> Mapping[str, ProviderConfig]:
        """The services, by name."""

    @property
    def routes(self) -> Mapping[str, Route]:
        """The routes, by name."""

    @property
    def network(self) -> NetworkConfig:
        """The way out."""


@dataclass(frozen=True, slots=True)
class _Setup:
    source: Source
    registry: Registry
    environ: Mapping[str, str]
    has_way_out: bool


def build_providers(
    config: Sections, source: Source, registry: Registry, environ: Mapping[str, str]
) -> tuple[Provider, ...]:
    """The providers of a configuration; see `Config.provider_list`."""
    if not config.providers:
        raise MissingKey(_nothing_configured(registry, source))
    setup = _Setup(source, registry, environ, has_way_out=bool(config.network.proxy or config.network.ca_file))
    built = {
        name: _provider(name, section, setup, _place(name, config, source))
        for name, section in config.providers.items()
    }
    for route_name, route in config.routes.items():
        for index, candidate in enumerate(route.candidates):
            hosted = built[candidate.provider].adapter.facts.models
            if candidate.model is not None and candidate.model not in hosted:
                place = source.where(("routes", route_name, "candidates", index))
                error = ConfigurationError if candidate.model in registry.models() else UnknownModel
                raise error(
                    f"{place}: {candidate.provider!r} has no model {candidate.model!r}; {near(candidate.model, hosted)}"
                )
    return tuple(built.values())


def _nothing_configured(registry: Registry, source: Source) -> str:
    variables = ", ".join("+".join(names) for one in registry.adapters.values() for names in one.facts.keys)
    broken = "".join(f"\n{one}. {one.remedy}" for one in registry.broken)
    return (
        f"{source.name}: no provider is configured. Set one of {variables or '(no adapter is installed)'}, "
        f"or write a section [providers.NAME] into anykontext.toml{broken}"
    )


def _place(name: str, config: Sections, source: Source) -> str:
    """Where a provider's adapter is named: in its section, or in the route that implies it."""
    if source.has(("providers", name)):
        return source.where(("providers", name, "adapter"))
    for route_name, route in config.routes.items():
        for index, candidate in enumerate(route.candidates):
            if candidate.provider == name:
                return source.where(("routes", route_name, "candidates", index))
    return source.name


def _provider(name: str, section: ProviderConfig, setup: _Setup, place: str) -> Provider:
    try:
        adapter = setup.registry.adapter(section.adapter or name)
    except ConfigurationError as error:
        error.args = (f"{place}: {error}",)
        raise
    here: Keys = ("providers", name)
    if section.api_key is not None:
        section.api_key.check(name, setup.source)
    origins = _origins(section, adapter.facts, setup.source, here)
    at_home = origins["api"] == adapter.facts.origins["api"]
    uses_sdk = at_home and adapter.facts.uploads is not None and not setup.has_way_out
    return Provider(
        name=name,
        adapter=adapter,
        origins=Frozen(origins),
        key=Key(name, section.api_key or Variables(adapter.facts.keys), setup.environ, setup.source),
        allow_http=section.allow_http,
        poll_interval_s=section.poll_interval_s,
        max_in_flight=section.max_in_flight,
        # A vendor's SDK makes connections of its own, which would go around [network].
        upload=setup.registry.upload(adapter.facts.name) if uses_sdk else None,
        listed=Frozen(
            _listed(section, adapter, setup, here, knows_prices=origins["api"] not in adapter.facts.siblings)
        ),
    )


def _origins(section: ProviderConfig, facts: Facts, source: Source, here: Keys) -> dict[str, str]:
    settings = {"api": "base_url", **facts.base_url_settings}
    given = {**section.urls, **({"base_url": section.base_url} if section.base_url else {})}
    for key, url in given.items():
        place = source.where((*here, key))
        if key not in settings.values():
            known = settings_of(ProviderConfig) | set(settings.values())
            raise ConfigurationError(f"{place}: unknown setting {key!r} of {dotted(here)}; {near(key, known)}")
        if _is_open_http(url) and not section.allow_http:
            raise ConfigurationError(
                f"{place}: {dotted((*here, key))}: http would send the key unprotected over the network; use https, "
                "or set allow_http = true for a proxy of your own"
            )
    # A key for a proxy or a sibling service is not one for the provider's further hosts: those are then named, or out.
    elsewhere = given.get("base_url", facts.origins["api"]) != facts.origins["api"]
    theirs = {origin: base for origin, base in facts.origins.items() if origin == "api" or not elsewhere}
    named = {origin: given[setting] for origin, setting in settings.items() if setting in given}
    return {**theirs, **named}


def _is_open_http(url: str) -> bool:
    found = urlsplit(url)
    return found.scheme == "http" and not is_loopback(found.hostname or "")


def _listed(
    section: ProviderConfig, adapter: Adapter, setup: _Setup, here: Keys, *, knows_prices: bool
) -> dict[str, Price]:
    """Prices by model or `model/mode`; one that the user set for a model holds for both of its modes."""
    hosted = adapter.facts.models
    for name in section.prices:
        if not _is_priceable(name, hosted):
            place = setup.source.where((*here, "prices", name))
            raise UnknownModel(f"{place}: unknown model {name!r}; {near(name, hosted)}")
    theirs = setup.registry.prices(adapter.facts.name) if knows_prices else {}
    kept = {name: price for name, price in theirs.items() if name.partition("/")[0] not in section.prices}
    return {**kept, **{name: Price.set_by_user(amount) for name, amount in section.prices.items()}}


def _is_priceable(name: str, models: Iterable[str]) -> bool:
    model, slash, mode = name.partition("/")
    return model in models and (not slash or mode in {"edit", "generate"})
