"""Which adapters are installed: plugins of the entry-point group `anykontext`, each loaded behind a guard.

A plugin that cannot be loaded breaks nobody but those who ask for it. Every plugin gets a plugin manager of its own,
so that what is wrong with one (a misspelt hook, a wrong argument) is never blamed on another. The price list of an
adapter is the file `prices.toml` in the package that holds its plugin; `anykontext.model.money` describes its format.
"""

import functools
import importlib
import importlib.resources
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
from pydantic import SecretStr

from anykontext.adapting import Adapter, Facts, InputImage, Refused, hookspecs
from anykontext.model.errors import BrokenPlugin, ConfigurationError, UnknownProvider
from anykontext.model.frozen import Frozen
from anykontext.model.money import Price, price_list
from anykontext.model.request import MODELS
from anykontext.model.words import near

GROUP = hookspecs.PROJECT
SUBSET_VARIABLE = "ANYKONTEXT_PLUGINS"

# Other spellings of an adapter's name that people bring along.
ALIASES = {"black-forest-labs": "bfl", "black_forest_labs": "bfl", "fal-ai": "fal", "fal_ai": "fal"}
# Services that are known to host the models, whether or not there is an adapter for them.
SERVICES = {
    "atlascloud": "AtlasCloud",
    "azure": "Azure AI Foundry",
    "bfl": "Black Forest Labs",
    "deepinfra": "DeepInfra",
    "fal": "fal.ai",
    "fireworks": "Fireworks",
    "kie": "kie.ai",
    "novita": "Novita",
    "replicate": "Replicate",
    "runware": "Runware",
    "segmind": "Segmind",
    "together": "Together AI",
    "wavespeed": "WaveSpeed",
}
_PLAIN_WORD = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was loaded.

    Attributes:
        name: The name of its entry point.
        distribution: What was installed, with its version; empty when that is not known.
        package: The package that holds it; empty when it is a single module.
        adapters: What it registered.
    """

    name: str
    distribution: str
    package: str
    adapters: tuple[Adapter, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be loaded.

    Attributes:
        name: The name of its entry point.
        distribution: What was installed, with its version; empty when that is not known.
        error: What went wrong.
        adapters: The names of adapters that it had registered before that; they are not used.
    """

    name: str
    distribution: str
    error: BaseException
    adapters: tuple[str, ...] = ()

    def __str__(self) -> str:
        whose = f" of {self.distribution}" if self.distribution else ""
        return f"plugin {self.name!r}{whose} cannot be used: {type(self.error).__name__}: {self.error}"

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        package = self.distribution.partition(" ")[0]
        if package == hookspecs.PROJECT:
            return f"Install it anew: pip install --force-reinstall {package}"
        if package:
            return f"Update it (pip install --upgrade {package}) or remove it (pip uninstall {package})"
        return "Update or remove what registers it"


class NotAnAdapter(TypeError):
    """What a plugin registered cannot be used as an adapter."""


