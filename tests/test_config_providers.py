"""From a configuration to the engine's providers: adapters, origins, prices, and what is found by its key."""

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from anykontext.adapting import Facts
from anykontext.config import Config
from anykontext.engine.provider import Candidate, Provider
from anykontext.model.errors import BrokenPlugin, ConfigurationError, MissingKey, UnknownModel, UnknownProvider
from anykontext.model.money import Cost, Price
from anykontext.plugins import Plugin, Registry
from anykontext_bfl.facts import FACTS


class Stub:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def submit(self, order: object) -> None: ...
    def poll(self, task: object) -> None: ...
    def read(self, reply: object, task: object) -> None: ...


KIE = replace(
    FACTS,
    name="kie",
    origins={"api": "https://api.kie.ai", "upload": "https://kieai.redpandaai.co"},
    base_url_settings={"upload": "upload_url"},
    keys=(("KIE_API_KEY",),),
    siblings=("https://api.fluxapi.ai",),
)
ADAPTERS = (
    FACTS,
    KIE,
    *(replace(FACTS, name=name, keys=((f"{name.upper()}_KEY",),)) for name in ("fal", "acme", "zeta")),
)
REGISTRY = Registry(
    [Plugin(facts.name, "", "anykontext_bfl" if facts is FACTS else "", (Stub(facts),)) for facts in ADAPTERS]  # type: ignore[arg-type]
)


