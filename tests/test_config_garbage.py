"""Whatever is in a configuration: no key is shown, and nothing but a `ConfigurationError` is raised."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from anykontext.config import Config
from anykontext.model.errors import ConfigurationError
from anykontext.plugins import Registry

NOTHING = Registry()
KEY = "bfl-0123456789-very-secret"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anykontext.toml"


def load(file: Path, text: str) -> Config:
    file.write_text(text, encoding="utf-8")
    return Config.load(file, environ={}, registry=NOTHING)


def outcome(make: Callable[[], Config]) -> tuple[Config | None, ConfigurationError | None]:
    try:
        return make(), None
    except ConfigurationError as error:
        return None, error


def test_a_key_in_a_file_is_warned_of_and_never_shown(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load(file, f'[providers.bfl]\napi_key = "{KEY}"\n')

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "line 2" in record.getMessage()
    shown = f"{config!r} {config} {config.model_dump()} {config.model_dump_json()} {caplog.text}"
    assert KEY not in shown


def test_the_keys_of_the_sandbox_and_of_python_are_not_warned_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(file, '[providers.bfl]\napi_key = "sandbox"\n')
    Config(providers={"bfl": {"api_key": SecretStr(KEY)}, "bfl-eu": {"api_key": KEY}})

    assert not caplog.records


PLACES = [
    *("policy", "providers", "providers.bfl", "providers.bfl.api_key", "providers.bfl.base_url"),
    *("providers.bfl.upload_url", "providers.bfl.prices", "providers.bfl.prices.x"),
    *("providers.bfl.max_in_flight", "providers.bfl.apikey", "routes.x", "routes.x.failover_on", "routes.x.strategy"),
    *("budget", "budget.daily_usd", "ledger.url", "input.allow", "network.proxy"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", ["{}", "'{}'", "['{}']", "{{x = '{}'}}"])
def test_a_key_in_the_wrong_place_is_not_shown(
    file: Path, place: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    config, error = outcome(lambda: load(file, f"{place} = {form.format(KEY)}"))

    assert KEY not in f"{config!r} {error} {error!r} {error and error.__context__!r} {caplog.text}"


@given(st.text() | st.text("[]{}=\"'.,#\n\\ abfl013-:"))
def test_no_text_makes_anything_but_a_config_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    config, error = outcome(lambda: load(file, text))

    assert config or str(error).startswith(str(file))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([place for place in PLACES if place != "providers.bfl.apikey"]), VALUES)
def test_no_value_makes_anything_but_a_config_or_a_configuration_error(place: str, value: object) -> None:
    *above, name = place.split(".")
    sections: dict[str, object] = {name: value}
    for key in reversed(above):
        sections = {key: sections}
    config, error = outcome(lambda: Config(**sections))

    assert config.model_dump_json() if config else str(error).startswith("Config: ")