class Registry:
    """The adapters that are installed.

    Attributes:
        adapters: The usable ones, by name.
        plugins: The plugins that were loaded.
        broken: The plugins that could not be loaded.
        duplicates: Adapter names that several plugins claim -> their distributions; none of them is used.
        left_out: Names of entry points that were not loaded because a subset was asked for.
    """

    def __init__(
        self, plugins: Iterable[Plugin] = (), broken: Iterable[Broken] = (), left_out: Iterable[str] = ()
    ) -> None:
        self.plugins = tuple(plugins)
        self.broken = tuple(broken)
        self.left_out = tuple(left_out)
        claims: dict[str, list[tuple[Plugin, Adapter]]] = {}
        for plugin in self.plugins:
            for adapter in plugin.adapters:
                claims.setdefault(adapter.facts.name, []).append((plugin, adapter))
        self._plugin = {name: found[0][0] for name, found in claims.items() if len(found) == 1}
        self._prices: dict[str, Mapping[str, Price]] = {}  # by package: a file is read once
        self.adapters: Mapping[str, Adapter] = Frozen(
            {name: found[0][1] for name, found in claims.items() if len(found) == 1}
        )
        self.duplicates: Mapping[str, tuple[str, ...]] = Frozen(
            {
                name: tuple(plugin.distribution or f"plugin {plugin.name!r}" for plugin, _ in found)
                for name, found in claims.items()
                if len(found) > 1
            }
        )

    @classmethod
    def load(cls, entry_points: Iterable[EntryPoint] | None = None, subset: Iterable[str] | None = None) -> "Registry":
        """Load the plugins of these entry points, or of all that are installed.

        Args:
            entry_points: Where the plugins are.
            subset: Names of entry points; only these are loaded. None for all.

        Raises:
            ConfigurationError: The subset names an entry point that is not installed.
        """
        found = {_identity(point): point for point in (_installed() if entry_points is None else entry_points)}
        points = sorted(found.values(), key=_identity)
        names = {point.name for point in points}
        wanted = names if subset is None else set(subset)
        for name in sorted(wanted - names):
            raise ConfigurationError(f"{SUBSET_VARIABLE}: no plugin {name!r} is installed; {near(name, names)}")
        loaded = [_load(point) for point in points if point.name in wanted]
        return cls(
            plugins=(one for one in loaded if isinstance(one, Plugin)),
            broken=(one for one in loaded if isinstance(one, Broken)),
            left_out=sorted(names - wanted),
        )

    def adapter(self, name: str) -> Adapter:
        """The adapter of this name.

        Raises:
            BrokenPlugin: Its plugin could not be loaded; chained to what went wrong.
            ConfigurationError: Several plugins claim the name.
            UnknownProvider: No plugin brings it.
        """
        if name in self.adapters:
            return self.adapters[name]
        if name in self.duplicates:
            whose = " and ".join(self.duplicates[name])
            raise ConfigurationError(f"two plugins bring an adapter {name!r}: {whose}. Uninstall one of them")
        for broken in self.broken:
            if name == broken.name or name in broken.adapters:
                raise BrokenPlugin(f"{broken}. {broken.remedy}") from broken.error
        if name in ALIASES:
            return self.adapter(ALIASES[name])
        raise UnknownProvider(self._unknown(name))

    def _unknown(self, name: str) -> str:
        said = f"no adapter {name!r} is installed"
        if name in self.left_out:
            return f"{said}: its plugin is left out, because {SUBSET_VARIABLE} does not name it"
        if name in SERVICES:
            return (
                f"{said}: this release brings none for {SERVICES[name]} (installed are: "
                f"{', '.join(sorted(self.adapters)) or 'none'}). A plugin that brings one is found by itself once you "
                f"pip install it: it is in the entry-point group {GROUP!r}"
            )
        return f"{said}; {near(name, self.adapters)}"

    def models(self) -> frozenset[str]:
        """Every canonical model that anykontext or an adapter knows."""
        return frozenset(MODELS).union(*(adapter.facts.models for adapter in self.adapters.values()))

    def package(self, name: str) -> str:
        """The package that holds an adapter's plugin; empty when the plugin is a single module.

        Raises:
            ConfigurationError: As `adapter` does.
        """
        return self._plugin[self.adapter(name).facts.name].package

    def upload(self, name: str) -> Callable[[InputImage, SecretStr, float], str | Refused] | None:
        """The upload by a vendor's SDK that an adapter brings: the module `upload` beside it, imported when first used.

        Raises:
            ConfigurationError: As `adapter` does.
        """
        package = self.package(name)
        if not package or importlib.util.find_spec(f"{package}.upload") is None:
            return None

        def upload(image: InputImage, key: SecretStr, timeout_s: float) -> str | Refused:
            placed: str | Refused = importlib.import_module(f"{package}.upload").upload(image, key, timeout_s)
            return placed

        return upload

    def prices(self, name: str) -> Mapping[str, Price]:
        """What an image costs, by model or `model/mode`: the adapter's `prices.toml`; empty when it has none.

        Raises:
            ConfigurationError: The file cannot be read or does not have the format; it is named. Or as `adapter` does.
        """
        package = self.package(name)
        if package not in self._prices:
            self._prices[package] = self._price_list(package) if package else Frozen()
        return self._prices[package]

    def _price_list(self, package: str) -> Mapping[str, Price]:
        file = importlib.resources.files(package) / "prices.toml"
        try:
            return Frozen(price_list(file.read_text(encoding="utf-8"), self.models()) if file.is_file() else {})
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the price list {file}: {error}") from error


@functools.cache
def default_registry() -> Registry:
    """What is installed, loaded once; `$ANYKONTEXT_PLUGINS` ("bfl,fal") limits it to these plugins.

    Raises:
        ConfigurationError: The variable names a plugin that is not installed.
    """
    words = [word.strip() for word in os.environ.get(SUBSET_VARIABLE, "").split(",")]
    return Registry.load(subset=[word for word in words if word] or None)


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


def _identity(point: EntryPoint) -> tuple[str, str, str]:
    return (point.name, _distribution(point), point.value)


def _distribution(point: EntryPoint) -> str:
    """Name and version of what was installed; a damaged installation may have neither."""
    if point.dist is None:
        return ""
    metadata = point.dist.metadata
    return " ".join(str(metadata[key]) for key in ("Name", "Version") if metadata[key])


def _load(point: EntryPoint) -> Plugin | Broken:
    found: dict[str, Adapter] = {}
    distribution = _distribution(point)
    try:
        _call_hook(point, found)
        package = _package(point)
    # A stranger's code may fail in any way, a script without its main guard even by leaving.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        return Broken(point.name, distribution, error, tuple(found))
    return Plugin(point.name, distribution, package, tuple(found.values()))


def _call_hook(point: EntryPoint, found: dict[str, Adapter]) -> None:
    def register(adapter: Adapter) -> None:
        for complaint in _complaints(adapter):
            raise NotAnAdapter(complaint)
        if found.setdefault(adapter.facts.name, adapter) is not adapter:
            raise NotAnAdapter(f"the adapter {adapter.facts.name!r} is registered twice")

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(point.load(), name=point.name)
    manager.check_pending()
    manager.hook.anykontext_adapters(register=register)
    if not found:
        raise NotAnAdapter("it registers no adapter: a function `anykontext_adapters` with @hookimpl does that")


def _package(point: EntryPoint) -> str:
    module = importlib.import_module(point.module)
    return point.module if hasattr(module, "__path__") else (module.__package__ or "")


def _complaints(adapter: Any) -> Iterator[str]:
    if isinstance(adapter, type):
        yield f"register({adapter.__name__}()) is needed: an instance, not the class"
    facts = getattr(adapter, "facts", None)
    if not isinstance(facts, Facts):
        yield f"{type(adapter).__name__} is not an adapter: it has no `facts` of type Facts"
        return
    if not isinstance(facts.name, str) or not _PLAIN_WORD.fullmatch(facts.name):
        yield f"the adapter's name is {facts.name!r}: a word of small letters, digits, - and _ is needed"
    missing = [name for name in ("submit", "poll", "read") if not callable(getattr(adapter, name, None))]
    if missing:
        yield f"the adapter {facts.name!r} has no {' and no '.join(missing)}"
    if "api" not in facts.origins:
        yield f"the adapter {facts.name!r} has no origin 'api' in its facts"
