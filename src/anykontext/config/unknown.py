"""Sections and settings that do not exist, each with the nearest that does."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from anykontext.config.explain import dotted
from anykontext.config.sections import (
    BudgetConfig,
    CandidateConfig,
    InputConfig,
    LedgerConfig,
    NetworkConfig,
    ProviderConfig,
    Route,
    TagBudget,
)
from anykontext.config.source import Keys, Source
from anykontext.model.words import near

# Where each section stands; `*` is any name or place in a list.
SECTIONS: Mapping[tuple[str, ...], type[BaseModel]] = {
    ("budget",): BudgetConfig,
    ("budget", "tags", "*"): TagBudget,
    ("input",): InputConfig,
    ("ledger",): LedgerConfig,
    ("network",): NetworkConfig,
    ("providers", "*"): ProviderConfig,
    ("routes", "*"): Route,
    ("routes", "*", "candidates", "*"): CandidateConfig,
}


def is_url_setting(key: object) -> bool:
    """Whether a setting of a provider may be an origin; its adapter tells later whether it is one."""
    return isinstance(key, str) and key.endswith("_url")


def settings_of(model: type[BaseModel]) -> set[str]:
    """The names that a section may hold, as they stand in a file."""
    return set(model.model_fields) - ({"urls"} if model is ProviderConfig else set())


def unknown_settings(sections: Mapping[str, Any], top: type[BaseModel], source: Source) -> Iterator[str]:
    """A sentence for each section or setting that does not exist."""
    for path, table in _tables(sections):
        model = SECTIONS[path[0]] if path[0] else top
        known = settings_of(model)
        for key in table:
            if path == ((), ()) and key == "route" and isinstance(table[key], Mapping):
                yield f"{source.where(('route',))}: a route is a section of its own: write [routes.NAME], with an s"
            if key in known or (model is ProviderConfig and is_url_setting(key)):
                continue
            what = "section" if isinstance(table[key], Mapping) else "setting"
            place = f" of {dotted(path[1])}" if path[1] else ""
            yield f"{source.where((*path[1], key))}: unknown {what} {key!r:.60}{place}; {near(str(key), known)}"


def _tables(sections: Mapping[str, Any]) -> Iterator[tuple[tuple[tuple[str, ...], Keys], Mapping[Any, Any]]]:
    yield ((), ()), sections
    for pattern in SECTIONS:
        for keys, found in _matches(sections, pattern, ()):
            yield (pattern, keys), found


def _matches(value: Any, pattern: tuple[str, ...], keys: Keys) -> Iterator[tuple[Keys, Mapping[Any, Any]]]:
    if not pattern:
        if isinstance(value, Mapping):
            yield keys, value
        return
    items: Any = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, list | tuple) and pattern[0] == "*":
        items = enumerate(value)
    for key, item in items:
        if pattern[0] in {"*", key}:
            yield from _matches(item, pattern[1:], (*keys, key))