def providers(config: Config) -> dict[str, Provider]:
    return {provider.name: provider for provider in config.provider_list(REGISTRY, {})}


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        Config.load(file, environ={}, registry=REGISTRY).provider_list(REGISTRY)
    return str(raised.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anykontext.toml"


def test_a_provider_is_what_its_adapter_knows() -> None:
    bfl = providers(Config(providers={"bfl": {}}))["bfl"]

    assert (bfl.name, bfl.adapter.facts, dict(bfl.origins)) == ("bfl", FACTS, dict(FACTS.origins))
    assert (bfl.allow_http, bfl.poll_interval_s, bfl.max_in_flight) == (False, None, None)
    assert bfl.listed["flux-kontext-pro"].amount == Decimal("0.04")


def test_what_the_user_set_comes_first() -> None:
    config = Config(
        providers={
            "bfl-eu": {
                "adapter": "bfl",
                "base_url": "https://api.eu.bfl.ai/",
                "max_in_flight": 60,
                "poll_interval_s": 2,
                "prices": {"flux-kontext-pro": "0.03"},
            },
            "bfl": {},
        }
    )
    eu, bfl = config.provider_list(REGISTRY, {})

    assert (eu.name, eu.adapter) == ("bfl-eu", bfl.adapter)
    assert (eu.origins["api"], eu.max_in_flight, eu.interval_s) == ("https://api.eu.bfl.ai", 60, 2.0)
    assert eu.listed["flux-kontext-pro"] == Price.set_by_user(Decimal("0.03"))
    assert eu.listed["flux-kontext-max"] == bfl.listed["flux-kontext-max"]
    assert bfl.listed["flux-kontext-pro"].amount == Decimal("0.04")


def test_a_price_of_the_user_holds_for_both_modes_unless_he_names_one(tmp_path: Path) -> None:
    class Listed(Registry):
        def prices(self, name: str):  # type: ignore[no-untyped-def]
            price = super().prices("bfl")["flux-kontext-pro"]
            return {"flux-kontext-pro/edit": price, "flux-kontext-pro/generate": price}

    registry = Listed(REGISTRY.plugins)
    whole = Config(providers={"bfl": {"prices": {"flux-kontext-pro": "0.01"}}})
    half = Config(providers={"bfl": {"prices": {"flux-kontext-pro/edit": "0.02"}}})

    def price(config: Config, mode: str) -> Cost:
        (bfl,) = config.provider_list(registry, {})
        return Candidate(bfl, "flux-kontext-pro").price(mode)

    assert price(whole, "edit") == price(whole, "generate") == Cost(Decimal("0.01"), "USD", "listed")
    assert price(half, "edit").amount == Decimal("0.02")
    assert price(half, "generate").amount == Decimal("0.04")


@pytest.mark.parametrize("name", ["black_forest_labs", "black-forest-labs"])
def test_an_adapter_is_known_by_its_other_names_too(name: str) -> None:
    assert providers(Config(providers={name: {}}))[name].adapter.facts.name == "bfl"
    assert providers(Config(providers={"x": {"adapter": name}}))["x"].listed


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://proxy.example/bfl/", "https://proxy.example/bfl"),
        ("https://proxy.example/v1", "https://proxy.example/v1"),
        (" https://API.example:8443 ", "https://api.example:8443"),
        ("https://API.bfl.ai:443/V1", "https://api.bfl.ai/V1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_base_url_keeps_its_path_and_loses_the_slash_at_its_end(given: str, kept: str) -> None:
    assert providers(Config(providers={"bfl": {"base_url": given}}))["bfl"].origins["api"] == kept


@pytest.mark.parametrize(
    "given",
    [
        *("api.bfl.ai", "ftp://api.bfl.ai", "https://", "https:///v1", "https://api.bfl.ai:http", "https://[::1"),
        *("https://api.bfl.ai?x=1", "https://api.bfl.ai#x", "https://api.bfl.ai?", "https://user:pw-secret@api.bfl.ai"),
        *(
            "https://api.bfl.ai\\@evil.example",
            "https://api.bfl.ai/a b",
            "https://api.bfl.ai/\n",
            "https://b\u00fcfl.ai",
            "",
        ),
    ],
)
def test_what_is_no_base_url_is_refused(given: str) -> None:
    if given.endswith("\n"):
        given += "x"
    with pytest.raises(ConfigurationError, match=r"providers\.bfl\.base_url: ") as raised:
        Config(providers={"bfl": {"base_url": given}})

    assert "pw-secret" not in str(raised.value)


def test_http_beyond_loopback_needs_leave(file: Path) -> None:
    text = '[providers.bfl]\nbase_url = "http://proxy.example"\n'

    said = refusal(file, text)

    assert said.startswith(f"{file}, line 2: providers.bfl.base_url: http would send the key unprotected")
    assert "allow_http = true" in said
    file.write_text(text + "allow_http = true\n")
    (bfl,) = Config.load(file, environ={}).provider_list(REGISTRY)
    assert (bfl.origins["api"], bfl.allow_http) == ("http://proxy.example", True)


def test_a_second_origin_has_the_setting_that_its_adapter_names(file: Path) -> None:
    kie = providers(Config(providers={"kie": {"upload_url": "http://127.0.0.1:9000/up/"}}))["kie"]

    assert dict(kie.origins) == {"api": "https://api.kie.ai", "upload": "http://127.0.0.1:9000/up"}
    moved = providers(Config(providers={"kie": {"base_url": "https://api.kie.ai"}}))["kie"]
    assert set(moved.origins) == {"api", "upload"}
    said = refusal(file, '[providers.kie]\n\nuplod_url = "https://kie.ai"\n')
    assert said == f"{file}, line 3: unknown setting 'uplod_url' of providers.kie; did you mean 'upload_url'?"
    said = refusal(file, '[providers.bfl]\nbasse_url = "https://kie.ai"\n')
    assert said.endswith("line 2: unknown setting 'basse_url' of providers.bfl; did you mean 'base_url'?")
    assert "line 2: providers.kie.upload_url: http would" in refusal(file, "[providers.kie]\nupload_url = 'http://x.y'")


def test_an_adapter_that_is_not_there_is_told_with_the_line_that_names_it(file: Path) -> None:
    def unknown(text: str) -> str:
        file.write_text(text)
        with pytest.raises(UnknownProvider) as raised:
            Config.load(file, environ={}).provider_list(REGISTRY)
        return str(raised.value).removeprefix(f"{file}, ")

    assert unknown("\n[providers.blf]").startswith("line 2: no adapter 'blf' is installed; did you mean 'bfl'")
    assert unknown("[providers.eu]\n\nadapter = 'blf'").startswith("line 3: no adapter 'blf'")
    assert unknown("[providers.bfl]\n[routes.x]\ncandidates = ['bfl', 'together']").startswith(
        "line 3: no adapter 'together' is installed: this release brings none for Together AI"
    )


def test_a_provider_of_a_broken_plugin_is_told_with_its_line_and_its_cause(file: Path) -> None:
    registry = Registry.load([EntryPoint("ghost", "a_module_that_nobody_has", "anykontext")])
    file.write_text("[providers.ghost]")

    with pytest.raises(BrokenPlugin, match=r"line 1: plugin 'ghost' cannot be used: ModuleNotFoundError") as raised:
        Config.load(file, environ={}).provider_list(registry)

    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_a_model_that_is_none_gets_the_right_word(file: Path) -> None:
    def unknown(text: str) -> str:
        file.write_text(text)
        with pytest.raises(UnknownModel) as raised:
            Config.load(file, environ={}).provider_list(REGISTRY)
        return str(raised.value).removeprefix(f"{file}, ")

    assert unknown("[providers.bfl.prices]\n'flux-kontext-por' = '1'").startswith(
        "line 2: unknown model 'flux-kontext-por'; did you mean 'flux-kontext-pro'"
    )
    assert unknown("[routes.x]\ncandidates = ['bfl/flux-kontext-por']").startswith(
        "line 2: 'bfl' has no model 'flux-kontext-por'; did you mean 'flux-kontext-pro'"
    )


def test_what_has_its_key_in_the_environment_is_a_provider() -> None:
    environ = {"ZETA_KEY": "z", "KIE_API_KEY": "k", "ACME_KEY": "a", "FAL_KEY": "f", "BFL_API_KEY": "b"}

    config = Config.from_env(environ, REGISTRY)

    assert list(config.providers) == ["bfl", "fal", "kie", "acme", "zeta"]
    assert config.route_named().strategy == "cheapest"
    assert [str(candidate) for candidate in config.route_named().candidates] == list(config.providers)
    assert [one.key().get_secret_value() for one in config.provider_list(REGISTRY)] == ["b", "f", "k", "a", "z"]
    assert list(Config.from_env({"KIE_API_KEY": " ", "FAL_KEY": "f"}, REGISTRY).providers) == ["fal"]


def test_a_file_without_providers_takes_those_of_the_environment(file: Path) -> None:
    file.write_text('policy = "strict"\n[routes.x]\ncandidates = ["acme"]\n')

    config = Config.load(file, environ={"ACME_KEY": "a"}, registry=REGISTRY)

    assert (config.policy, list(config.providers)) == ("strict", ["acme"])


def test_without_any_provider_every_variable_is_named() -> None:
    registry = Registry(REGISTRY.plugins, Registry.load([EntryPoint("ghost", "no_such_module", "anykontext")]).broken)

    with pytest.raises(MissingKey) as raised:
        Config.from_env({}, registry).provider_list(registry)

    assert all(name in str(raised.value) for name in ("BFL_API_KEY", "KIE_API_KEY", "ACME_KEY"))
    assert "plugin 'ghost' cannot be used" in str(raised.value)


def test_the_config_of_a_process_is_that_of_its_environment(tmp_path: Path) -> None:
    code = "import anykontext.config as c; print(*[p.name for p in c.Config.load().provider_list()])"
    environ = {"BFL_API_KEY": "b", "HOME": str(tmp_path), "PATH": ""}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["bfl"]


@pytest.mark.parametrize("elsewhere", ["https://api.fluxapi.ai", "https://proxy.example/kie", "http://127.0.0.1:9000"])
def test_a_key_for_another_base_url_does_not_go_to_the_providers_further_hosts(elsewhere: str) -> None:
    kie = providers(Config(providers={"kie": {"base_url": elsewhere}}))["kie"]
    named = providers(Config(providers={"kie": {"base_url": elsewhere, "upload_url": "https://up.example"}}))["kie"]

    assert dict(kie.origins) == {"api": elsewhere}
    assert dict(named.origins) == {"api": elsewhere, "upload": "https://up.example"}


def test_listed_prices_do_not_hold_at_a_sibling_service_and_the_users_do() -> None:
    plugin = Plugin("kie", "", "anykontext_bfl", (Stub(KIE),))  # type: ignore[arg-type]

    def listed(**settings: Any) -> dict[str, Decimal]:
        (kie,) = Config(providers={"kie": settings}).provider_list(Registry([plugin]), {})
        return {name: price.amount for name, price in kie.listed.items()}

    assert listed(base_url="https://proxy.example")["flux-kontext-pro"] == Decimal("0.04")
    assert listed(base_url="https://api.fluxapi.ai") == {}
    own = {"flux-kontext-pro": "0.03"}
    assert listed(base_url="https://api.fluxapi.ai", prices=own) == {"flux-kontext-pro": Decimal("0.03")}
