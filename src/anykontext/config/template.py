"""A first `anykontext.toml`, from the keys that are found in the environment; no key is written into it.

Settings that are not needed stand in comments with their defaults, which are read from the sections themselves.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from anykontext.adapting import Adapter
from anykontext.config.effective import plain
from anykontext.config.files import discover, preferred
from anykontext.config.keys import Variables
from anykontext.config.main import Config
from anykontext.config.sections import (
    BudgetConfig,
    InputConfig,
    LedgerConfig,
    NetworkConfig,
    ProviderConfig,
    Route,
    TagBudget,
)
from anykontext.config.toml import beside, header, key, toml
from anykontext.plugins import Registry

HEAD = """\
# anykontext.toml: which providers are used, and how a request chooses among them.
# What stands in comments is the default, or an example; `anykontext config show` tells what holds, and
# `anykontext check` whether the keys are valid. Times are in seconds, amounts in USD.
"""
NO_KEY = """\
# No key was found in the environment. Set a variable that is named below, and write this file anew with --force, or
# take the # away from a section. Until then every provider whose key is in the environment is used.
"""

# What a setting is for, in a few words; every setting of every section has its line.
WORDS: Mapping[type[BaseModel], Mapping[str, str]] = {
    Config: {
        "policy": "adjust: dials are fitted to the provider, and reported; strict: any difference refuses",
        "route": "the route of calls that name none",
    },
    ProviderConfig: {
        "adapter": "for a second use of one service, under another name",
        "api_key": 'where the key is: "env:NAME" or "file:PATH"',
        "base_url": "another host, a proxy of yours, or an emulator",
        "max_in_flight": "tasks that may run at once",
        "poll_interval_s": "a fixed interval instead of the learnt one",
        "allow_http": "whether the key may go over http beyond this machine",
        "prices": "your price of one image, by model",
    },
    Route: {
        "candidates": '"provider", "provider/model", or { provider = "bfl", model = "...", weight = 2 }',
        "strategy": "ordered, cheapest, fastest, weighted or round-robin",
        "failover_on": "the ends after which the next one is tried",
        "on_maybe_charged": "or continue, after what may have been paid",
        "on_moderated": "or continue, after a refused prompt or image",
        "when_full": "next: pass over one at its cap; wait: wait for it",
        "max_price_usd": "the most for one request",
        "unknown_price": "under a cap; or allow",
        "deadline_s": "from end to end",
        "attempt_share": "what one candidate may use of the time that is left",
        "regions": "only where the work is done in one of these",
        "public_uploads": "whether inputs may be put on a public URL",
        "explore": "fastest: how often one of which little is known goes first",
        "breaker": "pass over one that has just been out",
    },
    BudgetConfig: {
        "daily_usd": "the most in a day",
        "monthly_usd": "the most in a month",
        "max_at_risk_usd": "the most at risk when a route goes on after what may be paid",
        "tags": "caps for each value of a tag: see below",
    },
    TagBudget: {
        "daily_usd": "the most that one value of this tag may spend in a day",
        "monthly_usd": "the same in a month",
    },
    LedgerConfig: {
        "url": "SQLite in $ANYKONTEXT_HOME; memory: gone with the process",
        "prompts": "or digest, which keeps no words",
        "keep_days": "how long jobs are kept",
    },
    InputConfig: {
        "metadata": "what is removed: private (position, serial numbers, thumbnails), all, or keep",
        "allow": "the forms in which an image may be given",
    },
    NetworkConfig: {
        "proxy": "for everything; without it, what the environment says",
        "ca_file": "certificates to trust instead of the usual ones, as PEM",
    },
}
# Where the default is none: what might stand there.
EXAMPLES: Mapping[tuple[type[BaseModel], str], Any] = {
    (Config, "route"): "default",
    (ProviderConfig, "poll_interval_s"): 0.5,
    (Route, "max_price_usd"): "0.06",
    (Route, "regions"): ["eu"],
    (BudgetConfig, "daily_usd"): "20",
    (BudgetConfig, "monthly_usd"): "200",
    (BudgetConfig, "max_at_risk_usd"): "1",
    (TagBudget, "daily_usd"): "1",
    (TagBudget, "monthly_usd"): "10",
    (NetworkConfig, "proxy"): "http://proxy.example.com:3128",
    (NetworkConfig, "ca_file"): "ca.pem",
}


def template(registry: Registry, environ: Mapping[str, str]) -> str:
    """The text of the file; it means the same as `Config.from_env`."""
    found = list(discover(registry.adapters, environ))
    others = [name for name in preferred(registry.adapters) if name not in found]
    parts = [HEAD if found else HEAD + NO_KEY, *_section(Config, {"route": "default"} if found else {})]
    for name in (*found, *others):
        whole = name in found or (not found and name == others[0])
        parts += _provider(name, registry.adapters[name], environ, is_used=name in found, whole=whole)
    route = {"candidates": found or others or ["bfl"], "strategy": "cheapest"}
    parts += ["", *_titled(("routes", "default"), Route, route if found else {}, examples=route)]
    for keys, section in (
        (("budget",), BudgetConfig),
        (("budget", "tags", "customer"), TagBudget),
        (("ledger",), LedgerConfig),
        (("input",), InputConfig),
        (("network",), NetworkConfig),
    ):
        parts += ["", *_titled(keys, section, {})]
    return "\n".join(parts) + "\n"


def _provider(name: str, adapter: Adapter, environ: Mapping[str, str], *, is_used: bool, whole: bool) -> Iterator[str]:
    """The section of a provider; where it is not `whole`, only where its key would be."""
    facts = adapter.facts
    variables = Variables(facts.keys)
    found = variables.found(environ) or next(iter(facts.keys), ())
    written = {"api_key": f"env:{found[0]}"} if len(found) == 1 else {}
    yield ""
    if len(found) > 1:
        yield f"# The key is taken from {' and '.join(found)} together."
    if not whole:
        told = written.get("api_key", f"set {' and '.join(found)}" if found else "")
        yield f"# {header(('providers', name))}"
        yield f"# api_key = {toml(told)}" if written else f"# its key: {told}"
        return
    examples = {
        "adapter": name,
        "api_key": "env:NAME",
        "base_url": facts.origins["api"],
        "max_in_flight": facts.max_active or 10,
        **written,
        **{setting: facts.origins[origin] for origin, setting in facts.base_url_settings.items()},
    }
    words = {setting: f"the host for {origin}" for origin, setting in facts.base_url_settings.items()}
    written = written if is_used else {}
    yield from _titled(("providers", name), ProviderConfig, written, examples, words, is_used=is_used)
    price = {next(iter(sorted(facts.models)), "flux-kontext-pro"): "0.04"}
    yield from _titled(("providers", name, "prices"), None, {}, price, dict.fromkeys(price, _PRICE))


_PRICE = WORDS[ProviderConfig]["prices"]


def _titled(
    keys: tuple[str, ...],
    section: type[BaseModel] | None,
    written: Mapping[str, Any],
    examples: Mapping[str, Any] | None = None,
    words: Mapping[str, str] | None = None,
    *,
    is_used: bool = False,
) -> Iterator[str]:
    """A section under its header, which is a comment when nothing in it is written."""
    yield header(keys) if written or is_used else f"# {header(keys)}"
    yield from _section(section, written, examples or {}, words or {})


def _section(
    section: type[BaseModel] | None,
    written: Mapping[str, Any],
    examples: Mapping[str, Any] | None = None,
    words: Mapping[str, str] | None = None,
) -> list[str]:
    """The settings of a section: what is written, and the rest as comments."""
    told = {**(WORDS[section] if section else {}), **(words or {})}
    values = {**_defaults(section), **(examples or {}), **written}
    lines = []
    for name, words_of_it in told.items():
        if name in values:
            line = f"{key(name)} = {toml(plain(values[name]))}"
            lines.append((line if name in written else f"# {line}", words_of_it))
    return beside(lines)


def _defaults(section: type[BaseModel] | None) -> dict[str, Any]:
    if section is None:
        return {}
    found = {
        name: field.default
        for name, field in section.model_fields.items()
        if field.default is not PydanticUndefined and field.default is not None and field.default != ()
    }
    examples = {name: value for (where, name), value in EXAMPLES.items() if where is section}
    tables = {"providers", "routes", "budget", "ledger", "input", "network", "prices", "urls", "tags"}
    return {name: value for name, value in {**found, **examples}.items() if name not in tables}
