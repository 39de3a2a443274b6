"""The providers of a configuration before it is checked: those it implies, and their settings in our form."""

from collections.abc import Iterator, Mapping
from typing import Any

from anykontext.config.sections import CandidateConfig, Route
from anykontext.config.unknown import is_url_setting

# Providers that a route may name without a section for them, in the order in which those found by their keys stand:
# at equal prices the first is taken.
KNOWN = ("bfl", "fal", "kie", "replicate", "together", "atlascloud")


def with_providers(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The sections with one for each known provider that a route names, and `…_url` settings gathered in `urls`."""
    given = sections.get("providers", {})
    if not isinstance(given, Mapping):
        return dict(sections)
    named = dict.fromkeys(name for name in _in_routes(sections.get("routes")) if name in KNOWN and name not in given)
    return {
        **sections,
        "providers": {**{name: _urls_gathered(one) for name, one in given.items()}, **{name: {} for name in named}},
    }


def _in_routes(routes: Any) -> Iterator[str]:
    for route in routes.values() if isinstance(routes, Mapping) else ():
        candidates = route.candidates if isinstance(route, Route) else None
        if isinstance(route, Mapping):
            candidates = route.get("candidates")
        for candidate in candidates if isinstance(candidates, list | tuple) else ():
            yield from _provider_of(candidate)


def _provider_of(candidate: Any) -> Iterator[str]:
    if isinstance(candidate, CandidateConfig):
        yield candidate.provider
    elif isinstance(candidate, str):
        yield candidate.partition("/")[0]
    elif isinstance(candidate, Mapping) and isinstance(candidate.get("provider"), str):
        yield candidate["provider"]


def _urls_gathered(section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    urls = {key: value for key, value in section.items() if is_url_setting(key) and key != "base_url"}
    rest = {key: value for key, value in section.items() if key not in urls}
    return {**rest, "urls": urls} if urls else rest
