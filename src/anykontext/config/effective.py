"""What holds, and where each value comes from: the file and line, the environment, an adapter, or a default.

Nothing here holds a secret: a key is told by where it is, and a URL without its password.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from anykontext.config.keys import KeySource, Variables
from anykontext.config.main import Config
from anykontext.config.way_out import way_out
from anykontext.engine.provider import Provider
from anykontext.model.errors import MissingKey
from anykontext.plugins import Registry
from anykontext.routing.residency import region_of

HIDDEN = "**********"
DEFAULT = "default"
PLAIN_URLS = frozenset({"default", "memory"})  # of the ledger


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that holds.

    Attributes:
        keys: Where it stands, such as `providers`, `bfl`, `base_url`.
        value: As JSON and TOML have it; None for none.
        origin: Where the value comes from.
        note: What else is to be known, such as whether a key is set.
    """

    keys: tuple[str, ...]
    value: Any
    origin: str
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping."""
        return {"setting": ".".join(self.keys), "value": self.value, "origin": self.origin, "note": self.note or None}


def effective(
    config: Config, registry: Registry, environ: Mapping[str, str]
) -> tuple[list[Setting], MissingKey | None]:
    """Every setting that holds, and what is missing where no provider is configured.

    Raises:
        ConfigurationError: A setting does not fit its adapter.
    """
    try:
        built = {one.name: one for one in config.provider_list(registry, environ)}
        missing = None
    except MissingKey as error:
        if config.providers:
            raise
        built, missing = {}, error
    told = _Told(config, environ)
    settings = [*told.section((), config, skip=("providers", "routes", "budget", "ledger", "input", "network"))]
    for name in config.providers:
        settings += told.provider(built[name])
    for name, route in config.routes.items():
        settings += told.section(("routes", name), route)
    if built and not config.routes:
        settings += told.implied_route()
    for name in ("budget", "ledger", "input", "network"):
        settings += told.section((name,), getattr(config, name), skip=("tags",))
    proxies = way_out(config).proxies
    if proxies and not config.network.proxy:
        named = ", ".join(f"{scheme} through {one} ({one.said_by})" for scheme, one in proxies.items())
        index = next(index for index, one in enumerate(settings) if one.keys == ("network", "proxy"))
        settings[index] = Setting(("network", "proxy"), None, "the environment", named)
    for tag, caps in config.budget.tags.items():
        settings += told.section(("budget", "tags", tag), caps)
    return settings, missing


class _Told:
    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self.config = config
        self.environ = environ

    def origin(self, keys: tuple[str, ...], *, is_set: bool) -> str:
        return self.config.place(*keys) if is_set else DEFAULT

    def section(self, keys: tuple[str, ...], section: BaseModel, skip: tuple[str, ...] = ()) -> Iterator[Setting]:
        """The settings of one section; those that are not set have their defaults."""
        for name in type(section).model_fields:
            if name not in skip:
                here = (*keys, name)
                origin = self.origin(here, is_set=name in section.model_fields_set)
                yield Setting(here, plain(getattr(section, name)), origin)

    def implied_route(self) -> Iterator[Setting]:
        origin = self.config.place("providers")
        for one in self.section(("routes", "default"), self.config.route_named()):
            yield one if one.origin == DEFAULT else Setting(one.keys, one.value, f"the providers of {origin}")

    def provider(self, built: Provider) -> Iterator[Setting]:
        """The settings of a provider; where the user set none, what its adapter knows."""
        facts = built.adapter.facts
        section = self.config.providers[built.name]
        here = ("providers", built.name)
        adapter = f"the adapter {facts.name}"
        known = {"adapter": facts.name, "base_url": built.origins["api"], "max_in_flight": facts.max_active}
        for name in type(section).model_fields:
            value = getattr(section, name)
            is_set = value is not None and name in section.model_fields_set
            if name in {"api_key", "urls", "prices"}:
                continue
            origin = self.origin((*here, name), is_set=is_set)
            if not is_set and name in known:
                origin = DEFAULT if name == "adapter" else adapter
            yield Setting((*here, name), plain(known.get(name) if value is None else value), origin)
        yield self._key((*here, "api_key"), section.api_key, Variables(facts.keys))
        for origin_name, setting in facts.base_url_settings.items():
            url = built.origins.get(origin_name)
            origin = self.origin((*here, setting), is_set=True) if setting in section.urls else adapter
            note = "" if url else "unknown where base_url is not the provider's own"
            yield Setting((*here, setting), url, origin, note)
        # No settings, but what they are about: so they have no value, and are comments.
        yield Setting((*here, "region"), None, adapter, region_of(built) or f"not known of {built.origins['api']}")
        if rate := facts.submit_rate:
            yield Setting((*here, "submit_rate"), None, adapter, f"{rate.submits} in {rate.seconds:g} s")
        for name, price in section.prices.items():
            yield Setting((*here, "prices", name), plain(price), self.origin((*here, "prices", name), is_set=True))
        for name, listed in built.listed.items():
            if listed.date is not None:  # the adapter's own
                note = f"{listed.amount} {listed.currency} for one {listed.unit}"
                yield Setting((*here, "prices", name), None, f"{listed.source}, {listed.date}", note)

    def _key(self, keys: tuple[str, ...], given: KeySource | None, known: Variables) -> Setting:
        where = known if given is None else given
        state = self.config.key_state(where, self.environ)
        origin = self.origin(keys, is_set=given is not None)
        if given is not None:
            return Setting(keys, str(given), origin, state)
        found = known.found(self.environ) or next(iter(known.alternatives), ())
        value = f"env:{found[0]}" if len(found) == 1 else None
        origin = "the environment" if state == "set" else DEFAULT
        return Setting(keys, value, origin, state if value else f"{'+'.join(found) or 'no variable is known'}: {state}")


def plain(value: Any) -> Any:
    """A value as JSON and TOML have it, without a password."""
    if isinstance(value, SecretStr):
        return without_password(value.get_secret_value())
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, BaseModel):
        return str(value) if getattr(value, "weight", 1.0) == 1.0 else plain(value.model_dump(exclude_none=True))
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return str(value) if isinstance(value, str) else value


def without_password(url: str) -> str:
    """Where a URL leads, put together from what is surely no secret: user, password and query are hidden.

    >>> without_password("postgresql://me:secret@db:5432/kontext")
    'postgresql://**********@db:5432/kontext'
    >>> without_password("http://me:se/cret@proxy:3128")
    '**********'
    """
    if url in PLAIN_URLS:
        return url
    try:
        found = urlsplit(url)
        port = "" if found.port is None else f":{found.port}"
    except ValueError:
        return HIDDEN
    rest = found.path + found.query + found.fragment  # where the end of a password lands that has / ? or # in it
    if not found.scheme or not found.hostname or {"@", ";"} & set(rest):
        return HIDDEN
    host = f"[{found.hostname}]" if ":" in found.hostname else found.hostname
    user = f"{HIDDEN}@" if "@" in found.netloc else ""
    query = f"?{HIDDEN}" if found.query else ""
    return f"{found.scheme}://{user}{host}{port}{found.path}{query}"
