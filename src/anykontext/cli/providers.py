"""`providers`: what every installed adapter can do."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from anykontext.cli.options import config_option, json_option, said_options, say_of
from anykontext.cli.say import Say

if TYPE_CHECKING:
    from anykontext.model.money import Price
    from anykontext.plugins import Registry


@click.command()
@config_option
@json_option
@said_options
def providers(**given: Any) -> None:
    """Show what every provider can do: models, modes, options with their ranges, prices, input images, and when
    it was last checked against the real service.

    It needs no key and no configuration, and tells which providers are configured.
    """
    import json

    from anykontext.cli import matrix
    from anykontext.cli.logs import logs
    from anykontext.cli.tables import show
    from anykontext.plugins import default_registry

    say = say_of(given)
    with logs(say):
        registry = default_registry()
        configured = _configured(given["config"], say, registry)
        broken = _broken(registry)
        prices = {name: _prices(registry, name, broken) for name in registry.adapters}
        for old in _old(prices):
            say.warning(old)
        for trouble in broken:
            say.warning(f"{trouble['message']}. {trouble['remedy']}")
        if say.as_json:
            found = [
                matrix.as_json(adapter, prices[name], configured.get(name, []))
                for name, adapter in registry.adapters.items()
            ]
            say.result(json.dumps({"providers": found, "broken": broken}))
            return
        for name, adapter in registry.adapters.items():
            title = matrix.title(adapter, configured.get(name, []))
            show(say, matrix.HEADS, [row.cells for row in matrix.rows(adapter.facts, prices[name])], title)
            say.result("")


def _configured(config: str | None, say: Say, registry: "Registry") -> dict[str, list[str]]:
    """The names in the configuration, by adapter; one that cannot be read matters only when it was asked for."""
    from anykontext.config import Config
    from anykontext.model.errors import ConfigurationError
    from anykontext.plugins import ALIASES

    try:
        sections = Config.load(config, registry=registry).providers
    except ConfigurationError as error:
        if config is not None:
            raise
        say.warning(f"the configuration cannot be used, so none is shown as configured: {error}")
        return {}
    found: dict[str, list[str]] = {}
    for name, section in sections.items():
        adapter = section.adapter or name
        found.setdefault(ALIASES.get(adapter, adapter), []).append(name)
    return found


def _broken(registry: "Registry") -> list[dict[str, str]]:
    found = [{"plugin": one.name, "message": str(one), "remedy": one.remedy} for one in registry.broken]
    for name, whose in registry.duplicates.items():
        message = f"two plugins bring an adapter {name!r}: {' and '.join(whose)}"
        found.append({"plugin": name, "message": message, "remedy": "Uninstall one of them"})
    return found


def _old(prices: "Mapping[str, Mapping[str, Price]]") -> list[str]:
    """What is to be said of price lists that have grown old."""
    from datetime import UTC, datetime

    from anykontext.routing.prices import is_old

    today = datetime.now(UTC).date()
    dates = {
        name: [one.date for one in lines.values() if one.date and is_old(one, today)] for name, lines in prices.items()
    }
    return [
        f"listed prices of {name} are of {min(found)}, more than a year ago, and may be wrong"
        for name, found in dates.items()
        if found
    ]


def _prices(registry: "Registry", name: str, broken: list[dict[str, str]]) -> "Mapping[str, Price]":
    from anykontext.model.errors import ConfigurationError

    try:
        return registry.prices(name)
    except ConfigurationError as error:
        broken.append({"plugin": name, "message": str(error), "remedy": "Install it anew"})
        return {}
