"""`Config`: the whole of a configuration, and the ways to get one."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import PrivateAttr, ValidationError

from anykontext.config import files
from anykontext.config.explain import dotted, findings
from anykontext.config.fields import Name, Named, one_of
from anykontext.config.implied import KNOWN, with_providers
from anykontext.config.key import Key
from anykontext.config.keys import KeySource, Written, key_source
from anykontext.config.providers import build_providers
from anykontext.config.sections import (
    BudgetConfig,
    InputConfig,
    LedgerConfig,
    NetworkConfig,
    Policy,
    ProviderConfig,
    Route,
    Section,
)
from anykontext.config.source import Source
from anykontext.config.unknown import unknown_settings
from anykontext.engine.provider import Provider
from anykontext.model.errors import ConfigurationError, UnknownProvider
from anykontext.model.frozen import Frozen
from anykontext.model.words import near
from anykontext.plugins import Registry, default_registry

log = logging.getLogger("anykontext")
DEFAULT_ROUTE = "default"
_FROM_PYTHON = Source()
_FROM_ENVIRONMENT = Source("the environment")


class Config(Section):
    """A configuration, checked as far as that is possible without adapters and keys.

    Make one with `Config(providers={"bfl": {"api_key": "env:BFL_API_KEY"}})`, `Config.load()` or `Config.from_env()`.
    No repr, dump or message holds a key that is written in it; a pickle does, as it must: keep it like the file.

    Attributes:
        policy: `adjust` fits dials and reports it; `strict` refuses any difference from what was set.
        route: The route that is taken when a call names none.
        providers: The services, by name; bfl, fal, kie, replicate, together and atlascloud need no section when a
            route names them.
        routes: The routes, by name.
        budget: Caps on what is spent.
        ledger: What is kept of each job.
        input: What is done with input images.
        network: The way out.

    Raises:
        ConfigurationError: A section, setting or value is none; one line for each, with the nearest right word.
        UnknownProvider: A route names a provider that is not configured.
    """

    policy: Annotated[Policy, one_of(Policy)] = "adjust"
    route: Name | None = None
    providers: Named[ProviderConfig] = Frozen()
    routes: Named[Route] = Frozen()
    budget: BudgetConfig = BudgetConfig()
    ledger: LedgerConfig = LedgerConfig()
    input: InputConfig = InputConfig()
    network: NetworkConfig = NetworkConfig()

    _source: Source = PrivateAttr(_FROM_PYTHON)
    _environ: Mapping[str, str] | None = PrivateAttr(None)

    def __init__(self, source: Source = _FROM_PYTHON, /, **sections: Any) -> None:
        unknown = list(unknown_settings(sections, type(self), source))
        if unknown:
            raise ConfigurationError("\n".join(unknown))
        try:
            super().__init__(**with_providers(sections))
        except ValidationError as error:
            raise ConfigurationError("\n".join(findings(error, source))) from None
        self._source = source
        self._check_routes()
        self._warn_of_written_keys()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        registry: Registry | None = None,
    ) -> Self:
        """The configuration of a file, or of the environment where there is none.

        Without a path, the file is `$ANYKONTEXT_CONFIG`, `./anykontext.toml`, or `anykontext.toml` in the user's
        config folder. Where the file has no `[providers]`, every adapter whose key is in the environment becomes one.

        Args:
            path: The file to read.
            environ: The environment; None for that of the process.
            registry: The adapters, for what is found in the environment; None for those that are installed.

        Raises:
            ConfigurationError: The file cannot be read or used; it is named, and the line where that is sure.
        """
        found = files.read(path, _process(environ))
        if found is None:
            return cls.from_env(environ, registry)
        sections, source = found
        if "providers" not in sections:
            sections = {**sections, "providers": _discovered(environ, registry)}
        return cls._made(sections, source, environ)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, registry: Registry | None = None) -> Self:
        """The configuration of the environment alone: every adapter whose key is there becomes a provider.

        The route is the cheapest of them, at equal prices in the order bfl, fal, kie, replicate, together, atlascloud.
        """
        return cls._made({"providers": _discovered(environ, registry)}, _FROM_ENVIRONMENT, environ)

    @classmethod
    def _made(cls, sections: Mapping[str, Any], source: Source, environ: Mapping[str, str] | None) -> Self:
        made = cls(source, **sections)
        made._environ = environ
        return made

    @property
    def path(self) -> Path | None:
        """The file that this was read from; None when it was read from none."""
        return self._source.resolve(Path(self._source.name).name) if self._source.folder else None

    @property
    def home(self) -> Path:
        """The folder of the ledger and the spool: `$ANYKONTEXT_HOME`, or the user's data folder. It may not exist."""
        return files.home(_process(self._environ))

    def resolve(self, path: str) -> Path:
        """A path of this configuration: `~` is the home folder, a relative one starts from the file's folder."""
        return self._source.resolve(path)

    def where(self, *keys: str) -> str:
        """Where a setting stands, for messages: the file, the line where that is sure, and its name."""
        return f"{self.place(*keys)}: {dotted(keys)}"

    def place(self, *keys: str) -> str:
        """Where a setting stands: the file, and the line where that is sure."""
        return self._source.where(keys)

    def key_state(self, where: KeySource, environ: Mapping[str, str]) -> str:
        """Whether there seems to be a key, in a word or two; it is not read."""
        return where.state(environ, self._source)

    @property
    def environ(self) -> Mapping[str, str] | None:
        """The environment that this was loaded with; None for that of the process."""
        return self._environ

    def route_named(self, name: str | None = None) -> Route:
        """The route of this name; without one, the default route.

        That is `route`, else the route `default`, else the only one there is. Where there is no route at all, it is
        the cheapest of all providers.

        Raises:
            ConfigurationError: There is no such route, no provider, or no telling which route is meant.
        """
        usual = self.route or (next(iter(self.routes)) if len(self.routes) == 1 else DEFAULT_ROUTE)
        wanted = usual if name is None else name
        if wanted in self.routes:
            return self.routes[wanted]
        if not self.routes and wanted == DEFAULT_ROUTE:
            return Route(tuple(self.providers))
        if name is None and self.route is None:
            raise ConfigurationError(f"{self._source.name}: there are several routes: set `route` to one of them")
        raise ConfigurationError(f"unknown route {wanted!r}; {near(wanted, self.routes)}")

    def provider_list(
        self, registry: Registry | None = None, environ: Mapping[str, str] | None = None
    ) -> tuple[Provider, ...]:
        """The providers as the engine knows them, in the order of the configuration. No key is read yet.

        Args:
            registry: The adapters; None for those that are installed.
            environ: Where keys are looked for; None for the environment that this was loaded with.

        Raises:
            ConfigurationError: A setting does not fit its adapter.
            UnknownProvider: There is no adapter of that name.
            UnknownModel: A route or price names a model that is none.
            BrokenPlugin: The adapter's plugin could not be loaded.
            MissingKey: No provider is configured, and none was found in the environment.
        """
        environ = environ if environ is not None else _process(self._environ)
        return build_providers(self, self._source, registry or default_registry(), environ)

    def key_for(self, provider: str, given: Any) -> Key:
        """Another key for a provider, given as `api_key` may be; relative paths start from the file's folder.

        Raises:
            ConfigurationError: It is none; the message does not repeat it.
        """
        try:
            where = key_source(given)
        except ValueError as error:
            raise ConfigurationError(f"the key for {provider!r}: {error}") from None
        if where is None:
            raise ConfigurationError(f"the key for {provider!r} is None; leave it out, and the configured one is used")
        return Key(provider, where, _process(self._environ), self._source)

    def _check_routes(self) -> None:
        for name, route in self.routes.items():
            for index, candidate in enumerate(route.candidates):
                if candidate.provider not in self.providers:
                    keys = ("routes", name, "candidates", index)
                    raise UnknownProvider(
                        f"{self._source.where(keys)}: {dotted(keys)}: no provider {candidate.provider!r} is "
                        f"configured; {near(candidate.provider, {*self.providers, *_installed()})}"
                    )
        known = set(self.routes) or {DEFAULT_ROUTE}
        if self.route is not None and self.route not in known:
            place = self._source.where(("route",))
            raise ConfigurationError(f"{place}: unknown route {self.route!r}; {near(self.route, known)}")

    def _warn_of_written_keys(self) -> None:
        if self._source.folder is None:
            return  # in Python a text is no worse than any other way
        for name, provider in self.providers.items():
            if isinstance(provider.api_key, Written) and provider.api_key.is_secret:
                place = self._source.where(("providers", name, "api_key"))
                log.warning('%s: the key of %r is in the file itself; "env:NAME" or "file:PATH" hides it', place, name)


def _installed() -> set[str]:
    """The providers that need no section, as far as there are adapters for them."""
    return {*KNOWN} & default_registry().adapters.keys()


def _process(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environ is None else environ


def _discovered(environ: Mapping[str, str] | None, registry: Registry | None) -> dict[str, dict[str, Any]]:
    return files.discover((registry or default_registry()).adapters, _process(environ))
