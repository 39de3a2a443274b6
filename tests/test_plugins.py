"""Plugins that work, plugins that do not, and who is told about them."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from anykontext.model.errors import BrokenPlugin, ConfigurationError, UnknownProvider
from anykontext.model.money import Price
from anykontext.model.request import MODELS
from anykontext.plugins import Plugin, Registry, default_registry
from anykontext_bfl.facts import FACTS

GOOD = """
from dataclasses import replace
from anykontext.adapting import hookimpl
from anykontext_bfl.facts import FACTS

class Echo:
    def __init__(self, name="echo"):
        self.facts = replace(FACTS, name=name)
    def submit(self, order): ...
    def poll(self, task): ...
    def read(self, reply, task): ...

@hookimpl
def anykontext_adapters(register):
    register(Echo())
"""
PRICE = """
["flux-kontext-pro"]
amount = "0.05"
unit = "image"
currency = "USD"
source = "the page of prices"
date = "2026-01-02"
evidence = "documented"
"""

Install = Callable[..., list[EntryPoint]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install distributions into a folder of their own; answers with the entry points of all of them."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, code: str, *, prices: str | None = None, distribution: str = "") -> list[EntryPoint]:
        package = tmp_path / f"plugin_{name}"
        package.mkdir()
        (package / "__init__.py").write_text(code)
        if prices is not None:
            (package / "prices.toml").write_text(prices)
        info = tmp_path / f"{distribution or name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[anykontext]\n{name.partition('_')[0]} = plugin_{name}\n")
        found = importlib.metadata.distributions(path=[str(tmp_path)])
        return [point for one in found for point in one.entry_points]

    yield install
    for module in [module for module in sys.modules if module.startswith("plugin_")]:
        del sys.modules[module]


def test_the_installed_adapter_of_bfl_is_found() -> None:
    registry = default_registry()

    assert registry.adapters["bfl"].facts.name == "bfl"
    assert registry.package("bfl") == "anykontext_bfl"
    assert registry.adapter("black-forest-labs") is registry.adapter("black_forest_labs") is registry.adapter("bfl")


def test_the_prices_of_bfl_are_those_of_its_sheet() -> None:
    prices = default_registry().prices("bfl")

    assert {model: price.amount for model, price in prices.items()} == {
        "flux-kontext-pro": Decimal("0.04"),
        "flux-kontext-max": Decimal("0.08"),
        "flux-1.1-pro": Decimal("0.04"),
        "flux-1.1-pro-ultra": Decimal("0.06"),
    }
    assert all(price.unit == "image" and price.currency == "USD" and price.source for price in prices.values())


def test_a_strangers_plugin_is_an_adapter_like_ours(install: Install) -> None:
    registry = Registry.load(install("echo", GOOD))

    assert registry.adapter("echo") is registry.adapters["echo"]
    assert registry.package("echo") == "plugin_echo"
    assert registry.models() == set(MODELS)
    assert not registry.broken


def test_a_model_that_only_a_plugin_knows_is_a_model() -> None:
    class Novel:
        facts = replace(FACTS, name="novel", models={"flux-9": FACTS.models["flux-kontext-pro"]})

    registry = Registry([Plugin("novel", "", "", (Novel(),))])  # type: ignore[arg-type]

    assert registry.models() == {*MODELS, "flux-9"}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import a_module_that_nobody_has", "a_module_that_nobody_has"),
        ("raise SystemExit('no main guard')", "no main guard"),
        ("def (", "SyntaxError"),
        (GOOD.replace("anykontext_adapters", "anykontext_adaptors"), "anykontext_adaptors"),
        (GOOD.replace("anykontext_adapters(register)", "anykontext_adapters(registre)"), "registre"),
        (GOOD.replace("@hookimpl", ""), "@hookimpl"),
        (GOOD.replace("register(Echo())", "register(Echo()); 1/0"), "ZeroDivisionError"),
        (GOOD.replace("register(Echo())", "register(Echo)"), "an instance, not the class"),
        (GOOD.replace("register(Echo())", "register('echo')"), "facts"),
        (GOOD.replace("register(Echo())", "register(Echo(''))"), "name is ''"),
        (GOOD.replace("register(Echo())", "register(Echo('Two Words'))"), "Two Words"),
        (GOOD.replace("register(Echo())", "register(Echo()); register(Echo())"), "twice"),
        (GOOD.replace("def poll(self, task): ...", "poll = 3"), "no poll"),
        (GOOD.replace("replace(FACTS, name=name)", "{'name': name}"), "no `facts` of type Facts"),
        (GOOD.replace("name=name)", "name=name, origins={})"), "origin 'api'"),
    ],
)
def test_a_broken_plugin_breaks_only_those_who_ask_for_it(install: Install, code: str, told: str) -> None:
    install("fine", GOOD.replace('"echo"', '"fine"'))

    registry = Registry.load(install("bad", code, distribution="anykontext-bad"))

    assert list(registry.adapters) == ["fine"]
    (broken,) = registry.broken
    assert (broken.name, broken.distribution) == ("bad", "anykontext-bad 1.2")
    with pytest.raises(BrokenPlugin) as raised:
        registry.adapter("bad")
    assert raised.value.__cause__ is broken.error
    assert "anykontext-bad 1.2" in str(raised.value)
    assert told in str(raised.value)
    assert "pip install --upgrade anykontext-bad" in str(raised.value)
    assert "pip uninstall anykontext-bad" in str(raised.value)


def test_a_broken_plugin_of_our_own_is_not_to_be_uninstalled(install: Install) -> None:
    registry = Registry.load(install("bad", "1/0", distribution="anykontext"))

    with pytest.raises(BrokenPlugin, match=r"pip install --force-reinstall anykontext$"):
        registry.adapter("bad")


def test_what_a_broken_plugin_had_registered_is_not_used_but_explained(install: Install) -> None:
    registry = Registry.load(install("bad", GOOD.replace("register(Echo())", "register(Echo()); 1/0")))

    assert "echo" not in registry.adapters
    with pytest.raises(BrokenPlugin, match=r"'bad' of bad 1\.2"):
        registry.adapter("echo")


def test_a_broken_plugin_of_no_known_distribution_is_explained_too() -> None:
    registry = Registry.load([EntryPoint("ghost", "plugin_ghost", "anykontext")])

    with pytest.raises(BrokenPlugin, match="plugin_ghost"):
        registry.adapter("ghost")


def test_two_plugins_of_one_name_are_both_named_and_neither_is_used(install: Install) -> None:
    install("echo_a", GOOD, distribution="first-echo")
    install("echo_b", GOOD, distribution="second-echo")

    registry = Registry.load(install("fine", GOOD.replace('"echo"', '"fine"')))

    assert list(registry.adapters) == ["fine"]
    assert registry.duplicates["echo"] == ("first-echo 1.2", "second-echo 1.2")
    with pytest.raises(ConfigurationError, match=r"first-echo 1\.2 and second-echo 1\.2"):
        registry.adapter("echo")


def test_an_entry_point_that_is_listed_twice_is_one_plugin(install: Install) -> None:
    points = install("echo", GOOD)

    assert list(Registry.load(points * 2).adapters) == ["echo"]


def test_a_misspelt_adapter_gets_the_right_word(install: Install) -> None:
    with pytest.raises(UnknownProvider, match="did you mean 'echo'"):
        Registry.load(install("echo", GOOD)).adapter("ehco")


@pytest.mark.parametrize("name", ["replicate", "together", "kie", "atlascloud", "fal", "fal-ai"])
def test_a_known_service_without_an_adapter_is_said_to_have_none_in_this_release(name: str) -> None:
    with pytest.raises(UnknownProvider) as raised:
        Registry().adapter(name)

    assert "this release brings none" in str(raised.value)
    assert "pip install" in str(raised.value)
    assert "did you mean" not in str(raised.value)


def test_a_subset_loads_nothing_else(install: Install) -> None:
    install("bad", "raise AssertionError('this must not be imported')")
    points = install("echo", GOOD)

    registry = Registry.load(points, subset=["echo"])

    assert list(registry.adapters) == ["echo"]
    assert registry.left_out == ("bad",)
    assert "plugin_bad" not in sys.modules
    with pytest.raises(UnknownProvider, match="ANYKONTEXT_PLUGINS"):
        registry.adapter("bad")


def test_a_misspelt_subset_gets_the_right_word(install: Install) -> None:
    with pytest.raises(ConfigurationError, match=r"ANYKONTEXT_PLUGINS.*'ehco'.*did you mean 'echo'"):
        Registry.load(install("echo", GOOD), subset=["ehco"])


@pytest.mark.parametrize(("value", "loaded"), [("bfl", True), (" bfl , ", True), ("", True), ("blf", False)])
def test_the_environment_names_the_plugins_to_load(value: str, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYKONTEXT_PLUGINS", value)
    default_registry.cache_clear()
    try:
        if loaded:
            assert "bfl" in default_registry().adapters
        else:
            with pytest.raises(ConfigurationError, match="did you mean 'bfl'"):
                default_registry()
    finally:
        default_registry.cache_clear()


def test_the_price_list_beside_an_adapter_is_read(install: Install) -> None:
    registry = Registry.load(install("echo", GOOD, prices=PRICE))

    expected = Price(Decimal("0.05"), "image", "USD", "the page of prices", date(2026, 1, 2), "documented")
    assert dict(registry.prices("echo")) == {"flux-kontext-pro": expected}


def test_an_adapter_without_a_price_list_has_no_prices(install: Install) -> None:
    assert not Registry.load(install("echo", GOOD)).prices("echo")


def test_a_plugin_that_is_a_single_module_has_no_package_and_no_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin_in_one_file.py").write_text(GOOD)

    registry = Registry.load([EntryPoint("echo", "plugin_in_one_file", "anykontext")])

    assert registry.package("echo") == ""
    assert not registry.prices("echo")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('amount = "0.05"', "amount = 0.05", "amount: a text"),
        ('"0.05"', '"-0.05"', "negative"),
        ('"0.05"', '"5 cents"', "amount in USD"),
        ('"image"', '"credit"', "image or megapixel is needed"),
        ('"USD"', '"usd"', "three capital letters are needed"),
        ("source =", "sauce =", "did you mean 'source'"),
        ('evidence = "documented"', "", "evidence: a text"),
        ("2026-01-02", "last week", "last week"),
        ("flux-kontext-pro", "flux-kontext-por", "did you mean 'flux-kontext-pro'"),
        ("flux-kontext-pro", "flux-kontext-pro/edits", "unknown model 'flux-kontext-pro/edits'"),
        (PRICE, "[", "prices.toml"),
        (PRICE, "flux = 3", "unknown model 'flux'"),
        (PRICE, '"flux-kontext-pro" = 3', "a table is needed"),
    ],
)
def test_a_wrong_price_list_is_named_with_what_is_wrong(install: Install, before: str, after: str, told: str) -> None:
    registry = Registry.load(install("echo", GOOD, prices=PRICE.replace(before, after)))

    with pytest.raises(ConfigurationError) as raised:
        registry.prices("echo")

    assert "plugin_echo" in str(raised.value)
    assert "prices.toml" in str(raised.value)
    assert told in str(raised.value)


def test_finding_plugins_imports_no_http_library() -> None:
    code = (
        "import sys, anykontext.plugins, anykontext.config; anykontext.plugins.default_registry(); "
        "print(sorted({'httpx', 'aiohttp', 'PIL', 'rich'} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
